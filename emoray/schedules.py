"""Learning-rate schedules by name: the factor on the optimizer's learning rate at a moment of training.

The one rule: a schedule is a pure function of the fractional `epoch` (0.0 is the start, `epochs` the end) and, where it
takes them, of the validation scores so far; it keeps no state, so a resumed trial continues where it was. A warm-up
rises linearly from 0 to the full rate over `warmup_epochs` (Goyal et al. 2017).
"""

import math
from collections.abc import Sequence

from emoray.settings import Count, NonNegative, NonNegativeCount, Positive, Probability


def constant(epoch: float, epochs: int, *, warmup_epochs: NonNegative = 0.0) -> float:
    """The same rate all along, after a warm-up if asked: elementary."""
    return _warmup(epoch, warmup_epochs)


def step(
    epoch: float,
    epochs: int,
    *,
    factor: Probability = 0.5,
    every_epochs: Positive = 10.0,
    warmup_epochs: NonNegative = 0.0,
) -> float:
    """The rate times `factor` every `every_epochs` epochs (counted from the start, warm-up included).

    Elementary; He, Zhang, Ren & Sun 2016, "Deep residual learning for image recognition", have it with factor 0.1.
    """
    return _warmup(epoch, warmup_epochs) * factor ** math.floor(epoch / every_epochs)


def cosine(
    epoch: float,
    epochs: int,
    *,
    warmup_epochs: NonNegative = 0.0,
    floor: Probability = 0.0,
    restarts: NonNegativeCount = 0,
) -> float:
    """Half a cosine from 1 down to `floor`, begun anew `restarts` times at equal distances.

    Loshchilov & Hutter 2017, "SGDR: Stochastic gradient descent with warm restarts". The cosine begins where the
    warm-up ends, and reaches `floor` at the last epoch. It looks bad early: stop such trials late, if at all.
    """
    if epoch < warmup_epochs:
        return _warmup(epoch, warmup_epochs)
    progress = _progress(epoch - warmup_epochs, epochs - warmup_epochs)
    cycle = progress * (restarts + 1)
    position = 1.0 if progress == 1.0 else cycle % 1.0  # the end of the last cycle, not the start of one more
    return _half_cosine(1.0, floor, position)


def exponential(epoch: float, epochs: int, *, decay: Probability = 0.95, warmup_epochs: NonNegative = 0.0) -> float:
    """The rate times `decay` with each epoch after the warm-up, falling smoothly in between.

    Elementary; Szegedy et al. 2016, "Rethinking the Inception architecture", have 0.94 for two epochs.
    """
    return _warmup(epoch, warmup_epochs) * decay ** max(epoch - warmup_epochs, 0.0)


def polynomial(
    epoch: float,
    epochs: int,
    *,
    power: Positive = 1.0,
    floor: Probability = 0.0,
    warmup_epochs: NonNegative = 0.0,
) -> float:
    """From 1 after the warm-up down to `floor` at the end, as (1 - progress)^power; power 1 is a straight line.

    Liu, Rabinovich & Berg 2015, "ParseNet: looking wider to see better".
    """
    if epoch < warmup_epochs:
        return _warmup(epoch, warmup_epochs)
    return floor + (1.0 - floor) * (1.0 - _progress(epoch - warmup_epochs, epochs - warmup_epochs)) ** power


def one_cycle(
    epoch: float,
    epochs: int,
    *,
    rise: Probability = 0.3,
    start: Probability = 0.04,
    floor: Probability = 0.0001,
) -> float:
    """Up from `start` to 1 over the share `rise` of the epochs, then down to `floor`, each along half a cosine.

    Smith & Topin 2018, "Super-convergence: very fast training of neural networks using large learning rates",
    which drew straight lines; the cosines are common practice since. The learning rate of the optimizer is the peak.
    """
    progress = _progress(epoch, epochs)
    if progress < rise:
        return _half_cosine(start, 1.0, progress / rise)
    return _half_cosine(1.0, floor, (progress - rise) / (1.0 - rise) if rise < 1.0 else 0.0)


def plateau(
    epoch: float,
    epochs: int,
    scores: Sequence[float],
    *,
    factor: Probability = 0.5,
    patience: Count = 5,
    min_delta: NonNegative = 0.0,
    floor: Probability = 0.0,
    warmup_epochs: NonNegative = 0.0,
) -> float:
    """The rate times `factor` after every `patience` epochs in a row without a score better by `min_delta`.

    Krizhevsky, Sutskever & Hinton 2012, "ImageNet classification with deep convolutional neural networks", by hand.
    `scores` are those of the finished epochs; the factor never falls below `floor`. Epochs of the warm-up do not count.
    """
    best, bad, rate = -math.inf, 0, 1.0
    for finished, score in enumerate(scores, 1):
        if score > best + min_delta:
            best, bad = score, 0
        elif finished > warmup_epochs:
            bad += 1
        if bad == patience:
            rate, bad = max(rate * factor, floor), 0
    return _warmup(epoch, warmup_epochs) * rate


def _warmup(epoch: float, warmup_epochs: float) -> float:
    return min(epoch / warmup_epochs, 1.0) if warmup_epochs else 1.0


def _progress(epoch: float, epochs: float) -> float:
    """The share of `epochs` that is over, 0 to 1."""
    return min(max(epoch / epochs, 0.0), 1.0) if epochs > 0 else 1.0


def _half_cosine(first: float, last: float, position: float) -> float:
    """From `first` at position 0 to `last` at 1, level at both ends."""
    return last + (first - last) * 0.5 * (1.0 + math.cos(math.pi * position))
