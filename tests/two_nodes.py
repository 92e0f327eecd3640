"""A trial on two nodes, one of which dies or is called back in the middle of an epoch; told as JSON.

A program, since it starts a cluster of its own; with the argument `all` a node is called back too, and a trial with a
range of workers loses one. The tests hand it their Ray token by the environment.
"""

import dataclasses
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import ray
from ray._private.state import available_resources_per_node
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from emoray.data.stream import DataShare
from emoray.study_settings import Resources
from emoray.trial.checkpoint import State
from emoray.trial.group import Group, RemotePlayer
from emoray.trial.notice import Within
from tests.test_distributed import through_deaths
from tests.training import faces_of, settings, timeless

IMAGES = 4000
EPOCHS = 2


class Trial:
    """A trial that is played in a thread; `within` are the states that it saved in the middle of an epoch."""

    def __init__(self, group: Group) -> None:
        self.player = RemotePlayer(settings(seed=4), "accuracy", group)
        self.within: list[State] = []
        self.error: BaseException | None = None

    def play(self, epochs: int = EPOCHS) -> "Trial":
        for _ in range(epochs):
            through_deaths(self.player, Within(lambda: False, self.within.append))
        return self

    def begin(self) -> threading.Thread:
        """Start the second epoch; returns when the ranks are at it."""
        self.play(1)
        arrived = ray.get(self.player.group.mailbox.standing.remote())[1]
        thread = threading.Thread(target=self._play)
        thread.start()
        # Ranks come for an order when they have played the last one; then they have this one at once.
        until(lambda: ray.get(self.player.group.mailbox.standing.remote())[1] >= arrived)
        time.sleep(0.5)
        assert len(self.player.history) == 1, "the epoch is too short to be interrupted"
        return thread

    def _play(self) -> None:
        try:
            self.play(1)
        except BaseException as error:
            self.error = error

    def is_as(self, other: "Trial") -> bool:
        """Bit for bit, in weights and in figures."""
        weights = [trial.player.state().arrays["model"] for trial in (self, other)]
        figures = [[list(row.values()) for row in timeless(trial.player.history)] for trial in (self, other)]
        return np.array_equal(*figures, equal_nan=True) and all(map(np.array_equal, *weights))


class Nodes:
    """The node that the program runs on, and a second one that comes and goes."""

    def __init__(self) -> None:
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        self.second: Any = None
        self.add()

    def add(self) -> None:
        self.second = self.cluster.add_node(num_cpus=1)

    def kill(self) -> None:
        self.cluster.remove_node(self.second, allow_graceful=False)

    def call_back(self) -> None:
        """What `ray drain-node` does, and a watcher of a spot market's notices."""
        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        deadline = int((time.time() + 60) * 1000)
        accepted, why = GcsClient(self.cluster.address).drain_node(self.second.node_id, reason, "spot notice", deadline)
        assert accepted, why


def main() -> None:
    nodes = Nodes()
    ray.init(address=nodes.cluster.address, log_to_driver=False)
    try:
        data = [ray.put(faces_of(IMAGES))]
        group = Group(Resources(workers=2), data, None)
        unbroken = Trial(group).play()
        used = sum(resources.get("CPU", 0) < 1 for resources in available_resources_per_node().values())
        told: dict[str, Any] = {"nodes": used, "killed": killed(nodes, Trial(group), unbroken)}
        if "all" in sys.argv:
            told["called_back"] = called_back(nodes, Trial(group), unbroken)
        group.close()
        if "all" in sys.argv:
            group = Group(Resources(workers=4, fewest=1), data, None)
            told["elastic"] = elastic(nodes, group)
            group.close()
            streamed = [ray.put(dataclasses.replace(faces_of(IMAGES), mode="stream"))]
            half = Resources(workers=4, fewest=1, cpus_per_worker=0.5, data_cpus=0.5)
            group = Group(half, streamed, DataShare(half.data_cpus))
            told["elastic_streamed"] = elastic(nodes, group)
            group.close()
        print(json.dumps(told))
    finally:
        ray.shutdown()
        nodes.cluster.shutdown()


def killed(nodes: Nodes, broken: Trial, unbroken: Trial) -> dict[str, Any]:
    """One node dies, another comes in its place."""
    playing = broken.begin()
    nodes.kill()
    nodes.add()
    playing.join()
    return {"same": broken.is_as(unbroken), "error": str(broken.error)}


def called_back(nodes: Nodes, broken: Trial, unbroken: Trial) -> dict[str, Any]:
    """A node is called back, as by a spot market, and dies later; another comes in its place."""
    playing = broken.begin()
    nodes.call_back()
    until(lambda: bool(broken.within) or not playing.is_alive())
    nodes.kill()
    nodes.add()
    playing.join()
    chunks = [state.meta["within"]["chunks"] for state in broken.within]
    return {"saved": chunks, "same": broken.is_as(unbroken), "error": str(broken.error)}


def elastic(nodes: Nodes, group: Group) -> dict[str, Any]:
    """One node dies, and the trial goes on with what is left; when another comes, the next one takes it."""
    broken = Trial(group)
    playing = broken.begin()
    nodes.kill()
    playing.join()
    nodes.add()
    nodes.cluster.wait_for_nodes()
    after = Trial(group).play(1)
    workers = [row["workers"] for row in [*broken.player.history, *after.player.history]]
    return {"workers": workers, "error": str(broken.error)}


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


if __name__ == "__main__":
    main()
