"""What fits where: how many trials run at once on the machines that there are, and how their data reach them."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from emoray.config import Sweep
from emoray.errors import UserError
from emoray.study_settings import Resources, Study

START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
"""The variable with the seconds that workers of a trial wait for a place."""
MEMORY_SHARE = 0.4
"""Of the object store, which training images may take before they are streamed."""
SHOWN_NODES = 4
"""Of what is free, so many nodes are told one by one."""
STREAM_BYTES = 192 << 20
"""What the stream of one worker may hold in the object store: about twelve chunks."""


@dataclass(frozen=True)
class Node:
    """What one machine offers."""

    cpus: float
    gpus: float

    def __str__(self) -> str:
        return _amount(self.cpus, "CPU") + (f" and {_amount(self.gpus, 'GPU')}" if self.gpus else "")


@dataclass(frozen=True)
class Cluster:
    """What there is to run on. `memory` is the least that a node's object store holds, in bytes."""

    nodes: tuple[Node, ...]
    memory: float
    dashboard: str | None

    @property
    def cpus(self) -> float:
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        return sum(node.gpus for node in self.nodes)


def mode(sweep: Sweep, image_bytes: float, cluster: Cluster) -> str:
    """How trials get their data, "memory" or "stream", for training images of so many bytes."""
    if sweep.data.mode != "auto":
        return sweep.data.mode
    return "memory" if image_bytes <= MEMORY_SHARE * cluster.memory else "stream"


def slots(sweep: Sweep, cluster: Cluster, mode: str) -> int:
    """How many trials run at once: as many of the largest as fit. Raises UserError where one does not fit at all."""
    counts = [fitting(study, cluster, mode) for study in sweep.studies]
    return min([*counts, sweep.search.max_concurrent or sys.maxsize])


def workers(resources: Resources, cluster: Cluster, mode: str) -> int:
    """How many workers a trial starts with that has the cluster for itself: the most that fit, 0 where too few do."""
    for count in range(resources.workers, resources.least - 1, -1):
        if _place(_parts(resources, mode, count), list(cluster.nodes)):
            return count
    return 0


def takes(resources: Resources, cluster: Cluster, mode: str) -> Node:
    """What a trial takes in all with the workers that it starts with, Ray Data's CPUs included."""
    parts = _parts(resources, mode, workers(resources, cluster, mode))
    return Node(round(sum(part.cpus for part in parts), 6), round(sum(part.gpus for part in parts), 6))


def shortage(parts: Sequence[Node], free: Sequence[Node]) -> str:
    """What there is too little of for parts that have to lie on one node each, and what the nodes have free."""
    kinds = {"CPUs": lambda node: Node(node.cpus, 0), "GPUs": lambda node: Node(0, node.gpus)}
    short = [kind for kind, only in kinds.items() if not _place([*map(only, parts)], [*map(only, free)])]
    what = f"too few {' and '.join(short) or 'CPUs and GPUs on one node'} are free"
    what = "there is room only now" if _place(parts, list(free)) else what
    some = sorted((node for node in free if node.cpus or node.gpus), key=lambda node: (-node.gpus, -node.cpus))
    told = ", ".join(f"{node} on {'another' if i else 'one node'}" for i, node in enumerate(some[:SHOWN_NODES]))
    more = f" and no more than that on {len(some) - SHOWN_NODES} others" if len(some) > SHOWN_NODES else ""
    return f"{what}: {told or 'none at all'}{more}"


def fitting(study: Study, cluster: Cluster, mode: str) -> int:
    """How many trials of a study fit at once, each worker on one node. Raises UserError where none does."""
    each = workers(study.resources, cluster, mode)
    if each == 0:
        raise UserError(f"models.{study.name}: {_refusal(study.resources, mode, cluster)}")
    trial, free = _parts(study.resources, mode, each), list(cluster.nodes)
    count = 0
    while _place(trial, free):
        count += 1
    return count


def _parts(resources: Resources, mode: str, workers: int) -> list[Node]:
    """What a trial takes, in pieces that have to lie on one node each."""
    data = [Node(resources.data_cpus, 0)] if mode == "stream" else []
    return [Node(resources.cpus_per_worker, resources.gpus_per_worker), *data] * workers


def _place(trial: Sequence[Node], free: list[Node]) -> bool:
    """Take what a trial needs from the nodes; leaves them as they were where it does not fit."""
    left = list(free)
    for part in sorted(trial, key=lambda part: (-part.gpus, -part.cpus)):
        for i, node in enumerate(left):
            # Rounded: tenths of a CPU add up to a little more than they should.
            rest = Node(round(node.cpus - part.cpus, 6), round(node.gpus - part.gpus, 6))
            if rest.cpus >= 0 and rest.gpus >= 0:
                left[i] = rest
                break
        else:
            return False
    free[:] = left
    return True


def _refusal(resources: Resources, mode: str, cluster: Cluster) -> str:
    least, parts, streams = resources.least, _parts(resources, mode, resources.least), mode == "stream"
    told = f"{least} x {resources.cpus_per_worker:g}"
    told = f"{told} for workers, {least} x {resources.data_cpus:g} for Ray Data" if streams else told
    for kind, of in (("CPU", "cpus"), ("GPU", "gpus")):
        wanted = [getattr(part, of) for part in parts]
        there = getattr(cluster, of)
        if sum(wanted) > there:
            asked = _amount(sum(wanted), kind) + (f" ({told})" if len(parts) > 1 and of == "cpus" else "")
            return (
                f"a trial asks for {asked} and there {'is' if there == 1 else 'are'} {there:g}; "
                f"lower {_keys(resources, streams, of)} or use a larger machine"
            )
        largest = max(getattr(node, of) for node in cluster.nodes)
        if max(wanted) > largest:
            of_workers = max(wanted) == getattr(parts[0], of)
            asks, key = ("a worker", f"{of}_per_worker") if of_workers else ("Ray Data for a worker", "data_cpus")
            return f"{asks} asks for {_amount(max(wanted), kind)} and no node has more than {largest:g}; lower {key}"
    data = f" and those for Ray Data ({least} x {_amount(resources.data_cpus, 'CPU')})" if streams else ""
    keys = _keys(resources, streams, *(("cpus", "gpus") if resources.gpus_per_worker else ("cpus",)))
    return f"the workers of a trial ({least} x {parts[0]}){data} do not fit on the nodes that there are; lower {keys}"


def _amount(count: float, kind: str) -> str:
    return f"{count:g} {kind}{'s' if count != 1 else ''}"


def _keys(resources: Resources, streams: bool, *kinds: str) -> str:
    """The settings that a trial's CPUs or GPUs come from, as a choice."""
    keys = ["workers"] if resources.least > 1 else []
    keys += [f"{kind}_per_worker" for kind in kinds]
    keys += ["data_cpus"] if streams and "cpus" in kinds else []
    return " or ".join([", ".join(keys[:-1]), keys[-1]]) if len(keys) > 1 else keys[0]
