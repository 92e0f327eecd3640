"""The best candidate of each architecture, looked into by tasks on the cluster; Keras is imported only there."""

import json
import re
from typing import Any

from emoray import predictions, tasks
from emoray.candidates import BEST, Candidate
from emoray.held_out import HeldOut
from emoray.predictions import Predicted
from emoray.run_folder import RunFolder, write_json
from emoray.storage import AnyPath

VERSION = 1
"""To be raised with every change that gives other pictures for the same model and images."""


def look(predicted: Predicted, folder: RunFolder, held_out: HeldOut, tta: str) -> list[str]:
    """Write `report/<study>/` for the best candidate of each study, where it is not there yet; returns warnings.

    A model that cannot be looked into costs its own pictures: its inside.json says why.
    """
    where = HeldOut(held_out.folder.absolute(), held_out.manifest)
    best: dict[str, int] = {}
    for member, candidate in enumerate(predicted.candidates):
        if candidate.kind == BEST:
            best.setdefault(candidate.trial.study, member)  # they are sorted: the first is the best
    jobs, resources = [], []
    for study, member in best.items():
        candidate, into = predicted.candidates[member], place(folder, study)
        key = f"{VERSION}-{predictions.key(candidate, held_out, tta)}"
        if is_done(into, key):
            continue
        trial, files = folder.trial(candidate.trial.id).absolute(), [file.absolute() for file in candidate.files]
        own, cpus = predicted.probabilities["selection"][member], candidate.resources.cpus_per_worker
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
    model = candidate.trial.settings["model"]["name"]
    return {"key": key, "study": candidate.trial.study, "name": candidate.name, "model": model}


def _examine(*job: Any) -> None:
    from emoray.inside.examine import examine

    examine(*job)
