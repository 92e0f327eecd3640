"""Scores of a classifier: labels and probabilities in, numbers out; numpy only.

Everywhere `labels` is integer (n,) in [0, classes), `probabilities` is float (n, classes) with rows that sum to 1, and
a prediction is the class of the highest probability (the first of equals). The one rule to know is what happens to
classes that are absent, which is scikit-learn's: macro-F1 averages over the classes that occur in labels or
predictions, balanced accuracy over those that occur in labels, and the recall of a class without labels is NaN.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emoray import registry
from emoray.errors import UserError

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

METRICS = ("accuracy", "macro_f1", "balanced_accuracy", "log_loss")
"""What `scores` returns and `value` takes; `value` also takes `recall_<class>`."""

FLOOR = float(np.finfo(np.float32).eps)
"""Probabilities below this count as this: one confident mistake costs 16 nats, never infinity."""


def scores(labels: Integers, probabilities: Floats) -> dict[str, float]:
    """Accuracy, macro-F1, balanced accuracy and log-loss (nats) of `probabilities` (n, classes) for `labels` (n,)."""
    counts = confusion(labels, probabilities.argmax(axis=1), probabilities.shape[1])
    result = {name: float(from_confusion(name, counts)) for name in METRICS if name != "log_loss"}
    result["log_loss"] = log_loss(labels, probabilities)
    return result


def recall(labels: Integers, probabilities: Floats) -> NDArray[np.float64]:
    """Share of each class's images that is found, (classes,); NaN for a class without images."""
    return class_recall(confusion(labels, probabilities.argmax(axis=1), probabilities.shape[1]))


def value(metric: str, labels: Integers, probabilities: Floats, classes: Sequence[str] | None = None) -> float:
    """The metric as a number to maximise: log-loss comes back negated.

    `recall_<class>` takes a name from `classes`, or the class's index where `classes` is None.
    """
    if metric == "log_loss":
        return -log_loss(labels, probabilities)
    name = by_index(metric, classes, probabilities.shape[1])
    return float(from_confusion(name, confusion(labels, probabilities.argmax(axis=1), probabilities.shape[1])))


def worst(metric: str) -> float:
    """The lowest that `value` can give."""
    return float(np.log(FLOOR)) if metric == "log_loss" else 0.0


def check(metric: str, classes: Sequence[str], splits: Mapping[str, Mapping[str, int]] | None = None) -> None:
    """Refuse a metric that these classes cannot give, or that `splits`, of so many images by class, do not show.

    Raises UserError.
    """
    kind, _, name = metric.partition("_")
    if kind != "recall":
        return
    if name not in classes:
        raise UserError(f"search.metric: there is no class '{name}': {registry.suggestion(name, classes)}")
    for split, images in (splits or {}).items():
        if not images[name]:
            raise UserError(
                f"search.metric: {metric} cannot be measured, since no image of that class is in the {split} split; "
                f"name another metric, or another share of the images as data.split.{split}"
            )


def by_index(metric: str, classes: Sequence[str] | None, count: int | None = None) -> str:
    """`recall_<class name>` as `recall_<index>`, which needs no names; every other metric as it is.

    Raises UserError for a metric that does not exist, so it also serves as the check of a metric's name.
    """
    if metric in METRICS:
        return metric
    names = [str(i) for i in range(count or 0)] if classes is None else list(classes)
    prefix, _, name = metric.partition("_")
    if prefix == "recall" and name in names:
        return f"recall_{names.index(name)}"
    allowed = [*METRICS, *(f"recall_{name}" for name in names)]
    raise UserError(f"metric: there is no metric '{metric}': {registry.suggestion(metric, allowed)}")


def confusion(labels: Integers, predicted: Integers, classes: int) -> NDArray[np.int64]:
    """Counts of (label, prediction), (classes, classes): row = label, column = prediction."""
    cells = np.asarray(labels, np.int64) * classes + predicted
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def from_confusion(metric: str, counts: ArrayLike) -> NDArray[np.float64]:
    """A metric of one or many confusion matrices at once: (..., classes, classes) gives (...).

    `metric` is accuracy, macro_f1, balanced_accuracy or `recall_<index>`. Many at once is what a bootstrap needs.
    """
    counts = np.asarray(counts, np.float64)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    if metric == "accuracy":
        return _ratio(hits.sum(-1), counts.sum((-2, -1)))
    if metric == "macro_f1":
        occurrences = counts.sum(-1) + counts.sum(-2)
        per_class = 2.0 * hits / np.maximum(occurrences, 1.0)
        return _ratio(per_class.sum(-1), (occurrences > 0).sum(-1))
    per_label = class_recall(counts)
    if metric == "balanced_accuracy":
        present = ~np.isnan(per_label)
        return _ratio(np.where(present, per_label, 0.0).sum(-1), present.sum(-1))
    return per_label[..., int(metric.removeprefix("recall_"))]


def class_recall(counts: ArrayLike) -> NDArray[np.float64]:
    """Recall by class of confusion matrices (..., classes, classes): (..., classes), NaN where a row is empty."""
    counts = np.asarray(counts, np.float64)
    return _ratio(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1))


def log_loss(labels: Integers, probabilities: Floats) -> float:
    """Mean of -log(probability of the label) in nats; probabilities are floored at `FLOOR`."""
    return float(-log_likelihoods(labels, probabilities).mean())


def log_likelihoods(labels: Integers, probabilities: Floats) -> NDArray[np.float64]:
    """log(probability of the label) of each image, (n,), floored at log(`FLOOR`)."""
    of_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return np.log(np.clip(of_label, FLOOR, 1.0))


def ece(labels: Integers, probabilities: Floats, bins: int = 15) -> float:
    """Expected calibration error: mean gap between confidence and accuracy over bins of equal mass.

    Equal mass rather than equal width (Nguyen & O'Connor 2015), since confidences crowd near 1. Images of equal
    confidence share a bin, so the figure does not depend on the order of the images.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    edges = np.quantile(confidence, np.linspace(0.0, 1.0, bins + 1)[1:-1])
    bin_of = np.searchsorted(edges, confidence, side="right")
    gaps = np.bincount(bin_of, confidence - (probabilities.argmax(axis=1) == labels), minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def brier(labels: Integers, probabilities: Floats) -> float:
    """Mean squared distance from the one-hot label, summed over classes: 0 to 2 (Brier 1950)."""
    squares = np.einsum("nc,nc->n", probabilities, probabilities).astype(np.float64)
    of_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float((squares - 2.0 * of_label + 1.0).mean())


def _ratio(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    """part / whole, NaN where whole is 0, without a warning."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)
