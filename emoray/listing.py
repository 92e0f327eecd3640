"""`emoray runs` and `emoray show`: what run folders hold, as text. Read from the folders alone, also while one runs."""

import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from emoray import candidates, intact, leaderboard, ownership, registry, run_folder, storage, strict_yaml, trials
from emoray.config import SearchSettings
from emoray.errors import UserError
from emoray.overview import best_trial, counts, natural, sparkline
from emoray.run_folder import RunFolder
from emoray.storage import AnyPath
from emoray.text import CODE, in_columns, wrapped
from emoray.trial_state import FAILED, FINISHED, RUNNING, STOPPED, UNFINISHED, Trial
from emoray.trials import TrialTable

NOT_FINALIZED = "not finalized"
"""The state of a run whose search has ended, and of whose result nothing was made."""
NOT_CHOSEN = "Its search has ended, and nothing was chosen from it yet. This chooses, and writes the report:"
NO_REPORT = (
    "Its search has ended and the best were chosen, but its finalize did not end, and there is no report. This does "
    "all of it again:"
)
OF_AN_EARLIER_SEARCH = "More was trained since the best were chosen from it. This chooses again, and writes the report:"
UP_IS_BETTER = "curve: up is better, so a log_loss that falls is drawn as a curve that rises."
LISTED = 50
"""Trials of a leaderboard."""
_CURVE = 12
"""Epochs of a curve beside a trial."""
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError)
"""What reading a file raises that is cut off or holds something else."""
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def runs(place: AnyPath) -> str:
    """The runs of a storage folder, the newest first: state, trials, best score, age. Raises UserError for none."""
    every = [RunFolder(path) for path in storage.folders(place)]
    there = storage.each(place, lambda folder: folder.sweep.exists(), every)
    folders = [folder for folder, exists in zip(every, there, strict=True) if exists]
    if not folders and RunFolder(place).sweep.exists():
        raise UserError(f"{place}/ is a run itself: look at it by 'emoray show', or name the folder that it lies in")
    if not folders:
        raise UserError(f"{place}/ holds no runs; name the folder that a sweep's 'storage' names")
    rows, damaged = [("run", "state", "trials", "best", "age")], []
    for folder in sorted(folders, key=lambda folder: -_changed(folder)):
        try:
            intact.links(folder.path)
            rows.append(_row(folder))
        except (UserError, *_UNREADABLE) as error:  # one that cannot be read must not hide the others
            rows.append((folder.path.name, "damaged", "-", "-", _age(folder)))
            damaged.append(f"{folder.path.name} is damaged: {' '.join(str(error).split())}")
    if any(state == NOT_FINALIZED for _, state, *_ in rows):
        damaged.append(f"{NOT_FINALIZED}: the search has ended; `emoray finalize RUN` chooses and writes the report")
    return printable("\n".join([in_columns(rows), *damaged]))


def run(path: AnyPath, width: int | None = None) -> str:
    """The leaderboard of a run's trials, and why others failed; names are shortened to hold `width`."""
    folder = _opened(path)
    table, finalized = trials.restore(folder), _finalized(folder)
    every, state = list(table), _state(folder, table, finalized)
    at_work = state == RUNNING
    listed = " · ".join(f"{count} {status}" for status, count in counts(every, at_work).items() if count)
    told = [f"{folder.path}: {state}, {listed or 'no trials yet'}, changed {_age(folder)} ago"]
    told += _lost(folder, table, finalized)
    if state == NOT_FINALIZED:
        told += [_why_not_finalized(folder, table, finalized), f"{CODE}emoray finalize {shlex.quote(str(folder.path))}"]
    told += ["", *_leaderboard(every, finalized, folder, width, at_work)]
    failed = [trial for trial in every if trial.status == FAILED]
    told += [f"{trial.id} failed ({trial.failure or 'error'}): {trial.reason}" for trial in failed[:LISTED]]
    return printable("\n".join(wrapped(line, width) for line in told))


