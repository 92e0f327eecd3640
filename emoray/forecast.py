"""What a sweep will take: epochs, hours, money, disk; and what in its plan cannot be meant. Pure arithmetic."""

import math
from collections.abc import Callable, Iterator, Mapping
from statistics import mean
from typing import Protocol

from emoray import placement, schedulers, shares, space
from emoray.config import Sweep
from emoray.errors import UserError
from emoray.placement import Cluster
from emoray.study_settings import Study
from emoray.text import counted
from emoray.trial_state import quiet_epochs


class Measured(Protocol):
    """What was measured of a study's model (trial/measure.py)."""

    @property
    def epoch_seconds(self) -> float: ...
    @property
    def images_per_second(self) -> float: ...
    @property
    def parameters(self) -> int: ...
    @property
    def best_bytes(self) -> int: ...
    @property
    def last_bytes(self) -> int: ...


def trials(study: Study) -> int:
    """How many trials a study can have: as many as asked for, or as its space holds."""
    return int(min(study.trials, space.size(study.space)))


def total(sweep: Sweep) -> int:
    """How many trials a sweep can have."""
    return sum(map(trials, sweep.studies))


def at_most(sweep: Sweep, cost: Callable[[Study], float]) -> list[float]:
    """The cost of each trial of a sweep, in the costliest way in which the studies may share them out.

    Where the better studies get more trials, the costliest of them may be among these.
    """
    if sweep.search.share == "best":
        total, holds = sum(study.trials for study in sweep.studies), sum(space.size(s.space) for s in sweep.studies)
        return [max(map(cost, sweep.studies))] * int(min(total, holds))
    return [cost(study) for study in sweep.studies for _ in range(trials(study))]


def quiet(study: Study) -> list[int]:
    """How many epochs pass before a trial is judged, under each schedule that the study's space may give it.

    A schedule of the user's own is not asked, since a plan runs nothing: none is taken to be quiet.
    """
    listed = space.corners(study.space["schedule"])
    return [0 if "." in schedule["name"] else quiet_epochs(schedule, study.epochs) for schedule in listed]


def judged(sweep: Sweep, study: Study) -> list[list[int]]:
    """The epochs after which a study's trials may be judged, for each bracket of the scheduler."""
    return schedulers.judged(sweep.search.scheduler, study.epochs, min(quiet(study)))


def share_rounds(sweep: Sweep) -> list[tuple[int, int]]:
    """Where the better studies get more trials: how many each round has, and for how many studies."""
    if sweep.search.share != "best" or len(sweep.studies) < 2:
        return []
    return shares.rounds({study.name: study.trials for study in sweep.studies})


def expected_epochs(sweep: Sweep, study: Study) -> float | None:
    """The epochs that a study is expected to train with its own share of the trials; None where nobody can say."""
    each = [schedulers.expected_epochs(sweep.search.scheduler, study.epochs, pause) for pause in quiet(study)]
    told = [epochs for epochs in each if epochs is not None]
    return mean(told) * trials(study) if told else None


def hours(sweep: Sweep, measured: Mapping[str, Measured], slots: int) -> tuple[float, float]:
    """Hours that the trials are expected to take, and that they can take at most, `slots` at once.

    Both are at least the longest trial's: early stopping lets some reach their last epoch, and none is split.
    """
    whole = at_most(sweep, lambda study: study.epochs * measured[study.name].epoch_seconds / 3600)
    likely = 0.0
    for study in sweep.studies:
        epochs = expected_epochs(sweep, study)
        epochs = trials(study) * study.epochs if epochs is None else epochs
        likely += epochs * measured[study.name].epoch_seconds / 3600
    return max(likely / slots, max(whole)), max(sum(whole) / slots, max(whole))


def disk(sweep: Sweep, measured: Mapping[str, Measured], slots: int) -> tuple[int, int]:
    """Bytes of checkpoints that a sweep needs at the least, and those that it takes at most.

    Needed are the best of the `keep` largest and one of each other study, and both files of the trials that run;
    besides, finished trials keep what more epochs would go on from. A file is written beside the old one, so each
    running trial has one more for a moment.
    """
    keep, epochs = sweep.finalize.keep, 1 + (sweep.finalize.soup if sweep.finalize.soup > 1 else 0)
    names = [study.name for study in sweep.studies for _ in range(trials(study))]
    names.sort(key=lambda name: -measured[name].best_bytes)
    others = set(names[keep:]) - set(names[:keep])
    bests = at_most(sweep, lambda study: epochs * measured[study.name].best_bytes)
    best = [*sorted(map(int, bests), reverse=True)[:keep], *(epochs * measured[name].best_bytes for name in others)]
    last = sorted(map(int, at_most(sweep, lambda study: measured[study.name].last_bytes)), reverse=True)
    needed = sum(best) + sum(2 * size for size in last[:slots]) + slots * max(best)
    taken = needed + sum(last[slots:])
    limit = sweep.search.storage_limit
    return needed, taken if limit is None else max(needed, min(taken, limit))


def check_disk(sweep: Sweep, needed: int, free: float) -> None:
    """Raises UserError where the checkpoints that a sweep needs have no room."""
    limit, keep = sweep.search.storage_limit, sweep.finalize.keep
    best = f"best {keep} checkpoints" if keep > 1 else "best checkpoint"
    if limit is not None and needed > limit:
        raise UserError(
            f"search.storage_limit: {size(limit)} is too little: the {best} and those "
            f"of running trials take {size(needed)}; raise it, or lower finalize.keep"
        )
    if needed > free:
        raise UserError(
            f"storage: {sweep.storage}/ has {size(free)} free and the checkpoints that are needed take {size(needed)}; "
            "make room, or lower finalize.keep"
        )


