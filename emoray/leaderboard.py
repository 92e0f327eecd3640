"""The leaderboard as people see it: trials by validation, the averages of their weights, and the one that was chosen.

The one rule: validation ranks and selection chooses, so both scores stand beside each other, with a mark at what was
chosen.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emoray.trial_state import Trial

MARK = "*"
WHY = (
    f"{MARK} chosen as the best single model, on the selection images: validation, by which the trials are ranked, has "
    "chosen their settings and epochs too, and flatters them."
)


@dataclass(frozen=True)
class Line:
    """A trial, or the mean of the weights of its best `epochs`, which has no rank and no validation score.

    `selection` is what the best single model is chosen by; it and `weight` are None for what is no candidate.
    """

    name: str
    trial: Trial
    rank: int | None
    averaged: int
    selection: float | None
    weight: float | None
    chosen: bool

    @property
    def score(self) -> str:
        """The selection score with the mark, or the room for it, so that the figures stand below each other."""
        return "" if self.selection is None else f"{self.selection:.4f}{MARK if self.chosen else ' '}"


def lines(ranked: Sequence[Trial], ensemble: Mapping[str, Any]) -> list[Line]:
    """The `ranked` trials, each followed by its average where that is a candidate; `ensemble` is ensemble.json, or {}.

    Raises what a file raises that holds something else.
    """
    return [line for rank, trial in enumerate(ranked, 1) for line in _of(trial, rank, ensemble)]


def chosen(ensemble: Mapping[str, Any]) -> str | None:
    """The name of the best single model, which may be an average."""
    return ((ensemble.get("test") or {}).get("best_single") or {}).get("trial")


def entries(ensemble: Mapping[str, Any], trial: str) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """What ensemble.json holds of a trial's own checkpoint, {} where that was no candidate, and of its averages."""
    own = [one for one in ensemble.get("candidates") or () if one["trial"] == trial]
    return next((one for one in own if one["name"] == trial), {}), [one for one in own if one["name"] != trial]


def _of(trial: Trial, rank: int, ensemble: Mapping[str, Any]) -> Iterator[Line]:
    alone, averages = entries(ensemble, trial.id)
    yield _line(trial.id, trial, rank, 0, alone, chosen(ensemble))
    for one in averages:
        yield _line(one["name"], trial, None, len(one["files"]), one, chosen(ensemble))


def _line(name: str, trial: Trial, rank: int | None, averaged: int, one: Mapping[str, Any], best: str | None) -> Line:
    selection, weight = (None if one.get(key) is None else float(one[key]) for key in ("selection", "weight"))
    return Line(name, trial, rank, averaged, selection, weight, name == best)
