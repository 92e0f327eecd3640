"""CMA-ES over a space of numbers, as a pure function of the results: nothing of it has to be stored to go on."""

from typing import Any

import numpy as np

from emoray import space as spaces
from emoray.algorithms.study_space import ATTEMPTS, Drawn, StudySpace

_FIRST_STEP = 0.2
"""The first standard deviation, as a share of each range."""


class CmaEs:
    """Covariance matrix adaptation (Hansen 2016, "The CMA evolution strategy: a tutorial"), by the package cmaes.

    Every number is searched in the share (0 to 1) of its range. Trials that have ended are told in the order of their
    indices, a generation at a time; from the same results follow the same draws, in a resumed search too.
    """

    def __init__(self, study: StudySpace) -> None:
        self.study = study
        self.samplers: dict[str, spaces.Range | spaces.Normal] = {}
        spaces.draw(study.space, self._note)
        self.drawn: dict[int, Drawn] = {}
        self.scores: dict[int, float] = {}

    def ask(self, index: int, attempt: int) -> Drawn | None:
        if attempt >= ATTEMPTS:
            return None
        evolution = self._evolved()
        evolution.reseed_rng(self.study.key(index, attempt) % 2**32)
        shares = evolution.ask()
        drawn = {
            name: spaces.at(sampler, min(float(share), 1 - 1e-12))
            for (name, sampler), share in zip(self.samplers.items(), shares, strict=True)
        }
        self.drawn[index] = drawn
        return drawn

    def restore(self, index: int, drawn: Drawn) -> None:
        if drawn.keys() == self.samplers.keys():  # else from a space that the file no longer holds
            self.drawn[index] = drawn

    def tell(self, index: int, score: float | None) -> None:
        if score is not None and np.isfinite(score) and index in self.drawn:
            self.scores[index] = score

    def _evolved(self) -> Any:
        from cmaes import CMA

        count = len(self.samplers)
        evolution = CMA(mean=np.full(count, 0.5), sigma=_FIRST_STEP, bounds=np.array([[0.0, 1.0]] * count), seed=0)
        ended = [
            (np.array([spaces.share(s, self.drawn[i][name]) for name, s in self.samplers.items()]), -self.scores[i])
            for i in sorted(self.scores)
        ]
        size = evolution.population_size
        for first in range(0, len(ended) - size + 1, size):
            evolution.tell(ended[first : first + size])
        return evolution

    def _note(self, name: str, sampler: spaces.Sampler) -> Any:
        if isinstance(sampler, spaces.Choice):
            raise ValueError(f"{name} is a choice, which CMA-ES cannot draw")
        self.samplers[name] = sampler
        return spaces.at(sampler, 0.5)
