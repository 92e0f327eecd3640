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

from emoray import checks, metrics, notation, overrides, search_checks, strict_yaml, study_settings
from emoray.errors import UserError
from emoray.problems import Bytes, Problems, distinct, matches
from emoray.settings import Count, ImageSize, NonNegativeCount, Positive, Probability
from emoray.study_settings import RunName, Study, Trials

Share = Annotated[float, Field(gt=0, lt=1)]
MOST_DRAWN = 64 * 10**9
"""Bytes of embedded faces: each number has a bound of its own, and together they would be 30 TB."""
Name = Annotated[str, matches(r"\S(?s:.*\S)?", "a class has a name, without blanks at its ends")]
DataPath = Annotated[str, matches(r"(?s).*\S.*", "it must name a file or a folder; without it faces are drawn")]
Classes = Annotated[list[Name], Field(min_length=2), distinct()]
Metric = Annotated[str, matches(rf"{'|'.join(metrics.METRICS)}|recall_.+", [*metrics.METRICS, "recall_<class>"])]
Storage = Annotated[str, matches(r"(?s).*\S.*", "it must name a folder, or a place on S3 as s3://bucket/folder")]


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
    classes: Classes | None = None
    faces: Annotated[int, Field(ge=200, le=10_000_000)] = 4000
    limit: Count | None = None
    mode: Literal["auto", "memory", "stream"] = "auto"


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
            model = {"study": study.name, "trials": study.trials, **notation.written(study.space["model"])}
            rest = {key: value for key, value in study.space.items() if key != "model"}
            models.append({**model, "epochs": study.epochs, **notation.written(rest), **study.resources.written()})
        limit = self.search.storage_limit
        return {
            "name": self.name,
            "seed": self.seed,
            "storage": self.storage,
            "components": list(self.components),
            "data": dataclasses.asdict(self.data),
            "models": models,
            "search": {**vars(self.search), "storage_limit": None if limit is None else f"{limit} B"},
            "finalize": dict(vars(self.finalize)),
            "tracking": dict(self.tracking),
        }


@dataclass(frozen=True)
class _Top:
    """The plain keys of the file's top level."""

    name: RunName = "sweep"
    seed: NonNegativeCount = 0
    storage: Storage = "runs"
    components: Annotated[list[str], distinct()] = field(default_factory=list)


_SECTIONS = {"data": DataSettings, "search": SearchSettings, "finalize": FinalizeSettings}


def load(path: str | Path, settings: Sequence[str] = (), storage: str | None = None) -> Sweep:
    """Read and check a sweep file, with `KEY=VALUE` overrides laid over it.

    Raises UserError that lists every problem of the file with its place.
    """
    sweep, problems = read(path, settings, storage)
    problems.refuse(path)
    return sweep


def read(path: str | Path, settings: Sequence[str] = (), storage: str | None = None) -> tuple[Sweep, Problems]:
    """The same with the problems noted, so that others can be looked for; what was refused has its default.

    Raises UserError where the file holds no mapping at all.
    """
    path = Path(path)
    tree, lines = strict_yaml.read(path)
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds no sweep: it must be a mapping with the key 'models'")
    tree = copy.deepcopy(tree)
    problems = Problems(lines)
    for override in settings:
        problems.catch("--set", overrides.lay, tree, override, lines)
    tree.setdefault("name", re.sub(r"[^A-Za-z0-9_.-]", "_", path.stem).lstrip("_.-")[:64] or "sweep")
    if storage is not None:
        tree["storage"] = storage
        lines.pop("storage", None)
    return _sweep(tree, problems, path.resolve().parent), problems


def dump(sweep: Sweep) -> str:
    """The resolved sweep as YAML text."""
    return yaml.safe_dump(sweep.resolved(), sort_keys=False, allow_unicode=True, width=120)


def _sweep(tree: dict[str, Any], problems: Problems, folder: Path) -> Sweep:
    plain = [f.name for f in dataclasses.fields(_Top)]
    checks.unknown_keys(tree, [*plain, *_SECTIONS, "tracking", "train", "models"], "", problems)
    no_components = checks.Components((), folder, unread=True)
    top = checks.record(_Top, {k: v for k, v in tree.items() if k in plain}, "", problems, no_components)
    components = checks.Components(tuple(top.components), folder)
    try:
        components.members("models")
    except UserError as error:
        problems.add("components", str(error).removeprefix("components: "))
        components = no_components
    sections = {name: checks.record(cls, tree.get(name), name, problems, components) for name, cls in _SECTIONS.items()}
    _drawn(sections["data"], problems)
    _shares(sections["data"].split, problems)
    studies = study_settings.studies(tree, sections["search"].trials, problems, components)
    search_checks.check(sections["search"], studies, problems)
    studies = search_checks.with_first(studies, sections["search"].first, study_settings.TRAIN_KEYS, problems)
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


def _shares(split: Split, problems: Problems) -> None:
    """Each is a share of what the ones before it left, so any would do; but nobody means to train on a remnant."""
    shares = {name: share for name, share in vars(split).items() if not isinstance(share, str)}
    if sum(shares.values()) >= 1:
        told = " and ".join(f"{name} {share:g}" for name, share in shares.items())
        problems.add("data.split", f"{told} leave too little to train on: together they must be below 1")
