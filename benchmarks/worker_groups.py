"""What a worker group of two costs beyond training, and what it leaves behind: start, next trial, early end.

    python benchmarks/worker_groups.py            about 3 minutes on two cores

Trials of a lenet on 512 embedded faces, two workers of one CPU each: seconds from the group's start to the end of the
first trial's first epoch, to that of the next trials on the same group, and from the order to end a group until its
resources are free. Then ten groups one after the other are ended in mid-training, and Ray's state API is asked for
actors and placement groups, and the system for processes, that are still there.
"""

import argparse
import os
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import own_token  # noqa: F401
import plain_trial

FLIP = [{"name": "flip"}]
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--groups", type=int, default=10, help="that are ended early; default: 10")
parser.add_argument("--trials", type=int, default=4, help="on the first group; default: 4")


def worker_processes() -> list[int]:
    """Processes of ranks that were started by this run's raylet."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"RayTrainWorker" in path.read_bytes() and os.getsid(int(path.parent.name)) == os.getsid(0):
                found.append(int(path.parent.name))
        except OSError:  # it has just ended
            continue
    return found


def left() -> str:
    import ray
    from ray.util.state import list_actors, list_placement_groups

    address = ray.get_runtime_context().gcs_address
    actors = list_actors(address, filters=[("state", "=", "ALIVE")], limit=1000)
    groups = [group for group in list_placement_groups(address, limit=1000) if group.state != "REMOVED"]
    return f"{len(actors)} actors, {len(groups)} placement groups, {len(worker_processes())} processes"


def freed(group: Any, cpus: float) -> float:
    import ray

    began = time.perf_counter()
    group.close()
    while ray.available_resources().get("CPU", 0) < cpus:
        time.sleep(0.01)
    return time.perf_counter() - began


def end_early(data: list[Any], cpus: float) -> float:
    """Seconds that a group takes to end that was training when it was told to."""
    from emoray.trial.failures import WorkersFailed
    from emoray.trial.group import Group, RemotePlayer

    group = Group(TWO, data, None)
    player = RemotePlayer(plain_trial.settings("lenet", 1000, FLIP), "accuracy", group)
    player.play()

    def train_on() -> None:
        try:
            while True:
                player.play()
        except WorkersFailed:
            pass

    training = threading.Thread(target=train_on)
    training.start()
    time.sleep(0.5)
    seconds = freed(group, cpus)
    training.join()
    return seconds


def main(arguments: argparse.Namespace) -> None:
    import ray

    from emoray.trial.group import Group, RemotePlayer

    ray.init(address="local", num_cpus=2, log_to_driver=False)
    cpus = ray.cluster_resources()["CPU"]
    data = [ray.put(plain_trial.faces_to_train_on(512, 128))]
    began = time.perf_counter()
    group, seconds = Group(TWO, data, None), []
    for seed in range(arguments.trials):
        RemotePlayer(plain_trial.settings("lenet", 1000, FLIP, seed), "accuracy", group).play()
        seconds.append(time.perf_counter() - began)
        began = time.perf_counter()
    print(f"first epoch of the first trial after {seconds[0]:.1f} s")
    print(f"first epochs of the next trials after {', '.join(f'{s:.1f}' for s in seconds[1:])} s")
    print(f"an idle group frees its resources within {freed(group, cpus):.2f} s")
    early = [end_early(data, cpus) for _ in range(arguments.groups)]
    print(f"{len(early)} groups ended while they trained: {statistics.median(early):.2f} s, at most {max(early):.2f} s")
    time.sleep(5)  # processes end a moment after they are told to
    print(f"left: {left()}")


if __name__ == "__main__":
    arguments = parser.parse_args()
    # Ray reads this when it is first imported, as a sweep sets it.
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"}
    from emoray.study_settings import Resources

    TWO = Resources(workers=2, cpus_per_worker=1)
    main(arguments)
