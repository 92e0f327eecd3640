"""Images whose label is likely wrong, by confident learning.

Source: Northcutt, Jiang & Chuang 2021, "Confident learning: estimating uncertainty in dataset labels". The one rule:
the probabilities must be out of sample, or a model that has learned a wrong label by heart will defend it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Issue(NamedTuple):
    """The `image` (its index) labelled `given` looks like `suggested`; `margin` is p(suggested) - p(given)."""

    image: int
    given: int
    suggested: int
    margin: float


@dataclass(frozen=True)
class LabelIssues:
    """The confident joint (classes, classes; row = given, column = suggested) and its off-diagonal images."""

    joint: NDArray[np.int64]
    counts: NDArray[np.int64]
    """Images of each class by their labels, (classes,)."""
    issues: tuple[Issue, ...]

    @property
    def share(self) -> float:
        """Estimated share of wrong labels: the joint, scaled to the labels' counts, off its diagonal."""
        return float(1.0 - np.trace(self.estimate)) if self.joint.sum() else 0.0

    @property
    def estimate(self) -> NDArray[np.float64]:
        """Estimated joint distribution of given and true labels, sums to 1 (eq. 3 of the paper)."""
        rows = self.joint.sum(axis=1, keepdims=True)
        shares = self.joint / np.maximum(rows, 1)
        scaled = shares * self.counts[:, None]
        return scaled / max(scaled.sum(), 1e-12)


def find(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> LabelIssues:
    """Issues among images with `labels` (n,) and out-of-sample `probabilities` (n, classes), surest first.

    A class's threshold is the mean probability of it among images that carry its label. An image counts for the class
    of highest probability among those above their thresholds; where that is not its label, it is an issue. Surest is
    the largest margin between the two probabilities.
    """
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    own = probabilities[np.arange(len(labels)), labels]
    thresholds = np.bincount(labels, own, minlength=classes) / np.maximum(counts, 1)
    thresholds[counts == 0] = np.inf  # nothing is known of a class without images
    above = np.where(probabilities >= thresholds, probabilities, -np.inf)
    suggested = above.argmax(axis=1)
    counted = np.isfinite(above.max(axis=1))
    joint = np.zeros((classes, classes), np.int64)
    np.add.at(joint, (labels[counted], suggested[counted]), 1)
    wrong = np.flatnonzero(counted & (suggested != labels))
    margins = probabilities[wrong, suggested[wrong]] - own[wrong]
    issues = tuple(
        Issue(int(i), int(labels[i]), int(suggested[i]), float(margin))
        for i, margin in sorted(zip(wrong, margins, strict=True), key=lambda pair: -pair[1])
    )
    return LabelIssues(joint, counts, issues)
