"""How many workers fit on what is free right now, for groups whose number of workers is not fixed."""

import math
import time
from collections.abc import Callable, Mapping

from ray._private.state import available_resources_per_node, state

from emoray.placement import Node

SAMPLE_SECONDS = 0.3
SAMPLES = 4
"""So often in a row a count has to be the same: what a dead group held comes back piece by piece."""


def places(free: Mapping[str, Mapping[str, float]], each: Mapping[str, float]) -> int:
    """How many workers that take `each` fit on nodes with `free` resources."""
    fitting = (
        min(math.floor(node.get(kind, 0) / wanted + 1e-6) for kind, wanted in each.items()) for node in free.values()
    )
    return sum(fitting)


def nodes(free: Mapping[str, Mapping[str, float]]) -> list[Node]:
    """The same as the plan knows nodes: by what can be short. Rounded: Ray adds up shares of a CPU."""
    return [Node(round(node.get("CPU", 0), 4), round(node.get("GPU", 0), 4)) for node in free.values()]


def free() -> dict[str, Mapping[str, float]]:
    """The free resources of each node that is there to stay."""
    draining = state.get_draining_nodes()
    return {node: resources for node, resources in available_resources_per_node().items() if node not in draining}


def settled(count: Callable[[], int], least: int, seconds: float) -> int:
    """`count()` when it has come to rest at `least` or more. Raises TimeoutError after `seconds`."""
    deadline, seen = time.monotonic() + seconds, [count()]
    while len(seen) < SAMPLES or len(set(seen[-SAMPLES:])) > 1 or seen[-1] < least:
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(SAMPLE_SECONDS)
        seen.append(count())
    return seen[-1]
