"""Sweeps on three nodes while nodes, workers, trials' processes and the driver are killed at random; told as JSON.

    python -m tests.chaos --kills 12 --seed 0 --modes memory stream

A program, since it starts a cluster of its own. For each mode a sweep runs to its end while something dies every few
seconds, and again untouched, to compare (not with --alone). The head node has no CPU for trials and is not killed, nor
is what Ray itself runs on it; the other two have one each, and another comes when one dies.
"""

import argparse
import csv
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.test_chaos import descendants, is_training, picture, title

ROOT = Path(__file__).parents[1]
EPOCHS = 3
KINDS = ("node", "worker", "trial", "driver")
PAUSE = (6.0, 18.0)
"""Seconds between two kills: sometimes too short for anything to have begun again, sometimes long enough."""
END_SECONDS = 600.0
"""A sweep that has not ended so long after the last kill hangs."""
RAYS_OWN = {"_AutoscalingCoordinatorActor", "_StatsActor", "_UsageCollectionActor"}
"""Actors that Ray Data keeps for the whole cluster, one of each."""
SWEEP = """
name: chaos
data: {{faces: 1200, mode: {mode}}}
models:
  - {{name: lenet, study: one_worker, trials: {trials}}}
  - {{name: lenet, study: two_workers, trials: {trials}, workers: 2}}
train:
  epochs: {epochs}
  batch_size: {{choice: [16, 32]}}
  cpus_per_worker: 0.5
  data_cpus: 0.5
  optimizer: {{name: adam, learning_rate: {{loguniform: [1e-4, 1e-2]}}}}
  augment: [{{name: flip}}, {{name: rotate, degrees: 10}}]
search: {{metric: accuracy}}
finalize: {{keep: 2}}
"""


class Nodes:
    """The cluster: a head without CPUs, and two nodes that die and are replaced."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": True, "dashboard_port": 0}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.others = [self.cluster.add_node(num_cpus=1) for _ in range(2)]
        self.cluster.wait_for_nodes()

    def kill(self, moments: random.Random) -> None:
        self.cluster.remove_node(self.others.pop(moments.randrange(2)), allow_graceful=False)
        self.others.append(self.cluster.add_node(num_cpus=1))


class Witness:
    """Looks at the run folder again and again. Raises AssertionError where something that was there has changed."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.rows: dict[str, list[str]] = {}
        self.ended: dict[str, bytes] = {}

    def look(self) -> None:
        # The ends first: a trial that ends in between has an end later than its history.
        ended = {path.parent.name: path.read_bytes() for path in self.run.glob("trials/*/end.json")}
        rows = {path.parent.name: path.read_text().splitlines() for path in self.run.glob("trials/*/history.csv")}
        for name, before in self.rows.items():
            assert rows[name][: len(before)] == before, f"{name}: epochs that were on disk are lost or changed"
        for name, before in self.rows.items():
            assert name not in self.ended or rows[name] == before, f"{name} had ended, and has got more epochs"
        for name, end in self.ended.items():
            assert ended[name] == end, f"{name} had ended, and has ended otherwise"
        self.rows, self.ended = rows, ended

    @property
    def epochs(self) -> int:
        return sum(len(rows) - 1 for rows in self.rows.values())


