"""Prepared images on disk: numbered Parquet files in row groups, read whole or as they are asked for.

`MappedImages` is for data that does not fit in memory.
"""

import functools
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emoray import storage

ROW_GROUP = 64
"""Images in a row group: what is read at once where not all are."""
CACHE_BYTES = 192 << 20
"""Row groups that a process keeps; a window of the shuffle (batches.py) has to fit, or it is read again and again."""


@dataclass(frozen=True)
class MappedImages:
    """Stands for an array uint8 (n, h, w, c) that lies in the Parquet files of prepared data.

    It can be indexed with integers (k,) or a slice, which reads no more than the row groups that hold them; it is
    small and can be handed to all processes that see the folder.
    """

    folder: str
    parts: np.ndarray
    """(n,), the file that holds each image: a number for `part_path`."""
    indices: np.ndarray
    """(n,), the image's place in its file."""
    image_shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.image_shape)

    def __getitem__(self, places: np.ndarray | slice) -> np.ndarray:
        """The images at `places`, integers (k,) or a slice: uint8 (k, h, w, c), a new array."""
        places = np.arange(len(self))[places]
        out = np.empty((len(places), int(np.prod(self.image_shape))), np.uint8)
        parts, indices = self.parts[places], self.indices[places]
        groups = parts * (1 << 32) + indices // ROW_GROUP
        by_group = np.argsort(groups, kind="stable")
        borders = np.flatnonzero(np.diff(groups[by_group], prepend=-1))
        for chosen in np.split(by_group, borders[1:]) if len(places) else []:
            first = chosen[0]
            rows = _row_group(self.folder, int(parts[first]), int(indices[first]) // ROW_GROUP, out.shape[1])
            out[chosen] = rows[indices[chosen] % ROW_GROUP]
        return out.reshape(-1, *self.image_shape)


def read_all(images: MappedImages) -> NDArray[np.uint8]:
    """All of them in memory: each file is read once, as a whole, and not kept."""
    out = np.empty((len(images), int(np.prod(images.image_shape))), np.uint8)
    by_part = np.argsort(images.parts, kind="stable")
    starts = np.flatnonzero(np.diff(images.parts[by_part], prepend=-1))
    numbers = [int(number) for number in np.unique(images.parts)]
    for _ in storage.each(storage.at(images.folder), partial(near_part, images.folder), numbers):
        pass  # what has to be fetched first is fetched at once
    for places in np.split(by_part, starts[1:]) if len(by_part) else []:
        path = near_part(images.folder, int(images.parts[places[0]]))
        out[places] = image_bytes(pq.read_table(path, memory_map=True), out.shape[1])[images.indices[places]]
    return out.reshape(images.shape)


_cache: "OrderedDict[tuple[str, int, int], np.ndarray]" = OrderedDict()
_cached_bytes = 0


def _row_group(folder: str, part: int, group: int, width: int) -> np.ndarray:
    """The images of a row group, uint8 (rows, width): the least recently used ones make room."""
    global _cached_bytes
    key = (folder, part, group)
    if key in _cache:
        _cache.move_to_end(key)
        return _cache[key]
    rows = image_bytes(_file(folder, part).read_row_group(group, columns=["image"]), width)
    _cache[key] = rows
    _cached_bytes += rows.nbytes
    while _cached_bytes > CACHE_BYTES and len(_cache) > 1:
        _cached_bytes -= _cache.popitem(last=False)[1].nbytes
    return rows


@functools.lru_cache(maxsize=512)
def _file(folder: str, part: int) -> pq.ParquetFile:
    return pq.ParquetFile(near_part(folder, part), memory_map=True)


def near_part(folder: str, part: int) -> Path:
    """The Parquet file of one part on this machine's disk."""
    place = storage.at(folder)
    return storage.near(place / part_path(Path(), part).name)


def part_path(folder: Path, part: int) -> Path:
    """The Parquet file of one part, its only column image: height * width * channels bytes each."""
    return folder / f"images-{part:05d}.parquet"


def image_bytes(table: pa.Table, width: int) -> NDArray[np.uint8]:
    """The fixed-size column as uint8 (n, width), without a copy where it is one chunk."""
    chunks = [
        np.frombuffer(chunk.buffers()[1], np.uint8)[chunk.offset * width : (chunk.offset + len(chunk)) * width]
        for chunk in table["image"].chunks
    ]
    return (chunks[0] if len(chunks) == 1 else np.concatenate(chunks)).reshape(-1, width)
