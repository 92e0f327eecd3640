"""Schedulers: which trials are stopped early, or take over another's weights, judged by the curves of their study.

Each is a pure function of what all trials of the study have shown so far, so a resumed sweep decides as an unbroken
one: there is no state that could be lost. A trial is judged on its best score so far, since schedules make single
epochs look bad. `curves` holds each trial's scores by epoch, higher is better, in the order in which the trials were
drawn; it is empty for one that has failed. The answer is whether `trial` stops now; `pbt` alone answers otherwise.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import median as middle
from typing import Any

from emoray.settings import Count, Factor, Few, Half, Probability

Curves = Mapping[str, Sequence[float]]


def none(curves: Curves, trial: str) -> bool:
    """Every trial trains to its last epoch."""
    return False


def asha(curves: Curves, trial: str, *, grace_epochs: Count = 3, reduction_factor: Factor = 3) -> bool:
    """Asynchronous successive halving (Li et al. 2020): at each rung only the best 1/reduction_factor go on."""
    epoch = len(curves[trial])
    if epoch not in rungs(epoch, grace_epochs, reduction_factor):
        return False
    reached = sorted((max(curve[:epoch]) for curve in curves.values() if len(curve) >= epoch), reverse=True)
    kept = math.ceil(len(reached) / reduction_factor)
    return max(curves[trial]) < reached[kept - 1]


def hyperband(
    curves: Curves, trial: str, *, grace_epochs: Count = 3, reduction_factor: Factor = 3, brackets: Few = 3
) -> bool:
    """Hyperband (Li et al. 2018), asynchronous: ASHA in brackets of ever later first rungs, each judged by itself.

    A bracket that begins to judge later gets fewer trials, in Hyperband's proportions; the last one is the hedge
    against settings that look bad early.
    """
    own = dict(zip(curves, bracket(len(curves), reduction_factor, brackets), strict=True))
    peers = {name: curve for name, curve in curves.items() if own[name] == own[trial]}
    return asha(
        peers, trial, grace_epochs=grace_epochs * reduction_factor ** own[trial], reduction_factor=reduction_factor
    )


def median(curves: Curves, trial: str, *, grace_epochs: Count = 3, min_trials: Count = 4) -> bool:
    """Median stopping rule (Golovin et al. 2017): a trial below the median of the others at its epoch is stopped."""
    epoch = len(curves[trial])
    others = [max(curve[:epoch]) for name, curve in curves.items() if name != trial and len(curve) >= epoch]
    if epoch < grace_epochs or len(others) < min_trials:
        return False
    return max(curves[trial]) < middle(others)


def pbt(
    curves: Curves,
    trial: str,
    *,
    interval_epochs: Count = 4,
    quantile: Half = 0.25,
    resample: Probability = 0.25,
) -> list[str]:
    """Population based training (Jaderberg et al. 2017): the worst take over the best's weights, settings perturbed.

    A study's trials train in rounds of `interval_epochs` and wait for each other. Those whose best score in the round
    is in the lowest `quantile` each take over one of the highest; each number of its settings is then drawn anew with
    the probability `resample`, or else multiplied by 0.8 or 1.2. Answers with the trials that `trial` may take over.
    """
    epoch = len(curves[trial])
    reached = {name: curve[epoch - interval_epochs : epoch] for name, curve in curves.items() if len(curve) >= epoch}
    standing = {name: max(curve) for name, curve in reached.items()} if epoch and epoch % interval_epochs == 0 else {}
    count = min(max(1, int(len(standing) * quantile)), len(standing) // 2) if quantile else 0
    ranked = sorted(standing, key=lambda name: standing[name])
    if trial not in ranked[:count]:
        return []
    return [name for name in ranked[-count:] if standing[name] > standing[trial]]


def rungs(epochs: int, grace_epochs: int, reduction_factor: int) -> list[int]:
    """The epochs up to `epochs` at which ASHA judges: grace_epochs times powers of the reduction factor."""
    listed = [grace_epochs]
    while listed[-1] * reduction_factor <= epochs and reduction_factor > 1:
        listed.append(listed[-1] * reduction_factor)
    return [rung for rung in listed if rung <= epochs]


def bracket(trials: int, reduction_factor: int, brackets: int) -> list[int]:
    """The brackets of Hyperband, 0 the one with the earliest first rung, of trials in the order of their drawing.

    Bracket s gets reduction_factor^(brackets - 1 - s) / (brackets - s) of the trials, in proportion.
    """
    wanted = [reduction_factor ** (brackets - 1 - s) / (brackets - s) for s in range(brackets)]
    given = [0] * brackets
    listed = []
    for _ in range(trials):
        listed.append(min(range(brackets), key=lambda s: (given[s] + 1) / wanted[s]))
        given[listed[-1]] += 1
    return listed


def judged(scheduler: Mapping[str, Any], epochs: int, quiet: int = 0) -> list[list[int]]:
    """The epochs before the last at which a scheduler judges a trial, for each of its brackets; told in the plan.

    In the first `quiet` epochs nothing is judged: the schedule makes the trial look bad there.
    """
    listed: list[list[int]] = [[]]
    match scheduler:
        case {"name": "asha", "grace_epochs": grace, "reduction_factor": factor}:
            listed = [rungs(epochs - 1, grace, factor)]
        case {"name": "hyperband", "grace_epochs": grace, "reduction_factor": factor, "brackets": brackets}:
            listed = [rungs(epochs - 1, grace * factor**s, factor) for s in range(brackets)]
        case {"name": "median", "grace_epochs": grace}:
            listed = [list(range(grace, epochs))]
        case {"name": "pbt", "interval_epochs": interval}:
            listed = [list(range(interval, epochs, interval))]
    return [[epoch for epoch in bracket if epoch > quiet] for bracket in listed]


def may_stop(scheduler: Mapping[str, Any], epoch: int) -> bool:
    """Whether a scheduler could stop any trial at `epoch`."""
    if scheduler["name"] not in ("asha", "hyperband"):
        return True
    return any(epoch in judged_at for judged_at in judged(scheduler, epoch + 1))


def expected_epochs(scheduler: Mapping[str, Any], epochs: int, quiet: int = 0) -> float | None:
    """The epochs that a trial trains on average, from the shares that pass the rungs; None where that is not fixed."""
    if scheduler["name"] == "median":
        return None
    factor = scheduler.get("reduction_factor", 1) if scheduler["name"] in ("asha", "hyperband") else 1
    brackets = judged(scheduler, epochs, quiet)
    weights = [factor ** (len(brackets) - 1 - s) / (len(brackets) - s) for s in range(len(brackets))]
    mean = 0.0
    for weight, epochs_judged in zip(weights, brackets, strict=True):
        ends = [0, *epochs_judged, epochs]
        parts = [(ends[i + 1] - ends[i]) * factor**-i for i in range(len(ends) - 1)]
        mean += weight * sum(parts) / sum(weights)
    return mean
