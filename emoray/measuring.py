"""`--measure`: a few real steps of each architecture on the cluster, as many at once as the sweep will run."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import ray

from emoray import space
from emoray.config import Study, Sweep
from emoray.trial.data import TrialData
from emoray.trial.measure import Cost, cost


def costs(sweep: Sweep, data: TrialData) -> dict[str, Cost]:
    """What an epoch costs in each study, with the settings from the middle of its space.

    What a trial takes of the machines is taken here too, so that those that run at once slow each other down as in
    the sweep.
    """
    shared = ray.put(data)
    work = ray.remote(max_calls=1)(_cost)
    asked = {
        study.name: work.options(
            num_cpus=study.resources.cpus_per_worker, num_gpus=study.resources.gpus_per_worker
        ).remote(middle(study, sweep.seed), sweep.search.metric, study.resources.cpus_per_worker, shared)
        for study in sweep.studies
    }
    measured = dict(zip(asked, ray.get(list(asked.values())), strict=True))
    workers = {study.name: study.resources.workers for study in sweep.studies}
    # One worker was measured: several share an epoch's images.
    return {
        name: replace(
            one,
            epoch_seconds=one.epoch_seconds / workers[name],
            images_per_second=one.images_per_second * workers[name],
        )
        for name, one in measured.items()
    }


def middle(study: Study, seed: int) -> dict[str, Any]:
    """The settings in the middle of a study's space."""
    drawn = space.draw(study.space, lambda name, sampler: space.at(sampler, 0.5))
    return {**drawn, "epochs": study.epochs, "seed": seed}


def _cost(settings: Mapping[str, Any], metric: str, cpus: float, data: TrialData) -> Cost:
    from emoray.trial.threads import use_threads

    use_threads(cpus)
    return cost(settings, metric, data)
