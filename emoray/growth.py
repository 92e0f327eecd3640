"""What a cluster may grow to: its autoscaler starts machines when work waits for them, and a sweep has to know before.

Ray tells a driver of live nodes only. What may come is read from the cluster's own file: on a head that `ray up` has
started, its copy of it; elsewhere, such as on Kubernetes, what `EMORAY_AUTOSCALING_CONFIG` names.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from emoray.errors import UserError
from emoray.placement import Node

VARIABLE = "EMORAY_AUTOSCALING_CONFIG"
BY_RAY_UP = "ray_bootstrap_config.yaml"
OBJECT_STORE_PER_MEMORY = 0.3 / 0.7
"""Ray's file counts a worker's memory without the share that the object store takes of it."""


@dataclass(frozen=True)
class Growth:
    """The most machines that may come, and the least that the object store of one of them holds (None: not known)."""

    nodes: tuple[Node, ...]
    memory: float | None


def read(home: Path, environment: Mapping[str, str] = os.environ) -> Growth | None:
    """What the cluster may grow to; None where nothing tells that it grows.

    Raises UserError where a file was named and cannot be used.
    """
    named = environment.get(VARIABLE)
    file = Path(named) if named else home / BY_RAY_UP
    if not named and not file.exists():
        return None
    try:
        return of(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        what = VARIABLE if named else "the cluster's file"
        raise UserError(f"{what}: {file} tells no node types of a cluster ({error!r})") from None


def of(config: Mapping[str, Any]) -> Growth:
    """The machines of a cluster file, those with GPUs first where all together are more than `max_workers`."""
    most = int(config["max_workers"])
    nodes: list[Node] = []
    stores: list[float] = []
    for name, told in config["available_node_types"].items():
        resources = told["resources"]
        count = min(int(told.get("max_workers", most)), most)
        if name == config["head_node_type"] or count <= 0:
            continue
        nodes += [Node(float(resources.get("CPU", 0)), float(resources.get("GPU", 0)))] * count
        if "memory" in resources:
            stores.append(resources["memory"] * OBJECT_STORE_PER_MEMORY)
    nodes.sort(key=lambda node: (-node.gpus, -node.cpus))
    return Growth(tuple(nodes[:most]), min(stores, default=None))


def grown(alive: Sequence[Node], head: Sequence[bool], growth: Growth | None) -> tuple[Node, ...]:
    """The nodes that a sweep may plan with: the heads among the live ones, and all that may come.

    `head` tells of each live node whether it is one. Live workers are of those that may come; where they are more, as
    after the file was changed, they count themselves.
    """
    if growth is None:
        return tuple(alive)
    workers = [node for node, is_head in zip(alive, head, strict=True) if not is_head]
    heads = [node for node, is_head in zip(alive, head, strict=True) if is_head]
    return (*heads, *(growth.nodes if len(growth.nodes) >= len(workers) else workers))
