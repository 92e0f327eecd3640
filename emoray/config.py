"""A sweep file as one frozen `Sweep`: every problem in the file is told at once, before anything is spent.

What the platform owns is a dataclass here; what components own is checked against their signatures (checks.py).
"""

import copy
import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from emoray import checks, overrides, search_checks, space, strict_yaml, train_checks
from emoray.errors import UserError
from emoray.problems import Bytes, Problems, ascending, matches
from emoray.settings import Count, ImageSize, NonNegative, NonNegativeCount, Positive, Probability

BatchSize = Annotated[int, Field(ge=1, le=65_536)]
Share = Annotated[float, Field(gt=0, lt=1)]
Trials = Annotated[int, Field(ge=1, le=1_000_000)]
Workers = Annotated[int, Field(ge=1, le=10_000)]
WorkerRange = Annotated[list[Workers], ascending("a range is [fewest, most], such as [1, 4]")]
Cpus = Annotated[float, Field(ge=0.01, le=10_000)]
MOST_MODELS = 1000
MOST_DRAWN = 64 * 10**9
"""Bytes of embedded faces: each number has a bound of its own, and together they would be 30 TB."""
RunName = Annotated[
    str,
    matches(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", "a name has letters, digits, '_', '-' and '.', at most 64 of them"),
]
DataPath = Annotated[str, matches(r"(?s).*\S.*", "it must name a file or a folder; without it faces are drawn")]
Metric = Annotated[
    str,
    matches(
        r"accuracy|macro_f1|balanced_accuracy|log_loss|recall_.+",
        "allowed: accuracy, macro_f1, balanced_accuracy, log_loss and recall_<class>",
    ),
]


@dataclass(frozen=True)
class Split:
    """Where each role's images come from: the source's own split, or a share of what is left."""

    validation: Literal["auto", "official"] | Share = "auto"
    selection: Share = 0.1
    test: Literal["auto", "official"] | Share = "auto"


@dataclass(frozen=True)
class DataSettings:
    """The images: where they are and how they are prepared. `path: null` draws the embedded faces."""

    path: DataPath | None = None
    image_size: ImageSize = 48
    channels: Literal["grey", "rgb"] = "grey"
    split: Split = Split()
    max_bad_fraction: Probability = 0.05
    leaks: Literal["keep", "drop"] = "keep"
    labels: Literal["labels", "votes"] = "labels"
    classes: list[str] | None = None
    faces: Annotated[int, Field(ge=200, le=10_000_000)] = 4000
    limit: Count | None = None
    mode: Literal["auto", "memory", "stream"] = "auto"


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


@dataclass(frozen=True)
class SearchSettings:
    """How settings are drawn, which trials are stopped, and what is selected on."""

    algorithm: Mapping[str, Any] = checks.member_of("algorithms", "random")
    scheduler: Mapping[str, Any] = checks.member_of("schedulers", "none")
    trials: Trials = 8
    metric: Metric = "macro_f1"
    first: list[dict[str, Any]] = field(default_factory=list)
    share: Literal["equal", "best"] = "equal"
    max_concurrent: Count | None = None
    storage_limit: Bytes | None = None
    price_per_hour: Positive | None = None


@dataclass(frozen=True)
class FinalizeSettings:
    """Which checkpoints become candidates and how they are combined."""

    ensemble: Mapping[str, Any] = checks.member_of("ensemble", "log_loss")
    keep: Count = 8
    per_architecture: Count | None = None
    tta: Literal["none", "flip", "ten_crop"] = "none"
    soup: NonNegativeCount = 0
    use: Literal["auto", "ensemble", "single"] = "auto"


@dataclass(frozen=True)
class Sweep:
    """A checked sweep file: all that a sweep does follows from it, the data and the machines."""

    name: str
    seed: int
    data: DataSettings
    studies: tuple[Study, ...]
    search: SearchSettings
    finalize: FinalizeSettings
    tracking: Mapping[str, Any]
    storage: str
    components: tuple[str, ...]
    folder: Path = field(compare=False)
    """Where relative paths and the user's modules are looked for."""

    @property
    def import_path(self) -> list[Path]:
        """Where processes may import from: beside the file, and only where it names modules of the user's."""
        return [self.folder] if self.components else []

    def resolved(self) -> dict[str, Any]:
        """The sweep as a sweep file with every default written out; loading it again gives an equal sweep."""
        models = []
        for study in self.studies:
            model = {"study": study.name, "trials": study.trials, **space.written(study.space["model"])}
            rest = {key: value for key, value in study.space.items() if key != "model"}
            models.append({**model, "epochs": study.epochs, **space.written(rest), **study.resources.written()})
        return {
            "name": self.name,
            "seed": self.seed,
            "storage": self.storage,
            "components": list(self.components),
            "data": dataclasses.asdict(self.data),
            "models": models,
            "search": dict(vars(self.search)),
            "finalize": dict(vars(self.finalize)),
            "tracking": dict(self.tracking),
        }


@dataclass(frozen=True)
class _Top:
    """The plain keys of the file's top level."""

    name: RunName = "sweep"
    seed: NonNegativeCount = 0
    storage: str = "runs"
    components: list[str] = field(default_factory=list)


Epochs = Annotated[int, Field(ge=1, le=100_000)]

_SECTIONS = {"data": DataSettings, "search": SearchSettings, "finalize": FinalizeSettings}
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


def load(path: str | Path, settings: Sequence[str] = (), storage: str | None = None) -> Sweep:
    """Read and check a sweep file, with `KEY=VALUE` overrides laid over it.

    Raises UserError that lists every problem of the file with its place.
    """
    path = Path(path)
    tree, lines = strict_yaml.read(path)
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds no sweep: it must be a mapping with the key 'models'")
    tree = copy.deepcopy(tree)
    for override in settings:
        overrides.lay(tree, override, lines)
    tree.setdefault("name", re.sub(r"[^A-Za-z0-9_.-]", "_", path.stem).lstrip("_.-")[:64] or "sweep")
    if storage is not None:
        tree["storage"] = storage
    problems = Problems(lines)
    sweep = _sweep(tree, problems, path.resolve().parent)
    if problems.found:
        count = len(problems.found)
        listed = "\n".join(f"  {line}" for line in problems.found)
        raise UserError(f"{path} has {count} problem{'s' if count > 1 else ''}:\n{listed}")
    return sweep


def dump(sweep: Sweep) -> str:
    """The resolved sweep as YAML text."""
    return yaml.safe_dump(sweep.resolved(), sort_keys=False, allow_unicode=True, width=120)


def _sweep(tree: dict[str, Any], problems: Problems, folder: Path) -> Sweep:
    plain = [f.name for f in dataclasses.fields(_Top)]
    checks.unknown_keys(tree, [*plain, *_SECTIONS, "tracking", "train", "models"], "", problems)
    no_components = checks.Components((), folder)
    top = checks.record(_Top, {k: v for k, v in tree.items() if k in plain}, "", problems, no_components)
    components = checks.Components(tuple(top.components), folder)
    try:
        components.members("models")
    except UserError as error:
        problems.add("components", str(error).removeprefix("components: "))
        components = no_components
    sections = {name: checks.record(cls, tree.get(name), name, problems, components) for name, cls in _SECTIONS.items()}
    _drawn(sections["data"], problems)
    studies = _studies(tree, sections["search"].trials, problems, components)
    search_checks.check(sections["search"], studies, problems)
    studies = search_checks.with_first(studies, sections["search"].first, TRAIN_KEYS, problems)
    return Sweep(
        top.name,
        top.seed,
        studies=studies,
        **sections,
        tracking=search_checks.tracking(tree.get("tracking", "none"), problems, components),
        storage=top.storage,
        components=components.modules,
        folder=folder,
    )


def _drawn(data: DataSettings, problems: Problems) -> None:
    size = data.faces * data.image_size**2 * (3 if data.channels == "rgb" else 1)
    if data.path is None and size > MOST_DRAWN:
        told = f"{data.faces:,} faces of {data.image_size} pixels a side are {size / 1e9:,.0f} GB"
        problems.add("data.faces", f"{told}; at most {MOST_DRAWN / 1e9:.0f} GB are drawn")


def _studies(
    tree: Mapping[str, Any], trials: int, problems: Problems, components: checks.Components
) -> tuple[Study, ...]:
    train = {} if tree.get("train") is None else tree["train"]
    if not isinstance(train, Mapping):
        problems.add("train", f"{space.shown(train)} is not a mapping")
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
    studies: list[Study] = []
    for i, entry in enumerate(entries):
        study = _study(entry, f"models[{i}]", shared, trials, problems, components)
        if study is not None and study.name in [other.name for other in studies]:
            problems.add(f"models[{i}]", f"a second study is called '{study.name}'; name this one with 'study: ...'")
        elif study is not None:
            studies.append(study)
    return tuple(studies)


def _study(
    entry: Any,
    place: str,
    shared: Mapping[str, Any],
    trials: int,
    problems: Problems,
    components: checks.Components,
) -> Study | None:
    entry = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, Mapping) or space.is_sampler(entry):
        problems.add(place, f"{space.shown(entry)} is not a model, such as {{name: simple_cnn, width: 32}}")
        return None
    own = {key: value for key, value in entry.items() if key in TRAIN_KEYS}
    rest = {key: value for key, value in entry.items() if key not in (*TRAIN_KEYS, "study", "trials")}
    also = (*TRAIN_KEYS, "study", "trials")
    model = checks.component("models", rest, place, problems, components, also)
    merged = {**shared, **_train(own, place, problems, components, defaults=False)}
    usual = str(rest.get("name"))
    name = checks.value(entry.get("study", usual), RunName, f"{place}.study", problems, usual)
    count = checks.value(entry.get("trials", trials), Trials, f"{place}.trials", problems, trials)
    resources = _resources({key: merged.pop(key) for key in _RESOURCES})
    epochs = merged.pop("epochs")
    train_checks.check(resources.workers, resources.gpus_per_worker, merged, place, problems)
    return None if model is None else Study(name, count, epochs, {"model": model, **merged}, resources)


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
            if space.is_sampler(written.get(key)):
                problems.add(at, "nothing can be drawn here: the plan is made from it")
                checked[key] = default
            else:
                checked[key] = checks.value(written.get(key, default), wanted, at, problems, default)
        elif key in _SAMPLED:
            wanted, default = _SAMPLED[key]
            checked[key] = checks.sampled(written.get(key, default), wanted, at, problems)
        elif key == "augment":
            checked[key] = checks.component_list("augment", written.get(key), at, problems, components)
        else:
            family, usual = _FAMILIES[key]
            checked[key] = checks.component(family, written.get(key, usual), at, problems, components)
    return checked
