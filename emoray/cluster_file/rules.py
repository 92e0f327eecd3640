"""Our own rules for a cluster file: what Ray and EC2 would both accept, and what would be unsafe or cost in vain. Pure.

A config here holds only what passes Ray's schema, so its kinds of values are known.
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from emoray.cluster_file import containers, machines, mounts, ray_schema, shapes, start, versions
from emoray.cluster_file.in_order import OfParts
from emoray.cluster_file.start import node_types
from emoray.cluster_file.versions import Versions
from emoray.problems import Problems

DEFAULT_PORT = "6379"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_RESOURCES = ("CPU", "GPU", "memory", "object_store_memory")
_HEAD = "RAY_HEAD_IP"
"""The variable in which `ray up` gives workers the address of the head."""


def check(config: Mapping[str, Any], here: Versions, problems: OfParts) -> None:
    """Note what breaks a rule of ours, as far as what it looks at is in order."""
    for rule, reads in _RULES.items():
        if not problems.lacks(reads):
            rule(config, problems)
    versions.check(config, here, problems)
    if not problems.lacks((*_IMAGES, *_SETUP)):
        versions.installed(config, here, problems)


def _head(config: Mapping[str, Any], problems: Problems) -> None:
    head = config["head_node_type"]
    place, told = f"available_node_types.{head}", config["available_node_types"][head]
    resources = told["resources"]
    if resources.get("CPU") != 0:
        shown = resources.get("CPU", "no value, so all that the machine has")
        problems.add(f"{place}.resources", f"CPU is {shown}: it must be 0, so that no trial lands on the head")
    if resources.get("GPU"):
        problems.add(f"{place}.resources.GPU", "the head trains nothing, so it needs no GPU")
    if machines.is_spot(told):
        problems.add(
            f"{place}.node_config.InstanceMarketOptions", "the head must not be a spot machine: all is lost with it"
        )


def _workers(config: Mapping[str, Any], problems: Problems) -> None:
    for name, place, told in node_types(config):
        if name != config["head_node_type"] and not told["resources"].get("CPU"):
            problems.add(
                f"{place}.resources", "it needs CPU: from it follows what starts where there is no machine yet"
            )


def _resources(config: Mapping[str, Any], problems: Problems) -> None:
    """A misspelt name would be a resource of its own, and the machine without the one that was meant."""
    for _, place, told in node_types(config):
        for name in told["resources"].keys() - set(_RESOURCES):
            meant = [known for known in _RESOURCES if _is_like(str(name), known)]
            if meant:
                problems.add(f"{place}.resources.{name}", f"there is no resource '{name}': did you mean '{meant[0]}'?")


def _is_like(name: str, known: str) -> bool:
    """Not so for TPU and HPU, which are other resources of Ray's than CPU."""
    written, right = name.lower(), known.lower()
    return sorted(written) == sorted(right) or difflib.SequenceMatcher(None, written, right).ratio() > 0.75


def _starts(config: Mapping[str, Any], problems: Problems) -> None:
    """What `ray start` needs, or a head would start no workers, and each worker be a cluster of its own."""
    needed = {"head_start_ray_commands": "--autoscaling-config", "worker_start_ray_commands": "--address"}
    for place, option in needed.items():
        started = start.ray_starts(config.get(place, ()))
        if not any(start.option(arguments, option) for _, arguments in started):
            example = {"--address": f"${_HEAD}:{DEFAULT_PORT}"}.get(option, "~/ray_bootstrap_config.yaml")
            at = f"{place}[{started[0][0]}]" if started else place
            problems.add(at, f"`ray start` needs {option}={example}", "ray start")


def _options(config: Mapping[str, Any], problems: Problems) -> None:
    """`ray start` would refuse them, on machines that are paid for already."""
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        for number, arguments in start.ray_starts(config.get(key, ())):
            known = ray_schema.start_options()
            for written in (word.partition("=")[0] for word in arguments if word.startswith("--")):
                if written not in known:
                    told = f"`ray start` has no option {written}: {shapes.unknown(written, known)}"
                    problems.add(f"{key}[{number}]", told, written)
            if key.startswith("worker") and "--head" in arguments:
                told = "--head is not allowed: each worker would be a cluster of its own"
                problems.add(f"{key}[{number}]", told, "--head")


