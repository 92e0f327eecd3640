"""The chance of which images were scored: percentile bootstrap (Efron 1979), paired, of whole groups of images.

The one rule: images of one group, as copies of each other are, are drawn together, since they are one observation.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from emoray import metrics

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

DRAWS = 2000
"""Bootstrap samples: the end of a 95 % interval then varies by about 3 % of its width."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its bootstrap interval; NaN where the metric has no value."""

    estimate: float
    low: float
    high: float


def score_interval(
    labels: Integers, probabilities: Floats, metric: str, *, level: float = 0.95, seed: int = 0
) -> Interval:
    """The natural score of a prediction (n, classes) with its interval over images, as for the test split.

    `metric` as in `metrics.value`, a recall by index.
    """
    sign = -1.0 if metric == "log_loss" else 1.0
    metric = metrics.by_index(metric, None, probabilities.shape[1])
    labels = np.asarray(labels, np.int64)
    draws = resampled(metric, labels, probabilities[None], seed)[:, 0]
    return interval(sign * metrics.value(metric, labels, probabilities), sign * draws, level)


def resampled(
    metric: str, labels: Integers, predictions: Floats, seed: int, groups: Integers | None = None
) -> NDArray[np.float64]:
    """`metrics.value` of `predictions` (k, n, classes) on `DRAWS` resamples of the images: (draws, k), paired.

    Metrics of a confusion matrix are not evaluated image by image: resampling n images is one multinomial draw over the
    distinct combinations of (label, all predictions), whose counts then add up to each prediction's confusion matrix.
    Images of one group are drawn together: a group of several is a combination of its own.
    """
    rng, (_, n, classes) = np.random.default_rng(seed), predictions.shape
    of, sizes = numbered(groups, n)
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


def interval(estimate: float, draws: NDArray[np.float64], level: float) -> Interval:
    """The interval of an estimate that its values on resamples, `draws`, span; NaN where there is none."""
    known = draws[~np.isnan(draws)]
    if not len(known):
        return Interval(float(estimate), float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(estimate), float(low), float(high))


def numbered(groups: Integers | None, n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The group of each image, from 0 on, and the sizes of the groups; without any each image is its own."""
    if groups is None:
        return np.arange(n), np.ones(n, np.intp)
    _, of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return of, sizes


def _blocks(width: int) -> list[int]:
    """`DRAWS` in parts of which each, with `width` numbers a draw, takes a few MB."""
    size = max(1, 200_000 // width)
    return [min(size, DRAWS - start) for start in range(0, DRAWS, size)]


def _counts(rng: np.random.Generator, draws: int, n: int) -> NDArray[np.float64]:
    """How often each image occurs in each of `draws` resamples, (draws, n)."""
    images = rng.integers(0, n, (draws, n)) + np.arange(draws)[:, None] * n
    return np.bincount(images.ravel(), minlength=draws * n).reshape(draws, n).astype(np.float64)
