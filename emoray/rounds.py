"""The rounds of population based training: who waits, and what the worst take over when all have come.

A round ends when every trial of the study stands at its epoch; then all take-overs are written down before anybody
trains on, so a search that is killed in between decides the same again.
"""

from collections.abc import Set
from typing import Any

import numpy as np

from emoray import registry, space
from emoray.algorithms.study_space import StudySpace
from emoray.config import Sweep
from emoray.population import explored
from emoray.trial_state import Trial, quiet_epochs
from emoray.trials import TrialTable


class Rounds:
    """Where the trials of all studies stand between their rounds."""

    def __init__(self, sweep: Sweep, table: TrialTable) -> None:
        self.studies = {study.name: study for study in sweep.studies}
        self.seed, self.table = sweep.seed, table
        self.settings: Any = sweep.search.scheduler
        self.interval: int = self.settings["interval_epochs"]
        self.candidates = registry.bind("schedulers", self.settings)
        self.paused: list[Trial] = []

    def waits(self, trial: Trial) -> bool:
        """Whether a trial that goes on has come to the end of a round; it then waits for the others."""
        epoch = len(trial.history)
        ends = 0 < epoch < trial.settings["epochs"] and epoch % self.interval == 0
        if ends and trial not in self.paused:
            self.paused.append(trial)
        return ends

    def begun(self, drawn: Set[str], resting: Set[Trial]) -> list[Trial]:
        """The trials whose round is over, ready to go on; only studies in `drawn` have all of their trials.

        Nobody waits for those that are `resting`, for they do not train.
        """
        ready = []
        for study in drawn:
            living = [trial for trial in self.table.of(study) if not trial.ended and trial not in resting]
            paused = [trial for trial in living if trial in self.paused]
            epoch = min((len(trial.history) for trial in living), default=0)
            standing = [trial for trial in paused if len(trial.history) == epoch]
            if standing and all(trial in paused for trial in living if len(trial.history) == epoch):
                for trial in standing:
                    self._exploit(trial, epoch)
                ready += standing
        self.paused = [trial for trial in self.paused if trial not in ready]
        return sorted(ready, key=lambda trial: trial.index)

    def _exploit(self, trial: Trial, epoch: int) -> None:
        """Have a trial take over a better one, where it is among the worst and has not done so already."""
        trials = self.table.of(trial.study)
        seen = [t for t in trials if quiet_epochs(t.settings["schedule"], t.settings["epochs"]) < epoch]
        if trial not in seen or trial.takes_over is not None:
            return
        names = self.candidates({t.id: t.curve for t in seen}, trial.id)
        donors = [t for t in seen if t.id in names and not t.ended and len(t.history) == epoch]
        if not donors:
            return
        searched = StudySpace(trial.study, self.studies[trial.study].space, self.seed)
        rng = np.random.default_rng(searched.key(trial.index, epoch))
        donor = donors[int(rng.random() * len(donors))]
        try:
            drawn = explored(searched.space, donor.drawn, rng, self.settings["resample"])
        except (KeyError, ValueError):
            return  # the donor was drawn from a space that the file no longer holds
        settings = space.draw(searched.space, lambda name, sampler: drawn[name])
        own = {key: trial.settings[key] for key in ("epochs", "seed")}
        self.table.take_over(trial, donor, {**settings, **own}, drawn)
