"""How much each setting mattered in a study, with what chance there is in that.

By Optuna's PED-ANOVA (Watanabe, Bansal & Hutter 2023, "PED-ANOVA: efficiently quantifying hyperparameter importance in
arbitrary subspaces"): how differently a setting is spread among the best trials than among all. It also takes settings
that exist in some trials only. The one rule: with few trials importance is mostly chance, so each comes with the
interval over resampled trials, and below `FEWEST` trials there is none.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from emoray.report import charts, settings
from emoray.report.figure import Chart, axis
from emoray.report.run import Run, Trial

FEWEST = 10
RESAMPLES = 100
BEST_TRIALS = 5
"""Optuna asks for at least so many trials above the quantile that counts as good."""
WIDE = 20.0
"""A range whose ends differ by more than this factor is taken by its logarithm."""


class Importance(NamedTuple):
    """A setting's share of all importance in its study, 0 to 1, with the ends of its 90 % interval over trials."""

    setting: str
    share: float
    low: float
    high: float


class StudyImportance(NamedTuple):
    """The settings of one study, the most important first; none where `trials`, those with a score, are too few."""

    study: str
    trials: int
    settings: tuple[Importance, ...]


def importances(run: Run) -> list[StudyImportance]:
    """Every study whose trials differ in their settings."""
    result = []
    for study in run.studies:
        trials = [trial for trial in run.scored if trial.study == study]
        names = settings.searched(run, trials) if trials else []
        if names:
            result.append(StudyImportance(study, len(trials), tuple(_of(trials, names))))
    return result


def chart(study: StudyImportance) -> Chart | None:
    """Each setting's share with its interval; None where the trials were too few."""
    rows = [(one.setting, one.share, one.low, one.high) for one in study.settings]
    x = axis(f"importance in {study.trials} trials", tickformat=".0%", range=[0, 1.02])
    return charts.intervals(study.study, rows, x) if rows else None


def _of(trials: Sequence[Trial], names: Sequence[str]) -> list[Importance]:
    if len(trials) < FEWEST:
        return []
    flats = [settings.flatten(trial.settings) for trial in trials]
    tried = {name: [flat[name] for flat in flats if name in flat] for name in names}
    distributions = {name: _distribution(values) for name, values in tried.items()}
    frozen = []
    for flat, trial in zip(flats, trials, strict=True):
        own = [name for name in distributions if name in flat]
        frozen.append(
            optuna.trial.create_trial(
                params={name: flat[name] for name in own},
                distributions={name: distributions[name] for name in own},
                value=trial.score,
            )
        )
    estimate = _shares(frozen)
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(RESAMPLES):
        drawn = [frozen[i] for i in rng.integers(0, len(frozen), len(frozen))]
        draws.append(_shares(drawn))
    found = []
    for name, share in estimate.items():
        low, high = np.quantile([draw.get(name, 0.0) for draw in draws], [0.05, 0.95])
        # Resampling repeats trials, which moves all shares a little: the interval may otherwise miss its estimate.
        found.append(Importance(name, share, min(float(low), share), max(float(high), share)))
    return sorted(found, key=lambda one: -one.share)


def _shares(trials: Sequence[optuna.trial.FrozenTrial]) -> dict[str, float]:
    """Each setting's share; a resample in which no setting differs has none."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize")
        study.add_trials(list(trials))
        evaluator = PedAnovaImportanceEvaluator(target_quantile=max(0.1, BEST_TRIALS / len(trials)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its being experimental
            return dict(get_param_importances(study, evaluator=evaluator))
    finally:
        optuna.logging.set_verbosity(verbosity)


def _distribution(values: Sequence[str | float]) -> BaseDistribution:
    """The range that was tried, as Optuna writes it; few kinds of values are told apart by name."""
    kinds = sorted(set(values), key=str)
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(numbers) < len(values) or len(kinds) <= 5:
        return CategoricalDistribution(kinds)
    low, high = min(numbers), max(numbers)
    wide = low > 0 and high / low > WIDE
    if all(isinstance(value, int) for value in numbers):
        return IntDistribution(int(low), int(high), log=wide)
    return FloatDistribution(float(low), float(high), log=wide)
