"""The search: trials on Ray Tune, one table of them at the end.

Tune places trials and reuses their processes; what comes next, what is stopped and what becomes of the dead is decided
by `Studies`, and what has happened stands in the run folder. The small classes here only carry between the two. What
Tune calls a trial is an order here, "train this trial from where it stands": one of ours may take several, where it
waits for others, its process died or its memory did not suffice.
"""

import contextlib
import itertools
import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import ray
from ray import tune
from ray._private import worker as ray_worker
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from emoray import cluster, orphans, overview
from emoray.config import Sweep
from emoray.errors import Stopped, SweepFailed, UserError
from emoray.placement import START_TIMEOUT, Node, shortage
from emoray.studies import Studies
from emoray.trial import room, scratch
from emoray.trial.data import TrialData
from emoray.trial.trainable import TrialRunner
from emoray.trials import TrialTable

_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our run folder holds all that they would write
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # Tune's pickled snapshot is never read: resuming is ours
    "TUNE_WARN_THRESHOLD_S": "60",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # Studies tells of them in a line
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints boxes even where it is told to be silent
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


DEATH_SECONDS = 60.0
"""So long after a process died its places are looked for: Ray notices the end of what belonged to it one by one."""


class Watcher(Protocol):
    """Is told how the search goes; draws it for a person."""

    def update(self, studies: Studies) -> None:
        """Something may have changed; called often, several times a second."""


def run(
    sweep: Sweep,
    table: TrialTable,
    data: TrialData,
    slots: int,
    watcher: Watcher,
    *,
    retry_failed: bool = False,
    runner: type[TrialRunner] = TrialRunner,
) -> Studies:
    """Run the trials that the table still lacks, `slots` of them at once, on the cluster that Ray is connected to.

    With `retry_failed`, run those that failed and no others. Raises Stopped after Ctrl-C, and SweepFailed where the
    disk takes no more or no trial finds a place.
    """
    os.environ.update(_SETTINGS)
    studies = Studies(sweep, table, retry_failed)
    if table.trials:
        studies.notices.append(f"resume: {overview.standing(studies)}")
    if not studies.complete:
        table.write()  # what rests of an earlier start says unfinished there
        studies.notices.append("starting the first trials")
    watcher.update(studies)
    if studies.complete:
        return studies
    try:
        with _scratch() as folder:
            trainable = tune.with_parameters(runner, data=[ray.put(data)])
            _tune(sweep, studies, trainable, data.mode, slots, watcher, folder)
    finally:
        with contextlib.suppress(OSError, UserError):  # on a full disk: the folder tells the same
            table.rest()
    watcher.update(studies)
    if studies.broken:
        raise SweepFailed(studies.broken)
    if not studies.complete:
        raise Stopped
    return studies


def _tune(
    sweep: Sweep, studies: Studies, trainable: Any, mode: str, slots: int, watcher: Watcher, folder: Path
) -> None:
    resources = {study.name: study.resources for study in sweep.studies}
    tuner = tune.Tuner(
        tune.with_resources(trainable, lambda config: cluster.bundles(resources[config["study"]], config["mode"])),
        tune_config=tune.TuneConfig(
            search_alg=_Suggestions(sweep, studies, mode),
            scheduler=_Judge(studies),
            num_samples=-1,
            max_concurrent_trials=slots,
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # it would hold nothing
            callbacks=[_Record(studies, watcher)],
            stop=_Breaker(studies),
        ),
    )
    with _quiet():
        tuner.fit()


def _name(trial: TuneTrial) -> str:
    return f"{trial.config['trial']}.{trial.config['order']}"


