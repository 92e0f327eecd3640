"""Honest estimates: what an ensemble gains on images that nothing was chosen on.

The rule: everything that is chosen from data - temperatures, the best single member, how many members, weights,
penalty, method - is chosen anew inside every fold, from the other folds alone, and scored on the fold. Scores are
natural (log-loss is positive, lower is better); gains are positive where the ensemble is better, whatever the metric.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoray import calibration, metrics, registry
from emoray.blend import Blend
from emoray.bootstrap import Interval, interval, numbered, resampled
from emoray.errors import UserError

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

Method = Callable[..., Blend]
"""A member of the family `ensemble`, its settings bound: probabilities, labels, metric and, where it splits the images
once more, their groups to a blend."""


@dataclass(frozen=True)
class Entry:
    """One method: fitted to all images, and what it does on images that it was not fitted to."""

    blend: Blend
    in_sample: float
    in_sample_gain: float
    """Over the best single member, both on the images that they were chosen on: flatters, printed for comparison."""
    cross_fitted: float
    gain_over_single: Interval
    gain_over_uniform: Interval


@dataclass(frozen=True)
class Report:
    """All methods side by side; `temperatures` (members,) belong to the blends, which were fitted behind them."""

    metric: str
    images: int
    folds: int
    temperatures: tuple[float, ...]
    members: tuple[float, ...]
    """The score of each member alone on all images, at its temperature: what `single` chooses by."""
    methods: dict[str, Entry] = field(default_factory=dict)
    out_of_fold: Mapping[str, NDArray[np.float32]] = field(default_factory=dict, repr=False, compare=False)
    """Each method's predictions (n, classes) of images that it was not fitted to; not part of `to_json`."""
    draws: Mapping[str, NDArray[np.float64]] = field(default_factory=dict, repr=False, compare=False)
    """Each method's out-of-fold values on the same resamples of the images; not part of `to_json`."""

    def gain(self, method: str, over: str, level: float) -> Interval:
        """How much better one method does than another on images that neither was fitted to."""
        sign = -1.0 if self.metric == "log_loss" else 1.0
        estimate = sign * (self.methods[method].cross_fitted - self.methods[over].cross_fitted)
        return interval(estimate, self.draws[method] - self.draws[over], level)

    def predict(self, method: str, probabilities: Floats) -> NDArray[np.float32]:
        """Uncalibrated probabilities (members, n, classes) to the method's prediction (n, classes)."""
        return _predict([self.methods[method].blend], probabilities, self.temperatures, slice(None))[0]

    def to_json(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, ready for `json.dump`."""
        entries = {name: asdict(entry) | {"blend": entry.blend.to_json()} for name, entry in self.methods.items()}
        return {
            "metric": self.metric,
            "images": self.images,
            "folds": self.folds,
            "temperatures": list(self.temperatures),
            "members": list(self.members),
            "methods": entries,
        }


def evaluate(
    probabilities: Floats,
    labels: Integers,
    methods: Mapping[str, Method],
    metric: str,
    *,
    folds: int = 5,
    seed: int = 0,
    level: float = 0.95,
    calibrate: bool = True,
    groups: Integers | None = None,
) -> Report:
    """Cross-fitted scores and gains of `methods`, which must hold the baselines `single` and `uniform`.

    `probabilities` (members, n, classes) as the members gave them; temperatures are fitted here, unless `calibrate` is
    False. Folds are stratified by label; a class with fewer images than folds is missing from some of them, and 2
    images are enough to run. A cross-fitted method sees (folds - 1) / folds of the images, so it is a little worse than
    the one that is kept. Intervals hold what the choice of images adds to the uncertainty (a paired bootstrap of the
    out-of-fold predictions), not what refitting would add. Images of one group (n,), as copies of each other are, stay
    in one fold and are drawn together.
    """
    labels = np.asarray(labels, np.int64)
    metric = _check(probabilities, labels, methods, metric, groups)
    fold_of = stratified_folds(labels, folds, seed, groups)
    folds = int(fold_of.max()) + 1
    names = list(methods)

    scales, blends = _fit(probabilities, labels, methods, metric, np.arange(len(labels)), calibrate, groups)
    in_sample = [
        metrics.value(metric, labels, predicted) for predicted in _predict(blends, probabilities, scales, slice(None))
    ]
    alone = [
        metrics.value(metric, labels, calibration.calibrated(member[None], [scale])[0])
        for member, scale in zip(probabilities, scales, strict=True)
    ]
    out_of_fold = _out_of_fold(probabilities, labels, methods, metric, fold_of, calibrate, groups)

    values = [metrics.value(metric, labels, predicted) for predicted in out_of_fold]
    draws = resampled(metric, labels, out_of_fold, seed, groups)
    first, second = names.index("single"), names.index("uniform")
    sign = -1.0 if metric == "log_loss" else 1.0
    entries = {
        name: Entry(
            blend=blends[i],
            in_sample=sign * in_sample[i],
            in_sample_gain=in_sample[i] - in_sample[first],
            cross_fitted=sign * values[i],
            gain_over_single=interval(values[i] - values[first], draws[:, i] - draws[:, first], level),
            gain_over_uniform=interval(values[i] - values[second], draws[:, i] - draws[:, second], level),
        )
        for i, name in enumerate(names)
    }
    return Report(
        metric,
        images=len(labels),
        folds=folds,
        temperatures=scales,
        members=tuple(sign * value for value in alone),
        methods=entries,
        out_of_fold=dict(zip(names, out_of_fold, strict=True)),
        draws=dict(zip(names, draws.T, strict=True)),
    )


def best_over_uniform(
    probabilities: Floats,
    labels: Integers,
    methods: Mapping[str, Method],
    metric: str,
    *,
    folds: int,
    seed: int,
    groups: Integers | None = None,
) -> str:
    """The name of the method whose cross-fitted gain over `uniform` is the largest of those that are surely positive.

    Surely: the lower bound of its 95 % interval, at a level corrected for the number of methods; else `uniform`.
    `probabilities` are taken as they are; as for `evaluate` otherwise.
    """
    labels = np.asarray(labels, np.int64)
    metric = _check(probabilities, labels, methods, metric, groups)
    level = 1.0 - 0.05 / (len(methods) - 1)
    fold_of = stratified_folds(labels, folds, seed, groups)
    out_of_fold = _out_of_fold(probabilities, labels, methods, metric, fold_of, False, groups)
    values = np.array([metrics.value(metric, labels, predicted) for predicted in out_of_fold])
    draws = resampled(metric, labels, out_of_fold, seed, groups)
    uniform = list(methods).index("uniform")
    gains = {
        name: interval(values[i] - values[uniform], draws[:, i] - draws[:, uniform], level)
        for i, name in enumerate(methods)
    }
    sure = [name for name, gain in gains.items() if gain.low > 0]
    return max(sure, key=lambda name: gains[name].estimate, default="uniform")


def fit(method: Method, probabilities: Floats, labels: Integers, metric: str, groups: Integers | None) -> Blend:
    """The blend of a method, which is handed the groups (n,) of the images where it takes them."""
    handed = (probabilities, labels, metric, groups)
    return method(*handed[: registry.takes(method)])


def stratified_folds(labels: Integers, folds: int, seed: int, groups: Integers | None = None) -> NDArray[np.int64]:
    """The fold of each image, (n,): sizes differ by at most 1, and so do the counts of each class.

    That is of groups (n,) where they are given, each counted once and by the label of its first image. There are never
    more folds than groups.
    """
    of, sizes = numbered(groups, len(labels))
    firsts = labels[np.unique(of, return_index=True)[1]]
    order = np.lexsort((np.random.default_rng(seed).random(len(sizes)), firsts))
    fold_of = np.empty(len(sizes), np.int64)
    fold_of[order] = np.arange(len(sizes)) % min(folds, len(sizes))
    return fold_of[of]


def _check(
    probabilities: Floats,
    labels: Integers,
    methods: Mapping[str, Method],
    metric: str,
    groups: Integers | None = None,
) -> str:
    """The metric with its class as an index; raises for what no method can use."""
    members, n, classes = probabilities.shape
    if len(labels) != n or not members:
        raise ValueError(f"{len(labels)} labels for predictions of shape {probabilities.shape}")
    different = len(numbered(groups, n)[1])
    if different < 2:
        raise UserError(
            f"data.split.selection: leaves {different} different images to choose an ensemble on; "
            "at least 2 are needed."
        )
    if missing := {"single", "uniform"} - methods.keys():
        raise ValueError(f"methods must hold the baselines, but {sorted(missing)} are missing")
    for m, member in enumerate(probabilities):
        if not np.isfinite(member).all():
            raise UserError(f"ensemble: member {m} predicts values that are not finite; leave it out.")
    return metrics.by_index(metric, None, classes)


def _out_of_fold(
    probabilities: Floats,
    labels: Integers,
    methods: Mapping[str, Method],
    metric: str,
    fold_of: Integers,
    calibrate: bool,
    groups: Integers | None,
) -> NDArray[np.float32]:
    """Each method's predictions of the images of each fold, fitted to the other folds: (methods, n, classes)."""
    result = np.empty((len(methods), *probabilities.shape[1:]), np.float32)
    for fold in range(int(fold_of.max()) + 1):
        rest, out = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        scales, blends = _fit(probabilities, labels, methods, metric, rest, calibrate, groups)
        result[:, out] = _predict(blends, probabilities, scales, out)
    return result


def _fit(
    probabilities: Floats,
    labels: Integers,
    methods: Mapping[str, Method],
    metric: str,
    rows: NDArray[np.intp],
    calibrate: bool,
    groups: Integers | None,
) -> tuple[tuple[float, ...], list[Blend]]:
    """Temperatures and blends from `rows` alone."""
    if not calibrate:
        scales: tuple[float, ...] = (1.0,) * len(probabilities)
        pool = probabilities if len(rows) == len(labels) else probabilities[:, rows]
    else:
        scales = calibration.temperatures(probabilities, labels, rows)
        pool = calibration.calibrated(probabilities, scales, rows)
    grouped = None if groups is None else groups[rows]
    return scales, [fit(method, pool, labels[rows], metric, grouped) for method in methods.values()]


def _predict(
    blends: Sequence[Blend], probabilities: Floats, scales: Sequence[float], rows: NDArray[np.intp] | slice
) -> NDArray[np.float32]:
    """Predictions of each blend for `rows`, (blends, rows, classes); in blocks, so that no copy of the pool is made."""
    rows = np.arange(probabilities.shape[1])[rows]
    result = np.empty((len(blends), len(rows), probabilities.shape[2]), np.float32)
    for start in range(0, len(rows), 2048):
        block = slice(start, start + 2048)
        pool = calibration.calibrated(probabilities, scales, rows[block])
        for blend, into in zip(blends, result, strict=True):
            into[block] = blend.predict(pool)
    return result