def _ports(config: Mapping[str, Any], problems: Problems) -> None:
    """Workers, and the watchers on them, look for the head where it listens."""
    heads = [found[1] for found in start.ray_starts(config.get("head_start_ray_commands", ())) if "--head" in found[1]]
    port = next((port for head in heads if (port := start.option(head, "--port"))), DEFAULT_PORT)
    commands = config.get("worker_start_ray_commands", ())
    watchers = [(number, told) for number, module, told in start.modules(commands) if module == machines.WATCHER]
    needed = [(number, told, machines.WATCHER) for number, told in watchers]
    for number, arguments, word in [*((*one, "ray start") for one in start.ray_starts(commands)), *needed]:
        place, address = f"worker_start_ray_commands[{number}]", start.option(arguments, "--address")
        if address is None and word == machines.WATCHER:  # of `ray start` this is told already
            problems.add(place, f"`{word}` needs --address=${_HEAD}:{port}", word)
        elif address is not None and "$" not in port and not re.search(rf":({re.escape(port)}|\$\S+)$", address):
            told = f"--address={address} is not allowed: the head listens on port {port}, so it must end in :{port}"
            problems.add(place, told, address)
        host = re.match(r"\$\{?(\w+)", address or "")
        if (
            host and host[1] != _HEAD and _is_like(host[1], _HEAD)
        ):  # a shell makes nothing of a variable that is not set
            problems.add(place, f"Ray sets no variable {host[1]}: did you mean ${_HEAD}?", host[1])


def _dashboard(config: Mapping[str, Any], problems: Problems) -> None:
    place = "head_start_ray_commands"
    heads = [found for found in start.ray_starts(config.get(place, ())) if "--head" in found[1]]
    if not heads:
        problems.add(place, "no command is `ray start --head`; by default Ray opens its dashboard to all addresses")
    for number, arguments in heads:
        host = start.option(arguments, "--dashboard-host")
        if host not in LOOPBACK:
            problems.add(
                f"{place}[{number}]",
                f"the dashboard listens on {host or 'the default address'}: it must be --dashboard-host=127.0.0.1, for "
                "whoever reaches it runs code; `ray dashboard` brings it to you by SSH",
                "ray start" if host is None else "--dashboard-host",
            )


def _authentication(config: Mapping[str, Any], problems: Problems) -> None:
    docker = config.get("docker") or {}
    if docker.get("image") or docker.get("head_image"):
        for key, options, place in containers.containers(config):
            mode = start.container_environment(options.values()).get("RAY_AUTH_MODE")
            if mode != "token":
                told = f"RAY_AUTH_MODE is {mode}" if mode else "RAY_AUTH_MODE is not set"
                set_at = [at for at, option in options.items() if "RAY_AUTH_MODE" in str(option)]
                problems.add(
                    [place, *set_at][-1],
                    f"{told} in the {key}'s container: it must be given `-e RAY_AUTH_MODE=token`",
                )
    else:
        for key in ("head_start_ray_commands", "worker_start_ray_commands"):
            values = start.assigned("RAY_AUTH_MODE", config.get(key, ()))
            if not values:
                problems.add(key, "RAY_AUTH_MODE is not set: begin the command with `export RAY_AUTH_MODE=token;`")
    for place, command in start.commands_of(config):
        for value in start.assigned("RAY_AUTH_MODE", [command]):
            if value != "token":
                problems.add(
                    place,
                    f"RAY_AUTH_MODE={value}: it must be token, or whoever reaches a port of Ray runs code",
                    "RAY_AUTH_MODE",
                )
        if any(value and not value.startswith("$") for value in start.assigned("RAY_AUTH_TOKEN", [command])):
            problems.add(
                place, "a token stands in the file: bring it as a file instead, by file_mounts", "RAY_AUTH_TOKEN"
            )


