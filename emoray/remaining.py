"""How many trials the studies of a run are still to be given. Pure, on studies and trials."""

import math
from collections.abc import Mapping
from typing import Any

from emoray import shares, space
from emoray.config import Sweep
from emoray.study_settings import Study
from emoray.trial_state import Trial, signature
from emoray.trials import TrialTable


class Remaining:
    """The trials that are still to be drawn; with `retry_failed` there are none."""

    def __init__(self, sweep: Sweep, table: TrialTable, retry_failed: bool) -> None:
        self.sweep, self.table, self.retry_failed = sweep, table, retry_failed
        self.studies: Mapping[str, Study] = {study.name: study for study in sweep.studies}
        self.used_up: set[str] = set()
        """Studies from whose space nothing new is drawn any more."""
        self._room = {name: self._holds(study) for name, study in self.studies.items()}

    @property
    def in_all(self) -> int:
        """How many trials are still to be drawn, as far as is known."""
        if self.sweep.search.share != "best" or self.retry_failed:
            return sum(map(self.of, self.studies))
        most = {name: self._most(name) for name in self.studies}
        missed = sum(max(0, given - most[name]) for name, given in self._given().items())
        wanted = sum(study.trials for study in self.studies.values()) - missed
        return int(max(0, min(wanted, sum(most.values())) - sum(map(self._started, self.studies))))

    def of(self, name: str) -> int:
        """How many trials of a study are still to be drawn, where each has its own share of them."""
        most = 0 if self.retry_failed else min(self.studies[name].trials, self._most(name))
        return int(max(0, most - self._started(name)))

    def open(self) -> dict[str, Study]:
        """The studies that may be given another trial now."""
        if self.retry_failed:
            return {}
        open_ = [name for name, given in self._given().items() if self._started(name) < given]
        return {name: self.studies[name] for name in open_ if name not in self.used_up}

    def _started(self, name: str) -> int:
        return len(self.table.of(name))

    def _holds(self, study: Study) -> float:
        """How many trials a study can have, those of an earlier space that lie outside of its own included."""
        holds = space.size(study.space)
        if math.isinf(holds):
            return holds
        return holds + sum(not _within(study, trial) for trial in self.table.of(study.name))

    def _most(self, name: str) -> float:
        """How many trials a study can have, which is never fewer than it has."""
        return self._started(name) if name in self.used_up else max(self._started(name), self._room[name])

    def _given(self) -> dict[str, int]:
        """How many trials each study has by now."""
        wanted = {name: study.trials for name, study in self.studies.items()}
        return shares.best(wanted, self._scores()) if self.sweep.search.share == "best" else wanted

    def _scores(self) -> dict[str, list[float | None]]:
        """The best scores of each study's trials by index; a space that is used up goes on with nothing."""
        scores: dict[str, list[float | None]] = {}
        for name in self.studies:
            trials = sorted(self.table.of(name), key=lambda trial: trial.index)
            scores[name] = [max(t.curve, default=-math.inf) if t.ended else None for t in trials]
            if name in self.used_up:
                scores[name] += [-math.inf] * sum(study.trials for study in self.studies.values())
        return scores


def _within(study: Study, trial: Trial) -> bool:
    """Whether what a trial began with could be drawn from its study's space."""
    settings, drawn = trial.first

    def recall(place: str, sampler: space.Sampler) -> Any:
        value = drawn[place]
        if isinstance(sampler, space.Range) and value not in (sampler.values() or ()):
            raise ValueError
        return value

    try:
        again = space.draw(study.space, recall)
    except (KeyError, ValueError):
        return False
    return signature({**again, "epochs": 0, "seed": 0}) == signature(settings)
