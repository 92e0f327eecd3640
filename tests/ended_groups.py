"""Worker groups that are ended early, one after the other; tells as JSON how long they trained on and what is left.

With the argument `all` ten of them, otherwise three.

A program, since Ray's state API needs a cluster with a dashboard. The tests hand it their Ray token by the environment.
"""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.util.state import list_actors, list_placement_groups

from emoray.study_settings import Resources
from emoray.trial.data import TrialData
from emoray.trial.group import Group, RemotePlayer, WorkersFailed
from tests.slow_images import SlowImages
from tests.test_distributed import workers
from tests.training import settings

TWO = Resources(workers=2, cpus_per_worker=1)
STARTING = (0.0, 0.3, 0.7, 1.2, 1.8, 2.5, 3.5, 5.0)
"""Seconds after which a group is ended that has not begun to train."""
IMAGES, BATCH = 12800, 4


def slow_data(folder: Path) -> TrialData:
    """An epoch of some fifty chunks, each of which takes a while to come."""
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 16, 16, 1), np.uint8)
    labels = np.arange(IMAGES) % 2
    shown = (SlowImages(images, 0.4, folder / "log"), np.eye(2, dtype=np.float32)[labels], np.arange(IMAGES))
    return TrialData("memory", ("even", "odd"), (IMAGES // 2,) * 2, *shown, images[:61], labels[:61])


def ended_in_mid_epoch(data: list[Any], log: Path) -> int:
    """How many chunks the ranks still took when their group was told to end."""
    group = Group(TWO, data, None)
    told = settings(model={"name": "lenet"}, batch_size=BATCH, augment=[], epochs=1)
    begun = taken(log)
    training = threading.Thread(target=_train, args=[RemotePlayer(told, "accuracy", group)])
    training.start()
    until(lambda: taken(log) >= begun + 10 or not training.is_alive(), 200)
    assert training.is_alive(), "the epoch is too short to be interrupted"
    begun = taken(log)
    group.close()
    assert not group.alive
    training.join()
    return taken(log) - begun


def _train(player: RemotePlayer) -> None:
    with contextlib.suppress(WorkersFailed):
        player.play()


def taken(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def left() -> dict[str, list[str]]:
    address = ray.get_runtime_context().gcs_address
    actors = list_actors(address, filters=[("state", "=", "ALIVE")], limit=1000)
    groups = [group for group in list_placement_groups(address, limit=1000) if group.state != "REMOVED"]
    return {
        # Ray Train starts a coordinator for the whole cluster, once.
        "actors": [actor.class_name for actor in actors if actor.name != "AutoscalingCoordinator"],
        "placement_groups": [f"{group.name} {group.state}" for group in groups],
        "processes": [str(process) for process in workers()],
    }


def until(holds: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether it held in so many seconds."""
    deadline = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return held


def main(folder: Path, starting: tuple[float, ...], training: int) -> None:
    ray.init(address="local", num_cpus=2, log_to_driver=False)
    try:
        data, alive = [ray.put(slow_data(folder))], 0
        for seconds in starting:
            group = Group(TWO, data, None)
            time.sleep(seconds)
            group.close()
            alive += group.alive
        chunks = [ended_in_mid_epoch(data, folder / "log") for _ in range(training)]
        until(lambda: not any(left().values()), 10)  # processes end a moment after they are told to
        whole = 2 * IMAGES // (BATCH * 64)
        told = {"groups": len(starting) + len(chunks), "alive": alive, "chunks": chunks, "epoch": whole}
        print(json.dumps({**told, "left": left()}))
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *((STARTING, 2) if "all" in sys.argv else (STARTING[3:5], 1)))
