"""The table of a run's trials: what each was given, how it went, how it ended. `trials.csv` is its picture on disk.

The truth stands in `trials/<id>/`: what was given, and every change of it, in settings.json, the history in
checkpoint/last.npz and history.csv, the end in end.json. A table is rebuilt from these, so a run that was killed at any
moment goes on from what they say.
"""

import csv
import io
import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from emoray import intact, storage
from emoray.errors import UserError
from emoray.run_folder import RunFolder, csv_lines, write_csv, write_json, write_text
from emoray.s3 import S3Path
from emoray.storage import AnyPath
from emoray.trial_state import METRICS, NOT_FINITE, RUNNING, Change, Trial, last_lines, signature

COLUMNS = (
    *("trial", "study", "model", "status", "reason", "signature", "epochs", "best_epoch", "score", *METRICS),
    *("seconds", "images_per_second", "parameters", "settings", "failure", "error", "changes"),
)
WRITE_SECONDS, REMOTE_WRITE_SECONDS = 1.0, 10.0
"""How often trials.csv is written while trials get on; on S3 each time is paid for, and waited for."""


class TrialTable:
    """All trials of a run, in the order in which they were drawn; writes what changes into the run folder."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.trials: dict[str, Trial] = {}
        self.log: list[str] = []
        """The ids of trials in the order in which something new was known of them: what watchers follow."""
        self.kept: set[str] | None = None
        """The ended trials whose best checkpoint is kept; None before that was looked at (retention.py)."""
        self.over_limit = False
        """Whether it was told that the checkpoints which are needed are over the limit (retention.py)."""
        self._studies: dict[str, list[Trial]] = {}
        self._tried: dict[str, set[str]] = {}
        self._rows: dict[str, str] = {}
        self._written = 0.0
        self._write_seconds = REMOTE_WRITE_SECONDS if isinstance(folder.path, S3Path) else WRITE_SECONDS

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.trials.values())

    def of(self, study: str) -> list[Trial]:
        """The trials of a study, in the order in which they were drawn."""
        return self._studies.get(study, [])

    def tried(self, study: str) -> set[str]:
        """The signatures of all settings that trials of a study were given."""
        return self._tried.setdefault(study, set())

    def reached(self) -> dict[str, int]:
        """How far the search has come: a later look tells by it whether anything was trained since."""
        ended = [trial for trial in self if trial.ended]
        return {"trials": len(ended), "epochs": sum(len(trial.history) for trial in ended)}

    def hold(self, trial: Trial) -> None:
        """Take in a trial that is on disk."""
        self.trials[trial.id] = trial
        self._studies.setdefault(trial.study, []).append(trial)
        self.tried(trial.study).update((trial.signature, signature(trial.settings)))

    def add(self, trial: Trial) -> None:
        """Take in a trial that was just drawn; what it was given is on disk before it starts."""
        self.hold(trial)
        self._write_settings(trial)
        self.write(lazily=True)

    def change(
        self, trial: Trial, why: str, settings: Mapping[str, Any], drawn: Mapping[str, Any] | None = None
    ) -> None:
        """Give a trial other settings from its next epoch on."""
        self._change(trial, Change(len(trial.history), why, trial.settings, trial.drawn), settings, drawn)

    def take_over(self, trial: Trial, donor: Trial, settings: Mapping[str, Any], drawn: Mapping[str, Any]) -> None:
        """Have a trial go on from a donor's state, which must stand at the same epoch, with other settings.

        The donor's file is kept under a second name, so that it may train on.
        """
        storage.keep_as(self.checkpoint(donor, "last"), self.checkpoint(trial, "taken"))
        why = f"pbt: takes over {donor.id}"
        self._change(trial, Change(len(trial.history), why, trial.settings, trial.drawn, donor.id), settings, drawn)

    def reopen(self, trial: Trial) -> None:
        """Let an ended trial go on."""
        if trial.failure == NOT_FINITE or not self.checkpoint(trial, "last").exists():  # it begins anew
            storage.remove(self.checkpoint(trial, "last").parent)
            (self.folder.trial(trial.id) / "history.csv").unlink(missing_ok=True)
            trial.history = []
        (self.folder.trial(trial.id) / "end.json").unlink(missing_ok=True)
        trial.status, trial.reason, trial.failure, trial.error, trial.told = RUNNING, "", "", "", None

    def checkpoint(self, trial: Trial, name: str) -> AnyPath:
        """A trial's checkpoint: `best`, `last`, or `taken` over from another trial."""
        return self.folder.trial(trial.id) / "checkpoint" / f"{name}.npz"

    def record(self, trial: Trial, row: Mapping[str, float], parameters: int | None = None) -> None:
        """Take in an epoch's figures; an epoch that a restarted trial plays again replaces itself."""
        trial.parameters = parameters or trial.parameters
        known = len(trial.history)
        if row["epoch"] > known + 1:  # a process saved an epoch, and died before it could tell of it
            trial.history = read_history(self.folder.trial(trial.id))
        del trial.history[int(row["epoch"]) - 1 :]
        trial.history.append(dict(row))
        if len(trial.history) > known:
            self.log.append(trial.id)
        self.write(lazily=True)

    def end(
        self,
        trial: Trial,
        status: str,
        reason: str = "",
        failure: str = "",
        error: str | None = None,
        told: float | None = None,
    ) -> None:
        """A trial has ended; `error` is the text of what it failed of, `failure` its kind, `told` its worth."""
        trial.status, trial.reason, trial.failure, trial.told = status, reason, failure, told
        if error is not None:
            write_text(self.folder.trial(trial.id) / "error.txt", error)
            trial.error = last_lines(error)
        ended = {"status": status, "reason": reason, "parameters": trial.parameters, "failure": failure, "told": told}
        write_json(self.folder.trial(trial.id) / "end.json", ended)
        self.log.append(trial.id)
        self.write(lazily=True)

    def rest(self) -> None:
        """Write trials.csv when no trial trains any more: each with all that its process has left on disk."""
        for trial in self:
            if not trial.ended:  # its process may have saved an epoch, and was ended before it could tell of it
                trial.history = read_history(self.folder.trial(trial.id))
        self.write(at_work=False)

    def write(self, lazily: bool = False, at_work: bool = True) -> None:
        """Write trials.csv; lazily at most once a second, since the whole table is written each time.

        Trials that have not ended are told as unfinished where nobody is `at_work`.
        """
        if lazily and time.monotonic() - self._written < self._write_seconds:
            return
        for trial in self:
            if not trial.ended:
                self._rows.pop(trial.id, None)
            elif trial.id not in self._rows:  # it no longer changes, and a table may be long
                self._rows[trial.id] = csv_lines(COLUMNS, [trial.row()])
        lines = (self._rows.get(trial.id) or csv_lines(COLUMNS, [trial.row(at_work)]) for trial in self)
        write_text(self.folder.trials, ",".join(COLUMNS) + "\n" + "".join(lines))
        self._written = time.monotonic()

    def _change(
        self, trial: Trial, change: Change, settings: Mapping[str, Any], drawn: Mapping[str, Any] | None
    ) -> None:
        trial.changes.append(change)
        trial.settings = dict(settings)
        self.tried(trial.study).add(signature(trial.settings))
        trial.drawn = trial.drawn if drawn is None else dict(drawn)
        self._write_settings(trial)
        self.write(lazily=True)

    def _write_settings(self, trial: Trial) -> None:
        given = {key: getattr(trial, key) for key in ("study", "index", "signature", "settings", "drawn")}
        changes = [asdict(change) for change in trial.changes]
        path = self.folder.trial(trial.id) / "settings.json"
        write_json(path, {"trial": trial.id, **given, "changes": changes})


