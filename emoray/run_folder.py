"""The run folder, on a disk or on S3: where each file of a run stands; files are written whole or not at all."""

import csv
import difflib
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoray import storage
from emoray.storage import AnyPath

USUAL = Path("runs")
"""Where runs are kept where nobody says otherwise."""


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run."""

    path: AnyPath

    @property
    def sweep(self) -> AnyPath:
        return self.path / "sweep.yaml"

    @property
    def manifest(self) -> AnyPath:
        return self.path / "data" / "manifest.json"

    @property
    def versions(self) -> AnyPath:
        return self.path / "versions.json"

    @property
    def trials(self) -> AnyPath:
        return self.path / "trials.csv"

    @property
    def ensemble(self) -> AnyPath:
        return self.path / "ensemble.json"

    @property
    def leaderboard(self) -> AnyPath:
        return self.path / "leaderboard.csv"

    @property
    def report(self) -> AnyPath:
        return self.path / "report.html"

    @property
    def pictures(self) -> AnyPath:
        return self.path / "report"

    @property
    def model_card(self) -> AnyPath:
        return self.path / "model_card.md"

    def trial(self, trial: str) -> AnyPath:
        return self.path / "trials" / trial


def meant(given: AnyPath) -> AnyPath:
    """The run folder that somebody means: what is given, or by its name alone one in the usual storage folder."""
    if not isinstance(given, Path) or len(given.parts) != 1 or RunFolder(given).sweep.exists():
        return given
    return USUAL / given if RunFolder(USUAL / given).sweep.exists() else given


def suggestion(given: AnyPath) -> str:
    """What to name instead of a folder that holds no run: one that is called alike, or where they are listed."""
    near = {folder.name: folder for folder in storage.folders(USUAL) if RunFolder(folder).sweep.exists()}
    close = difflib.get_close_matches(given.name, list(near), n=1)
    return f"did you mean {near[close[0]]}?" if close else "'emoray runs' lists those that there are"


def newest_first(place: AnyPath, name: str) -> list[RunFolder]:
    """The folders that runs of a sweep are kept in: ..., `<name>-3`, `<name>-2`, `<name>`."""
    return [RunFolder(place / _numbered(name, number)) for number in reversed(_numbers(place, name))]


def create(place: AnyPath, name: str) -> RunFolder:
    """A folder for a new run of a sweep, with the next number: no earlier run is touched."""
    number = (_numbers(place, name) or [0])[-1] + 1
    while not storage.claim(place / _numbered(name, number)):  # a sweep that started at the same time was faster
        number += 1
    return RunFolder(place / _numbered(name, number))


def write_text(path: AnyPath, text: str) -> None:
    """Write a text file so that a reader, or a crash, sees the old content or the new, never a part."""
    storage.write(path, text.encode())


def write_json(path: AnyPath, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_csv(path: AnyPath, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], digits: int = 6) -> None:
    """Write rows under `columns`; what a row lacks is left empty, floats have `digits` digits (17: exact)."""
    write_text(path, csv_lines(columns, [dict(zip(columns, columns, strict=True))]) + csv_lines(columns, rows, digits))


def csv_lines(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], digits: int = 6) -> str:
    """The lines of `write_csv` without the header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writerows({key: _short(value, digits) for key, value in row.items()} for row in rows)
    return text.getvalue()


def _short(value: Any, digits: int) -> Any:
    return f"{value:.{digits}g}" if isinstance(value, float) else "" if value is None else value


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"


def _numbers(place: AnyPath, name: str) -> list[int]:
    wanted = re.compile(re.escape(name) + r"(?:-([0-9]+))?")
    matches = [wanted.fullmatch(folder.name) for folder in storage.folders(place)]
    return sorted(int(match[1] or 1) for match in matches if match)
