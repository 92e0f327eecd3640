"""What Ray itself says of a cluster file: its schema, and the code by which `ray up` prepares and validates one.

All that is taken from Ray's private modules for this stands here.
"""

import copy
import json
import logging
from pathlib import Path
from typing import Any

import ray.autoscaler
from ray.autoscaler._private import constants, util
from ray.autoscaler._private.cli_logger import cli_logger

from emoray.cluster_file import shapes
from emoray.problems import Problems

# What Ray's AWS provider reads beside what the schema lists of it.
_PROVIDER = (
    *("aws_credentials", "key_pair", "use_external_head_ip"),
    *(constants.DISABLE_LAUNCH_CONFIG_CHECK_KEY, constants.FOREGROUND_NODE_LAUNCH_KEY),
    constants.WORKER_LIVENESS_CHECK_KEY,
)
_OF_AWS = (
    *("type", "region", "availability_zone", "cache_stopped_nodes", "use_internal_ips", "security_group"),
    *("cloudwatch", "disable_node_updaters", "module"),
)


def check(config: dict[str, Any], problems: Problems) -> bool:
    """Note what Ray refuses, or would silently leave aside. Returns whether the config has the form that Ray knows."""
    before = len(problems.found)
    shapes.by_schema(config, _schema(), problems)
    provider = config.get("provider")
    if isinstance(provider, dict):
        shapes.keys(provider, (*_OF_AWS, *_PROVIDER), "provider", problems)
        if "type" in provider and provider["type"] != "aws":
            problems.add("provider.type", f"{provider['type']!r} is not allowed: only clusters on AWS are checked here")
        if "region" not in provider:
            problems.add("provider.region", "it is missing")
    if "available_node_types" not in config:  # Ray would start two machines of its own choice
        problems.add("available_node_types", "it is missing")
    mounts = config.get("file_mounts")
    for remote, local in mounts.items() if isinstance(mounts, dict) else ():
        if not isinstance(local, str):
            problems.add(f"file_mounts.{remote}", f"{local!r} is not allowed: it must be a file or folder here")
    if len(problems.found) > before:
        return False
    _as_ray_up(config, problems)
    return len(problems.found) == before


def _schema() -> dict[str, Any]:
    file = Path(ray.autoscaler.__file__).with_name("ray-schema.json")
    schema: dict[str, Any] = json.loads(file.read_text())
    return schema


def _as_ray_up(config: dict[str, Any], problems: Problems) -> None:
    logging.getLogger(util.__name__).setLevel(logging.WARNING)
    cli_logger.configure(verbosity=-1)
    try:
        util.validate_config(util.prepare_config(copy.deepcopy(config)))
    except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        problems.add("ray up", " ".join(str(error).split()))
