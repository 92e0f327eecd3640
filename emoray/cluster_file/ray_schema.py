"""What Ray itself says of a cluster file: its schema, and the code by which `ray up` prepares and validates one.

All that is taken from Ray's private modules for this stands here.
"""

import copy
import functools
import json
import logging
from pathlib import Path
from typing import Any

import ray.autoscaler
from ray.autoscaler._private import constants, util
from ray.autoscaler._private.cli_logger import cli_logger

from emoray.cluster_file import shapes
from emoray.cluster_file.in_order import OfParts, parts

_IMAGES = ("image", "head_image", "worker_image")
# What Ray's AWS provider reads beside what the schema lists of it.
_PROVIDER = (
    *("aws_credentials", "key_pair", "use_external_head_ip"),
    *(constants.DISABLE_LAUNCH_CONFIG_CHECK_KEY, constants.FOREGROUND_NODE_LAUNCH_KEY),
    constants.WORKER_LIVENESS_CHECK_KEY,
)
_OF_RAY_UP = ("head_node_type", "max_workers", *(f"docker.{key}" for key in ("container_name", *_IMAGES)))
"""Without these `ray up` would refuse what is in order."""
_OF_AWS = (
    *("type", "region", "availability_zone", "cache_stopped_nodes", "use_internal_ips", "security_group"),
    *("cloudwatch", "disable_node_updaters", "module"),
)


def check(config: dict[str, Any], lines: dict[str, int], problems: OfParts) -> dict[str, Any] | None:
    """Note what Ray refuses, or would silently leave aside. Returns what is in order; None of a cluster not on AWS."""
    tree: dict[str, Any] = parts(config, _schema(), lines, problems)
    kind = tree["provider"].get("type", "aws")
    if kind not in ("aws", ""):
        problems.add("provider.type", f"{kind!r} is not allowed: only clusters on AWS are checked here")
        if not shapes.meant(kind, ["aws"]):
            return None
    tree["provider"]["type"] = "aws"
    before = len(problems.noted)
    _head(tree, problems)
    _counts(tree, problems)
    if len(problems.noted) == before and not problems.lacks(_OF_RAY_UP):
        _as_ray_up(tree, problems)
    return tree


def _schema() -> dict[str, Any]:
    """Ray's own, and what it leaves open though `ray up` would do nothing, or something else, without."""
    file = Path(ray.autoscaler.__file__).with_name("ray-schema.json")
    schema: dict[str, Any] = json.loads(file.read_text())
    # Without node types Ray would start two machines of its own choice.
    schema["required"] += ["available_node_types", "head_node_type"]
    known = schema["properties"]
    provider = known["provider"]
    keys = {key: provider["properties"].get(key, {}) for key in (*_OF_AWS, *_PROVIDER)}
    provider |= {"required": ["type", "region"], "additionalProperties": False, "properties": keys}
    known["file_mounts"]["additionalProperties"] = {"type": "string"}
    for count in ("min_workers", "max_workers"):
        known["available_node_types"]["patternProperties"][".*"]["properties"][count]["minimum"] = 0
    return schema


def _head(config: dict[str, Any], problems: OfParts) -> None:
    head, kinds = config["head_node_type"], config["available_node_types"]
    if head in kinds:
        return
    problems.add("head_node_type", f"{head!r} is not allowed: {shapes.unknown(head, kinds)}")
    if meant := shapes.meant(head, kinds):
        config["head_node_type"] = meant
    else:
        problems.taken.add("head_node_type")


def _counts(config: dict[str, Any], problems: OfParts) -> None:
    """How many machines of a type have to be there, and how many there may be: of it, and of all together."""
    most = config.get("max_workers")
    fewest = {name: told.get("min_workers", 0) for name, told in config["available_node_types"].items()}
    for name, told in config["available_node_types"].items():
        own = told.get("max_workers")
        bounds = {"its own max_workers": own, "max_workers of the whole file": most}
        over = [f"{what} is {bound}" for what, bound in bounds.items() if bound is not None and fewest[name] > bound]
        if over:
            place = f"available_node_types.{name}.min_workers"
            problems.add(place, f"{fewest[name]} is not allowed: {' and '.join(over)}, and it must not be above")
    if most is not None and most < sum(fewest.values()) and max(fewest.values()) <= most:
        told = f"{most} is not allowed: it must be at least {sum(fewest.values())}, the min_workers of all node types"
        problems.add("max_workers", told)


def _as_ray_up(config: dict[str, Any], problems: OfParts) -> None:
    logging.getLogger(util.__name__).setLevel(logging.WARNING)
    cli_logger.configure(verbosity=-1)
    try:
        util.validate_config(util.prepare_config(copy.deepcopy(config)))
    except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        problems.add("ray up", " ".join(str(error).split()))


@functools.lru_cache(maxsize=1)
def start_options() -> list[str]:
    """The options of `ray start`, of this version of Ray."""
    from ray.scripts import scripts  # a second of imports that a file without commands does not need

    return sorted(name for each in scripts.start.params for name in (*each.opts, *each.secondary_opts))
