"""What a source is once it has been found, and what its readers give out: nothing is decoded yet.

A source splits itself into items, small dictionaries of plain values that a task on any machine can read on its own.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
from pyarrow import fs

from emoray.errors import UserError
from emoray.s3 import RemoteError

Format = Literal["embedded", "csv", "folders", "parquet"]

LABEL_COLUMNS = ("label", "labels", "emotion", "class", "target")
SPLIT_COLUMNS = ("split", "usage", "set", "subset")
NAME_COLUMNS = ("file", "path", "filename", "name")


_MOST_TOLD = 200
"""Characters; a server in the clouds tells its whole story."""


class UnusableImage(Exception):
    """Why an image cannot be used, as it stands in quarantine.csv."""


def told(error: Exception) -> str:
    """What a disk or Arrow says, in a line: Arrow's errors of the disk name the path again, at length."""
    number = getattr(error, "errno", None)
    line = os.strerror(number) if number else str(error).partition("\n")[0]
    return line if len(line) <= _MOST_TOLD else f"{line[:_MOST_TOLD]}..."


@dataclass(frozen=True, slots=True)
class Sample:
    """One image as its source holds it."""

    file: str
    """The file that holds it, relative to the source; with `row` it is the place named in quarantine.csv."""
    row: int | None
    """Row of a Parquet file from 0, line of a CSV within its item from 0; None: the file is the image."""
    name: str | None
    """A name that the source gives to the image; None: its place is its name."""
    label: str | None
    split: str | None
    votes: list[float] | None
    image: bytes | np.ndarray | UnusableImage
    """An image file's bytes, or grey pixels as uint8 (height, width), or why there are none."""
    lines: int | None = None
    """How many lines a CSV's item has: where the next one starts, is known only when all are read."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells that a file has not changed."""

    file: str
    size: int
    mtime_ns: int


Item = dict[str, Any]
Held = TypeVar("Held")
Reader = Callable[["Source", Item], Iterator[Sample]]
Marks = tuple[str | None, str | None]
"""Label and split of an image."""
Marker = Callable[["Source", Item], Iterator[Marks]]


@dataclass(frozen=True)
class Source:
    """A data source and the work of reading it."""

    format: Format
    name: str
    """As the user named it."""
    stamps: tuple[Stamp, ...]
    """All files that it consists of."""
    items: tuple[Item, ...]
    """In the order of the source; together they are all of it."""
    read: Reader
    """A function of a module, so that it travels to the tasks by name."""
    filesystem: fs.FileSystem = field(default_factory=fs.LocalFileSystem)
    root: str = ""
    """The folder on `filesystem` that file names are relative to."""
    images: int | None = None
    """How many images there are, where that is known before reading."""
    estimate: int | None = None
    """About how many, where it is not."""
    label_column: str | None = None
    mark: Marker | None = None
    """As `read`, for what `marks` gives; None where that is too much to read before the data job."""

    @property
    def has_votes(self) -> bool:
        """Whether there is a column of votes anywhere."""
        return any(item.get("votes") is not None for item in self.items)

    def marks(self) -> Iterator[Marks]:
        """Label and split of every image, without its pixels; `mark` must not be None.

        Raises:
            UserError, RemoteError: as for `samples`.
        """
        assert self.mark is not None
        for item in self.items:
            yield from self._reading(self.mark, item)

    def samples(self, item: Item) -> Iterator[Sample]:
        """What an item holds.

        Raises:
            UserError: its file is damaged, or is gone since it was found.
            RemoteError: a server did not give it, which says nothing of the file.
        """
        yield from self._reading(self.read, item)

    def _reading(self, read: Callable[["Source", Item], Iterator[Held]], item: Item) -> Iterator[Held]:
        try:
            yield from read(self, item)
        except RemoteError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"data.path: {self.path(item['file'])} cannot be read: {told(error)}") from None

    def path(self, file: str) -> str:
        return f"{self.root}/{file}"
