"""Which checkpoints may become members: the best of each trial that earned one, and averages of a trial's epochs.

Nothing here imports Keras or Ray, so that a run without any trained epoch is told at once.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from emoray import storage
from emoray.config import Resources, Sweep
from emoray.run_folder import RunFolder
from emoray.storage import AnyPath
from emoray.trial_state import FAILED, Trial
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
            "model": self.trial.settings["model"]["name"],
            "checkpoint": self.kind,
            "files": [storage.relative(file, folder.path) for file in self.files],
        }


@dataclass(frozen=True)
class LeftOut:
    """A checkpoint that would have been a candidate and cannot be, and why."""

    name: str
    reason: str


def choose(table: TrialTable, sweep: Sweep) -> tuple[list[Candidate], list[LeftOut]]:
    """The best trials by validation, at most `keep` and `per_architecture` of each study, each with its soup.

    A trial whose file is missing or cut off is left out, and the next one takes its place; best first.
    """
    resources = {study.name: study.resources for study in sweep.studies}
    most = sweep.finalize.per_architecture or sweep.finalize.keep
    chosen: list[Trial] = []
    candidates: list[Candidate] = []
    left_out: list[LeftOut] = []
    for trial in sorted(trained(table), key=lambda trial: -max(trial.curve)):
        if len(chosen) == sweep.finalize.keep or sum(other.study == trial.study for other in chosen) == most:
            continue
        own = resources.get(trial.study, Resources())
        best = table.folder.trial(trial.id) / "checkpoint" / "best.npz"
        if why := _unusable(best):
            left_out.append(LeftOut(trial.id, why))
            continue
        chosen.append(trial)
        candidates.append(Candidate(trial, BEST, (best,), own))
        epochs = _soup(best.parent, trial, sweep.finalize.soup)
        for file in epochs:
            if why := _unusable(file):
                left_out.append(LeftOut(f"{trial.id}-{SOUP}", why))
                break
        else:
            if epochs:
                candidates.append(Candidate(trial, SOUP, epochs, own))
    return candidates, left_out


def trained(table: TrialTable) -> list[Trial]:
    """The trials that have a score and did not fail: each of them should have a checkpoint."""
    return [trial for trial in table if trial.best is not None and trial.status != FAILED]


def why_none(table: TrialTable) -> str:
    """Why no trial has a checkpoint: the first failure in its own last lines."""
    failed = [trial for trial in table if trial.status == FAILED]
    if not failed:
        return f"no trial of {table.folder.path} has finished an epoch yet; train on with `emoray sweep ... --resume`"
    first = failed[0]
    file = table.folder.trial(first.id) / "error.txt"
    last = "\n".join(file.read_text().rstrip().splitlines()[-8:]) if file.exists() else first.reason
    return f"all {len(failed)} trials failed; {first.id}, the first, with:\n{last}\n(whole in {file})"


def why_none_usable(left_out: Sequence[LeftOut]) -> str:
    """One sentence for a run of which no checkpoint can be used."""
    first = left_out[0]
    return f"none of the {len(left_out)} best checkpoints can be used; the first, {first.name}: {first.reason}"


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
