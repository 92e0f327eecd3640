"""Weights of classes in the loss, from the number of training images of each class.

Every function takes `counts` (classes,) and returns float64 (classes,) whose mean over the training images is 1, so
that changing the weighting leaves the scale of the loss, and with it the learning rate, as it was. A class without
images gets weight 0.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emoray.errors import UserError
from emoray.settings import Fraction

Weights = NDArray[np.float64]


def none(counts: ArrayLike) -> Weights:
    """Every image counts the same: elementary."""
    return _from_effective(counts, lambda present: np.ones_like(present))


def sqrt(counts: ArrayLike) -> Weights:
    """1 / sqrt(frequency): lifts rare classes at little cost in accuracy.

    Source: Mahajan et al. 2018, Exploring the limits of weakly supervised pretraining (square-root sampling).
    """
    return _from_effective(counts, np.sqrt)


def balanced(counts: ArrayLike) -> Weights:
    """1 / frequency: every class counts the same, at a cost in accuracy.

    Source: King & Zeng 2001, Logistic regression in rare events data; scikit-learn's `balanced`.
    """
    return _from_effective(counts, lambda present: present)


def effective_number(counts: ArrayLike, *, beta: Fraction = 0.999) -> Weights:
    """1 / effective number of images, (1 - beta^count) / (1 - beta): from `none` at 0 to `balanced` towards 1.

    Source: Cui et al. 2019, Class-balanced loss based on effective number of samples.
    """
    if beta == 0.0:
        return none(counts)
    return _from_effective(counts, lambda present: -np.expm1(present * np.log(beta)) / (1.0 - beta))


def _from_effective(counts: ArrayLike, effective: Callable[[Weights], Weights]) -> Weights:
    """Weights that go with 1 / effective(count), 0 for classes without images, scaled to a mean of 1 over images."""
    counts = np.asarray(counts, np.float64)
    if not (counts > 0).any():
        raise UserError("class weights: the training split has no images of any class; at least one is needed.")
    weights = np.zeros_like(counts)
    present = counts > 0
    weights[present] = 1.0 / effective(counts[present])
    return weights * (counts.sum() / (counts * weights).sum())
