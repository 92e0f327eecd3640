"""Stopping rules by name: whether to stop a trial now, from its validation scores by epoch.

The one rule: a higher score is better, whatever the metric.
"""

from collections.abc import Sequence

from emoray.settings import Count, NonNegative, NonNegativeCount


def none(scores: Sequence[float]) -> bool:
    """Never: train for all the epochs, which is elementary."""
    return False


def patience(
    scores: Sequence[float], *, epochs: Count = 5, min_delta: NonNegative = 0.0, warmup_epochs: NonNegativeCount = 0
) -> bool:
    """Stop after `epochs` epochs in a row without a score that beats the best one by more than `min_delta`.

    Prechelt 1998, "Early stopping - but when?". The first `warmup_epochs` epochs are never counted as bad, whatever
    they bring. A score that is not a number beats nothing.
    """
    best, bad = -float("inf"), 0
    for epoch, score in enumerate(scores):
        if score > best + min_delta:
            best, bad = score, 0
        elif epoch >= warmup_epochs:
            bad += 1
    return bad >= epochs
