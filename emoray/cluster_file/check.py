"""The check as a whole: a cluster file and the template beside it, read, held against Ray, EC2 and our rules."""

import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

import emoray
from emoray import strict_yaml
from emoray.cluster_file import ray_schema, rules, shapes, stack
from emoray.cluster_file.in_order import OfParts
from emoray.cluster_file.start import node_types
from emoray.cluster_file.versions import Versions
from emoray.errors import UserError
from emoray.problems import Problems, listed

TEMPLATE = "aws.yaml"
_BY_RAY = {"MinCount": 1, "MaxCount": 1}
"""What Ray adds to a node's settings before it asks EC2."""


class Lines(Mapping[str, int]):
    """The lines of places in a file; of what is missing, the line of what should hold it."""

    def __init__(self, lines: Mapping[str, int]) -> None:
        self.lines = lines

    def __getitem__(self, place: str) -> int:
        while place not in self.lines or not place:
            if not place:
                raise KeyError
            place = place[: max(place.rfind("."), place.rfind("["), 0)]
        return self.lines[place]

    def __iter__(self) -> Iterator[str]:
        return (place for place in self.lines if place)

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass(frozen=True)
class Checked:
    """A cluster file with nothing wrong in it."""

    files: tuple[Path, ...]
    node_types: tuple[str, ...]
    versions: Versions
    to_do: tuple[str, ...] = field(default=())
    """What has to be set or made before `ray up`."""
    unseen: tuple[str, ...] = field(default=())
    """What could not be looked at, with why."""


def check(file: Path) -> Checked:
    """Check a cluster file, and the CloudFormation template `aws.yaml` in its folder where there is one.

    Raises UserError that lists every problem with its place.
    """
    _refuse_kubernetes(file)
    _, lines = strict_yaml.read(file)
    config = _as_ray_reads(file)
    if not isinstance(config, dict) or not {"available_node_types", "provider"} & config.keys():
        raise UserError(f"{file} holds no cluster: it must be a mapping with the key 'available_node_types'")
    text = file.read_text(encoding="utf-8").splitlines()
    problems, of_template = OfParts(Lines(lines), text=text), Problems()
    versions = Versions(emoray.__version__, version("ray"), ".".join(platform.python_version_tuple()[:2]))
    in_order = ray_schema.check(config, lines, problems)
    if in_order is not None:
        rules.check(in_order, versions, problems)
        _instances(in_order, problems)
    beside = file.with_name(TEMPLATE)
    if beside.exists():
        template, template_lines = strict_yaml.read(beside)
        of_template = Problems(Lines(template_lines))
        stack.check(template, of_template)
        if in_order is not None and isinstance(template, Mapping) and isinstance(template.get("Resources"), Mapping):
            _held_against(template, of_template, in_order, problems)
    _raise({file: _once(problems), beside: of_template.found})
    node_types, to_do = tuple(config["available_node_types"]), _to_do(config, lines)
    if beside.exists():
        return Checked((file, beside), node_types, versions, to_do)
    unseen = (
        f"the roles of the machines, what these may do, and the security group, since there is no {beside}: copy "
        f"cluster/{TEMPLATE} there, or look at yours by hand"
    )
    return Checked((file,), node_types, versions, to_do, (unseen,))


def _refuse_kubernetes(file: Path) -> None:
    """Raises UserError for objects of Kubernetes, such as cluster/kuberay.yaml holds."""
    if not file.is_file():  # which is told of any file, too
        return
    try:
        with file.open("rb") as opened:
            found = list(yaml.safe_load_all(opened.read(strict_yaml.MAX_BYTES)))
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError):
        return
    kinds = [one["kind"] for one in found if isinstance(one, Mapping) and {"apiVersion", "kind"} <= one.keys()]
    if kinds:
        raise UserError(
            f"{file} holds objects of Kubernetes ({', '.join(map(str, kinds))}), which are not checked here: "
            f"`kubectl apply --dry-run=server -f {file}` has the cluster and its KubeRay operator check them"
        )


def _as_ray_reads(file: Path) -> Any:
    """The content to Ray, to which `no` is false, 1e-4 a text, and 2024-12-01 a day."""
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (ValueError, TypeError, yaml.YAMLError) as error:  # such as the 13th month of a year
        raise UserError(f"{file} cannot be read as Ray reads it: {' '.join(str(error).split())}") from None