def _lost(folder: RunFolder, table: TrialTable, finalized: Mapping[str, Any]) -> list[str]:
    """What must have been there: a trial that has ended well has trained, and a run that was finalized had trials."""
    if finalized and not table.trials:
        return [f"{folder.path / 'trials'} is missing or empty, though the run was finalized; bring it back"]
    bare = [trial for trial in table if trial.status in (FINISHED, STOPPED) and not trial.history]
    remedy = "bring it back, or delete the trial's folder"
    return [
        f"{folder.trial(trial.id) / 'history.csv'} is missing or empty, though the trial has {trial.status}; {remedy}"
        for trial in bare[:LISTED]
    ]


def _why_not_finalized(folder: RunFolder, table: TrialTable, finalized: Mapping[str, Any]) -> str:
    if not finalized:
        return NOT_CHOSEN
    current = finalized.get("searched") in (None, table.reached())
    return NO_REPORT if current or not folder.report.exists() else OF_AN_EARLIER_SEARCH


def _leaderboard(
    every: Sequence[Trial], finalized: Mapping[str, Any], folder: RunFolder, width: int | None, at_work: bool
) -> Iterator[str]:
    """The scored trials, best first, and what finalizing has found out of them."""
    metric = _metric(folder)
    scored = sorted((t for t in every if natural(t, metric)), key=lambda trial: -max(trial.curve))
    try:
        lines = leaderboard.lines(scored[:LISTED], finalized)
    except _UNREADABLE:
        lines = leaderboard.lines(scored[:LISTED], {})
    chosen = any(line.selection is not None for line in lines)
    rows = [("rank", "trial", metric, *(["selection "] if chosen else []), "epochs", "status", "curve")]
    for line in lines:
        shown, selection = line.trial, [line.score] if chosen else []
        if line.rank is None:
            rows.append(("", line.name, "", *selection, f"{line.averaged}", "averaged", ""))
            continue
        epochs = f"{len(shown.history)}/{shown.settings['epochs']}"
        status = shown.shown(at_work) + (f": {shown.failure}" if shown.failure else "")
        row = (str(line.rank), shown.id, natural(shown, metric), *selection, epochs, status)
        rows.append((*row, sparkline(shown.curve, _CURVE)))
    yield in_columns(rows, width, names=1, right=range(2, 4) if chosen else (2,))
    if metric == "log_loss" and scored:
        yield UP_IS_BETTER
    if any(line.chosen for line in lines):
        yield leaderboard.WHY
    if len(scored) > LISTED:
        yield f"and {len(scored) - LISTED} more, in {folder.trials}"


def trial(path: AnyPath, name: str) -> str:
    """One trial: its settings and what changed them, its curve, its error."""
    folder = _opened(path)
    table, metric = trials.restore(folder), _metric(folder)
    if name not in table.trials:
        raise UserError(f"{path} has no trial '{name}': {registry.suggestion(name, list(table.trials))}")
    at_work = _state(folder, table, _finalized(folder)) == RUNNING
    return printable("\n".join(_lines(table.trials[name], metric, folder, at_work)))


def printable(text: str) -> str:
    """Text without characters that tell a terminal to do something: a run folder may come from somebody else."""
    return "".join(character for character in text if character in "\n\t" or character.isprintable())


def _row(folder: RunFolder) -> tuple[str, str, str, str, str]:
    table, metric, finalized = trials.restore(folder), _metric(folder), _finalized(folder)
    if lost := _lost(folder, table, finalized):
        raise UserError(lost[0])
    best, state = best_trial(table), _state(folder, table, finalized)
    score = f"{metric} {natural(best, metric)}" if best is not None else "-"
    # A run that is finished has all its trials, even where a space held fewer than were asked for.
    total = len(table.trials) if state == FINISHED else max(_wanted(folder), len(table.trials))
    return folder.path.name, state, f"{sum(trial.ended for trial in table)}/{total}", score, _age(folder)


