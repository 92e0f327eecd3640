"""A run folder, read into one frozen value; the report reads nothing else.

The one rule to know: whatever is missing (a sweep that was not finalized, an older run, a failed trial) is None or
empty here, and the page leaves its part out. Only a folder without trials.csv is refused.
"""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import yaml

from emoray import intact, storage
from emoray.errors import UserError
from emoray.storage import AnyPath


class Interval(NamedTuple):
    """An estimate with the ends of its confidence interval."""

    estimate: float
    low: float
    high: float

    @property
    def includes_zero(self) -> bool:
        return self.low <= 0 <= self.high


@dataclass(frozen=True)
class Trial:
    """One trial: its row of trials.csv, its row of leaderboard.csv, its curves and its error.

    `score` is the sweep's metric on validation at the best epoch, higher is better; `history` is one list a column of
    history.csv, None where an epoch has no number; `rank` and `weight` are None unless the trial was a candidate.
    """

    name: str
    study: str
    model: str
    status: str
    reason: str
    epochs: int
    best_epoch: int | None
    score: float | None
    metrics: Mapping[str, float]
    seconds: float
    parameters: int | None
    settings: Mapping[str, Any]
    history: Mapping[str, list[float | None]]
    error: str
    rank: int | None
    weight: float | None

    @property
    def planned_epochs(self) -> int:
        return int(self.settings.get("epochs") or self.epochs)


class Loadable(NamedTuple):
    """A model that can be loaded by itself. `files` are relative to the run folder; None for the best of its trial."""

    what: str
    name: str
    trial: str
    files: list[str] | None

    @property
    def weights(self) -> list[str]:
        return self.files or [f"trials/{self.trial}/checkpoint/best.npz"]


@dataclass(frozen=True)
class Run:
    """All that the page tells. `ensemble`, `manifest`, `pictures` and `versions` are the JSON files as they are, {}
    where there is none; `insides` are the inside.json files of the candidates' studies.

    `metric` is what the search and the ensemble were scored by, "score" where neither file says."""

    folder: AnyPath
    sweep: str
    metric: str
    trials: tuple[Trial, ...]
    ensemble: Mapping[str, Any]
    manifest: Mapping[str, Any]
    quarantined: Mapping[str, int]
    quarantine: tuple[Mapping[str, str], ...]
    pictures: Mapping[str, Any]
    insides: tuple[Mapping[str, Any], ...]
    versions: Mapping[str, Any]
    studies: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "studies", tuple(dict.fromkeys(trial.study for trial in self.trials)))

    @property
    def name(self) -> str:
        """The sweep's; its folder's, which a copy may change, only where the sweep file tells none."""
        return str(_sweep(self.sweep).get("name") or self.folder.resolve().name)

    @property
    def scored(self) -> list[Trial]:
        """The trials with a score, in the order in which they were started."""
        return [trial for trial in self.trials if trial.score is not None]

    @property
    def best(self) -> Trial | None:
        return max(self.scored, key=lambda trial: trial.score or 0.0, default=None)

    @property
    def single(self) -> Loadable | None:
        """The model to load where one shall do: the recommended, the best beside the ensemble, or the best trial's."""
        members, test = self.ensemble.get("members") or [], self.ensemble.get("test") or {}
        alone = len(members) == 1
        told = members[0] if alone else test.get("best_single") or {}
        wanted = told.get("name") or told.get("trial")
        candidates = self.ensemble.get("candidates") or []
        found = next((one for one in candidates if wanted in (one.get("name"), one.get("trial"))), None)
        if found is not None:
            what = "The recommended model" if alone else "The best single model"
            return Loadable(what, str(found.get("name") or found["trial"]), found["trial"], found.get("files"))
        return None if self.best is None else Loadable("The best trial so far", self.best.name, self.best.name, None)


METRICS = ("accuracy", "macro_f1", "balanced_accuracy", "log_loss")


