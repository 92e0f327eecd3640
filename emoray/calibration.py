"""Temperature scaling: one number for each member that makes its confidence a probability.

Source: Guo et al. 2017, On calibration of modern neural networks. A temperature changes no member's predictions, but it
decides how loudly each member speaks in a mean of probabilities, so members are scaled before they are blended. Log-
probabilities serve as logits, since softmax does not see the constant between the two.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emoray.blend import softmax

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

COLDEST, HOTTEST = 0.05, 20.0
"""Bounds of a temperature: a member without a mistake has no best one, it only gets colder."""


def temperature(logits: Floats, labels: Integers) -> float:
    """The temperature in [`COLDEST`, `HOTTEST`] with the lowest log-loss of softmax(logits / temperature).

    `logits` (n, classes) may be log-probabilities. The loss is convex in 1 / temperature; this is Newton's method
    there, with bisection wherever a step leaves the bracket.
    """
    by_class = np.ascontiguousarray(
        logits.T, np.float32
    )  # sums over the short axis are slow; over the first they are not
    by_class = by_class - by_class.max(axis=0)
    of_label = by_class[labels, np.arange(len(labels))].mean(dtype=np.float64)
    low, high, inverse = 1.0 / HOTTEST, 1.0 / COLDEST, 1.0
    if _derivatives(by_class, high)[0] <= of_label:
        return COLDEST  # no mistakes: Newton would creep along a flat tail
    for _ in range(60):
        slope, curvature = _derivatives(by_class, inverse)
        slope -= of_label
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        step = inverse - slope / curvature if curvature > 0 else high
        following = step if low < step < high else (low * high) ** 0.5
        if abs(following - inverse) < 1e-4 * inverse:
            break
        inverse = following
    return float(1.0 / following)


def apply(logits: Floats, temperature: float) -> NDArray[np.float32]:
    """softmax(logits / temperature), (n, classes), float32."""
    return softmax(np.asarray(logits, np.float32) / np.float32(temperature))


def log_probabilities(probabilities: Floats) -> NDArray[np.float32]:
    """Logarithms that stay finite where a probability is 0, which in float32 means a logit of about -90."""
    return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny), dtype=np.float32)


def temperatures(probabilities: Floats, labels: Integers, rows: NDArray[np.intp] | None = None) -> tuple[float, ...]:
    """The temperature of each member of `probabilities` (members, n, classes), fitted on `rows` (all by default)."""
    rows = np.arange(len(labels)) if rows is None else rows
    return tuple(temperature(log_probabilities(member[rows]), labels[rows]) for member in probabilities)


def calibrated(
    probabilities: Floats, temperatures: Sequence[float], rows: NDArray[np.intp] | slice = slice(None)
) -> NDArray[np.float32]:
    """`rows` of all members at their temperatures: (members, rows, classes), float32.

    One member at a time, so that a pool of any size costs one copy of the rows and no more.
    """
    classes = probabilities.shape[2]
    result = np.empty((len(probabilities), len(probabilities[0, rows]), classes), np.float32)
    for member, scale, into in zip(probabilities, temperatures, result, strict=True):
        into[...] = apply(log_probabilities(member[rows]), scale)
    return result


def cross_fitted(probabilities: Floats, labels: Integers, fold_of: Integers) -> NDArray[np.float32]:
    """One member's probabilities (n, classes), each image at the temperature that the other folds choose.

    What a temperature does to log-loss, ECE and Brier score has to be seen on images that it was not fitted to.
    """
    logits = log_probabilities(probabilities)
    result = np.empty_like(logits)
    for fold in range(int(fold_of.max()) + 1):
        out = fold_of == fold
        result[out] = apply(logits[out], temperature(logits[~out], labels[~out]))
    return result


def _derivatives(by_class: NDArray[np.float32], inverse: float) -> tuple[float, float]:
    """Mean over images of the expectation and the variance of the logit under softmax(inverse * logits)."""
    shares = np.exp(np.float32(inverse) * by_class)
    shares /= shares.sum(axis=0)
    shares *= by_class
    expectation = shares.sum(axis=0)
    shares *= by_class
    variance = shares.sum(axis=0) - expectation**2
    return float(expectation.mean(dtype=np.float64)), float(variance.mean(dtype=np.float64))
