"""How fast each study trained, beside what its trials were given: two studies of one network on one worker and on two
stand one below the other.
"""

import statistics
from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml

from emoray.report.run import Run, Trial


class Pace(NamedTuple):
    """A study's resources for each worker, as the sweep file names them, and its usual epoch.

    `workers` are the fewest and the most that trained an epoch; None is what the run does not tell.
    """

    study: str
    workers: tuple[int, int] | None
    cpus: float | None
    gpus: float | None
    data_cpus: float | None
    images_per_second: float
    data_wait: float | None


def paces(run: Run) -> list[Pace]:
    """One row for each study that has trained: medians over the epochs of its trials."""
    told = _resources(run)
    found = (_pace(study, told.get(study, {}), [t for t in run.trials if t.study == study]) for study in run.studies)
    return [pace for pace in found if pace is not None]


def _pace(study: str, resources: Mapping[str, Any], trials: list[Trial]) -> Pace | None:
    rates, waits = _steady(trials, "images_per_second"), _steady(trials, "data_wait")
    if not rates:
        return None
    workers = [round(count) for count in _steady(trials, "workers")]
    return Pace(
        study,
        (min(workers), max(workers)) if workers else None,
        resources.get("cpus_per_worker"),
        resources.get("gpus_per_worker"),
        resources.get("data_cpus"),
        statistics.median(rates),
        statistics.median(waits) if waits else None,
    )


def _steady(trials: list[Trial], column: str) -> list[float]:
    """A column of the trials' histories without each one's first epoch, which compiles, where there are others."""
    columns = [trial.history.get(column) or [] for trial in trials]
    return [value for rows in columns for value in (rows[1:] or rows) if value is not None]


def _resources(run: Run) -> dict[str, Mapping[str, Any]]:
    """What sweep.yaml, with every default written out, names for each study; CPUs for data unless none are streamed."""
    tree = yaml.safe_load(run.sweep) or {}
    models = [model for model in tree.get("models") or [] if isinstance(model, Mapping)]
    in_memory = (tree.get("data") or {}).get("mode") == "memory"
    return {str(m.get("study")): {**m, "data_cpus": None} if in_memory else m for m in models}
