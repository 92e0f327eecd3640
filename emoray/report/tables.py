"""The tables of the page as plain rows: confusion, classes, ensemble methods, what stopping saved, data.

Every function gives None or an empty list where the run has nothing to tell, and the page then says so.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emoray import leaderboard
from emoray.report.run import Interval, Run, Trial, interval

SPLITS = ("train", "validation", "selection", "test")
DARK = 68
"""Percent of a cell's tone above which its text is light on a light page, and dark on a dark one."""


class Cell(NamedTuple):
    """Images of one (label, prediction), their share of the label's images and that share in percent for the colour."""

    images: int
    share: float
    tone: int


class ClassScores(NamedTuple):
    """Precision, recall and F1 of a class; None where there is nothing to divide by."""

    name: str
    images: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Confusion:
    """The matrix, row = label, and what follows from it for each class."""

    classes: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    scores: tuple[ClassScores, ...]
    worst: tuple[tuple[str, str, Cell, int], ...]
    """The largest shares off the diagonal: label, prediction, cell, and all images of the label."""


class Member(NamedTuple):
    """A model of the chosen ensemble."""

    trial: str
    model: str
    weight: float | None
    temperature: float | None


class Selected(NamedTuple):
    """A trial's scores on the selection images, those of its best epoch and of the mean of several epochs' weights.

    `chosen` tells whether one of them is the best single model, `averaged` whether it is the latter.
    """

    score: float | None
    of_average: float | None
    chosen: bool
    averaged: bool


class TestScore(NamedTuple):
    """A metric on test of the best single model and of the ensemble, and their difference."""

    metric: str
    single: Interval | None
    ensemble: Interval | None
    gain: Interval | None


@dataclass(frozen=True)
class Method:
    """An ensemble method: its score on the images that it was fitted on, on others, and its gains."""

    name: str
    chosen: bool
    in_sample: float | None
    cross_fitted: float | None
    in_sample_gain: float | None
    over_single: Interval | None
    over_uniform: Interval | None


class Saving(NamedTuple):
    """What early stopping spared in one study; `seconds` are the epochs not trained at each trial's own pace."""

    study: str
    trials: int
    statuses: dict[str, int]
    planned: int
    trained: int
    saved: int
    seconds: float
    best: float | None


class ClassCounts(NamedTuple):
    """Images of a class by split, and its share of the training images in percent."""

    name: str
    images: tuple[int, ...]
    share: float


def confusion(test: Mapping[str, Any], classes: Iterable[str]) -> Confusion | None:
    names = tuple(map(str, classes))
    counts = np.asarray(test.get("confusion") or [], np.int64)
    if not names or counts.shape != (len(names), len(names)):
        return None
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    rows = tuple(
        tuple(Cell(int(n), float(s), round(100 * float(s))) for n, s in zip(*row, strict=True))
        for row in zip(counts, shares, strict=True)
    )
    totals = counts.sum(1)
    pairs = [
        (names[i], names[j], cell, int(totals[i])) for i, row in enumerate(rows) for j, cell in enumerate(row) if i != j
    ]
    worst = sorted((pair for pair in pairs if pair[2].images), key=lambda pair: -pair[2].share)[:3]
    return Confusion(names, rows, tuple(_class_scores(names, counts)), tuple(worst))


def _class_scores(names: tuple[str, ...], counts: NDArray[np.int64]) -> list[ClassScores]:
    result = []
    for i, name in enumerate(names):
        hits, labelled, predicted = int(counts[i, i]), int(counts[i].sum()), int(counts[:, i].sum())
        precision, recall = _ratio(hits, predicted), _ratio(hits, labelled)
        result.append(ClassScores(name, labelled, precision, recall, _ratio(2 * hits, labelled + predicted)))
    return result


def members(run: Run) -> list[Member]:
    found = run.ensemble.get("members") or []
    return [
        Member(str(m.get("name") or m.get("trial")), str(m.get("model")), m.get("weight"), m.get("temperature"))
        for m in found
    ]


def test_scores(test: Mapping[str, Any]) -> list[TestScore]:
    """One row for every metric that the ensemble has on test."""
    single, ensemble, gain = (test.get(key) or {} for key in ("best_single", "ensemble", "gain"))
    return [
        TestScore(name, interval(single.get(name)), found, interval(gain.get(name)))
        for name, value in ensemble.items()
        if (found := interval(value))
    ]


def methods(run: Run) -> list[Method]:
    """The methods that were compared, best cross-fitted gain first."""
    found = [
        Method(
            name,
            name == run.ensemble.get("method"),
            value.get("in_sample"),
            value.get("cross_fitted"),
            value.get("in_sample_gain"),
            interval(value.get("gain_over_single")),
            interval(value.get("gain_over_uniform")),
        )
        for name, value in (run.ensemble.get("methods") or {}).items()
    ]
    # By gain, not by score: a gain is higher for better whatever the metric.
    return sorted(found, key=lambda method: -(method.over_single.estimate if method.over_single else -np.inf))


def savings(run: Run) -> list[Saving]:
    """One row a study; failed and running trials have saved nothing."""
    return [_saving(study, [trial for trial in run.trials if trial.study == study]) for study in run.studies]


