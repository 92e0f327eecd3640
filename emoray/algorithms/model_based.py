"""Algorithms that learn from the results: Optuna's samplers, and CMA-ES by the package that Optuna uses for it."""

import warnings
from typing import Any, Literal

import numpy as np

from emoray import space as spaces
from emoray.algorithms.cma_es import CmaEs
from emoray.algorithms.study_space import ATTEMPTS, Drawn, Searcher, StudySpace
from emoray.settings import Count


def optuna(
    study: StudySpace,
    *,
    sampler: Literal["tpe", "gp", "cmaes"] = "tpe",
    startup_trials: Count = 8,
    multivariate: bool = True,
) -> Searcher:
    """Bayesian optimisation by Optuna: TPE (Bergstra et al. 2011), a Gaussian process, or CMA-ES (Hansen 2016).

    With `tpe` and `gp` the first `startup_trials` are drawn at random; `multivariate` is for `tpe` and models settings
    jointly (Falkner et al. 2018). `gp` needs the package torch, and a space without nesting; `cmaes` needs a space of
    numbers alone.
    """
    return CmaEs(study) if sampler == "cmaes" else _Optuna(study, sampler, startup_trials, multivariate)


class _Optuna:
    def __init__(self, study: StudySpace, sampler: str, startup_trials: int, multivariate: bool) -> None:
        import optuna  # a second of imports that other algorithms do not need

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self.optuna = optuna
        self.space = study
        self.sampler = sampler
        self.startup_trials = startup_trials
        self.multivariate = multivariate
        self.study = optuna.create_study(direction="maximize", sampler=self._sampler())
        self.numbers: dict[int, int] = {}

    def _sampler(self, *parts: int) -> Any:
        """A fresh sampler for each trial: its draws follow from the index and the results, also after a resume."""
        seed = self.space.key(*parts) % 2**32
        if self.sampler == "gp":
            return self.optuna.samplers.GPSampler(seed=seed, n_startup_trials=self.startup_trials)
        return self.optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=self.startup_trials,
            multivariate=self.multivariate,
            group=self.multivariate,
            constant_liar=True,
        )

    def ask(self, index: int, attempt: int) -> Drawn | None:
        if attempt:
            self.study.tell(self.numbers.pop(index), state=self.optuna.trial.TrialState.FAIL)
        if attempt >= ATTEMPTS:
            return None
        self.study.sampler = self._sampler(index, attempt)
        trial = self.study.ask()
        drawn: Drawn = {}

        def suggest(name: str, sampler: spaces.Sampler) -> Any:
            drawn[name] = self._suggest(trial, name, sampler)
            return drawn[name]

        spaces.draw(self.space.space, suggest)
        # Optuna notes all digits of a number, and a resumed search knows only the rounded one: to draw the same from
        # both, it learns from what is restored here, too.
        self.study.tell(trial.number, state=self.optuna.trial.TrialState.FAIL)
        self.restore(index, drawn)
        return drawn

    def restore(self, index: int, drawn: Drawn) -> None:
        distributions: dict[str, Any] = {}

        def recall(name: str, sampler: spaces.Sampler) -> Any:
            distributions[name] = self._distribution(sampler)
            return drawn[name]

        try:
            spaces.draw(self.space.space, recall)
            running = self.optuna.trial.TrialState.RUNNING
            trial = self.optuna.trial.create_trial(state=running, params=drawn, distributions=distributions)
        except (KeyError, ValueError):
            return  # drawn from a space that the file no longer holds: it teaches nothing about this one
        self.study.add_trial(trial)
        self.numbers[index] = len(self.study.get_trials(deepcopy=False)) - 1

    def tell(self, index: int, score: float | None) -> None:
        if index not in self.numbers:
            return
        failed = self.optuna.trial.TrialState.FAIL
        number = self.numbers.pop(index)  # told once: a trial that went on after its end keeps its first score
        if score is None or not np.isfinite(score):
            self.study.tell(number, state=failed)
        else:
            self.study.tell(number, score)

    def _suggest(self, trial: Any, name: str, sampler: spaces.Sampler) -> Any:
        if isinstance(sampler, spaces.Choice):
            return trial.suggest_categorical(name, sampler.labels())
        if isinstance(sampler, spaces.Normal):
            return trial.suggest_float(name, 0.0, 1.0)
        if sampler.integer:
            step = int(sampler.step or 1)
            return trial.suggest_int(name, int(sampler.low), int(_high(sampler)), log=sampler.log, step=step)
        high = _high(sampler)
        return sampler.rounded(trial.suggest_float(name, sampler.low, high, log=sampler.log, step=sampler.step))

    def _distribution(self, sampler: spaces.Sampler) -> Any:
        distributions = self.optuna.distributions
        if isinstance(sampler, spaces.Choice):
            return distributions.CategoricalDistribution(sampler.labels())
        if isinstance(sampler, spaces.Normal):
            return distributions.FloatDistribution(0.0, 1.0)
        if sampler.integer:
            step = int(sampler.step or 1)
            return distributions.IntDistribution(int(sampler.low), int(_high(sampler)), log=sampler.log, step=step)
        return distributions.FloatDistribution(sampler.low, _high(sampler), log=sampler.log, step=sampler.step)


def _high(sampler: spaces.Range) -> float:
    """The last value of a range: where its width is no multiple of its step, Optuna would warn of the rest."""
    values = sampler.values()
    return sampler.high if values is None else values[-1]
