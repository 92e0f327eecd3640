"""Bookkeeping: what a trial costs apart from its training, and the same through plain Ray Tune with reused actors.

    python -m benchmarks.search --trials 100 1000

A trial of three epochs that do no work at all is run as often as asked, two at a time, through all of emoray's
search (settings drawn, folders, histories, states and trials.csv written, checkpoints tidied) and through Ray Tune
alone, with its own loggers and no checkpoints. Prints seconds a trial, and by how much the memory of the driver grew.
"""

from benchmarks import own_token  # noqa: F401

# isort: split
import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune

from emoray import config, search, trials
from emoray.run_folder import RunFolder
from emoray.trial.checkpoint import State
from emoray.trial.data import TrialData
from emoray.trial.trainable import TrialRunner
from emoray.trial_state import FINISHED

EPOCHS = 3
SLOTS = 2
NO_IMAGES, NO_LABELS = np.zeros((1, 32, 32, 1), np.uint8), np.zeros(1, np.int64)
NO_DATA = TrialData(
    "memory", ("a", "b"), (1, 0), NO_IMAGES, np.zeros((1, 2), np.float32), NO_LABELS, NO_IMAGES, NO_LABELS
)
SWEEP = """
name: bookkeeping
models: [{{name: lenet, trials: {trials}}}]
train:
  epochs: {epochs}
  batch_size: {{choice: [16, 32, 64]}}
  optimizer: {{name: adam, learning_rate: {{loguniform: [1e-4, 1e-1]}}}}
search: {{scheduler: {{name: {scheduler}}}, metric: accuracy}}
"""


class Idle:
    """A player that trains nothing: what `TrialRunner` needs of one, with weights of a kilobyte."""

    parameters = 256

    def __init__(self, settings: dict[str, Any]) -> None:
        self.epochs: int = settings["epochs"]
        self.score = settings["optimizer"]["learning_rate"]
        self.history: list[dict[str, float]] = []
        self.best: State | None = None

    def load(self, last: State, best: State | None) -> None:
        self.history, self.best = list(last.meta["history"]), best

    def state(self) -> State:
        return State({"model": [np.zeros(256, np.float32)]}, {"history": self.history})

    def play(self, within: Any) -> None:
        epoch = len(self.history) + 1
        figures = {"train_loss": 1.0 / epoch, "accuracy": 0.5, "macro_f1": 0.5, "log_loss": 1.0}
        row = {"epoch": epoch, "score": self.score + epoch, "seconds": 0.0, "images_per_second": 0.0, **figures}
        self.history.append(row)
        self.best = State({"model": [np.zeros(256, np.float32)]}, {"epoch": epoch, "score": row["score"]})

    def stop_reason(self) -> str:
        return ""

    def close(self) -> None:
        pass


class IdleRunner(TrialRunner):
    """`TrialRunner` with all that it does around a player, and a player that does nothing."""

    def setup(self, config: dict[str, Any], data: list[Any] | None = None) -> None:
        self._begin(config)

    def _player(self) -> Any:
        return Idle(dict(self.told["settings"]))


class Bare(tune.Trainable):
    """Three steps of nothing, for Ray Tune alone."""

    def setup(self, config: dict[str, Any]) -> None:
        self.epoch = 0

    def step(self) -> dict[str, Any]:
        self.epoch += 1
        return {"score": self.epoch, "done": self.epoch >= EPOCHS}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.epoch = 0
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        pass

    def load_checkpoint(self, checkpoint: Any) -> None:
        pass


class Silent:
    """Shows nothing."""

    def update(self, studies: Any) -> None:
        pass


def through_emoray(count: int, scheduler: str, scratch: Path) -> None:
    file = scratch / "sweep.yaml"
    file.write_text(SWEEP.format(trials=count, epochs=EPOCHS, scheduler=scheduler))
    table = trials.TrialTable(RunFolder(scratch / "run"))
    studies = search.run(config.load(file), table, NO_DATA, SLOTS, Silent(), runner=IdleRunner)
    assert sum(trial.status == FINISHED for trial in studies.table) == count


def through_tune(count: int, scheduler: str, scratch: Path) -> None:
    tuner = tune.Tuner(
        tune.with_resources(Bare, {"CPU": 1}),
        param_space={"learning_rate": tune.loguniform(1e-4, 1e-1), "batch_size": tune.choice([16, 32, 64])},
        tune_config=tune.TuneConfig(num_samples=count, max_concurrent_trials=SLOTS, reuse_actors=True),
        run_config=tune.RunConfig(name="tune", storage_path=str(scratch / "tune"), verbose=0),
    )
    results = tuner.fit()
    assert len(results) == count
    assert not results.errors


def measured(run: Callable[[int, str, Path], None], count: int, scheduler: str) -> tuple[float, float]:
    """Seconds a trial, and megabytes by which this process's largest size grew."""
    scratch = Path(tempfile.mkdtemp(prefix="emoray-benchmark-"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.perf_counter()
    try:
        run(count, scheduler, scratch)
        seconds = time.perf_counter() - began
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return seconds / count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before


def run_one(way: str, counts: list[int], scheduler: str) -> dict[int, float]:
    """Seconds a trial for each of `counts`, of one way, in this process."""
    run = {"emoray": through_emoray, "tune": through_tune}[way]
    ray.init(address="local", num_cpus=SLOTS, log_to_driver=False, include_dashboard=False)
    measured(run, 4, scheduler)  # starts processes and imports
    seconds = {}
    for count in counts:
        seconds[count], grown = measured(run, count, scheduler)
        print(f"{way:<7} {count:>5} trials: {seconds[count]:.3f} s a trial, memory {grown:+.0f} MB", flush=True)
    return seconds


def run_both(counts: list[int], scheduler: str) -> None:
    """Each way in a process of its own: emoray sets Tune's environment variables, and memory is counted by process."""
    told = {}
    for way in ("emoray", "tune"):
        with tempfile.NamedTemporaryFile() as file:
            given = ["--trials", *map(str, counts), "--scheduler", scheduler, "--only", way, "--out", file.name]
            subprocess.run([sys.executable, "-m", "benchmarks.search", *given], check=True)
            told[way] = json.loads(Path(file.name).read_text())
    for count in map(str, counts):
        print(f"{count:>5} trials: Tune / emoray {told['tune'][count] / told['emoray'][count]:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--scheduler", default="none", choices=["none", "asha", "median"], help="of emoray")
    parser.add_argument("--only", choices=["emoray", "tune"])
    parser.add_argument("--out", type=Path, help="where --only writes its seconds a trial, as JSON")
    arguments = parser.parse_args()
    if not arguments.only:
        run_both(arguments.trials, arguments.scheduler)
        return
    seconds = run_one(arguments.only, arguments.trials, arguments.scheduler)
    if arguments.out:
        arguments.out.write_text(json.dumps(seconds))


if __name__ == "__main__":
    main()
