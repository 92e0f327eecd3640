"""The images that a result is chosen and judged on: the selection and test splits, kept in the run folder.

So `finalize` reads the run folder only: it runs again after the source has moved, and on another machine. The one rule:
they are those that the trials were kept apart from, so data that has changed since is refused.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emoray import intact
from emoray.config import Sweep
from emoray.data import Prepared, Split, prepare, sources, store
from emoray.errors import UserError
from emoray.run_folder import RunFolder
from emoray.s3 import RemoteError
from emoray.storage import AnyPath
from emoray.trial import checkpoint
from emoray.trial.checkpoint import State

SPLITS = ("selection", "test")
_REMEDY = (
    "bring back a whole copy from the machine that the run was trained on, or delete it: it is made anew where the "
    "data source is as it was"
)


@dataclass(frozen=True)
class HeldOut:
    """The held-out splits of a run. `manifest` is the run's data/manifest.json."""

    folder: AnyPath
    manifest: dict[str, Any]

    @property
    def classes(self) -> list[str]:
        return list(self.manifest["classes"])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        height, width, channels = self.manifest["image_shape"]
        return height, width, channels

    @property
    def fingerprint(self) -> str:
        return str(self.manifest["fingerprint"])

    def load(self, split: str) -> Split:
        """`selection` or `test`. Raises UserError where its file is damaged, of other data or of other classes."""
        path = self.folder / f"{split}.npz"
        stored = checkpoint.read(path, "file of images", _REMEDY)
        if stored.meta.get("fingerprint") != self.fingerprint:
            raise UserError(
                f"{path} holds images of other data than {self.folder / 'manifest.json'} tells of; bring back the file "
                "that belongs to this run"
            )
        try:
            images, labels, rows, files = (stored.arrays[name][0] for name in ("images", "labels", "rows", "files"))
        except KeyError as error:
            raise UserError(f"{path} is damaged: it holds no {error}; {_REMEDY}") from None
        self._check_classes(split, labels, stored.meta.get("classes", self.classes))
        return Split(images, labels, rows, files, None)

    def _check_classes(self, split: str, labels: np.ndarray, classes: list[str]) -> None:
        """Refuse a list of classes by which the labels, which are indices of it, would mean others."""
        told = self.manifest.get("splits", {}).get(split, {}).get("classes")
        counts = np.bincount(labels, minlength=len(self.classes)).tolist()
        if classes != self.classes or (told is not None and [told.get(name) for name in self.classes] != counts):
            raise UserError(
                f"{self.folder / 'manifest.json'}: its classes ({_short(self.classes)}) are not those that the labels "
                f"in {split}.npz count; bring back the manifest.json that the run was trained with"
            )


def check(folder: RunFolder, fingerprint: str, classes: Sequence[str] | None) -> None:
    """Refuse data that is no longer what a run was trained on, by its fingerprint or, where known, its classes.

    Raises UserError; a run that was ended before it knew of any data takes all.
    """
    if not folder.manifest.exists():
        return
    manifest = _manifest(folder)
    now = {"fingerprint": fingerprint} if classes is None else {"classes": list(classes), "fingerprint": fingerprint}
    for key, given in now.items():
        if manifest.get(key) != given:
            what = {"classes": "classes", "fingerprint": "images or splits"}[key]
            raise UserError(
                f"{folder.manifest}: the run was trained on other {what} ({_short(manifest.get(key))}) than its data "
                f"source now gives ({_short(given)}); bring the source back as it was, with the times of its files, "
                "or start a new run"
            )


def keep(folder: RunFolder, prepared: Prepared) -> HeldOut:
    """Write both splits of prepared data into the run folder, where they are not there yet.

    Raises UserError where one is there and damaged: a search should not end with that.
    """
    held_out = HeldOut(folder.manifest.parent, prepared.manifest)
    for name in SPLITS:
        path = held_out.folder / f"{name}.npz"
        if path.exists():
            held_out.load(name)
            continue
        split = prepared.load(name)
        arrays: dict[str, list[np.ndarray]] = {name: [getattr(split, name)] for name in ("images", "labels", "rows")}
        arrays["files"] = [split.files.astype(np.str_)]
        checkpoint.write(path, State(arrays, {name: prepared.manifest[name] for name in ("fingerprint", "classes")}))
    return held_out


def read(folder: RunFolder) -> HeldOut | None:
    """What `keep` left in a run folder, looked through; None where images are missing.

    Raises UserError without its manifest, or where what is there is damaged or does not belong together.
    """
    try:
        manifest = _manifest(folder)
    except FileNotFoundError:
        raise UserError(f"{folder.manifest} is missing; bring it back, with the .npz files beside it") from None
    held_out = HeldOut(folder.manifest.parent, manifest)
    if _missing(held_out.folder):
        return None
    for split in SPLITS:
        held_out.load(split)
    return held_out


def anew(folder: RunFolder, sweep: Sweep, progress: Callable[[str], None]) -> HeldOut:
    """`keep` for a run whose images are missing: from its data source, which is read only if it is as it was.

    A run folder may be somebody else's and name any source: where it leads is told first, and no data job runs on files
    whose names, sizes and times are not those that the run was trained on. Raises UserError there, and where there is
    nothing.
    """
    manifest = json.loads(folder.manifest.read_text())
    missing = " and ".join(str(path) for path in _missing(folder.manifest.parent))
    path = sweep.data.path or "the embedded faces"
    remedy = "bring back what is missing from the machine that the run was trained on"
    progress(f"{missing} is missing; looking whether {path} is still what the run was trained on")
    try:
        fingerprint = store.fingerprint(sources.find(sweep.data, sweep.seed), sweep.data, sweep.seed)
    except UserError as error:
        raise UserError(f"{missing} is missing, and {path} cannot stand in for it ({error}); {remedy}") from None
    if fingerprint != manifest.get("fingerprint"):
        raise UserError(
            f"{missing} is missing, and data.path ({path}) is not read for it, since it holds other data than the run "
            f"was trained on, or the same written anew; {remedy}"
        )
    cache = str(folder.path.absolute().parent / ".cache")
    return keep(folder, prepare(sweep.data, cache=cache, seed=sweep.seed, progress=progress))


def identical(images: np.ndarray) -> np.ndarray:
    """The group of each image (n,): equal for images of the same pixels, numbered as they first appear."""
    numbers: dict[bytes, int] = {}
    digests = (hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images)
    return np.array([numbers.setdefault(digest, len(numbers)) for digest in digests], np.int64)


def _missing(folder: AnyPath) -> list[AnyPath]:
    return [path for path in (folder / f"{name}.npz" for name in SPLITS) if not path.exists()]


def _manifest(folder: RunFolder) -> dict[str, Any]:
    try:
        return intact.manifest(json.loads(folder.manifest.read_text()), folder.manifest)
    except (FileNotFoundError, RemoteError):
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"{folder.manifest} cannot be read ({error}); copy it anew from the data cache") from None


def _short(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
