"""The embedded faces as a source: drawn, so that everything can be tried without any data."""

from collections.abc import Iterator
from functools import partial
from hashlib import blake2b
from pathlib import Path

import numpy as np

from emoray.data import face_drawing, face_features, face_strokes, faces
from emoray.data.plan import Item, Marks, Sample, Source, Stamp

FACES_PER_ITEM = 1024
_DRAWING = (faces, face_drawing, face_features, face_strokes)


def find(count: int, *, seed: int, image_size: int) -> Source:
    """`count` faces drawn with `seed` at `image_size` pixels."""
    starts = range(0, count, FACES_PER_ITEM)
    return Source(
        format="embedded",
        name="embedded faces",
        stamps=tuple(_stamp(Path(str(module.__file__))) for module in _DRAWING),
        items=tuple({"start": start, "stop": min(start + FACES_PER_ITEM, count)} for start in starts),
        read=partial(_read, seed=seed, image_size=image_size),
        images=count,
        mark=partial(_mark, seed=seed),
    )


def _stamp(module: Path) -> Stamp:
    # By content: an installation gives the drawing code a new date, which changes no face.
    digest = blake2b(module.read_bytes(), digest_size=7).digest()
    return Stamp(module.name, int.from_bytes(digest, "big"), 0)


def _mark(source: Source, item: Item, *, seed: int) -> Iterator[Marks]:
    # By parts of faces.py, whose content tells prepared faces apart: it has to stay as it is.
    keys = faces._keys(seed, np.arange(item["start"], item["stop"]))
    for label in faces._expression(keys, faces._person(keys))[1]:
        yield faces.CLASSES[label], None


def _read(source: Source, item: Item, *, seed: int, image_size: int) -> Iterator[Sample]:
    ids = np.arange(item["start"], item["stop"])
    images, labels = faces.draw(seed, ids, size=image_size)
    for face, image, label in zip(ids, images, labels, strict=True):
        name = f"face-{face:06d}"
        yield Sample(name, None, name, faces.CLASSES[label], None, None, image)