def _instances(config: Mapping[str, Any], problems: Problems) -> None:
    """Each node's settings against what EC2's RunInstances takes, as botocore describes it."""
    request = shapes.service("ec2").operation_model("RunInstances").input_shape
    assert request is not None
    for _, place, told in node_types(config):
        node, at = dict(told["node_config"]), f"{place}.node_config"
        for name in _BY_RAY.keys() & node.keys():
            problems.add(f"{at}.{name}", "Ray sets it by how many nodes it needs: leave it out")
        subnets = node.pop("SubnetIds", [])  # Ray's own: it tries one after the other
        if not isinstance(subnets, list) or not all(isinstance(subnet, str) for subnet in subnets):
            problems.add(f"{at}.SubnetIds", f"{subnets!r} is not allowed: it must be a list of subnets")
        if "InstanceType" not in node:
            problems.add(f"{at}.InstanceType", "it is missing")
        shapes.by_shape({**node, **_BY_RAY}, request, at, problems)


def _held_against(
    template: Mapping[str, Any], of_template: Problems, config: Mapping[str, Any], problems: Problems
) -> None:
    """What both files name has to be the same, as far as the template is in order there."""
    if not of_template.below(*stack.of_profiles(template)):
        _profiles(config, stack.profiles(template), problems)
    if not of_template.below("Parameters"):
        named = [(place, name) for place, name in stack.clusters(template) if not of_template.below(place)]
        _name(config, named, problems)


def _profiles(config: Mapping[str, Any], made: list[str], problems: Problems) -> None:
    for _, place, told in node_types(config):
        profile = told["node_config"].get("IamInstanceProfile")
        name = profile.get("Name") if isinstance(profile, Mapping) else None
        if isinstance(name, str) and name not in made:
            at = f"{place}.node_config.IamInstanceProfile.Name"
            problems.add(at, f"{TEMPLATE} makes no profile '{name}': {shapes.unknown(name, made)}")


def _name(config: Mapping[str, Any], clusters: list[tuple[str, Any]], problems: Problems) -> None:
    """The head may end the machines of one cluster alone, which therefore has to be this one."""
    for place, cluster in clusters:
        if cluster != config["cluster_name"]:
            told = f"the head may end machines of {cluster!r} alone ({TEMPLATE}: {place})"
            problems.add("cluster_name", f"{config['cluster_name']!r} is another cluster: {told}")


def _once(problems: Problems) -> list[str]:
    """The problems, those of a value that many node types share (by a YAML anchor) told for the first of them."""
    told: dict[tuple[str, str], str] = {}
    for text in problems.found:
        line, _, rest = text.partition(": ") if text.startswith("line ") else ("", "", text)
        message = rest.partition(": ")[2]
        told.setdefault((line, message) if line else (rest, message), text)
    return list(told.values())


def _raise(found: Mapping[Path, list[str]]) -> None:
    if any(found.values()):
        raise UserError("\n".join(listed(file, lines) for file, lines in found.items() if lines))


def _to_do(config: Mapping[str, Any], lines: Mapping[str, int]) -> tuple[str, ...]:
    """What is still the example's, and what is brought along and not there yet."""
    places = rules.to_set(config.get("metadata"), "metadata") or rules.to_set(config)
    told = [f"line {lines.get(place, 0)}: {place} is still the example's" for place in places]
    mounts: Mapping[str, str] = config.get("file_mounts") or {}
    for remote, local in mounts.items():
        if not Path(local).expanduser().exists():
            told.append(f"there is no {local}, for {remote}: {_HOW.get(Path(local).name, 'make it first')}")
    folders = [Path(local).expanduser() for local in mounts.values()]
    wheels = {name for command in config.get("setup_commands", ()) for name in re.findall(r"[\w.-]+\.whl", command)}
    for name in sorted(wheels):
        if any(folder.is_dir() for folder in folders) and not any((folder / name).exists() for folder in folders):
            told.append(f"none of the folders under file_mounts holds {name}: {_HOW['dist']}")
    return tuple(told)


_HOW = {"dist": "`make wheel`", "auth_token": "`ray get-auth-token --generate && chmod 600 ~/.ray/auth_token`"}
