"""A trial's state as one file: arrays and JSON in an npz, written whole or not at all, read without pickle.

`last.npz` holds everything that training goes on from, the history included: it is the trial's single point of truth.
`best.npz` holds the model's weights at its best epoch, `epoch-<n>.npz` those of the best few where they are kept.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emoray import intact, registry, storage
from emoray.errors import UserError
from emoray.s3 import RemoteError
from emoray.storage import AnyPath

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class State:
    """Arrays by group ("model", "optimizer"), in the order of the variables, and plain data beside them."""

    arrays: Mapping[str, Sequence[np.ndarray]]
    meta: dict[str, Any] = field(default_factory=dict)


def write(path: AnyPath, state: State) -> None:
    """Write `state` to `path`; a reader sees the old file or the new one, never a part."""
    named = {f"{group}/{i}": array for group, arrays in state.arrays.items() for i, array in enumerate(arrays)}
    meta = np.frombuffer(json.dumps(state.meta).encode(), np.uint8)
    with storage.appearing(path) as file:
        np.savez(file, allow_pickle=False, meta=meta, **named)


def read(path: AnyPath, of: str = "checkpoint", remedy: str = "") -> State:
    """The state in a file. Raises UserError where it is missing or damaged, with its name and a `remedy`.

    `of` is what the file is to the user.
    """
    try:
        source = path if isinstance(path, Path) else io.BytesIO(path.read_bytes())
        intact.stored(source)
        with np.load(source, allow_pickle=False) as stored:
            names = [name for name in stored.files if name != "meta"]
            arrays: dict[str, list[np.ndarray]] = {}
            for name in sorted(names, key=lambda name: int(name.rpartition("/")[2])):
                arrays.setdefault(name.rpartition("/")[0], []).append(stored[name])
            return State(arrays, json.loads(stored["meta"].tobytes()))
    except FileNotFoundError:
        raise UserError(f"there is no {of} {path}") from None
    except RemoteError:
        raise
    except Exception as error:  # zipfile, numpy and json each have their own errors for a damaged file
        told = f"the {of} {path} is damaged and cannot be read ({error})"
        raise UserError(f"{told}; {remedy}" if remedy else told) from None


def keep_epochs(folder: AnyPath, state: State, scores: Sequence[float], most: int) -> None:
    """Keep the weights of the `most` best epochs as `epoch-<n>.npz`; `state` is that of the last one in `scores`."""
    finite = [epoch for epoch, score in enumerate(scores, start=1) if np.isfinite(score)]
    best = sorted(finite, key=lambda epoch: -scores[epoch - 1])[:most]
    if len(scores) in best:
        told = {"epoch": len(scores), "score": float(scores[-1])}
        write(folder / f"epoch-{len(scores):04}.npz", State({"model": state.arrays["model"]}, told))
    for path in folder.glob("epoch-*.npz"):
        if int(path.stem.removeprefix("epoch-")) not in best:
            path.unlink(missing_ok=True)


def load_model(folder: AnyPath, image_shape: tuple[int, int, int], classes: int) -> "keras.Model":
    """The trial's model with its best weights, rebuilt from `folder` (`trials/<id>`).

    It takes images uint8 (n, *image_shape) and gives logits float32 (n, classes).
    """
    settings = json.loads((folder / "settings.json").read_text())["settings"]
    path = folder / "checkpoint" / "best.npz"
    weights = read(path).arrays["model"]
    model = registry.build("models", without_weights(settings["model"]), image_shape, classes)
    try:
        assign(model.variables, weights)
    except ValueError as error:
        raise UserError(f"the checkpoint {path} does not fit the model that its settings build: {error}") from None
    return model


def without_weights(model: Mapping[str, Any]) -> dict[str, Any]:
    """A model's settings for rebuilding it from a checkpoint: pretrained weights need not be found again."""
    return {**model, "weights": None} if "weights" in model else dict(model)


def assign(variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
    """Set Keras variables to arrays in the same order. Raises ValueError where number or shapes differ."""
    shapes, wanted = [tuple(v.shape) for v in values], [tuple(v.shape) for v in variables]
    if shapes != wanted:
        raise ValueError(f"it holds {len(shapes)} arrays where {len(wanted)} are needed, or shapes differ")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
