"""Prepared data on disk: `<cache>/<fingerprint>/`, there as a whole or not at all.

It holds manifest.json, images-*.parquet, rows.parquet, quarantine.csv and dropped.csv. A job works in
`<fingerprint>.partial`, under a lock that its death frees, and renames that folder at the end.
"""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emoray import storage
from emoray.config import DataSettings
from emoray.data.parts import MappedImages, read_all
from emoray.data.plan import Source
from emoray.data.splits import SPLITS

VERSION = 2
"""Of the data job: to be raised with every change that gives other pixels, labels, splits or files."""

_FINGERPRINT = re.compile("[0-9a-f]{20}")
MANIFEST = "manifest.json"
ROWS = "rows.parquet"
QUARANTINE = "quarantine.csv"
DROPPED = "dropped.csv"


Pixels = TypeVar("Pixels", NDArray[np.uint8], MappedImages)


@dataclass(frozen=True)
class Split(Generic[Pixels]):
    """The images of one split, in the order of their rows."""

    images: Pixels
    """(n, height, width, channels)."""
    labels: NDArray[np.int64]
    """(n,), an index of the manifest's classes."""
    rows: NDArray[np.int64]
    """(n,), the image's number in its source: the same for every split setting and seed."""
    files: NDArray[np.object_]
    """(n,), where each image came from."""
    votes: NDArray[np.float32] | None
    """(n, classes), each row sums to 1; None unless data.labels is votes."""


@dataclass(frozen=True)
class Prepared:
    """A prepared data set in the cache."""

    folder: str
    manifest: dict[str, Any]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        height, width, channels = self.manifest["image_shape"]
        return height, width, channels

    @property
    def train_bytes(self) -> int:
        """What the training images take in memory."""
        return int(self.manifest["splits"]["train"]["images"] * np.prod(self.image_shape))

    @property
    def measured(self) -> dict[str, dict[str, int]]:
        """Images by class in each split that the search's metric is measured on."""
        return {split: self.manifest["splits"][split]["classes"] for split in ("validation", "selection")}

    def load(self, split: str) -> Split[NDArray[np.uint8]]:
        """The images of `split`, in memory: train, selection, validation or test."""
        on_disk = self.mapped(split)
        rest = (on_disk.labels, on_disk.rows, on_disk.files, on_disk.votes)
        return Split(read_all(on_disk.images), *rest)

    def mapped(self, split: str) -> Split[MappedImages]:
        """The same with the images left on disk."""
        path = storage.near(storage.at(self.folder) / ROWS)
        table = pq.read_table(path, filters=pc.field("split") == SPLITS.index(split))
        parts, indices = table["part"].to_numpy(), table["index"].to_numpy()
        votes = None
        if "votes" in table.column_names:
            votes = pc.list_flatten(table["votes"]).to_numpy().reshape(table.num_rows, -1)
        return Split(
            images=MappedImages(self.folder, parts, indices, self.image_shape),
            labels=table["label"].to_numpy(),
            rows=table["row"].to_numpy(),
            files=table["file"].to_numpy(),
            votes=votes,
        )


def fingerprint(source: Source, settings: DataSettings, seed: int) -> str:
    """What tells prepared data apart: the source's files, the settings, the seed and the job's version.

    Not the path, for data that was moved is the same data; not max_bad_fraction, which is checked at every use; and not
    the mode, which changes no pixel.
    """
    described = asdict(settings) | {"path": None, "max_bad_fraction": None, "mode": None}
    described |= {"faces": settings.faces if settings.path is None else None}
    content = [VERSION, source.format, seed, described, [asdict(stamp) for stamp in source.stamps]]
    return blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=10).hexdigest()


def read(folder: Path) -> Prepared | None:
    """What is prepared in `folder`, None if nothing is."""
    try:
        return Prepared(str(folder), json.loads((folder / MANIFEST).read_text()))
    except FileNotFoundError:
        return None


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write manifest.json, by which a folder counts as prepared: last."""
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


@contextmanager
def exclusive(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Be the only one who prepares `folder`; calls `waiting` once if another does so just now."""
    with _lock_path(folder).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def assembled(folder: Path) -> Iterator[Path]:
    """A folder to write into, that becomes `folder` at the end, or goes if an error ends it. Needs the lock."""
    work = folder.with_suffix(".partial")
    shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)  # one without a manifest, or it would have been used
    work.mkdir(parents=True)
    try:
        yield work
        os.rename(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def remove_leftovers(cache: Path) -> None:
    """Remove what killed jobs left behind: their folders whose lock is free.

    By their whole name, for a sweep file may call any folder its storage, and other programs have a `.cache` too.
    """
    for work in cache.glob("*.partial"):
        if not _FINGERPRINT.fullmatch(work.stem) or work.is_symlink():
            continue
        with _lock_path(work).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(work, ignore_errors=True)


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f".{folder.stem}.lock")
