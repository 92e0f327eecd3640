"""Honest estimates: what an ensemble gains on images that nothing was chosen on.

The rule: everything that is chosen from data - temperatures, the best single member, how many members, weights,
penalty, method - is chosen anew inside every fold, from the other folds alone, and scored on the fold. Scores are
natural (log-loss is positive, lower is better); gains are positive where the ensemble is better, whatever the metric.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from emoray import calibration, metrics
from emoray.blend import Blend
from emoray.errors import UserError

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

DRAWS = 2000
"""Bootstrap samples: the end of a 95 % interval then varies by about 3 % of its width."""


class Method(Protocol):
    """A member of the family `ensemble`, its settings bound."""

    def __call__(self, probabilities: Floats, labels: Integers, metric: str, /) -> Blend: ...


@dataclass(frozen=True)
class Interval:
    """An estimate and its bootstrap interval; NaN where the metric has no value."""

    estimate: float
    low: float
    high: float


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
    methods: dict[str, Entry] = field(default_factory=dict)
    out_of_fold: Mapping[str, NDArray[np.float32]] = field(default_factory=dict, repr=False, compare=False)
    """Each method's predictions (n, classes) of images that it was not fitted to; not part of `to_json`."""

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

    scales, blends = _fit(probabilities, labels, methods, metric, np.arange(len(labels)), calibrate)
    in_sample = [
        metrics.value(metric, labels, predicted) for predicted in _predict(blends, probabilities, scales, slice(None))
    ]
    out_of_fold = _out_of_fold(probabilities, labels, methods, metric, fold_of, calibrate)

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
            gain_over_single=_interval(values[i] - values[first], draws[:, i] - draws[:, first], level),
            gain_over_uniform=_interval(values[i] - values[second], draws[:, i] - draws[:, second], level),
        )
        for i, name in enumerate(names)
    }
    return Report(metric, len(labels), folds, scales, entries, dict(zip(names, out_of_fold, strict=True)))


def best_over_uniform(
    probabilities: Floats, labels: Integers, methods: Mapping[str, Method], metric: str, *, folds: int, seed: int
) -> str:
    """The name of the method whose cross-fitted gain over `uniform` is the largest of those that are surely positive.

    Surely: the lower bound of its 95 % interval, at a level corrected for the number of methods; else `uniform`.
    `probabilities` are taken as they are; as for `evaluate` otherwise.
    """
    labels = np.asarray(labels, np.int64)
    metric = _check(probabilities, labels, methods, metric)
    level = 1.0 - 0.05 / (len(methods) - 1)
    fold_of = stratified_folds(labels, folds, seed)
    out_of_fold = _out_of_fold(probabilities, labels, methods, metric, fold_of, calibrate=False)
    values = np.array([metrics.value(metric, labels, predicted) for predicted in out_of_fold])
    draws = resampled(metric, labels, out_of_fold, seed)
    uniform = list(methods).index("uniform")
    gains = {
        name: _interval(values[i] - values[uniform], draws[:, i] - draws[:, uniform], level)
        for i, name in enumerate(methods)
    }
    sure = [name for name, gain in gains.items() if gain.low > 0]
    return max(sure, key=lambda name: gains[name].estimate, default="uniform")


def bootstrap_interval(
    labels: Integers, probabilities: Floats, metric: str, *, level: float = 0.95, seed: int = 0
) -> Interval:
    """The natural score of a prediction (n, classes) with its interval over images, as for the test split.

    `metric` as in `metrics.value`, a recall by index. Percentile bootstrap (Efron 1979).
    """
    sign = -1.0 if metric == "log_loss" else 1.0
    metric = metrics.by_index(metric, None, probabilities.shape[1])
    labels = np.asarray(labels, np.int64)
    draws = resampled(metric, labels, probabilities[None], seed)[:, 0]
    return _interval(sign * metrics.value(metric, labels, probabilities), sign * draws, level)


