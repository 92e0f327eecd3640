"""Which trial comes next, and which is stopped: the search's decisions, with no Ray in them.

`Studies` holds a searcher and a stopping judge for each architecture. All it knows it can take over from a table of
trials, so a resumed sweep, an extended one and an unbroken one decide alike.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from emoray import metrics, registry, retention, space, storage
from emoray.algorithms.study_space import Drawn, Searcher, StudySpace, at_random, left_over
from emoray.config import Sweep
from emoray.remaining import Remaining
from emoray.rounds import Rounds
from emoray.schedulers import may_stop
from emoray.study_settings import Study
from emoray.trial_state import (
    CRASH,
    DISK,
    FAILED,
    FINISHED,
    MEMORY,
    PLACE,
    STOPPED,
    Trial,
    quiet_epochs,
    signature,
    worth,
)
from emoray.trials import TrialTable

RESTARTS = 3
"""How often in the same epoch a trial whose process died is started again before it counts as failed."""
WAITS = 10
"""How often in the same epoch a trial whose workers find no place waits for other trials to end."""
TAKEN_AWAY = "node was preempted"
"""Ray's words for a process that ended with a machine of which it was told before."""


class Studies:
    """The studies of a sweep, interleaved so that all of them progress.

    With `retry_failed` the trials that failed are run again, and nothing else: what has not ended rests.
    """

    def __init__(self, sweep: Sweep, table: TrialTable, retry_failed: bool = False) -> None:
        self.sweep, self.table, self.retry_failed = sweep, table, retry_failed
        self.studies: Mapping[str, Study] = {study.name: study for study in sweep.studies}
        self.spaces = {name: StudySpace(name, study.space, sweep.seed) for name, study in self.studies.items()}
        self.searchers: dict[str, Searcher] = {
            name: registry.build("algorithms", sweep.search.algorithm, space) for name, space in self.spaces.items()
        }
        self.rounds = Rounds(sweep, table) if sweep.search.scheduler["name"] == "pbt" else None
        scheduler = sweep.search.scheduler
        self.judge = None if scheduler["name"] == "none" else registry.bind("schedulers", scheduler)
        self.remaining = Remaining(sweep, table, retry_failed)
        self.deaths: dict[str, int] = {}
        self._quiet_of: dict[str, tuple[Mapping[str, Any], int]] = {}
        self.unplaced: dict[str, int] = {}
        self.notices: list[str] = []
        """What a person should be told, in the order in which it happened."""
        self.broken: str | None = None
        """Why the whole sweep has to end here, and the way out: a disk that is full, machines that others have."""
        self.waiting: list[Trial] = []
        """Trials that were given out before and have not ended: they go first."""
        self.resting: set[Trial] = set()
        """Trials that have not ended and are left as they are, since only those that failed were asked for."""
        if retry_failed and not any(trial.status == FAILED for trial in table if trial.study in self.studies):
            self.notices.append("no trial has failed, so there is none to run again")
        for trial in table:
            if trial.study in self.studies:
                self._take_over(trial)

    @property
    def total(self) -> int:
        """How many trials have ended, are to go on and are to come, as far as is known."""
        mine = (t for t in self.table if t.ended or (t.study in self.studies and t not in self.resting))
        return sum(1 for _ in mine) + self.remaining.in_all

    @property
    def complete(self) -> bool:
        """Whether every trial that this search is to run has been drawn and has ended."""
        mine = (trial for trial in self.table if trial.study in self.studies and trial not in self.resting)
        return all(trial.ended for trial in mine) and not self.remaining.open()

    def next(self) -> Trial | None:
        """The next trial to run, in the table and on disk; None where there is none now."""
        if self.broken:
            return None
        if self.rounds is not None:
            drawn_all = {name for name in self.studies if self.retry_failed or name not in self.remaining.open()}
            begun = self.rounds.begun(drawn_all, self.resting)
            taken = [(trial.id, trial.takes_over.donor) for trial in begun if trial.takes_over is not None]
            self.notices += [f"{trial} goes on with the weights of {donor}" for trial, donor in taken]
            self.waiting += begun
        if self.waiting:
            return self.waiting.pop(0)
        while studies := self.remaining.open():
            study = min(studies.values(), key=lambda s: len(self.table.of(s.name)) / s.trials)
            trial = self._drawn(study)
            if trial is not None:
                self.table.add(trial)
                return trial
            self.remaining.used_up.add(study.name)
            self.notices.append(f"{study.name}: {self._why_no_more(study)}")
        return None

    def record(self, result: Mapping[str, Any]) -> bool:
        """Take in what a trial's step returned (trainable.py); returns whether its process is free for another.

        The same result may come twice: a second time changes nothing.
        """
        trial = self.table.trials[result["trial"]]
        if trial.ended or trial in self.waiting or self.broken:
            return True
        if "lost" in result:
            self.notices.append(f"{trial.id}: {result['lost']}; it goes on from epoch {len(trial.history)}")
            return False
        if "row" in result:
            self.unplaced.pop(trial.id, None)
            self.deaths.pop(trial.id, None)  # what counts is dying again and again in the same epoch
            self.table.record(trial, dict(result["row"]), result.get("parameters"))
        if "status" in result:
            self._over(trial, result)
        elif self.rounds is not None:
            return self.rounds.waits(trial)
        elif self._stops(trial):
            self._end(trial, STOPPED, f"{self.sweep.search.scheduler['name']} at epoch {len(trial.history)}")
        return trial.ended or trial in self.waiting or bool(self.broken)

    def died(self, trial_id: str, error: str) -> None:
        """A trial's process died: it goes on from its last epoch, unless it does so again and again."""
        trial = self.table.trials[trial_id]
        if trial.ended or trial in self.waiting:
            return
        if TAKEN_AWAY in error:
            self.notices.append(f"{trial.id}: its machine was taken away; it goes on in epoch {len(trial.history) + 1}")
            self.waiting.append(trial)
            return
        self.deaths[trial.id] = self.deaths.get(trial.id, 0) + 1
        memory = "OutOfMemory" in error
        if memory and self._halved(trial):
            return
        if self.deaths[trial.id] <= RESTARTS:
            self.notices.append(f"{trial.id}: its process died; it goes on from epoch {len(trial.history)}")
            self.waiting.append(trial)
        else:
            failure = MEMORY if memory else CRASH
            self._end(trial, FAILED, f"its process died {self.deaths[trial.id]} times in one epoch", failure, error)

    def _take_over(self, trial: Trial) -> None:
        """Go on with a trial of an earlier start of this run, where there is anything to go on with."""
        study = self.studies[trial.study]
        self.searchers[trial.study].restore(trial.index, dict(trial.first[1]))
        if self.retry_failed:
            if trial.status != FAILED:
                return self._tell(trial) if trial.ended else self.resting.add(trial)
            self.table.reopen(trial)
        elif trial.status == FINISHED and trial.settings["epochs"] < study.epochs:
            if len(trial.history) < trial.settings["epochs"] or not self.table.checkpoint(trial, "last").exists():
                return self._tell(trial)
            self.table.reopen(trial)
        if trial.ended:
            return self._tell(trial)
        epochs = max(study.epochs, len(trial.history))  # one that is beyond a lower limit ends where it is
        if trial.settings["epochs"] != epochs:
            why = f"epochs {trial.settings['epochs']} -> {epochs}"
            self.table.change(trial, why, {**trial.settings, "epochs": epochs})
        if self.rounds is None or not self.rounds.waits(trial):
            self.waiting.append(trial)
        return None

    def _drawn(self, study: Study) -> Trial | None:
        past = self.table.of(study.name)
        index = max((trial.index for trial in past), default=0) + 1
        tried = self.table.tried(study.name)
        for drawn, asked in self._draws(study, index):
            settings = self._settings(study, index, drawn)
            if signature(settings) not in tried:
                if not asked:
                    self.searchers[study.name].restore(index, drawn)
                return Trial(f"{study.name}-{index:03d}", study.name, index, settings, drawn)
        return None

    def _draws(self, study: Study, index: int) -> Iterator[tuple[Drawn, bool]]:
        """Draws for a trial, the most wanted first, each with whether the study's searcher was asked for it."""
        searched = self.spaces[study.name]
        for place, known in enumerate(study.first, start=1):  # those that were tried are drawn as they were then
            yield at_random(searched, place, fixed=known), False
        for attempt in itertools.count():
            drawn = self.searchers[study.name].ask(index, attempt)
            if drawn is None:
                break
            yield drawn, True
        for drawn in left_over(searched, index):
            yield drawn, False

    def _why_no_more(self, study: Study) -> str:
        given = len(self.table.of(study.name))
        if given == space.size(study.space):
            what, has = ("the only setting", "has") if given == 1 else (f"all {given} settings", "have")
            return f"{what} of its space {has} been given out"
        return f"nothing that was not tried is drawn from its space any more, so it ends with {given} trials"

    def _settings(self, study: Study, index: int, drawn: Drawn) -> dict[str, Any]:
        settings = space.draw(study.space, lambda name, sampler: drawn[name])
        seed = StudySpace(study.name, {}, self.sweep.seed).key(index) % 2**31
        return {**settings, "epochs": study.epochs, "seed": seed}

    def _stops(self, trial: Trial) -> bool:
        epoch = len(trial.history)
        if self.judge is None or epoch <= self._quiet(trial):
            return False
        if not may_stop(self.sweep.search.scheduler, epoch):  # to ask is to look at every trial of the study
            return False
        # Nor do others count while their schedules make them look bad.
        counted = {t.id: t.status != FAILED and self._quiet(t) < epoch for t in self.table.of(trial.study)}
        curves = {id: self.table.trials[id].curve if counts else [] for id, counts in counted.items()}
        return bool(self.judge(curves, trial.id))

    def _quiet(self, trial: Trial) -> int:
        settings, quiet = self._quiet_of.get(trial.id, (None, 0))
        if settings is not trial.settings:
            quiet = quiet_epochs(trial.settings["schedule"], trial.settings["epochs"])
            self._quiet_of[trial.id] = trial.settings, quiet
        return quiet

    def _over(self, trial: Trial, result: Mapping[str, Any]) -> None:
        """A trial's own end."""
        failure = result.get("failure", "")
        if failure == DISK:
            self.broken = f"{result['reason']}; {storage.remedy(result['reason'])}"
        elif failure == PLACE and self._waits_for_others(trial):
            self.notices.append(f"{trial.id}: {result['reason']}; it waits for other trials")
            self.waiting.append(trial)
        elif failure != MEMORY or not self._halved(trial):
            self._end(trial, result["status"], result["reason"], failure, result.get("error"))

    def _waits_for_others(self, trial: Trial) -> bool:
        """Whether a trial that found no place may find it when others, which hold it now, have ended."""
        self.unplaced[trial.id] = self.unplaced.get(trial.id, 0) + 1
        idle = [*self.waiting, *self.resting, *(self.rounds.paused if self.rounds is not None else ())]
        others = [other for other in self.table if other not in (trial, *idle) and not other.ended]
        return bool(others) and self.unplaced[trial.id] <= WAITS

    def _halved(self, trial: Trial) -> bool:
        """Have a trial that ran out of memory go on with half the batch at a time, once; whether it does.

        Gradients are accumulated over twice as many parts, so the batch stays what the search has drawn.
        """
        before, workers = trial.settings["accumulate_steps"], self.studies[trial.study].resources.workers
        halved = any("out of memory" in change.why for change in trial.changes)
        if halved or 2 * before * workers > trial.settings["batch_size"]:
            return False
        why = f"out of memory: accumulate_steps {before} -> {2 * before}"
        self.table.change(trial, why, {**trial.settings, "accumulate_steps": 2 * before})
        self.notices.append(f"{trial.id}: {why}; it goes on from epoch {len(trial.history)}")
        self.waiting.append(trial)
        return True

    def _end(self, trial: Trial, status: str, reason: str, failure: str = "", error: str | None = None) -> None:
        told = self._worth(trial, failure)
        self.table.end(trial, status, reason, failure, error, told)
        self._tell(trial)
        self.notices += retention.tidy(self.table, trial, self.sweep)

    def _tell(self, trial: Trial) -> None:
        told = self._worth(trial, trial.failure) if trial.told is None else trial.told
        self.searchers[trial.study].tell(trial.index, told)

    def _worth(self, trial: Trial, failure: str) -> float | None:
        return worth(trial, failure, self.table.of(trial.study), metrics.worst(self.sweep.search.metric))
