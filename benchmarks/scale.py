"""A sweep over hundreds of slots, simulated: the real search code, the real run folder, and no training.

    python -m benchmarks.scale --trials 100 1000 10000 --slots 200 --algorithm random

Every trial's epochs take as long as a recorded epoch of its architecture, with a spread; its scores follow a curve
drawn from its seed. The clock is simulated, the decisions are not: each result is taken in, and each next trial drawn,
by emoray's own `Studies`, one after the other as in a driver, and the time that this takes is added to the clock. A
slot waits where the driver is behind. Printed for each number of trials: bookkeeping a trial and a result, the
most that one answer took, the share of all slots' time that was spent waiting for the driver, what the driver's memory
grew by, and what stands in the run folder without weights.
"""

import argparse
import heapq
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from emoray import config, trials
from emoray.run_folder import RunFolder
from emoray.studies import Studies
from emoray.trial_state import Trial

RECORDED = {"lenet": 1.2, "simple_cnn": 5.4, "resnet34": 13.1, "vgg10": 22.6, "mobilenet_v2": 9.5}
"""Seconds of an epoch in `sweeps/all_models_small.yaml` on two cores; the shorter, the harder for the driver."""
SWEEP = """
name: scale
models: [{models}]
train:
  epochs: {epochs}
  batch_size: {{choice: [32, 64, 128]}}
  optimizer:
    choice:
      - {{name: sgd, learning_rate: {{loguniform: [0.001, 0.3]}}, momentum: {{uniform: [0.8, 0.99]}}}}
      - {{name: adamw, learning_rate: {{loguniform: [1e-5, 1e-1]}}, weight_decay: {{loguniform: [1e-6, 1e-1]}}}}
  loss: {{name: cross_entropy, label_smoothing: {{uniform: [0.0, 0.2]}}}}
search: {{algorithm: {{name: {algorithm}}}, scheduler: {{name: asha, grace_epochs: 3}}, metric: accuracy}}
"""


@dataclass
class Driver:
    """What answers one request after the other, on the simulated clock."""

    now: float = 0.0
    busy: float = 0.0
    longest: float = 0.0
    waited: float = 0.0
    results: int = 0
    _began: float = field(default=0.0, repr=False)

    def begin(self, asked: float) -> None:
        """Take up what was asked for at `asked`."""
        self.now = max(self.now, asked)
        self._began = time.perf_counter()

    def end(self, asked: float) -> float:
        """When it was answered."""
        taken = time.perf_counter() - self._began
        self.busy, self.longest, self.now = self.busy + taken, max(self.longest, taken), self.now + taken
        self.waited += self.now - asked
        return self.now


def row_of(trial: Trial, seconds: float) -> dict[str, float]:
    """The next epoch's figures: a curve of the trial's own height and pace, with noise."""
    rng = np.random.default_rng((trial.settings["seed"], len(trial.history)))
    height, pace = np.random.default_rng(trial.settings["seed"]).uniform((0.3, 2.0), (0.7, 15.0))
    epoch = len(trial.history) + 1
    score = float(height * (1 - np.exp(-epoch / pace)) + rng.normal(0, 0.005))
    recalls = {f"recall_{name}": score for name in ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")}
    figures = {
        "train_loss": 2 - score,
        "accuracy": score,
        "macro_f1": score,
        "balanced_accuracy": score,
        "log_loss": 1.0,
    }
    return {"epoch": epoch, "score": score, "seconds": seconds, "images_per_second": 1000.0, **figures, **recalls}


def simulate(count: int, slots: int, epochs: int, algorithm: str, folder: Path) -> tuple[Driver, float]:
    """Run `count` trials on so many slots; returns the driver, and the seconds for which slots were held."""
    share = -(-count // len(RECORDED))
    models = ", ".join(f"{{name: {name}, trials: {share}}}" for name in RECORDED)
    (folder / "sweep.yaml").write_text(SWEEP.format(models=models, epochs=epochs, algorithm=algorithm))
    run = RunFolder(folder / "run")
    studies = Studies(config.load(folder / "sweep.yaml"), trials.TrialTable(run))
    driver, held = Driver(), 0.0
    events: list[tuple[float, int, Trial | None, float]] = [(0.0, slot, None, 0.0) for slot in range(slots)]
    while events:
        asked, slot, trial, seconds = heapq.heappop(events)
        row = row_of(trial, seconds) if trial is not None else {}
        driver.begin(asked)
        if trial is not None:
            done = {"status": "finished", "reason": ""} if len(trial.history) + 1 >= epochs else {}
            driver.results += 1
            if studies.record({"trial": trial.id, "row": list(row.items()), "parameters": 1, **done}):
                trials.write_history(run.trial(trial.id), trial.history)
                trial = None
        if trial is None:
            trial = studies.next()
        answered = driver.end(asked)
        held += answered - asked
        if trial is not None:
            spread = np.random.default_rng((trial.settings["seed"], len(trial.history), 1)).uniform(0.8, 1.25)
            seconds = RECORDED[trial.study] * float(spread)
            held += seconds
            heapq.heappush(events, (answered + seconds, slot, trial, seconds))
    assert studies.complete, "every trial has ended"
    studies.table.write()
    return driver, held


def resident() -> float:
    """MB that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--slots", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--algorithm", default="random", choices=["random", "optuna"])
    arguments = parser.parse_args()
    print(f"{arguments.slots} slots, {arguments.epochs} epochs at most, {arguments.algorithm} search, ASHA")
    for count in arguments.trials:
        folder = Path(tempfile.mkdtemp(prefix="emoray-benchmark-"))
        before = resident()
        try:
            driver, held = simulate(count, arguments.slots, arguments.epochs, arguments.algorithm, folder)
            stored = sum(file.stat().st_size for file in (folder / "run").rglob("*") if file.is_file())
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        busy, waiting = 1000 * driver.busy, 100 * driver.waited / held
        print(f"{count:>6} trials, {driver.results:>7,} results in {driver.now / 3600:.2f} simulated hours:", end=" ")
        print(f"{busy / count:.1f} ms a trial, {busy / driver.results:.2f} ms a result,", end=" ")
        print(f"at most {1000 * driver.longest:.0f} ms; waiting {waiting:.2f} % of the slots' time;", end=" ")
        print(f"memory {resident() - before:+.0f} MB, run folder {stored / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    main()
