"""`--measure`: a few real steps of each architecture on the cluster, as many at once as the sweep will run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import ray

from emoray import space
from emoray.config import Sweep
from emoray.errors import UserError
from emoray.study_settings import Study
from emoray.trial import failures
from emoray.trial.data import TrialData
from emoray.trial.measure import Cost, cost
from emoray.trial_state import DISK, MEMORY


def costs(sweep: Sweep, data: TrialData, slots: int) -> dict[str, Cost]:
    """What an epoch costs in each study, with the settings from the middle of its space.

    As many trials are measured as run at once, the studies in turn, and each takes of the machines what it takes in the
    sweep: so they slow each other down as they will there. Raises UserError where one cannot be trained.
    """
    shared = ray.put(data)
    work = ray.remote(max_calls=1, max_retries=0)(_cost)  # what ran out of memory once does so again
    asked: dict[str, list[ray.ObjectRef]] = {study.name: [] for study in sweep.studies}
    for number in range(max(slots, len(sweep.studies))):
        study = sweep.studies[number % len(sweep.studies)]
        taken = {"num_cpus": study.resources.cpus_per_worker, "num_gpus": study.resources.gpus_per_worker}
        given = (middle(study, sweep.seed), sweep.search.metric, study.resources.cpus_per_worker, shared)
        asked[study.name] += [work.options(**taken).remote(*given) for _ in range(study.resources.workers)]
    return {study.name: _together(study, [_answer(study, one) for one in asked[study.name]]) for study in sweep.studies}


def _answer(study: Study, asked: "ray.ObjectRef") -> Cost:
    try:
        return ray.get(asked)
    except ray.exceptions.RayError as error:
        told = failures.told(getattr(error, "cause", None) or error)
        if told["failure"] == DISK:
            raise
        died = isinstance(error, ray.exceptions.WorkerCrashedError)
        memory = isinstance(error, ray.exceptions.OutOfMemoryError) or told["failure"] == MEMORY
        why = "it runs out of memory" if memory else "its process died" if died else told["reason"]
        raise UserError(
            f"models.{study.name}: a trial with the settings from the middle of its space cannot be trained: {why}"
        ) from None


def _together(study: Study, measured: Sequence[Cost]) -> Cost:
    """One cost of several of the same; one worker was measured at a time: several share an epoch's images."""
    workers = study.resources.workers
    return replace(
        measured[0],
        epoch_seconds=fmean(one.epoch_seconds for one in measured) / workers,
        images_per_second=fmean(one.images_per_second for one in measured) * workers,
    )


def middle(study: Study, seed: int) -> dict[str, Any]:
    """The settings in the middle of a study's space."""
    drawn = space.draw(study.space, lambda name, sampler: space.at(sampler, 0.5))
    return {**drawn, "epochs": study.epochs, "seed": seed}


def _cost(settings: Mapping[str, Any], metric: str, cpus: float, data: TrialData) -> Cost:
    from emoray.trial.threads import use_threads

    use_threads(cpus)
    return cost(settings, metric, data)