def _saving(study: str, trials: list[Trial]) -> Saving:
    done = [trial for trial in trials if trial.status in ("finished", "stopped")]
    spared = {trial.name: max(0, trial.planned_epochs - trial.epochs) for trial in done}
    statuses = {status: n for status in STATUSES if (n := sum(trial.status == status for trial in trials))}
    return Saving(
        study,
        len(trials),
        statuses,
        sum(trial.planned_epochs for trial in done),
        sum(trial.epochs for trial in done),
        sum(spared.values()),
        sum(spared[trial.name] * trial.seconds / trial.epochs for trial in done if trial.epochs),
        max((trial.score for trial in trials if trial.score is not None), default=None),
    )


STATUSES = ("finished", "stopped", "failed", "running", "unfinished")


def stop_reasons(run: Run) -> dict[str, int]:
    """How many trials each reason ended before their last epoch."""
    reasons = [trial.reason or "no reason recorded" for trial in run.trials if trial.status == "stopped"]
    return {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}


def failures(run: Run) -> list[Trial]:
    return [trial for trial in run.trials if trial.status == "failed"]


def class_counts(manifest: Mapping[str, Any]) -> tuple[list[str], list[ClassCounts]]:
    """The splits that the data has, in their usual order, and a row for every class."""
    found = manifest.get("splits") or {}
    splits = [name for name in SPLITS if name in found] + [name for name in found if name not in SPLITS]
    names = manifest.get("classes") or []
    rows = [(str(name), tuple(int(found[s].get("classes", {}).get(name, 0)) for s in splits)) for name in names]
    total = sum(images[0] for _, images in rows if images) or 1
    return splits, [ClassCounts(name, images, 100 * images[0] / total if images else 0.0) for name, images in rows]


def ranked(run: Run) -> list[Trial]:
    """All trials by score, the best first, and those without one at the end."""
    return sorted(run.trials, key=lambda trial: -(trial.score if trial.score is not None else -np.inf))


def left_out_checkpoints(run: Run) -> list[tuple[str, str]]:
    """The checkpoints that would have been candidates and are none, each with the reason."""
    found = run.ensemble.get("left_out") or []
    return [(str(one.get("name")), str(one.get("reason", "")).replace(f"{run.folder}/", "")) for one in found]


def left_out(run: Run) -> dict[str, list[str]]:
    """Why checkpoints that would have been candidates are none, by trial."""
    names = {trial.name for trial in run.trials}
    found: dict[str, list[str]] = {}
    for name, reason in left_out_checkpoints(run):
        trial = name if name in names else name.removesuffix("-soup")
        found.setdefault(trial, []).append(reason if trial == name else f"{name}: {reason}")
    return found


def selected(run: Run) -> dict[str, Selected]:
    """What the selection images say of each trial that was a candidate, where that is recorded."""
    best = leaderboard.chosen(run.ensemble)
    found: dict[str, Selected] = {}
    for trial in run.trials:
        alone, averages = leaderboard.entries(run.ensemble, trial.name)
        average: Mapping[str, Any] = averages[0] if averages else {}
        scores = alone.get("selection"), average.get("selection")
        if scores != (None, None):
            averaged = bool(averages) and average["name"] == best
            found[trial.name] = Selected(*scores, averaged or trial.name == best, averaged)
    return found


def inside_roles(run: Run) -> dict[str, str]:
    """What the model of each study that was looked into is to the classifier that is recommended."""
    used = {str(one.get("name") or one.get("trial")): one for one in run.ensemble.get("members") or []}
    return {str(inside["study"]): _role(str(inside.get("name")), used) for inside in run.insides}


def _role(name: str, used: Mapping[str, Mapping[str, Any]]) -> str:
    if name not in used:
        return "the best of its study on validation" + (", not in use" if used else "")
    if len(used) == 1:
        return "the recommended model"
    weight = used[name].get("weight")
    return "a member of the recommended ensemble" + (f" with a weight of {weight:.2f}" if weight is not None else "")


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def comparison(run: Run) -> list[tuple[Mapping[str, Any], float | None]]:
    """The candidates as ensemble.json compares them on selection, each with its weight in the fitted ensemble."""
    weights = {one.get("name"): one.get("weight") for one in run.ensemble.get("candidates") or []}
    listed = (run.ensemble.get("comparison") or {}).get("listed") or []
    return [(one, weights.get(one.get("name"))) for one in listed]


def agreement(run: Run) -> list[tuple[str, list[tuple[float, int]]]]:
    """The share of selection images on which two candidates predict the same class, and its tone in percent."""
    comparison = run.ensemble.get("comparison") or {}
    names = [str(one.get("name")) for one in comparison.get("listed") or []]
    matrix = np.asarray(comparison.get("agreement") or np.zeros((0, 0)), float)
    if len(names) < 2 or matrix.shape != (len(names), len(names)):
        return []
    lowest = float(matrix.min())
    tones = np.round(100 * (matrix - lowest) / max(1 - lowest, 1e-9)).astype(int)
    return [
        (name, [(float(share), int(tone)) for share, tone in zip(*row, strict=True)])
        for name, row in zip(names, zip(matrix, tones, strict=True), strict=True)
    ]
