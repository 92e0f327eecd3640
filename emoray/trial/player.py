"""A player trains one trial: an epoch a call, from its settings and, where there is one, from a saved state.

The same settings, data and state give the same next epoch, whichever process plays it. Several ranks play one trial
together: each calls the same methods, trains on its share of every batch, and ends the epoch with the same bits.
"""

import dataclasses
import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emoray import metrics, registry
from emoray.data.augmentation import pipeline
from emoray.data.batches import Batches, Epochs, Feed
from emoray.data.stream import DataShare, Stream
from emoray.losses import Classes
from emoray.trial import checkpoint
from emoray.trial.checkpoint import State
from emoray.trial.data import TrialData
from emoray.trial.ending import stop_reason
from emoray.trial.loop import Program, Progress, train_epoch
from emoray.trial.notice import Ended, Within
from emoray.trial.ranks import ALONE, Ranks

PREDICTED = 256
"""Images that are predicted at once."""


class Player:
    """One trial in this process. `history` holds a row of figures for each epoch that it has trained."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        metric: str,
        data: TrialData,
        ranks: Ranks = ALONE,
        share: DataShare | None = None,
    ) -> None:
        """With a `share` of CPUs for it, Ray Data feeds the training, otherwise a thread of this process."""
        self.settings, self.metric, self.data, self.ranks = settings, metric, data, ranks
        self.epochs: int = settings["epochs"]
        self.program = Program(settings, data.image_shape, Classes(data.classes, data.counts), ranks.total)
        self.batches = Epochs(
            data.images,
            data.targets,
            data.rows,
            batch_size=settings["batch_size"],
            pipeline=pipeline(settings["augment"]),
            seed=settings["seed"],
            row_weights=_row_weights(settings["sampler"], data),
            rank=ranks.rank,
            world=ranks.size,
        )
        self.feed: Feed = Stream(self.batches, self.epochs, share) if share else Batches(self.batches)
        self._schedule = registry.bind("schedules", settings["schedule"])
        self._part_random_numbers()
        self.history: list[dict[str, float]] = []
        self.best: State | None = None
        self.progress = Progress()
        """How far the next epoch has come already."""

    @property
    def scores(self) -> list[float]:
        return [row["score"] for row in self.history]

    @property
    def parameters(self) -> int:
        """How many numbers the model learns."""
        return int(sum(np.prod(v.shape) for v in self.program.model.trainable_variables))

    def load(self, last: State, best: State | None) -> None:
        """Go on from `State`s that `state`, or `Within.save` in the middle of an epoch, and `best` gave."""
        checkpoint.assign(self._variables("model"), last.arrays["model"])
        checkpoint.assign(self._variables("optimizer"), last.arrays["optimizer"])
        self._part_random_numbers()
        self.history = list(last.meta["history"])
        self.best = best
        self.progress = Progress(**last.meta.get("within", {}))
        if "statistics" in last.arrays:  # one row a rank that there was then
            (rows,) = last.arrays["statistics"]
            self._assign_statistics(rows[self.ranks.rank] if len(rows) == self.ranks.size else rows.mean(0))

    def state(self) -> State:
        """All that the next epoch depends on besides the settings and the data; rank 0's is that of all ranks."""
        arrays = {group: [v.numpy() for v in self._variables(group)] for group in ("model", "optimizer")}
        return State(arrays, {"history": self.history})

    def play(self, within: Within | None = None) -> dict[str, float]:
        """Train and validate one epoch; returns its row of the history. Sets `best` where it is the best so far.

        `within` is asked after each chunk, on all ranks; rank 0 saves. Raises Ended where any of them has ended.
        """
        epoch, program, n = len(self.history), self.program, len(self.batches.images)
        progress = self.progress
        for progress in train_epoch(program, self.feed, epoch, self._rate, self.batches.steps, self.progress):
            if within is not None and self._asked(within):
                state = self._state_within(progress)
                if self.ranks.rank == 0:
                    within.save(state)
        self.progress = Progress()
        loss, weight, right = progress.sums
        trained, began = progress.seconds, time.perf_counter()
        self._average_statistics()
        self._check_agreement()
        live = self._use_average()
        probabilities, labels = self._validate(), self.data.validation_labels
        row = {
            "epoch": epoch + 1,
            "score": metrics.value(self.metric, labels, probabilities, self.data.classes),
            "images_per_second": n / trained,
            "data_wait": float(self.ranks.each(np.array(progress.waited / trained)).max()),
            "workers": self.ranks.size,
            "learning_rate": self._rate(0.0),
            "train_loss": float(loss / weight),
            "train_accuracy": float(right / n),
            **metrics.scores(labels, probabilities),
        }
        recall = metrics.recall(labels, probabilities)
        row |= {f"recall_{name}": float(r) for name, r in zip(self.data.classes, recall, strict=True)}
        if np.isfinite(row["score"]) and row["score"] > max(self.scores, default=-np.inf):
            arrays = {"model": [v.numpy() for v in self._variables("model")]}
            self.best = State(arrays, {"epoch": epoch + 1, "score": row["score"]})
        self._restore(live)
        row["seconds"] = trained + time.perf_counter() - began
        self.history.append(row)
        return row

    def stop_reason(self) -> str:
        """Why training should end after the last epoch; empty to go on."""
        return stop_reason(self.settings, self.history)

    def close(self) -> None:
        self.feed.close()
        self.program.close()

    def _validate(self) -> np.ndarray:
        """Probabilities float32 (n, classes) of all validation images; each rank predicts its part."""
        n, classes = len(self.data.validation_labels), len(self.data.classes)
        probabilities = np.zeros((n, classes), np.float32)
        mine = self.ranks.part(n)
        for start in range(mine.start, mine.stop, PREDICTED):
            batch = slice(start, min(start + PREDICTED, mine.stop))
            probabilities[batch] = self.program.predict(self.data.validation_images[batch])
        return self.ranks.sum(probabilities)

    def _asked(self, within: Within) -> bool:
        """Whether any rank asks for a state: all have to take part in it, and in leaving."""
        due, ended = self.ranks.sum(np.array([within.due(), within.ended()], np.float32))
        if ended:
            raise Ended
        return bool(due)

    def _state_within(self, progress: Progress) -> State:
        """What the rest of the epoch depends on, statistics of each rank included, which are averaged at its end only.

        "settings" tells which: under others, the epoch is begun anew.
        """
        state = self.state()
        meta = {**state.meta, "within": dataclasses.asdict(progress), "settings": self.settings}
        statistics = self._statistics() if self.ranks.size > 1 else np.zeros(0)
        if not statistics.size:
            return State(state.arrays, meta)
        return State({**state.arrays, "statistics": [self.ranks.each(statistics)]}, meta)

    def _average_statistics(self) -> None:
        """Make what ranks learn apart from gradients, the statistics of batch norm, the same on all: their mean."""
        statistics = self._statistics()
        if self.ranks.size > 1 and statistics.size:
            self._assign_statistics(self.ranks.sum(statistics) / self.ranks.size)

    def _statistics(self) -> np.ndarray:
        """What a rank learns apart from gradients, float32 (k,)."""
        apart = learned_apart(self.program.model)
        return np.concatenate([np.zeros(0, np.float32), *(v.numpy().ravel() for v in apart)]).astype(np.float32)

    def _assign_statistics(self, flat: np.ndarray) -> None:
        apart = learned_apart(self.program.model)
        parts = np.split(flat, np.cumsum([np.prod(v.shape, dtype=int) for v in apart])[:-1])
        for variable, part in zip(apart, parts, strict=True):
            variable.assign(part.reshape(variable.shape))

    def _check_agreement(self) -> None:
        """Raises RuntimeError where the ranks have drifted apart: they would train on as if nothing were wrong."""
        if self.ranks.size == 1:
            return
        digest = hashlib.blake2b(digest_size=16)
        for variable in self.program.model.variables:
            if not _is_random_state(variable):
                digest.update(variable.numpy().tobytes())
        own = np.frombuffer(digest.digest(), np.uint16).astype(np.float32)  # sums of these are exact
        if not np.array_equal(self.ranks.sum(own), own * self.ranks.size):
            raise RuntimeError(f"the workers' weights differ after epoch {len(self.history) + 1}")

    def _part_random_numbers(self) -> None:
        """Give each rank random numbers of its own: with equal ones, dropout would mask all shares of a batch alike."""
        for variable in self.program.model.variables if self.ranks.rank else ():
            if _is_random_state(variable):
                state = variable.numpy()
                state[0] ^= (self.ranks.rank * 0x9E3779B1) % 2**32
                variable.assign(state)

    def _rate(self, share: float) -> float:
        """The learning rate at a share of the epoch that is next."""
        now = len(self.history) + share
        return self.program.learning_rate * self._schedule(now, self.epochs, self.scores)

    def _variables(self, group: str) -> Sequence[Any]:
        if group == "model":
            return self.program.model.variables
        rate = self.program.optimizer.learning_rate
        kept = [v for v in self.program.optimizer.variables if v is not rate]  # it is set anew at each step
        return [*kept, *self.program.loss_scale.variables]

    def _use_average(self) -> list[np.ndarray] | None:
        """Put the average over steps, where the optimizer keeps one, into the model; returns the live weights."""
        if not self.program.optimizer.use_ema:
            return None
        variables = self.program.model.trainable_variables
        live = [v.numpy() for v in variables]
        self.program.optimizer.finalize_variable_values(variables)
        return live

    def _restore(self, live: list[np.ndarray] | None) -> None:
        if live is not None:
            checkpoint.assign(self.program.model.trainable_variables, live)


def learned_apart(model: Any) -> list[Any]:
    """The variables of a model that a rank may change apart from gradients, such as the statistics of batch norm.

    Those of floats that a layer made as `trainable=False` and holds itself, if the layer is to train. Weights that are
    frozen later do not count, which ranks could only round; nor does a layer that is frozen, which by Keras's rule
    keeps its statistics too. One that does not is found when the ranks compare their weights.
    """
    layers = [layer for layer in model._flatten_layers() if layer.trainable]
    held = {id(v): v for layer in layers for v in layer._non_trainable_variables}  # a variable may have two holders
    return [v for v in held.values() if "float" in v.dtype]


def _is_random_state(variable: Any) -> bool:
    return bool(variable.path.endswith("seed_generator_state"))


def _row_weights(sampler: Mapping[str, Any], data: TrialData) -> np.ndarray | None:
    """How often each image comes in an epoch, (n,), mean 1; None where each comes once."""
    if sampler["name"] == "none":
        return None
    weights = data.targets @ registry.build("class_weights", sampler, np.asarray(data.counts))
    return weights / weights.mean()