class _Unpickled:
    """Tune saves a pickle of its parts that is never read: an empty one, since displays hold locks."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Suggestions(_Unpickled, Searcher):
    """Hands the next trial to Tune."""

    def __init__(self, sweep: Sweep, studies: Studies, mode: str) -> None:
        super().__init__()
        self.sweep, self.studies, self.data_mode = sweep, studies, mode
        self.orders = itertools.count()

    def suggest(self, trial_id: str) -> Any:
        trial = self.studies.next()
        if trial is None:  # for now, where others are still under way: what they show may call for another
            return Searcher.FINISHED if self.studies.complete or self.studies.broken else None
        return {
            "order": next(self.orders),
            "trial": trial.id,
            "study": trial.study,
            "settings": dict(trial.settings),
            "takes_over_at": trial.takes_over.epoch if trial.takes_over else None,
            "metric": self.sweep.search.metric,
            "soup": self.sweep.finalize.soup,
            "folder": str(self.studies.table.folder.trial(trial.id).absolute()),
            "resources": self.studies.studies[trial.study].resources,
            "mode": self.data_mode,
        }

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        pass  # told by _Record, which knows whether the trial was stopped

    def save(self, checkpoint_path: str) -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        pass


class _Judge(_Unpickled, FIFOScheduler):
    """Ends the orders of trials that `Studies` gives up on or lets wait."""

    def __init__(self, studies: Studies) -> None:
        super().__init__()
        self.studies = studies

    def on_trial_result(self, tune_controller: Any, trial: TuneTrial, result: Mapping[str, Any]) -> str:
        return TrialScheduler.STOP if self.studies.record(result) else TrialScheduler.CONTINUE


class _Record(_Unpickled, tune.Callback):
    """Takes in what ends without being judged, and keeps the display moving."""

    def __init__(self, studies: Studies, watcher: Watcher) -> None:
        self.studies, self.watcher, self.places = studies, watcher, _Places()
        self.died = self.looked = float("-inf")
        self.ended: list[TuneTrial] = []

    def on_trial_result(self, iteration: int, trials: list, trial: TuneTrial, result: dict, **info: Any) -> None:
        if "status" in result:  # Tune marks what _Judge has ended as done too
            self.studies.record(result)

    def on_trial_complete(self, iteration: int, trials: list, trial: TuneTrial, **info: Any) -> None:
        self.ended.append(trial)

    def on_trial_error(self, iteration: int, trials: list, trial: TuneTrial, **info: Any) -> None:
        self.ended.append(trial)
        file = trial.error_file
        told = Path(file).read_text() if file and Path(file).exists() else "the trial's process died"
        self.studies.died(trial.config["trial"], told)
        self.died = time.monotonic()

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        if (lacking := self.places.lacking(trials)) is not None:
            self.studies.broken = f"{lacking}; make room and go on with --resume"
        now = time.monotonic()
        if now - self.died < DEATH_SECONDS and now - self.looked > 1:  # its workers' controller follows it in a while
            self.looked = now
            orphans.free_places()
        while self.ended:
            _forget(self.ended.pop())
        self.watcher.update(self.studies)


def _forget(order: TuneTrial) -> None:
    """Drop what Tune keeps of an order that has ended, for tables that nobody asks for: most of a driver's memory."""
    order.config, order.evaluated_params, order.experiment_tag = {}, {}, ""
    vars(order)["_Trial__unresolved_config"] = {}  # a second copy; where Ray has renamed it, it stays
    kept = order.run_metadata
    kept.last_result, kept.metric_analysis, kept.metric_n_steps = {}, {}, {}


class _Places:
    """Sees where nothing runs since no order finds a place: Tune would wait without an end, and without a word."""

    def __init__(self) -> None:
        self.seconds = float(os.environ.get(START_TIMEOUT, "60"))
        self.since: float | None = None

    def lacking(self, trials: list[TuneTrial]) -> str | None:
        """What an order has asked for in vain for too long, and what is free; None as long as there is hope."""
        runs = any(trial.status == TuneTrial.RUNNING for trial in reversed(trials))  # most of the others have ended
        order = None if runs else next((trial for trial in trials if trial.status == TuneTrial.PENDING), None)
        if order is None:
            self.since = None
            return None
        self.since = self.since or time.monotonic()
        if time.monotonic() - self.since < self.seconds:
            return None
        self.since = None
        assert order.placement_group_factory is not None
        asked = order.placement_group_factory.bundles
        if not cluster.unplaced(asked):  # it has its place, and its process is being started
            return None
        parts = [Node(bundle.get("CPU", 0), bundle.get("GPU", 0)) for bundle in asked]
        told = " + ".join(str(part) for part in parts if part.cpus or part.gpus)
        return f"a trial of {told} found no place in {self.seconds:g} s: {shortage(parts, room.nodes(room.free()))}"


class _Breaker(_Unpickled, tune.Stopper):
    """Ends everything where going on would only break one trial after the other."""

    def __init__(self, studies: Studies) -> None:
        self.studies = studies

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.studies.broken is not None


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    folder = scratch.folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ray's own lines about trials would break the display; what they say is told by `Studies`.

    For what the raylet prints of a dead process there is no public switch: where Ray has renamed this one, it shows.
    """
    logger = logging.getLogger("ray.tune")
    before, printed = logger.level, getattr(ray_worker, "_worker_logs_enabled", True)
    on_interrupt = signal.getsignal(signal.SIGINT)
    logger.setLevel(logging.CRITICAL)
    ray_worker._worker_logs_enabled = False
    try:
        yield
    finally:
        logger.setLevel(before)
        ray_worker._worker_logs_enabled = printed
        if threading.current_thread() is threading.main_thread():  # Tune leaves its own, which would swallow Ctrl-C
            signal.signal(signal.SIGINT, on_interrupt)
