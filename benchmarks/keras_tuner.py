"""A real sweep beside KerasTuner's: the same cores, data, model, space, trials and epochs.

    pip install -e '.[benchmark]'
    python -m benchmarks.keras_tuner --data FER2013 --way random --out random.json
    python -m benchmarks.keras_tuner --data FER2013 --way emoray --first random.json --out emoray.json
    python -m benchmarks.keras_tuner --compare emoray.json --to random.json

    python -m benchmarks.keras_tuner --data FER2013 --way emoray --scheduler hyperband --out emoray_hyperband.json
    python -m benchmarks.keras_tuner --data FER2013 --way hyperband --out hyperband.json
    python -m benchmarks.keras_tuner --compare emoray_hyperband.json --to hyperband.json

Each way runs in a process of its own and notes, from its start without the preparation of the data, when each epoch
ended and its validation accuracy. All have the same epochs to spend, trials times epochs: what stops trials early gets
as many more trials, and whatever is trained beyond is left out. The comparison tells seconds to the same number of
trained epochs, and the best validation accuracy after the same time. KerasTuner trains with `model.fit` on arrays in
memory, its usual way. Which settings are drawn is luck: with `--first` emoray tries those that KerasTuner drew, in
their order, and several seeds (`--seed`) are compared by pairs and averaged.
"""

import argparse
import contextlib
import json
import math
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import own_token  # noqa: F401
from emoray import cluster, config, forecast

SWEEP = """
name: benchmark
seed: {seed}
data: {{path: {data}, leaks: drop, split: {{validation: 0.06, selection: 0.08, test: official}}{limit}}}
models: [{{name: simple_cnn, trials: {trials}, depth: 3, width: 16, dropout: {{uniform: [0.0, 0.3]}}}}]
train:
  epochs: {epochs}
  batch_size: {{choice: [64, 128]}}
  optimizer: {{name: adam, learning_rate: {{loguniform: [5e-4, 3e-3]}}}}
search: {{metric: accuracy, scheduler: {{name: {scheduler}}}, first: {first}}}
"""


SHARES = (0.25, 0.5, 1.0)
"""Of the time that the shorter of two searches took, the moments at which their best accuracy is compared."""


@dataclass(frozen=True)
class Epoch:
    """The end of an epoch of some trial: seconds since the start, and its validation accuracy."""

    seconds: float
    accuracy: float


class Noted:
    """The epochs of a sweep, noted as they end."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.epochs: list[Epoch] = []
        self.settings: list[dict[str, Any]] = []
        """Of each trial of KerasTuner's, as an entry of `search.first`."""
        self.seen = 0

    def add(self, accuracy: float) -> None:
        self.epochs.append(Epoch(time.perf_counter() - self.began, accuracy))

    def update(self, studies: Any) -> None:
        """Follow emoray's search."""
        for trial in studies.table.log[self.seen :]:
            history = studies.table.trials[trial].history
            if len(self.epochs) < sum(len(other.history) for other in studies.table):
                self.add(history[-1]["accuracy"])
        self.seen = len(studies.table.log)


def through_emoray(sweep: config.Sweep) -> Noted:
    from emoray import placement, search, trials
    from emoray.run_folder import RunFolder
    from emoray.trial.data import load

    prepared = _prepared(sweep)
    budget = _budget(sweep)
    (study,) = sweep.studies
    each = forecast.expected_epochs(sweep, study)
    if each is not None and each < budget:  # early stopping need not save as much as is expected: a quarter more
        count = math.ceil(1.25 * budget * study.trials / each)
        sweep = replace(sweep, studies=(replace(study, trials=count),))
    noted = Noted(time.perf_counter())
    with cluster.connected(None, [sweep.folder], print) as machine, tempfile.TemporaryDirectory() as folder:
        slots = placement.slots(sweep, machine, "memory")
        search.run(sweep, trials.TrialTable(RunFolder(Path(folder))), load(prepared, "memory"), slots, noted)
    noted.epochs = noted.epochs[:budget]
    return noted


