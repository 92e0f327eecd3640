"""The containers that a cluster file starts: their options, their shared memory. Pure; notes problems."""

import re
from collections.abc import Mapping
from typing import Any

from emoray.cluster_file import start
from emoray.cluster_file.start import node_types
from emoray.problems import Problems

LEAST_SHARED = 1 << 30
_UNITS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def containers(config: Mapping[str, Any]) -> list[tuple[str, dict[str, Any], str]]:
    """Who starts a container, its options by their places, and where one that is missing would stand."""
    docker = config.get("docker") or {}
    shared = _placed(docker, "run_options", "docker")
    told = [("head", {**shared, **_placed(docker, "head_run_options", "docker")}, "docker.run_options")]
    for name, place, node in node_types(config):
        own = node.get("docker") or {}
        is_own = own.get("worker_run_options") is not None
        options = _placed(own if is_own else docker, "worker_run_options", f"{place}.docker" if is_own else "docker")
        if name != config["head_node_type"]:
            where = f"{place}.docker.worker_run_options" if is_own else "docker.run_options"
            told.append((name, {**shared, **options}, where))
    return told


def _placed(tree: Mapping[str, Any], key: str, place: str) -> dict[str, Any]:
    """The entries of a list by their places."""
    return {f"{place}.{key}[{number}]": entry for number, entry in enumerate(tree.get(key) or ())}


def shared_memory(config: Mapping[str, Any], problems: Problems) -> None:
    """Ray keeps images in /dev/shm, of which it gives a container a third of the memory unless it is told a size."""
    for _, options, _ in containers(config):
        size = start.option(start.words(" ".join(map(str, options.values()))), "--shm-size")
        if size is not None:
            at = [place for place, option in options.items() if "--shm-size" in str(option)]
            _sized(size, at[-1], problems)
        elif (config.get("docker") or {}).get("disable_shm_size_detection"):
            problems.add(
                "docker.disable_shm_size_detection",
                "the container would have 64 MB of shared memory and Ray keeps images there: leave it out, or add "
                "--shm-size to run_options",
            )


def _sized(size: str, place: str, problems: Problems) -> None:
    if "$" in size:  # a variable of the machine's
        return
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmgt]?)i?b?", size.lower())
    if not found:
        problems.add(place, f"--shm-size={size} is not allowed: it must be a size such as 8g")
    elif float(found[1]) * (1 << _UNITS[found[2]]) < LEAST_SHARED:
        told = "it must be 1g or more, best 30 % of the machine's memory; without the option Ray sets that itself"
        problems.add(place, f"--shm-size={size} is not allowed: {told}")
