"""Which checkpoints may become members: the best of each trial that earned one, and averages of a trial's epochs.

Nothing here imports Keras or Ray, so that a run without any trained epoch is told at once.
"""

import zipfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from emoray import retention, storage
from emoray.config import FinalizeSettings, Sweep
from emoray.run_folder import RunFolder
from emoray.storage import AnyPath
from emoray.study_settings import Resources
from emoray.trial_state import FAILED, Trial, last_lines
from emoray.trials import TrialTable

BEST, SOUP = "best", "soup"


@dataclass(frozen=True)
class Candidate:
    """A trial's weights as they may be used: `best` of its epochs, or the mean of several, a `soup`.

    `files` hold the weights; `resources` are what a process that runs the model takes.
    """

    trial: Trial
    kind: str
    files: tuple[AnyPath, ...]
    resources: Resources

    @property
    def name(self) -> str:
        """Unique in a run: `lenet-001`, or `lenet-001-soup`."""
        return self.trial.id if self.kind == BEST else f"{self.trial.id}-{self.kind}"

    def identity(self, folder: RunFolder) -> dict[str, Any]:
        """What ensemble.json says of it, with paths that hold wherever the run folder lies."""
        return {
            "name": self.name,
            "trial": self.trial.id,
            "study": self.trial.study,
            "model": self.trial.architecture,
            "checkpoint": self.kind,
            "files": [storage.relative(file, folder.path) for file in self.files],
        }


@dataclass(frozen=True)
class LeftOut:
    """A checkpoint that would have been a candidate and cannot be, and why."""

    name: str
    reason: str


class Choice(NamedTuple):
    """What there is to choose from, best first, and what there is not."""

    candidates: list[Candidate]
    left_out: list[LeftOut]
    not_kept: int
    """Trials that were looked for and whose checkpoints the search had deleted, as those of all but its best."""


def choose(table: TrialTable, sweep: Sweep, searched: FinalizeSettings | None = None) -> Choice:
    """The best trials by validation, at most `keep` and `per_architecture` of each model, each with its soup.

    A trial whose file is missing or cut off is left out, and the next one takes its place. `searched` are the settings
    under which the search kept checkpoints, where they are not the sweep's.
    """
    settings, dropped = sweep.finalize, retention.dropped(table, searched or sweep.finalize)
    most = settings.per_architecture or settings.keep
    chosen: list[Trial] = []
    candidates: list[Candidate] = []
    left_out, not_kept = _without_settings(table), 0
    for trial in _sorted(trained(table)):
        alike = sum(other.architecture == trial.architecture for other in chosen)
        if len(chosen) == settings.keep or alike == most:
            continue
        best = _best(trial, table, sweep)
        if why := _unusable(best.files[0]):
            if trial.id in dropped and not best.files[0].exists():
                not_kept += 1
            else:
                left_out.append(LeftOut(trial.id, why))
            continue
        chosen.append(trial)
        candidates.append(best)
        epochs = _soup(best.files[0].parent, trial, settings.soup)
        for file in epochs:
            if why := _unusable(file):
                left_out.append(LeftOut(f"{trial.id}-{SOUP}", why))
                break
        else:
            if epochs:
                candidates.append(replace(best, kind=SOUP, files=epochs))
    return Choice(candidates, left_out, not_kept)


def of_other_studies(
    table: TrialTable, sweep: Sweep, known: Collection[str], unusable: Collection[str]
) -> tuple[list[Candidate], dict[str, str]]:
    """The best checkpoint that is there of each study but the `known`, and why there is none of the rest, by study.

    `unusable` are the trials whose checkpoints were found to be so.
    """
    found: list[Candidate] = []
    without: dict[str, str] = {}
    for study in dict.fromkeys([*(study.name for study in sweep.studies), *(trial.study for trial in table)]):
        if study in known:
            continue
        of_study = _sorted(trial for trial in trained(table) if trial.study == study)
        there = [_best(trial, table, sweep) for trial in of_study if trial.id not in unusable]
        usable = next((one for one in there if not _unusable(one.files[0])), None)
        if usable is not None:
            found.append(usable)
        elif of_study:
            without[study] = f"none of the checkpoints of its {len(of_study)} trials is there and whole"
        else:
            without[study] = _why_untrained(table.of(study))
    return found, without