class Sweep:
    """The driver of a sweep: started, killed, started again with --resume."""

    def __init__(self, folder: Path, mode: str, trials: int, address: str) -> None:
        self.file = folder / f"{mode}.yaml"
        self.file.write_text(SWEEP.format(mode=mode, trials=trials, epochs=EPOCHS))
        self.storage, self.address = folder / mode, address

    def start(self, name: str) -> "subprocess.Popen[str]":
        run = self.storage / name
        more = ["--resume"] if (run / "trials.csv").exists() or (run / "sweep.yaml").exists() else []
        where = ["--storage", str(self.storage), "--address", self.address, "--set", f"name={name}"]
        return subprocess.Popen(
            [sys.executable, "-m", "emoray.sweep", str(self.file), *where, *more],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def processes(kind: str) -> list[int]:
    """The trials' processes, or those of workers, on all nodes."""
    wanted = is_training if kind == "trial" else is_worker
    return [pid for pid in descendants(os.getpid()) if wanted(pid)]


def is_worker(pid: int) -> bool:
    return title(pid).startswith(b"ray::RayTrainWorker")


def struck(kind: str, nodes: Nodes, driver: "subprocess.Popen[str]", moments: random.Random) -> bool:
    """Kill something of a kind; whether there was anything."""
    if kind == "node":
        nodes.kill(moments)
        return True
    victims = [driver.pid] if kind == "driver" else processes(kind)
    if not victims:
        return False
    os.kill(moments.choice(victims), signal.SIGKILL)
    return True


def broken(nodes: Nodes, sweep: Sweep, kills: int, moments: random.Random) -> dict[str, Any]:
    """Run a sweep to its end, with so many kills on the way; returns what died and what it said."""
    began = time.monotonic()
    witness, done = Witness(sweep.storage / "chaos"), Counter[str]()
    order: list[str] = []
    driver, told = sweep.start("chaos"), Told()
    told.follow(driver)
    deadline = time.monotonic() + END_SECONDS + kills * PAUSE[1]
    while True:
        until = time.monotonic() + moments.uniform(*PAUSE)
        while driver.poll() is None and (time.monotonic() < until or sum(done.values()) == kills):
            assert time.monotonic() < deadline, f"it does not end: {told.text()}"
            time.sleep(0.2)
            witness.look()
        if driver.poll() is not None:
            assert driver.returncode == 0, told.text()
            break
        order = order or moments.sample(KINDS, len(KINDS))
        kind = order.pop()
        if kind != "node" and not witness.rows:
            continue  # nothing has been trained: a kill would only be the end of a start
        if struck(kind, nodes, driver, moments):
            done[kind] += 1
            print(f"{time.strftime('%X')} {kind} killed with {witness.epochs} epochs on disk", file=sys.stderr)
        if kind == "driver" and driver.poll() is None:
            driver.wait()
            driver = sweep.start("chaos")
            told.follow(driver)
    witness.look()
    noise = [line for line in told.lines if "Traceback" in line]
    return {"killed": dict(done), "tracebacks": noise, "seconds": round(time.monotonic() - began)}


class Told:
    """What drivers print, read as it comes, so that none waits for its reader."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def follow(self, driver: "subprocess.Popen[str]") -> None:
        assert driver.stdout is not None
        threading.Thread(target=self.lines.extend, args=(driver.stdout,), daemon=True).start()

    def text(self) -> str:
        return "".join(self.lines)[-20_000:]


def counted(run: Path) -> dict[str, Any]:
    """The trials of trials.csv by status, and whether each stands there once with each epoch once."""
    rows = list(csv.DictReader((run / "trials.csv").open()))
    once = len({row["trial"] for row in rows}) == len(rows)
    for row in rows:
        history = csv.DictReader((run / "trials" / row["trial"] / "history.csv").open())
        once &= [int(float(epoch["epoch"])) for epoch in history] == list(range(1, int(row["epochs"]) + 1))
    return {"trials": dict(Counter(row["status"] for row in rows)), "each_once": once}


def left(address: str, temporary: Path) -> dict[str, Any]:
    """What is there when all drivers are gone, after a while: all of it would be a leak."""
    import ray
    from ray.util.state import list_actors, list_placement_groups

    ray.init(address=address, log_to_driver=False)
    try:

        def now() -> dict[str, Any]:
            actors = list_actors(address, filters=[("state", "!=", "DEAD")], limit=10_000)
            groups = list_placement_groups(address, limit=10_000)
            free, all_ = ray.available_resources(), ray.cluster_resources()
            held = {kind: round(all_[kind] - free.get(kind, 0), 6) for kind in ("CPU", "object_store_memory")}
            return {
                "actors": sorted({actor.class_name for actor in actors} - RAYS_OWN),
                "placement_groups": [group.placement_group_id for group in groups if group.state != "REMOVED"],
                "held": {kind: value for kind, value in held.items() if value > 0},
                "temporary": sorted(path.name for path in temporary.glob("emoray-*")),
            }

        deadline = time.monotonic() + 60
        while any((seen := now()).values()) and time.monotonic() < deadline:
            time.sleep(1)
        return seen
    finally:
        ray.shutdown()


def marked(mark: str) -> list[int]:
    """The processes that have `mark` in their environment: all that this program has started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes() and int(process.name) != os.getpid():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def until(holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=8, help="in each sweep")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=3, help="of each of the two studies")
    parser.add_argument("--alone", action="store_true", help="without the untouched sweep")
    parser.add_argument("--modes", nargs="+", choices=["memory", "stream"], default=["memory", "stream"])
    options = parser.parse_args()
    moments, mark = random.Random(options.seed), secrets.token_hex(8)
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="chaos-") as place:
        temporary = Path(place, "t")
        temporary.mkdir()
        token = Path(place, "token")
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        # Before Ray is imported, which reads them then.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "EMORAY_CHAOS": mark}
        os.environ |= {"TMPDIR": str(temporary), "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"}
        tempfile.tempdir = None
        nodes = Nodes()
        try:
            for mode in options.modes:
                sweep = Sweep(Path(place), mode, options.trials, nodes.cluster.address)
                told[mode] = broken(nodes, sweep, options.kills, moments) | counted(sweep.storage / "chaos")
                if not options.alone:
                    told[mode] |= compared(sweep)
                told[mode]["left"] = left(nodes.cluster.address, temporary)
        finally:
            nodes.cluster.shutdown()
        until(lambda: not marked(mark), 30)
        told["processes_left"] = [title(pid).decode(errors="replace") for pid in marked(mark)]
    print(json.dumps(told))


def compared(sweep: Sweep) -> dict[str, Any]:
    """The same sweep untouched, and whether its trials were given the same and went the same way."""
    began = time.monotonic()
    whole = sweep.start("untouched")
    said = whole.communicate()[0]
    assert whole.returncode == 0, said
    same = picture(sweep.storage / "chaos") == picture(sweep.storage / "untouched")
    return {"same": same, "seconds_untouched": round(time.monotonic() - began)}


if __name__ == "__main__":
    main()
