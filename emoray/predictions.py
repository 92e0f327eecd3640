"""Predictions of the candidates on the held-out splits: computed once, in parallel, cached in the run folder.

A cached file is named by all that its content depends on (weights, model, data, test-time augmentation), so it is never
stale: what has changed is another name. It is an npz without pickle, written whole or not at all.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emoray import inference, tasks
from emoray.candidates import Candidate, LeftOut
from emoray.errors import UserError
from emoray.held_out import SPLITS, HeldOut
from emoray.run_folder import RunFolder
from emoray.storage import AnyPath
from emoray.text import counted
from emoray.trial import checkpoint
from emoray.trial.checkpoint import State
from emoray.trial.threads import use_threads

VERSION = 1
"""To be raised with every change that gives other predictions for the same weights and images."""


@dataclass(frozen=True)
class Predicted:
    """The candidates that could be predicted with, and their probabilities float32 (members, n, classes) by split."""

    candidates: list[Candidate]
    probabilities: dict[str, np.ndarray]
    left_out: list[LeftOut]


def collect(
    candidates: Sequence[Candidate],
    folder: RunFolder,
    held_out: HeldOut,
    tta: str,
    progress: Callable[[str], None],
) -> Predicted:
    """Predict both splits with all candidates, as far as the run folder does not hold that yet.

    Raises UserError where a cached file is of other data than its name says.
    """
    keys = [key(candidate, held_out, tta) for candidate in candidates]
    paths = [folder.path / "predictions" / f"{c.name}-{tta}-{k}.npz" for c, k in zip(candidates, keys, strict=True)]
    missing = [i for i, path in enumerate(paths) if not _cached(path, keys[i])]
    if missing:
        cached = f" ({len(paths) - len(missing)} more are cached)" if len(missing) < len(paths) else ""
        progress(f"predicting selection and test with {counted(len(missing), 'checkpoint')}{cached}")
    own = [candidates[i].resources for i in missing]
    jobs = []
    for i in missing:
        trial, files = folder.trial(candidates[i].trial.id).absolute(), [f.absolute() for f in candidates[i].files]
        where = HeldOut(held_out.folder.absolute(), held_out.manifest)
        jobs.append((trial, files, where, tta, keys[i], paths[i].absolute(), candidates[i].resources.cpus_per_worker))
    results = dict(zip(missing, tasks.run(predict, jobs, own), strict=True))
    kept = [i for i in range(len(paths)) if not isinstance(results.get(i), Exception)]
    left_out = [LeftOut(candidates[i].name, tasks.reason(results[i])) for i in missing if i not in kept]
    found: list[list[np.ndarray]] = []
    for i in kept.copy():
        arrays = [checkpoint.read(paths[i]).arrays[split][0] for split in SPLITS]
        if all(np.isfinite(array).all() for array in arrays):
            found.append(arrays)
        else:
            kept.remove(i)
            left_out.append(LeftOut(candidates[i].name, "it predicts values that are not finite"))
    pools = {split: _stacked([arrays[s] for arrays in found]) for s, split in enumerate(SPLITS)}
    return Predicted([candidates[i] for i in kept], pools, left_out)


def predict(
    trial: AnyPath, files: Sequence[AnyPath], held_out: HeldOut, tta: str, key: str, path: AnyPath, cpus: float
) -> dict[str, float]:
    """One task: load a candidate, predict both splits, write them to `path`. Returns images and seconds, for rates."""
    use_threads(cpus)
    model = inference.load(trial, files, held_out.image_shape, len(held_out.classes))
    predictor = inference.Predictor(model, held_out.image_shape, tta)
    arrays, images, seconds = {}, 0, 0.0
    for name in SPLITS:
        split = held_out.load(name)
        began = time.perf_counter()
        arrays[name] = [predictor(split.images)]
        seconds += time.perf_counter() - began
        images += len(split.images)
    checkpoint.write(path, State(arrays, {"key": key, "fingerprint": held_out.fingerprint, "tta": tta}))
    return {"images": images, "seconds": seconds}


def key(candidate: Candidate, held_out: HeldOut, tta: str) -> str:
    """A name for all that a candidate's predictions depend on."""
    weights = [hashlib.blake2b(file.read_bytes(), digest_size=10).hexdigest() for file in candidate.files]
    content = [VERSION, weights, candidate.trial.settings["model"], held_out.fingerprint, tta]
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=6).hexdigest()


def _cached(path: AnyPath, key: str) -> bool:
    """Whether a file holds the predictions that its name promises; one that a crash or a copy cut off is made anew."""
    if not path.exists():
        return False
    try:
        told = checkpoint.read(path).meta
    except UserError:
        return False
    if told.get("key") != key:
        raise UserError(
            f"{path} holds predictions for other data or other weights than its name says; delete it and finalize again"
        )
    return True


def _stacked(arrays: list[Any]) -> np.ndarray:
    return np.stack(arrays) if arrays else np.empty((0, 0, 0), np.float32)