def _lines(shown: Trial, metric: str, folder: RunFolder, at_work: bool) -> Iterator[str]:
    yield f"{shown.id}: {shown.shown(at_work)}{f', {shown.reason}' if shown.reason else ''}"
    if shown.best is not None:
        yield f"best {metric} {natural(shown, metric)} at epoch {int(shown.best['epoch'])} of {len(shown.history)}"
    yield ""
    settings, _ = shown.at_best
    if settings != shown.settings:
        yield "settings of that epoch; what has changed since is told below"
    yield yaml.safe_dump(json.loads(json.dumps(settings)), sort_keys=False, default_flow_style=None).rstrip()
    if shown.changes:
        yield ""
        yield from (f"after epoch {change.epoch}: {change.why}" for change in shown.changes)
    if shown.history:
        yield ""
        yield f"{metric}  {sparkline(shown.curve, 60)}"
        if metric == "log_loss":
            yield UP_IS_BETTER
        told = dict.fromkeys(("accuracy", "macro_f1", "log_loss", metric))
        columns = ["epoch", "train_loss", *told, "learning_rate", "seconds", "data_wait"]
        present = [column for column in columns if column in shown.history[0]]
        rows = [tuple(present), *(tuple(f"{row[column]:.4g}" for column in present) for row in shown.history)]
        yield in_columns(rows)
    error = folder.trial(shown.id) / "error.txt"
    if shown.status == FAILED and error.exists():
        yield ""
        yield error.read_text(errors="replace").rstrip()


def _opened(path: AnyPath) -> RunFolder:
    folder = RunFolder(path)
    if not folder.sweep.exists():
        raise UserError(f"{path} is no run folder: {folder.sweep} is missing; {run_folder.suggestion(path)}")
    intact.links(path)
    return folder


def _metric(folder: RunFolder) -> str:
    return str(_search(_sweep(folder)).get("metric", SearchSettings.metric))


def _wanted(folder: RunFolder) -> int:
    """How many trials a run's sweep asks for."""
    tree = _sweep(folder)
    usual = _search(tree).get("trials", SearchSettings.trials)
    return sum(model.get("trials", usual) if isinstance(model, dict) else usual for model in tree["models"])


def _sweep(folder: RunFolder) -> dict[str, Any]:
    tree, _ = strict_yaml.read(folder.sweep)
    if not isinstance(tree, dict) or not isinstance(tree.get("models"), list):
        raise UserError(f"{folder.sweep} holds no sweep")
    return tree


def _search(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    return tree.get("search") or {}


def _state(folder: RunFolder, table: TrialTable, finalized: Mapping[str, Any]) -> str:
    """`running` where a process holds the run; else `finished` with a report of all its trials, and without one
    `unfinished` where the search has not ended, `failed` where no trial came through, or `not finalized`."""
    if ownership.is_owned(folder.path):
        return RUNNING
    if not all(trial.ended for trial in table):
        return UNFINISHED
    # An older emoray did not note what was there when it finalized.
    if finalized and finalized.get("searched") in (None, table.reached()) and folder.report.exists():
        return FINISHED
    if len(table.trials) < _wanted(folder):
        return UNFINISHED
    return NOT_FINALIZED if candidates.trained(table) else FAILED


def _finalized(folder: RunFolder) -> dict[str, Any]:
    """ensemble.json; {} where there is none that can be read."""
    try:
        found = json.loads(storage.text(folder.ensemble) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _changed(folder: RunFolder) -> float:
    return storage.changed((folder.trials, folder.ensemble, folder.sweep))


def _age(folder: RunFolder) -> str:
    seconds = max(0.0, time.time() - _changed(folder))
    name, size = next(((name, size) for name, size in _UNITS if seconds >= size), _UNITS[-1])
    return f"{seconds / size:.0f} {name}"