def read(folder: AnyPath) -> Run:
    """The run in `folder`; raises UserError if it is not the folder of a sweep."""
    if not (folder / "trials.csv").exists():
        raise UserError(f"{folder}: has no trials.csv; name the folder of a sweep, such as runs/all_models.")
    candidates = _candidates(_rows(folder / "leaderboard.csv"))
    rows = _rows(folder / "trials.csv")
    manifest = _json(folder / "data" / "manifest.json")
    quarantine = _rows(folder / "data" / "quarantine.csv")
    ensemble, sweep = _json(folder / "ensemble.json"), _text(folder / "sweep.yaml")
    search = _sweep(sweep).get("search") or {}
    return Run(
        folder=folder,
        sweep=sweep,
        metric=str(ensemble.get("metric") or search.get("metric") or "score"),
        trials=tuple(storage.each(folder, partial(_trial, folder, candidates), rows)),
        ensemble=ensemble,
        manifest=manifest,
        quarantined=manifest.get("quarantined") or Counter(row.get("reason", "") for row in quarantine),
        quarantine=tuple(quarantine),
        pictures=_json(folder / "report" / "pictures.json"),
        insides=_insides(folder / "report", ensemble, rows),
        versions=_json(folder / "versions.json"),
    )


def _sweep(text: str) -> Mapping[str, Any]:
    return yaml.safe_load(text) or {}


def _candidates(rows: list[dict[str, str]]) -> dict[str, dict[str, str]]:
    """The leaderboard by trial; a trial that also stands there as a soup has the better rank and both weights."""
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        first = found.setdefault(row["trial"], row)
        if first is not row:
            both = (_number(first.get("weight")) or 0.0) + (_number(row.get("weight")) or 0.0)
            found[row["trial"]] = first | {"weight": str(both)}
    return found


def _insides(folder: AnyPath, ensemble: Mapping[str, Any], rows: list[dict[str, str]]) -> tuple[Mapping[str, Any], ...]:
    """What is known of the inside of a model of each study: the candidates', the others', and what has none."""
    files: list[AnyPath] = sorted(folder.glob("*/inside.json"), key=str)
    found = {told["study"]: told for path in files if "study" in (told := _json(path))}
    listed = [candidate.get("study") for candidate in ensemble.get("candidates") or []]
    studies = dict.fromkeys([*listed, *(row.get("study") for row in rows)]) if listed else {}
    ordered = [found[study] for study in studies if study in found]
    return tuple(sorted(ordered, key=lambda told: "error" in told))


def interval(value: object) -> Interval | None:
    """{"estimate", "low", "high"} as an Interval; None if it is not one, or not of finite numbers."""
    if not isinstance(value, Mapping):
        return None
    numbers = [_number(value.get(key)) for key in Interval._fields]
    return None if any(n is None for n in numbers) else Interval(*[n for n in numbers if n is not None])


def _trial(run: AnyPath, candidates: Mapping[str, Mapping[str, str]], row: Mapping[str, str]) -> Trial:
    name = intact.name(row.get("trial"), run / "trials.csv")
    folder, candidate = run / "trials" / name, candidates.get(name, {})
    settings = json.loads(row.get("settings") or "{}") or _json(folder / "settings.json").get("settings", {})
    metrics = {name: number for name in METRICS if (number := _number(row.get(name))) is not None}
    return Trial(
        name=name,
        study=row.get("study") or row.get("model", ""),
        model=row.get("model", ""),
        status=row.get("status", ""),
        reason=row.get("reason", ""),
        epochs=_count(row.get("epochs")) or 0,
        best_epoch=_count(row.get("best_epoch")),
        score=_number(row.get("score")),
        metrics=metrics,
        seconds=_number(row.get("seconds")) or 0.0,
        parameters=_count(row.get("parameters")),
        settings=settings,
        history=_columns(folder / "history.csv"),
        error=_text(folder / "error.txt"),
        rank=_count(candidate.get("rank")),
        weight=_number(candidate.get("weight")),
    )


def _columns(path: AnyPath) -> dict[str, list[float | None]]:
    """The columns of a CSV file of numbers."""
    rows = _rows(path)
    return {name: [_number(row[name]) for row in rows] for name in (rows[0] if rows else ())}


def _rows(path: AnyPath) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(storage.text(path), newline="")))


def _json(path: AnyPath) -> dict[str, Any]:
    """A JSON file without its nulls: a key that is there with nothing to tell is the same as one that is missing."""
    try:
        found = json.loads(storage.text(path) or "{}", object_hook=_told)
    except ValueError as error:
        raise UserError(f"{path} is damaged or cut off ({error}); delete it and finalize again") from None
    return found if isinstance(found, dict) else {}


def _told(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if value is not None}


def _text(path: AnyPath) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _number(value: object) -> float | None:
    """A finite number, or None for what is empty, not a number or not finite."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _count(value: object) -> int | None:
    number = _number(value)
    return None if number is None else round(number)
