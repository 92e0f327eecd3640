"""Using the result: the ensemble that a run chose, applied to image files."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emoray import calibration, intact, registry, run_folder, runs, versions
from emoray.blend import Blend
from emoray.data import decode
from emoray.data.folders import is_image
from emoray.data.plan import UnusableImage
from emoray.errors import UserError
from emoray.inference import Predictor, load
from emoray.run_folder import RunFolder
from emoray.s3 import RemoteError
from emoray.storage import AnyPath


@dataclass(frozen=True)
class Predictions:
    """Probabilities float32 (n, classes) of the files that could be read, and why the others could not."""

    classes: tuple[str, ...]
    files: tuple[Path, ...]
    probabilities: np.ndarray
    unusable: dict[Path, str]


def files(run: AnyPath, paths: Sequence[Path], run_components: bool = False) -> Predictions:
    """Classify image files with what a run recommends: its ensemble, or its best model alone.

    A folder stands for the files in it that are called like images. Components of the run's own are code, which runs
    only with `run_components`. Raises UserError where the folder holds no finished run, one of a newer emoray, or one
    that would reach out of itself, and for a folder without images.
    """
    folder = RunFolder(run)
    intact.links(run)
    versions.read(folder)
    ensemble, manifest = _json(run, folder.ensemble), intact.manifest(_json(run, folder.manifest), folder.manifest)
    classes = _classes(folder, ensemble, manifest)
    size, _, channels = manifest["image_shape"]
    images, unusable = {}, {}
    for path in _each(paths):
        if path.is_fifo():  # to read one is to wait for whoever writes it
            unusable[path] = "a pipe, not a file"
            continue
        try:
            with path.open("rb") as file:
                images[path] = decode.resize(decode.of_sample(decode.read(file), channels), size)
        except OSError as error:
            unusable[path] = error.strerror or str(error)
        except UnusableImage as error:
            unusable[path] = str(error)
    if not images:
        return Predictions(classes, (), np.zeros((0, len(classes)), np.float32), unusable)
    stacked = np.stack([image.reshape(size, size, channels) for image in images.values()])
    return Predictions(classes, tuple(images), probabilities(run, ensemble, stacked, run_components), unusable)


def _each(paths: Sequence[Path]) -> Iterator[Path]:
    """The files that are meant, those of a folder sorted and without hidden ones, as a shell's `*` gives them."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        try:
            inside = sorted(path.iterdir())
        except OSError as error:
            raise UserError(f"{path}/ cannot be read: {error.strerror or error}") from None
        found = [file for file in inside if is_image(file.name) and file.name[0] != "." and not file.is_dir()]
        if not found:
            below = f"; name those below it as {path}/*/*.png" if any(file.is_dir() for file in inside) else ""
            raise UserError(f"{path}/ holds no image files (.png, .jpg, .webp, .bmp){below}")
        yield from found


def _classes(folder: RunFolder, ensemble: dict[str, Any], manifest: dict[str, Any]) -> tuple[str, ...]:
    """The names of what the models tell apart. Raises UserError where the files of the run disagree on them."""
    if ensemble["classes"] != manifest["classes"]:
        by = [", ".join(map(str, one["classes"])) for one in (ensemble, manifest)]
        raise UserError(
            f"{folder.ensemble}: its classes ({by[0]}) are not those of {folder.manifest} ({by[1]}); bring back the "
            f"one that was changed, or, if it was the first, `emoray finalize {folder.path}` writes it anew"
        )
    return tuple(ensemble["classes"])


def probabilities(
    run: AnyPath, ensemble: dict[str, Any], images: np.ndarray, run_components: bool = False
) -> np.ndarray:
    """Probabilities float32 (n, classes) of images uint8 (n, h, w, c), by the members that have weight."""
    if not run_components:
        return _probabilities(run, ensemble, images, ())
    with runs.at_hand(RunFolder(run)) as own, registry.importable([own]):
        return _probabilities(run, ensemble, images, None)


def _probabilities(
    run: AnyPath, ensemble: dict[str, Any], images: np.ndarray, components: tuple[str, ...] | None
) -> np.ndarray:
    blend, candidates = Blend.from_json(ensemble["blend"]), ensemble["candidates"]
    height, width, channels = images.shape[1:]
    shape = (height, width, channels)
    members = np.full((len(candidates), len(images), len(ensemble["classes"])), np.nan, np.float32)
    for m in blend.used:
        member = candidates[m]
        trial, files = _of(RunFolder(run), member, components)
        try:
            model = load(trial, files, shape, members.shape[2])
        except UserError as error:
            remedy = f"bring back a whole copy, or `emoray finalize {run}` chooses without it"
            raise UserError(f"{error}; {remedy}") from None
        logits = calibration.log_probabilities(Predictor(model, shape, ensemble["tta"])(images))
        members[m] = calibration.apply(logits, member["temperature"])
    return blend.predict(members)


def _of(run: RunFolder, member: dict[str, Any], components: tuple[str, ...] | None) -> tuple[AnyPath, list[AnyPath]]:
    """The folder and the files of a member of the ensemble, neither of which may lie outside of the run."""
    trial = run.trial(intact.name(member["trial"], run.ensemble))
    given = trial / "settings.json"
    intact.components(intact.trial(_json(run.path, given), given)["settings"], components, given)
    return trial, [intact.file_inside(run.path, file, run.ensemble) for file in member["files"]]


def _json(run: AnyPath, path: AnyPath) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        told = f"{run} holds no finished run: {path} is missing"
        begun = (run / "sweep.yaml").exists()
        remedy = f"`emoray finalize {run}` chooses what to use" if begun else run_folder.suggestion(run)
        raise UserError(f"{told}; {remedy}") from None
    except RemoteError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); `emoray finalize {run}` writes it anew") from None
