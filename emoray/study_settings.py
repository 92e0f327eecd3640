"""The entries of `models`, each with what `train` shares: the studies of a sweep and what one trial takes."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from emoray import checks, notation, sampler_checks, space, train_checks
from emoray.problems import Problems, ascending, matches
from emoray.settings import Count, NonNegative

BatchSize = Annotated[int, Field(ge=1, le=65_536)]
Trials = Annotated[int, Field(ge=1, le=1_000_000)]
Workers = Annotated[int, Field(ge=1, le=10_000)]
WorkerRange = Annotated[list[Workers], ascending("a range is [fewest, most], such as [1, 4]")]
Cpus = Annotated[float, Field(ge=0.01, le=10_000)]
MOST_MODELS = 1000
RunName = Annotated[
    str,
    matches(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", "a name has letters, digits, '_', '-' and '.', at most 64 of them"),
]


@dataclass(frozen=True)
class Resources:
    """What one trial takes of the machines."""

    workers: Workers = 1
    """Above 1, Ray Train trains each trial on as many processes."""
    cpus_per_worker: Cpus = 1
    gpus_per_worker: NonNegative = 0
    data_cpus: Cpus = 1
    """CPUs for each worker's Ray Data tasks where the data are streamed."""
    fewest: int | None = field(default=None, metadata={"written": "workers"})
    """Where a file says `workers: [fewest, workers]`: with how few a trial starts, or goes on after a loss."""

    @property
    def least(self) -> int:
        """The workers that a trial cannot do without."""
        return self.workers if self.fewest is None else self.fewest

    def written(self) -> dict[str, Any]:
        """As a sweep file has it."""
        keys = {key: getattr(self, key) for key in _RESOURCES}
        return keys if self.fewest is None else keys | {"workers": [self.fewest, self.workers]}


@dataclass(frozen=True)
class Study:
    """One architecture with its space: its own searcher, its own rungs, its own trials."""

    name: str
    trials: int
    epochs: int
    space: Mapping[str, space.Tree]
    resources: Resources
    first: tuple[Mapping[str, Any], ...] = ()
    """What is known of the first trials' draws: values of samplers by the names that `space.draw` gives them."""
    place: str = field(default="", compare=False)
    """Where it stands in its sweep file."""


Epochs = Annotated[int, Field(ge=1, le=100_000)]

_RESOURCES = {
    f.name: (Workers | WorkerRange if f.name == "workers" else f.type, f.default)
    for f in dataclasses.fields(Resources)
    if "written" not in f.metadata
}
_FAMILIES = {
    "optimizer": ("optimizers", "adam"),
    "schedule": ("schedules", "constant"),
    "loss": ("losses", "cross_entropy"),
    "class_weight": ("class_weights", "none"),
    "sampler": ("class_weights", "none"),
    "early_stopping": ("stopping", "none"),
}
_SAMPLED = {
    "batch_size": (BatchSize, 64),
    "precision": (Literal["float32", "mixed_bfloat16", "mixed_float16"], "float32"),
    "accumulate_steps": (Count, 1),
    "jit": (bool, False),
}
TRAIN_KEYS = ("epochs", *_RESOURCES, *_SAMPLED, *_FAMILIES, "augment")
"""What `train` may set for all models, and a model's own entry for itself."""


def studies(
    tree: Mapping[str, Any], trials: int, problems: Problems, components: checks.Components
) -> tuple[Study, ...]:
    """The studies that the entries of `models` make, with the problems noted; an entry that makes none is left out."""
    train = {} if tree.get("train") is None else tree["train"]
    if not isinstance(train, Mapping):
        problems.add("train", f"{notation.shown(train)} is not a mapping")
        train = {}
    checks.unknown_keys(train, TRAIN_KEYS, "train", problems)
    entries = tree.get("models")
    if not isinstance(entries, list) or not entries:
        problems.add("models", "a sweep needs a list of models, such as [{name: simple_cnn}]")
        return ()
    if len(entries) > MOST_MODELS:
        problems.add("models", f"{len(entries):,} models are listed; at most {MOST_MODELS:,} are tried in one sweep")
        return ()
    shared = _train(train, "train", problems, components)
    found: list[Study] = []
    for i, entry in enumerate(entries):
        study = _study(entry, f"models[{i}]", shared, trials, problems, components)
        if study is not None and study.name in [other.name for other in found]:
            problems.add(f"models[{i}]", f"a second study is called '{study.name}'; name this one with 'study: ...'")
        elif study is not None:
            found.append(study)
    return tuple(found)


def _study(
    entry: Any,
    place: str,
    shared: Mapping[str, Any],
    trials: int,
    problems: Problems,
    components: checks.Components,
) -> Study | None:
    entry = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, Mapping) or notation.is_sampler(entry):
        problems.add(place, f"{notation.shown(entry)} is not a model, such as {{name: simple_cnn, width: 32}}")
        return None
    own = {key: value for key, value in entry.items() if key in TRAIN_KEYS}
    rest = {key: value for key, value in entry.items() if key not in (*TRAIN_KEYS, "study", "trials")}
    also = (*TRAIN_KEYS, "study", "trials")
    model = checks.component("models", rest, place, problems, components, also)
    merged = {**shared, **_train(own, place, problems, components, defaults=False)}
    usual = str(rest.get("name"))
    name = usual  # which is told of where there is no such model
    if model is not None or "study" in entry:
        name = sampler_checks.value(entry.get("study", usual), RunName, f"{place}.study", problems, usual)
    count = sampler_checks.value(entry.get("trials", trials), Trials, f"{place}.trials", problems, trials)
    resources = _resources({key: merged.pop(key) for key in _RESOURCES})
    epochs = merged.pop("epochs")
    train_checks.check(resources.workers, resources.gpus_per_worker, merged, place, problems)
    return None if model is None else Study(name, count, epochs, {"model": model, **merged}, resources, place=place)


def _resources(written: Mapping[str, Any]) -> Resources:
    workers = written["workers"]
    if not isinstance(workers, list):
        return Resources(**written)
    fewest, most = workers
    return Resources(**{**written, "workers": most, "fewest": fewest})


def _train(
    written: Mapping[str, Any],
    place: str,
    problems: Problems,
    components: checks.Components,
    defaults: bool = True,
) -> dict[str, Any]:
    """The checked keys of `train` that are written, or all of them with defaults."""
    plain: dict[str, tuple[Any, Any]] = {"epochs": (Epochs, 20), **_RESOURCES}
    checked: dict[str, Any] = {}
    for key in TRAIN_KEYS if defaults else [key for key in TRAIN_KEYS if key in written]:
        at = f"{place}.{key}"
        if key in plain:
            wanted, default = plain[key]
            if notation.is_sampler(written.get(key)):
                problems.add(at, "nothing can be drawn here: the plan is made from it")
                checked[key] = default
            else:
                checked[key] = sampler_checks.value(written.get(key, default), wanted, at, problems, default)
        elif key in _SAMPLED:
            wanted, default = _SAMPLED[key]
            checked[key] = sampler_checks.sampled(written.get(key, default), wanted, at, problems)
        elif key == "augment":
            checked[key] = checks.component_list("augment", written.get(key), at, problems, components)
        else:
            family, usual = _FAMILIES[key]
            checked[key] = checks.component(family, written.get(key, usual), at, problems, components)
    return checked
