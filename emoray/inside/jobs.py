"""A model of each study, looked into by tasks on the cluster; Keras is imported only there.

The one rule: what is used is what is looked into. A study with a member of the recommended classifier shows that
member, whatever validation says; any other study shows its best by validation.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoray import candidates, predictions, tasks
from emoray.candidates import BEST, Candidate
from emoray.config import Sweep
from emoray.held_out import HeldOut
from emoray.predictions import Predicted
from emoray.run_folder import RunFolder, write_json
from emoray.storage import AnyPath
from emoray.trials import TrialTable

VERSION = 2
"""To be raised with every change that gives other pictures for the same model and images."""


def look(
    predicted: Predicted,
    table: TrialTable,
    sweep: Sweep,
    held_out: HeldOut,
    members: Sequence[Mapping[str, Any]],
    progress: Callable[[str], None],
) -> list[str]:
    """Write `report/<study>/` for a checkpoint of each study, where it is not there yet; returns warnings.

    `members` are those of ensemble.json: what is recommended. Of several of a study the one of the largest weight is
    looked into.

    A model that cannot be looked into, or a study without a checkpoint, costs its own pictures: its inside.json says
    why.
    """
    folder, tta = table.folder, sweep.finalize.tta
    found = shown(predicted, members)
    unusable = [one.name for one in predicted.left_out]
    others, without = candidates.of_other_studies(table, sweep, found.keys(), unusable)
    more = predictions.collect(others, folder, held_out, tta, progress)
    found |= shown(more, members)
    failed = {one.name: one.reason for one in more.left_out}
    without |= {one.trial.study: failed[one.name] for one in others if one.name in failed}
    for study, why in without.items():
        write_json(place(folder, study) / "inside.json", {"study": study, "error": why})
    return [*_examined(found, folder, held_out, tta), *(f"{study}: {why}" for study, why in without.items())]


def shown(
    predicted: Predicted, members: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[Candidate, NDArray[np.float32]]]:
    """The candidate of each study that is looked into, with what it predicts of the selection split."""
    # A stack has no weights: of its members the best by validation counts, as they are sorted by that.
    weights = {str(one["name"]): float(one.get("weight") or 0.0) for one in members}
    found: dict[str, tuple[Candidate, NDArray[np.float32]]] = {}
    shares = predicted.probabilities["selection"]
    for candidate, own in zip(predicted.candidates, shares, strict=True):
        study = candidate.trial.study
        before = found[study][0].name if study in found else ""
        heavier = weights.get(candidate.name, -1.0) > weights.get(before, -1.0)
        if heavier or (not before and candidate.kind == BEST):
            found[study] = candidate, own
    return found


def _examined(
    found: Mapping[str, tuple[Candidate, NDArray[np.float32]]], folder: RunFolder, held_out: HeldOut, tta: str
) -> list[str]:
    where = HeldOut(held_out.folder.absolute(), held_out.manifest)
    jobs, resources = [], []
    for study, (candidate, own) in found.items():
        into, key = place(folder, study), f"{VERSION}-{predictions.key(candidate, held_out, tta)}"
        if is_done(into, key):
            continue
        trial, files = folder.trial(candidate.trial.id).absolute(), [file.absolute() for file in candidate.files]
        cpus = candidate.resources.cpus_per_worker
        jobs.append((trial, files, where, own, into.absolute(), _told(candidate, key), cpus))
        resources.append(candidate.resources)
    results = tasks.run(_examine, jobs, resources)
    warnings = []
    for job, result in zip(jobs, results, strict=True):
        if isinstance(result, Exception):
            write_json(job[4] / "inside.json", {**job[5], "error": tasks.reason(result)})
            warnings.append(f"{job[5]['name']} could not be looked into: {tasks.reason(result)}")
    return warnings


def place(folder: RunFolder, study: str) -> AnyPath:
    """The folder of a study's pictures; a study's name may be anything, and a folder's may not."""
    return folder.pictures / (re.sub(r"[^A-Za-z0-9_.-]", "_", study).lstrip(".") or "study")


def is_done(folder: AnyPath, key: str) -> bool:
    """Whether `folder` holds the pictures that belong to `key`."""
    try:
        told = json.loads((folder / "inside.json").read_text())
        return bool(told["key"] == key and "error" not in told)
    except (OSError, ValueError, KeyError):
        return False


def _told(candidate: Candidate, key: str) -> dict[str, Any]:
    trial = candidate.trial
    return {"key": key, "study": trial.study, "name": candidate.name, "model": trial.architecture}


def _examine(*job: Any) -> None:
    from emoray.inside.examine import examine

    examine(*job)