def _nodes(config: Mapping[str, Any], problems: Problems) -> None:
    for _, place, told in node_types(config):
        node, at = told["node_config"], f"{place}.node_config"
        profile = node.get("IamInstanceProfile")
        if not isinstance(profile, Mapping) or not (profile.get("Name") or profile.get("Arn")):
            problems.add(f"{at}.IamInstanceProfile", "it is missing: without a profile the node cannot use your bucket")
        if not node.get("ImageId"):
            problems.add(f"{at}.ImageId", "it is missing: the image that Ray would take has a driver of 2022")
        metadata = node.get("MetadataOptions")
        if not isinstance(metadata, Mapping) or metadata.get("HttpTokens") != "required":
            problems.add(
                f"{at}.MetadataOptions",
                "HttpTokens must be required: without, any request from the node reads its keys",
            )
        elif metadata.get("HttpEndpoint") == "disabled":
            why = "'disabled' is not allowed: from there the node has its keys, and hears that it is taken back"
            problems.add(f"{at}.MetadataOptions.HttpEndpoint", why)
        if (config.get("auth") or {}).get("ssh_private_key") and "KeyName" not in node and "UserData" not in node:
            problems.add(
                f"{at}.KeyName", "it is missing: with auth.ssh_private_key each node needs the name of that key"
            )


def _network(config: Mapping[str, Any], problems: Problems) -> None:
    if config["provider"].get("security_group"):
        problems.add(
            "provider.security_group",
            "Ray adds a rule to it that opens SSH to 0.0.0.0/0: make the group yourself (cluster/aws.yaml) and name "
            "it in each node's SecurityGroupIds",
        )
    for _, place, told in node_types(config):
        node, at = told["node_config"], f"{place}.node_config"
        interfaces = node.get("NetworkInterfaces")
        for key in _OF_INTERFACES if interfaces else ():
            if key in node:
                problems.add(f"{at}.{key}", "Ray takes it from each of NetworkInterfaces: it must stand there alone")
        for number, one in enumerate(interfaces if isinstance(interfaces, list) else ()):
            for key in ("SubnetId", "Groups"):
                if not isinstance(one, Mapping) or not one.get(key):
                    problems.add(f"{at}.NetworkInterfaces[{number}].{key}", "it is missing: Ray wants it for each")
        if not node.get("SecurityGroupIds") and not interfaces:
            problems.add(
                f"{at}.SecurityGroupIds",
                "it is missing: Ray would make a group that opens SSH to 0.0.0.0/0; name the one of cluster/aws.yaml",
            )


_OF_INTERFACES = ("SecurityGroupIds", "SubnetIds", "SubnetId")
_IMAGES = ("docker", "docker.image", "docker.head_image")
_SETUP = ("setup_commands", "head_setup_commands", "worker_setup_commands")
_RULES: Mapping[Callable[[Mapping[str, Any], Problems], None], Sequence[str]] = {
    _head: ("head_node_type",),
    _workers: ("head_node_type",),
    _resources: (),
    _starts: (),
    _options: (),
    _ports: ("head_start_ray_commands",),
    _dashboard: (),
    _authentication: ("head_node_type", *_IMAGES),
    mounts.token: ("head_node_type", *_SETUP),
    mounts.arrives: ("file_mounts",),
    _nodes: (),
    _network: (),
    machines.profiles: ("head_node_type",),
    machines.region: ("provider.region",),
    machines.gpus: (),
    machines.spot: (),
    containers.shared_memory: ("head_node_type",),
}
"""Each rule, with what has to be in order for it though what it notes stands elsewhere."""


def to_set(tree: Any, place: str = "") -> list[str]:
    """The places whose values are still the example's: identifiers of zeros alone."""
    if isinstance(tree, Mapping):
        inside = [(f"{place}.{key}" if place else str(key), value) for key, value in tree.items()]
    elif isinstance(tree, list):
        inside = [(f"{place}[{number}]", value) for number, value in enumerate(tree)]
    else:
        return [place] if isinstance(tree, str) and re.fullmatch(r"(ami|sg|subnet|vpc)-0+", tree) else []
    return [found for at, value in inside for found in to_set(value, at)]
