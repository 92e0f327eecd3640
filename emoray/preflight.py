"""What would keep a sweep from running, told before Ray starts: storage, data, metric, losses, weights, resources.

The file's own mistakes have been noted before (config.py), so that a user sees all of them at once.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from emoray import class_names, metrics, placement, plan, registry, storage
from emoray.config import Sweep
from emoray.data import early, sources, store
from emoray.data.early import Known
from emoray.data.plan import Source
from emoray.data.prepare import cached
from emoray.errors import UserError
from emoray.placement import Cluster
from emoray.problems import Problems
from emoray.s3 import RemoteError
from emoray.storage import AnyPath
from emoray.study_settings import Study

_TAKEN = ("workers", "cpus_per_worker", "gpus_per_worker", "data_cpus")
"""The settings that say what a trial takes."""


@dataclass(frozen=True)
class Found:
    """What a sweep has to do with: its source of data, and what is known of it."""

    source: Source
    fingerprint: str
    known: Known


def check(sweep: Sweep, problems: Problems, machine: Cluster | None) -> Found | None:
    """Note what keeps a sweep from running on `machine`, None where that is a cluster still to be joined.

    What was refused of the file has its default in `sweep`. Returns None where there are no data.
    """
    for number, module in enumerate(sweep.components):
        for name in registry.missing_imports(module, sweep.folder):
            told = f"{module} imports '{name}', which is neither installed nor beside the sweep file"
            problems.add(f"components[{number}]", told)
    place = _storage(sweep.storage, problems)
    found = _data(sweep, place, problems)
    known = found.known if found is not None else Known()
    if known.classes is not None:
        problems.catch("search.metric", metrics.check, sweep.search.metric, known.classes, known.splits)
        _note(_losses(sweep, known.classes), problems)
    _note(plan.unbuildable(sweep), problems)
    if machine is not None:
        image_bytes = plan.training_bytes(sweep, found.source) if found is not None else 0.0
        _note(_unplaceable(sweep, machine, placement.mode(sweep, image_bytes, machine), problems), problems)
    return found


def _storage(written: str, problems: Problems) -> AnyPath | None:
    """The place of the runs, None where they cannot be kept there."""
    try:
        place = storage.at(written)
        storage.check_place(place)
    except UserError as error:
        problems.add("storage", str(error))
        return None
    except OSError as error:
        problems.add("storage", f"{written}/ cannot be written: {error.strerror or error}")
        return None
    return place


def _data(sweep: Sweep, place: AnyPath | None, problems: Problems) -> Found | None:
    try:
        source = sources.find(sweep.data, sweep.seed)
        fingerprint = store.fingerprint(source, sweep.data, sweep.seed)
        prepared = None if place is None else cached(str(place / ".cache"), fingerprint)
        losses = [study.space["loss"] for study in sweep.studies]
        wanted = sweep.search.metric.startswith("recall_") or any(map(class_names.any_named, losses))
        return Found(source, fingerprint, early.look(source, prepared, sweep.data, wanted, problems))
    except UserError as error:
        problems.add("data.path", str(error).removeprefix("data.path: "))
    except RemoteError as error:
        problems.add("data.path", f"{error.filename}: {error.strerror}")
    return None


def _losses(sweep: Sweep, classes: Sequence[str]) -> Iterator[tuple[Study, str]]:
    for study in sweep.studies:
        try:
            class_names.check({study.name: study.space["loss"]}, classes)
        except UserError as error:
            yield study, str(error).removeprefix(f"{study.name}: ")


def _unplaceable(sweep: Sweep, machine: Cluster, mode: str, problems: Problems) -> Iterator[tuple[Study, str]]:
    for study in sweep.studies:
        places = [f"{study.place}.{key}" for key in _TAKEN] + [f"train.{key}" for key in _TAKEN]
        if problems.below(*places):  # with the defaults in their place nothing can be told
            continue
        try:
            placement.fitting(study, machine, mode)
        except UserError as error:
            yield study, str(error).removeprefix(f"models.{study.name}: ")


def _note(found: Iterable[tuple[Study, str]], problems: Problems) -> None:
    """Note what is wrong with studies: what is wrong with many of them, once."""
    wrong: dict[str, list[Study]] = {}
    for study, reason in found:
        wrong.setdefault(reason, []).append(study)
    for reason, studies in wrong.items():
        setting, _, told = reason.partition(": ")
        places = (f"{studies[0].place}.{setting}", f"train.{setting}")
        if place := next((place for place in places if place in problems.lines), None):  # the file has what is wrong
            problems.add(place, told)
        else:
            names = ", ".join(study.name for study in studies)
            problems.add(studies[0].place if len(studies) == 1 else "models", f"{names}: {reason}")