def trained(table: TrialTable) -> list[Trial]:
    """The trials that have a score and did not fail: each of them should have a checkpoint."""
    return [trial for trial in table if trial.best is not None and trial.status != FAILED]


def why_none(table: TrialTable) -> str:
    """Why no trial has a checkpoint, in a sentence: the first failure in its own last lines."""
    failed = [trial for trial in table if trial.status == FAILED]
    if not failed:
        return f"no trial of {table.folder.path} has finished an epoch yet; train on with `emoray sweep ... --resume`"
    first = failed[0]
    file = table.folder.trial(first.id) / "error.txt"
    last = last_lines(storage.text(file)) or first.reason
    told = (
        f"all {len(failed)} trials failed; {first.id}, the first,"
        if len(failed) > 1
        else f"its trial {first.id} failed"
    )
    return f"{told} with: {last} (whole in {file})"


def why_none_usable(left_out: Sequence[LeftOut]) -> str:
    """One sentence for a run of which no checkpoint can be used."""
    first = left_out[0]
    return f"none of the {len(left_out)} best checkpoints can be used; the first, {first.name}: {first.reason}"


def _sorted(trials: Iterable[Trial]) -> list[Trial]:
    """Best first, by validation."""
    return sorted(trials, key=lambda trial: -max(trial.curve))


def _best(trial: Trial, table: TrialTable, sweep: Sweep) -> Candidate:
    resources = {study.name: study.resources for study in sweep.studies}
    return Candidate(trial, BEST, (table.checkpoint(trial, "best"),), resources.get(trial.study, Resources()))


def _without_settings(table: TrialTable) -> list[LeftOut]:
    """Folders with a checkpoint of which nothing else is known: what it is of, or how good it was."""
    found = []
    for folder in sorted(storage.folders(table.folder.path / "trials"), key=str):
        trial, best = table.trials.get(folder.name), folder / "checkpoint" / "best.npz"
        known = trial is not None and (trial.history or not trial.ended or trial.status == FAILED)
        if not known and best.exists():
            file = folder / ("settings.json" if trial is None else "history.csv")
            found.append(LeftOut(folder.name, f"{file} is missing or empty; bring it back, or delete the folder"))
    return found


def _why_untrained(trials: Sequence[Trial]) -> str:
    failed = [trial for trial in trials if trial.status == FAILED]
    if not trials:
        return "it has no trial"
    if not failed:
        return "no trial of it has finished an epoch"
    return f"{len(failed)} of its {len(trials)} trials failed; {failed[0].id}, the first, of: {failed[0].reason}"


def _soup(checkpoints: AnyPath, trial: Trial, size: int) -> tuple[AnyPath, ...]:
    """The weights of the trial's best epochs, at most `size`, best first; none where there are not two."""
    kept = [path for path in checkpoints.glob("epoch-*.npz") if int(path.stem[6:]) <= len(trial.history)]
    kept.sort(key=lambda path: -trial.curve[int(path.stem[6:]) - 1])
    return tuple(kept[:size]) if min(len(kept), size) > 1 else ()


def _unusable(file: AnyPath) -> str:
    """Why a file of weights cannot be read, as far as its ends show; empty where it can."""
    if not file.exists():
        return f"{file} is missing; bring it back, or train the trial anew"
    with file.open("rb") as opened:
        whole = zipfile.is_zipfile(opened)
    if not whole:
        return f"{file} is damaged or cut off; bring back a whole copy, or train the trial anew"
    return ""
