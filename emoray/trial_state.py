"""One trial as the driver knows it: what it was given, how it went, how it ended."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from emoray import registry
from emoray.errors import UserError

METRICS = ("accuracy", "macro_f1", "balanced_accuracy", "log_loss")
RUNNING, FINISHED, STOPPED, FAILED = "running", "finished", "stopped", "failed"
UNFINISHED = "unfinished"
"""What a `running` trial is called where no process is at work on its run: a resume goes on with it."""
MEMORY, NOT_FINITE, DATA, CRASH, PLACE, ERROR = "memory", "not_finite", "data", "crash", "place", "error"
"""Why a trial failed: no memory, a loss that is no number, data that cannot be read, its process died, no place for its
workers, an exception."""
DISK = "disk"
"""The disk is full or broken: no trial's failure but the end of the sweep, until there is room."""
ERROR_LINES = 3
"""Of an error's text, how many of its last lines trials.csv shows."""


@dataclass(frozen=True)
class Change:
    """A change of what a trial is given, after `epoch` epochs; `settings` and `drawn` are those before.

    `donor` is the trial whose weights it took over.
    """

    epoch: int
    why: str
    settings: Mapping[str, Any]
    drawn: Mapping[str, Any]
    donor: str | None = None


@dataclass(eq=False)
class Trial:
    """One trial as the driver knows it. `history` has a row an epoch; `score` in it is higher for better."""

    id: str
    study: str
    index: int
    settings: Mapping[str, Any]
    drawn: Mapping[str, Any]
    status: str = RUNNING
    reason: str = ""
    parameters: int | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    failure: str = ""
    error: str = ""
    told: float | None = None
    """What the searcher was told of it at its end: what is known of other trials at that moment counts in it."""
    changes: list[Change] = field(default_factory=list)
    _curve: list[float] = field(default_factory=list, repr=False, compare=False)
    _curve_ends_with: dict[str, float] | None = field(default=None, repr=False, compare=False)

    @property
    def first(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The settings and the draws that the trial began with."""
        return (self.changes[0].settings, self.changes[0].drawn) if self.changes else (self.settings, self.drawn)

    @property
    def architecture(self) -> str:
        """The model's name, which several studies may have in common."""
        return str(self.settings["model"]["name"])

    @property
    def signature(self) -> str:
        return signature(self.first[0])

    @property
    def takes_over(self) -> Change | None:
        """The other trial's weights from which the next epoch goes on, where it has just taken some over."""
        taken = next((change for change in reversed(self.changes) if change.donor), None)
        return taken if taken is not None and taken.epoch == len(self.history) else None

    @property
    def curve(self) -> list[float]:
        """Scores by epoch; one that is not a number is the worst there can be."""
        last = self.history[-1] if self.history else None
        if self._curve_ends_with is not last:  # schedulers look at the curves of all trials, again and again
            self._curve = [row["score"] if math.isfinite(row["score"]) else -math.inf for row in self.history]
            self._curve_ends_with = last
        return self._curve if last is not None else []

    @property
    def best(self) -> dict[str, float] | None:
        """The row of the best epoch."""
        curve = self.curve
        return self.history[curve.index(max(curve))] if curve and max(curve) > -math.inf else None

    @property
    def at_best(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The settings and the draws by which the best epoch was trained; how long it may train is as it is now."""
        epoch = self.best["epoch"] if self.best else math.inf
        later = next((change for change in self.changes if change.epoch >= epoch), None)
        if later is None:
            return self.settings, self.drawn
        return {**later.settings, "epochs": self.settings["epochs"]}, later.drawn

    @property
    def ended(self) -> bool:
        return self.status != RUNNING

    def shown(self, at_work: bool) -> str:
        """The status as a person is told it; `at_work` is whether a process is, on the trial's run."""
        return self.status if self.ended or at_work else UNFINISHED

    def row(self, at_work: bool = True) -> dict[str, Any]:
        """The trial as a row of trials.csv; `at_work` is whether a process is, on its run."""
        best = self.best or {}
        seconds = sum(row["seconds"] for row in self.history)
        rates = [row["images_per_second"] for row in self.history]
        return {
            "trial": self.id,
            "study": self.study,
            "model": self.architecture,
            "status": self.shown(at_work),
            "reason": self.reason,
            "signature": self.signature,
            "epochs": len(self.history),
            "best_epoch": best.get("epoch"),
            "score": best.get("score"),
            **{metric: best.get(metric) for metric in METRICS},
            "seconds": seconds,
            "images_per_second": sum(rates) / len(rates) if rates else None,
            "parameters": self.parameters,
            "settings": json.dumps(self.at_best[0]),
            "failure": self.failure,
            "error": self.error,
            "changes": "; ".join(f"after epoch {change.epoch}: {change.why}" for change in self.changes),
        }


def last_lines(error: str) -> str:
    """The end of an error's text on one line: what trials.csv shows of it."""
    return " | ".join(line.strip() for line in error.strip().splitlines()[-ERROR_LINES:])[-500:]


def signature(settings: Mapping[str, Any]) -> str:
    """A hash of what was tried: all settings but the seed, which only repeats a trial, and how long it may train."""
    what = {key: value for key, value in settings.items() if key not in ("seed", "epochs")}
    return hashlib.blake2b(json.dumps(what, sort_keys=True).encode(), digest_size=6).hexdigest()


def best(trials: Iterable[Trial], keep: int, per_architecture: int | None = None) -> list[Trial]:
    """The `keep` trials of the highest scores, at most so many of each architecture; failed ones never count."""
    scored = [trial for trial in trials if trial.best is not None and trial.status != FAILED]
    chosen: list[Trial] = []
    for trial in sorted(scored, key=lambda trial: -max(trial.curve)):
        alike = sum(other.architecture == trial.architecture for other in chosen)
        if len(chosen) < keep and alike < (per_architecture or keep):
            chosen.append(trial)
    return chosen


def worth(trial: Trial, failure: str, study: Iterable[Trial], worst: float) -> float | None:
    """What a searcher is told of a trial of a `study` that ends; None where its settings are not to blame.

    Settings that lose the loss or take too much memory count as the worst of the study, so that it keeps away from
    them; `worst` is the lowest score there can be, for a study that has none yet.
    """
    if failure not in ("", MEMORY, NOT_FINITE):
        return None
    own = [score for score in trial.curve if math.isfinite(score)]
    if own and not failure:
        return max(own)
    return min([*own, *(max(other.curve) for other in study if other.best and other is not trial)], default=worst)


def quiet_epochs(schedule: Mapping[str, Any], epochs: int) -> int:
    """How many epochs pass before a schedule's rate has peaked: until then a trial looks bad without being so."""
    return _quiet_epochs(json.dumps(schedule, sort_keys=True), epochs)


@lru_cache(maxsize=1024)
def _quiet_epochs(schedule: str, epochs: int) -> int:
    factor = registry.bind("schedules", json.loads(schedule))
    try:
        factors = [factor(float(epoch), epochs, []) for epoch in range(epochs)]
        return factors.index(max(factors))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:  # one of the user's own
        name = json.loads(schedule)["name"]
        raise UserError(f"the schedule {name} fails for {epochs} epochs: {type(error).__name__}: {error}") from error