def check_memory(mode: str, image_bytes: float, machine: Cluster) -> None:
    """Raises UserError where training images of so many bytes cannot be shared in memory."""
    for reason in _beyond_memory(mode, image_bytes, machine):
        raise UserError(f"data.mode: {reason}")


def doubts(sweep: Sweep, slots: int, mode: str, image_bytes: float, machine: Cluster) -> Iterator[str]:
    """What can be done but is hardly meant, each with its numbers."""
    search = sweep.search
    for study in sweep.studies:
        yield from _study_doubts(sweep, study)
    count = total(sweep)
    if sweep.finalize.keep > count:
        there = f"{'is' if count == 1 else 'are'} {counted(count, 'trial')}"
        yield f"finalize.keep is {sweep.finalize.keep} and there {there}: all of them become candidates"
    if search.max_concurrent and search.max_concurrent == slots:
        taken = slots * max(placement.takes(study.resources, machine, mode).cpus for study in sweep.studies)
        if taken < machine.cpus / 2:
            yield f"search.max_concurrent {slots} leaves {machine.cpus - taken:g} of {machine.cpus:g} CPUs idle"
    if search.share == "best" and len(sweep.studies) == 1:
        yield "search.share: best changes nothing for a single study"
    for reason in _beyond_memory(mode, image_bytes, machine):
        yield f"data.mode: {reason}"
    if mode == "stream":
        yield from _large_buffers(sweep, slots, machine)


def size(count: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.3g} {unit}" if count < 1000 else f"{count:,.0f} {unit}"
        count /= 1000
    raise AssertionError


def _beyond_memory(mode: str, image_bytes: float, machine: Cluster) -> Iterator[str]:
    if mode == "memory" and image_bytes > machine.memory:
        yield (
            f"the training images take {size(image_bytes)} and a node's object store holds {size(machine.memory)}: "
            "memory is too little for them; use stream"
        )


def _large_buffers(sweep: Sweep, slots: int, machine: Cluster) -> Iterator[str]:
    workers = slots * max(placement.workers(study.resources, machine, "stream") for study in sweep.studies)
    on_a_node = math.ceil(workers / len(machine.nodes))
    needed = on_a_node * placement.STREAM_BYTES
    if needed > machine.memory:
        yield (
            f"{on_a_node} workers stream on a node at once and buffer {size(needed)}, of which its object store holds "
            f"{size(machine.memory)}: Ray may spill to disk"
        )


def _study_doubts(sweep: Sweep, study: Study) -> Iterator[str]:
    holds, count = space.size(study.space), trials(study)
    algorithm = sweep.search.algorithm
    if study.trials > holds:
        run = "1 is" if count == 1 else f"{count} are"
        yield f"{study.name}: of {study.trials} trials {run} run, since its space holds {settings(holds)}"
    if algorithm["name"] == "grid" and study.trials < holds:
        yield f"{study.name}: grid runs {study.trials} of {holds:,.0f} points, the first in the file's order"
    if (pause := min(quiet(study))) == study.epochs - 1 > 0:
        yield f"{study.name}: its learning rate rises until the last of {study.epochs} epochs: the warm-up is too long"
    yield from _judging_doubts(sweep, study, pause)
    startup = algorithm.get("startup_trials", 0) if algorithm.get("sampler") != "cmaes" else 0
    if holds > 1 and 0 < count <= startup:
        which = "its only trial is" if count == 1 else f"all {count} trials are"
        yield f"{study.name}: {which} among optuna's first {startup}, which are drawn at random"


def _judging_doubts(sweep: Sweep, study: Study, pause: int) -> Iterator[str]:
    """Where a scheduler never judges, or has too few trials to; `pause` is the epochs in which nothing is judged."""
    scheduler, brackets = sweep.search.scheduler, judged(sweep, study)
    name = scheduler["name"]
    if name == "none":
        return
    idle = sum(not epochs for epochs in brackets)
    within = f" and after the {pause} of its schedule in which nothing is judged" if pause else ""
    if idle == len(brackets):
        yield (
            f"{study.name}: {name} never judges: it would have to before the last of {study.epochs} epochs{within}, "
            "and has no rung there"
        )
        return
    if idle:
        yield (
            f"{study.name}: {idle} of {name}'s {len(brackets)} brackets never judge: they have no rung before the last "
            f"of {study.epochs} epochs{within}"
        )
    count, whose = trials(study), ""
    if sweep.search.share == "best" and len(sweep.studies) > 1:  # it may get the trials of others
        shared = sum(one.trials for one in sweep.studies)
        count, whose = int(min(shared, space.size(study.space))), " at most"
    least = {"median": scheduler.get("min_trials", 0) + 1, "pbt": 4}.get(name, scheduler.get("reduction_factor", 1))
    if count < least:
        there = "is 1" if count == 1 else f"are {count}"
        yield f"{study.name}: {name} needs {least} trials or more to tell good from bad, and there {there}{whose}"


def settings(count: float) -> str:
    """The size of a space in words."""
    if math.isinf(count):
        return "infinitely many settings"
    return counted(count, "setting")