class Unwritten(TrialTable):
    """A table that leaves its run as it is: it tells what a resume would do."""

    def reopen(self, trial: Trial) -> None:
        trial.status, trial.reason, trial.failure, trial.error = RUNNING, "", "", ""

    def end(self, trial: Trial, status: str, reason: str = "", failure: str = "", *told: Any, **more: Any) -> None:
        trial.status, trial.reason, trial.failure = status, reason, failure

    def write(self, lazily: bool = False, at_work: bool = True) -> None:
        pass

    def _write_settings(self, trial: Trial) -> None:
        pass


def restore(
    folder: RunFolder, components: Collection[str] | None = None, kind: type[TrialTable] = TrialTable
) -> TrialTable:
    """The table of a run as its folder tells it; trials that had not ended are `running` with what they had shown.

    Raises UserError for a trial that is not what it may be: `components` are the modules whose code may build its
    model, None any.
    """
    table = kind(folder)
    below = folder.path / "trials"
    found = [*storage.each(below, _restored, [given.parent for given in below.glob("*/settings.json")])]
    for trial in found:
        intact.components(trial.settings, components, below / trial.id / "settings.json")
    for trial in sorted(found, key=lambda trial: (trial.index, trial.study)):
        table.hold(trial)
    return table


def _restored(folder: AnyPath) -> Trial:
    with _whole(folder / "settings.json") as given:
        told = intact.trial(json.loads(given.read_text()), given)
        trial = Trial(told["trial"], told["study"], told["index"], told["settings"], told["drawn"])
        trial.changes = [Change(**change) for change in told.get("changes", [])]
    trial.history = read_history(folder)
    with _whole(folder / "end.json") as end:
        if text := storage.text(end):
            ended = json.loads(text)
            trial.status, trial.reason, trial.parameters = ended["status"], ended["reason"], ended["parameters"]
            trial.failure, trial.told = ended.get("failure", ""), ended.get("told")
    if trial.failure:
        trial.error = last_lines(storage.text(folder / "error.txt"))
    return trial


def read_history(folder: AnyPath) -> list[dict[str, float]]:
    """The rows of a trial's history.csv; empty where it has none yet. Raises UserError where it is damaged."""
    with _whole(folder / "history.csv") as file:
        text = storage.text(file)
        if text and not text.endswith("\n"):
            raise ValueError("its last line is cut off")
        rows = csv.DictReader(io.StringIO(text, newline=""))
        history = [{key: float(value) for key, value in row.items() if value != ""} for row in rows]
        if any("score" not in row for row in history):
            raise ValueError("a row has no score")
        return history


@contextmanager
def _whole(file: AnyPath) -> Iterator[AnyPath]:
    """For reading a file of a trial: what a damaged one raises becomes one sentence that names it."""
    try:
        yield file
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # as json, csv and float tell it
        told = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise UserError(
            f"{file} is damaged or cut off ({told}); bring back a whole copy, or delete the trial's folder"
        ) from None


def write_history(folder: AnyPath, history: Sequence[Mapping[str, float]]) -> None:
    columns = ["epoch", "score", *(key for key in history[0] if key not in ("epoch", "score"))]
    write_csv(folder / "history.csv", columns, history, digits=17)