def through_keras_tuner(sweep: config.Sweep, way: str) -> Noted:
    prepared = _prepared(sweep)
    train, validation = prepared.load("train"), prepared.load("validation")
    classes = len(prepared.manifest["classes"])
    noted = Noted(time.perf_counter())
    import keras
    import keras_tuner

    from emoray import registry

    study, budget = sweep.studies[0], _budget(sweep)

    class Model(keras_tuner.HyperModel):
        def build(self, hp: Any) -> Any:
            settings = {**study.space["model"], "dropout": hp.Float("dropout", 0.0, 0.3)}
            model = registry.build("models", settings, train.images.shape[1:], classes)
            rate = hp.Float("learning_rate", 5e-4, 3e-3, sampling="log")
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
            return model

        def fit(self, hp: Any, model: Any, *arguments: Any, **named: Any) -> Any:
            batch = hp.Choice("batch_size", [64, 128])
            optimizer = {"name": "adam", "learning_rate": hp.get("learning_rate")}
            drawn = {"study": study.name, "dropout": hp.get("dropout"), "optimizer": optimizer, "batch_size": batch}
            noted.settings.append(drawn)
            return model.fit(*arguments, batch_size=batch, **named)

    class Note(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            noted.add((logs or {})["val_accuracy"])
            if len(noted.epochs) == budget:
                raise keras_tuner.errors.FatalError("all epochs are spent")  # the only one that ends its search

    with tempfile.TemporaryDirectory() as folder:
        common = {"hypermodel": Model(), "objective": "val_accuracy", "seed": sweep.seed, "directory": folder}
        if way == "random":
            tuner = keras_tuner.RandomSearch(max_trials=study.trials, **common)
        else:
            # One iteration is a few trials whatever is asked for: begun anew until the epochs are spent.
            tuner = keras_tuner.Hyperband(max_epochs=study.epochs, factor=3, hyperband_iterations=budget, **common)
        with contextlib.suppress(keras_tuner.errors.FatalError):
            tuner.search(
                train.images,
                train.labels,
                validation_data=(validation.images, validation.labels),
                epochs=study.epochs,
                callbacks=[Note()],
                verbose=0,
            )
    return noted


def _budget(sweep: config.Sweep) -> int:
    """The epochs that each way may spend."""
    return sum(study.trials * study.epochs for study in sweep.studies)


def compare(files: list[Path], others: list[Path]) -> None:
    """Print seconds to as many epochs and best accuracy after the same time, run by run and on average."""
    ratios, best = [], []
    for file, other in zip(files, others, strict=True):
        pair = [[Epoch(**epoch) for epoch in json.loads(path.read_text())["epochs"]] for path in (file, other)]
        count = min(map(len, pair))
        mine, theirs = (epochs[count - 1].seconds for epochs in pair)
        moment = min(epochs[-1].seconds for epochs in pair)
        ratios.append(theirs / mine)
        best.append([[_best(epochs, share * moment) for share in SHARES] for epochs in pair])
        print(f"{count} epochs: {file.stem} {mine:.0f} s, {other.stem} {theirs:.0f} s, ratio {ratios[-1]:.2f}")
        for name, found in zip((file.stem, other.stem), best[-1], strict=True):
            told = ", ".join(f"{a:.4f} after {share * moment:.0f} s" for a, share in zip(found, SHARES, strict=True))
            print(f"  best validation accuracy, {name}: {told}")
    print(f"ratio of seconds, geometric mean of {len(ratios)}: {math.exp(np.mean(np.log(ratios))):.2f}")
    for share, (mine, theirs) in zip(SHARES, np.mean(best, axis=0).T, strict=True):
        print(f"mean best validation accuracy after {share:.0%} of the shorter time: {mine:.4f}, {theirs:.4f}")


def _best(epochs: list[Epoch], seconds: float) -> float:
    """The best validation accuracy until then; 0 before there is any."""
    return max((epoch.accuracy for epoch in epochs if epoch.seconds <= seconds), default=0.0)


def _prepared(sweep: config.Sweep) -> Any:
    from emoray import data

    with cluster.connected(None, [sweep.folder], print):
        return data.prepare(sweep.data, cache=str(Path(sweep.storage, ".cache")), seed=sweep.seed, progress=print)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="FER2013")
    parser.add_argument("--way", choices=["emoray", "random", "hyperband"])
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--limit", type=int, help="at most so many training images")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the settings drawn and the weights")
    parser.add_argument(
        "--first", type=Path, metavar="JSON", help="emoray tries the settings that KerasTuner drew there"
    )
    parser.add_argument("--scheduler", default="none", choices=["none", "asha", "hyperband"], help="of emoray")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--compare", type=Path, nargs="+", metavar="JSON", help="emoray's, one a seed")
    parser.add_argument("--to", type=Path, nargs="+", metavar="JSON", help="as many of another way")
    arguments = parser.parse_args()
    if arguments.compare:
        compare(arguments.compare, arguments.to)
        return
    limit = f", limit: {arguments.limit}" if arguments.limit else ""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "sweep.yaml")
        asked = {"trials": arguments.trials, "epochs": arguments.epochs, "scheduler": arguments.scheduler}
        asked["seed"] = arguments.seed
        asked["first"] = json.loads(arguments.first.read_text())["settings"] if arguments.first else []
        file.write_text(SWEEP.format(data=Path(arguments.data).absolute(), limit=limit, **asked))
        sweep = config.load(file, storage="runs")
        way = arguments.way
        noted = through_emoray(sweep) if way == "emoray" else through_keras_tuner(sweep, way)
    epochs = noted.epochs
    arguments.out.write_text(json.dumps({"epochs": [asdict(each) for each in epochs], "settings": noted.settings}))
    print(f"{way}: {len(epochs)} epochs in {epochs[-1].seconds:.0f} s, best {max(e.accuracy for e in epochs):.4f}")


if __name__ == "__main__":
    main()