def resampled(
    metric: str, labels: Integers, predictions: Floats, seed: int, groups: Integers | None = None
) -> NDArray[np.float64]:
    """`metrics.value` of `predictions` (k, n, classes) on `DRAWS` resamples of the images: (draws, k), paired.

    Metrics of a confusion matrix are not evaluated image by image: resampling n images is one multinomial draw over the
    distinct combinations of (label, all predictions), whose counts then add up to each prediction's confusion matrix.
    Images of one group are drawn together: a group of several is a combination of its own.
    """
    rng, (_, n, classes) = np.random.default_rng(seed), predictions.shape
    of, sizes = _numbered(groups, n)
    if metric == "log_loss":
        likelihoods = np.stack([metrics.log_likelihoods(labels, p) for p in predictions], axis=1)
        sums = np.stack([np.bincount(of, column) for column in likelihoods.T], axis=1)
        drawn = (_counts(rng, block, len(sizes)) for block in _blocks(len(sizes)))
        return np.concatenate([counts @ sums / (counts @ sizes)[:, None] for counts in drawn])
    cells = np.stack([labels * classes + p.argmax(axis=1) for p in predictions])
    codes = np.unique(cells[0], return_inverse=True)[1]
    for row in cells[1:]:  # coded anew each time, so that the codes never overflow
        codes = np.unique(codes * classes**2 + row, return_inverse=True)[1]
    several = sizes[of] > 1
    codes[several] = n + of[several]
    _, first, kinds = np.unique(codes, return_index=True, return_inverse=True)
    counted = np.unique(np.concatenate([first, np.flatnonzero(several)]))
    frequencies = np.bincount(kinds[np.unique(of, return_index=True)[1]])
    indicators = [
        sparse.csr_array((np.ones(len(counted)), (row[counted], kinds[counted])), shape=(classes**2, len(first)))
        for row in cells
    ]
    result = []
    for block in _blocks(len(first)):
        drawn_kinds = rng.multinomial(len(sizes), frequencies / len(sizes), size=block).T.astype(np.float64)
        counts = [(indicator @ drawn_kinds).T.reshape(block, classes, classes) for indicator in indicators]
        result.append(metrics.from_confusion(metric, np.stack(counts, axis=1)))
    return np.concatenate(result)


def stratified_folds(labels: Integers, folds: int, seed: int, groups: Integers | None = None) -> NDArray[np.int64]:
    """The fold of each image, (n,): sizes differ by at most 1, and so do the counts of each class.

    That is of groups (n,) where they are given, each counted once and by the label of its first image. There are never
    more folds than groups.
    """
    of, sizes = _numbered(groups, len(labels))
    firsts = labels[np.unique(of, return_index=True)[1]]
    order = np.lexsort((np.random.default_rng(seed).random(len(sizes)), firsts))
    fold_of = np.empty(len(sizes), np.int64)
    fold_of[order] = np.arange(len(sizes)) % min(folds, len(sizes))
    return fold_of[of]


def _numbered(groups: Integers | None, n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The group of each image, from 0 on, and the sizes of the groups; without any each image is its own."""
    if groups is None:
        return np.arange(n), np.ones(n, np.intp)
    _, of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return of, sizes


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
    different = len(_numbered(groups, n)[1])
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
) -> NDArray[np.float32]:
    """Each method's predictions of the images of each fold, fitted to the other folds: (methods, n, classes)."""
    result = np.empty((len(methods), *probabilities.shape[1:]), np.float32)
    for fold in range(int(fold_of.max()) + 1):
        rest, out = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        scales, blends = _fit(probabilities, labels, methods, metric, rest, calibrate)
        result[:, out] = _predict(blends, probabilities, scales, out)
    return result


def _fit(
    probabilities: Floats,
    labels: Integers,
    methods: Mapping[str, Method],
    metric: str,
    rows: NDArray[np.intp],
    calibrate: bool,
) -> tuple[tuple[float, ...], list[Blend]]:
    """Temperatures and blends from `rows` alone."""
    if not calibrate:
        scales: tuple[float, ...] = (1.0,) * len(probabilities)
        pool = probabilities if len(rows) == len(labels) else probabilities[:, rows]
    else:
        scales = calibration.temperatures(probabilities, labels, rows)
        pool = calibration.calibrated(probabilities, scales, rows)
    return scales, [method(pool, labels[rows], metric) for method in methods.values()]


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


def _blocks(width: int) -> list[int]:
    """`DRAWS` in parts of which each, with `width` numbers a draw, takes a few MB."""
    size = max(1, 200_000 // width)
    return [min(size, DRAWS - start) for start in range(0, DRAWS, size)]


def _counts(rng: np.random.Generator, draws: int, n: int) -> NDArray[np.float64]:
    """How often each image occurs in each of `draws` resamples, (draws, n)."""
    images = rng.integers(0, n, (draws, n)) + np.arange(draws)[:, None] * n
    return np.bincount(images.ravel(), minlength=draws * n).reshape(draws, n).astype(np.float64)


def _interval(estimate: float, draws: NDArray[np.float64], level: float) -> Interval:
    known = draws[~np.isnan(draws)]
    if not len(known):
        return Interval(float(estimate), float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(estimate), float(low), float(high))
