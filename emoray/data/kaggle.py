"""Kaggle's `fer2013.csv` as a source: in each line a label, grey pixels as numbers between spaces, and often a split.

Items are byte ranges; a line belongs to the range that its first byte lies in.
"""

import csv
from collections.abc import Iterator
from math import isqrt

import numpy as np
from pyarrow import fs

from emoray.data.plan import LABEL_COLUMNS, SPLIT_COLUMNS, Item, Marks, Sample, Source, Stamp, UnusableImage
from emoray.errors import UserError

BYTES_PER_ITEM = 4 << 20
PIXEL_COLUMNS = ("pixels", "image", "img")

_HEAD_BYTES = 1 << 20
_READ_ON_BYTES = 1 << 16
_NUMBERS = b"0123456789 \t\r\n"
_MAX_FIELD = 1 << 26


def find(filesystem: fs.FileSystem, root: str, stamp: Stamp) -> Source:
    """The source in one CSV file.

    Raises:
        UserError: the file is empty, lacks a column of labels or pixels, or its first lines hold no square image.
    """
    with filesystem.open_input_file(f"{root}/{stamp.file}") as file:
        head = file.read(_HEAD_BYTES)
    first, _, rest = head.partition(b"\n")
    try:
        header = [name.strip().lower() for name in next(csv.reader([first.decode("utf-8-sig", "replace")]), [])]
    except csv.Error as error:
        raise UserError(f"{stamp.file} is no CSV in UTF-8 with lines that end in a line feed ({error})") from None
    label, pixels = (_column(header, names, stamp.file) for names in (LABEL_COLUMNS, PIXEL_COLUMNS))
    layout = {
        "file": stamp.file,
        "columns": len(header),
        "label": label,
        "pixels": pixels,
        "split": next((header.index(name) for name in SPLIT_COLUMNS if name in header), None),
        "side": _side(rest, pixels, stamp.file),
    }
    starts = range(len(first) + 1, stamp.size, BYTES_PER_ITEM)
    return Source(
        format="csv",
        name=stamp.file,
        stamps=(stamp,),
        items=tuple({**layout, "start": start, "stop": min(start + BYTES_PER_ITEM, stamp.size)} for start in starts),
        read=_read,
        filesystem=filesystem,
        root=root,
        estimate=_lines_in(stamp.size - len(first) - 1, rest),
        label_column=header[label],
        mark=_mark if stamp.size <= _most_marked(filesystem) else None,
    )


def _most_marked(filesystem: fs.FileSystem) -> int:
    """Of a file that is read for its labels alone, which takes a second for 150 MB, and longer where it has to come."""
    return 512 << 20 if isinstance(filesystem, fs.LocalFileSystem) else 64 << 20


def parse_pixels(text: str, side: int | None = None) -> np.ndarray:
    """The numbers of a line as a grey image, uint8 (side, side); without `side`, any square number of them.

    Raises:
        UnusableImage: something in it is no number from 0 to 255, or there are too few or too many.
    """
    if not text.strip():
        raise UnusableImage("no pixels")
    if text.encode("ascii", "replace").translate(None, _NUMBERS):
        raise UnusableImage("a pixel is not a whole number from 0 to 255")
    values = np.fromstring(text, dtype=np.int64, sep=" ")
    side = isqrt(values.size) if side is None else side
    if values.size != side * side:
        raise UnusableImage(f"{values.size} pixels where {side * side} are expected")
    if values.max() > 255:
        raise UnusableImage("a pixel is not a whole number from 0 to 255")
    return values.astype(np.uint8).reshape(side, side)


def _column(header: list[str], names: tuple[str, ...], file: str) -> int:
    for name in names:
        if name in header:
            return header.index(name)
    has = ", ".join(header) if any(header) else "none"
    raise UserError(f"{file}: needs a column {' or '.join(names)} in its first line; its columns are {has}")


def _side(text: bytes, column: int, file: str) -> int:
    """The side of the images, by the first line that holds a square number of pixels."""
    for row in _rows(text.splitlines()):
        count = len(row[column].split()) if row and column < len(row) else 0
        if count > 0 and isqrt(count) ** 2 == count:
            return isqrt(count)
    raise UserError(f"{file}: none of its first lines holds the pixels of a square image, such as 2304 for 48 x 48")


def _lines_in(size: int, text: bytes) -> int:
    """How many lines there are in so many bytes that go on as `text` begins."""
    whole = text[: text.rfind(b"\n") + 1] or text
    return round(size * max(1, whole.count(b"\n")) / len(whole))


def _rows(lines: list[bytes]) -> Iterator[list[str] | None]:
    """The fields of each line, None for an empty one."""
    csv.field_size_limit(_MAX_FIELD)
    for line in lines:
        text = line.decode("utf-8", "replace").replace("\0", "\ufffd")
        yield next(csv.reader([text]), None) if text.strip() else None


def _read(source: Source, item: Item) -> Iterator[Sample]:
    file, lines = item["file"], _lines(source, item)
    for line, row in enumerate(_rows(lines)):
        if row is None:
            continue
        if len(row) != item["columns"]:
            wrong = UnusableImage(f"{len(row)} columns where {item['columns']} are expected")
            yield Sample(file, line, None, None, None, None, wrong, len(lines))
            continue
        try:
            image: np.ndarray | UnusableImage = parse_pixels(row[item["pixels"]], item["side"])
        except UnusableImage as error:
            image = error
        split = None if item["split"] is None else row[item["split"]]
        yield Sample(file, line, None, row[item["label"]], split, None, image, len(lines))


def _mark(source: Source, item: Item) -> Iterator[Marks]:
    for row in _rows(_lines(source, item)):
        if row is not None and len(row) == item["columns"]:
            yield row[item["label"]], None if item["split"] is None else row[item["split"]]


def _lines(source: Source, item: Item) -> list[bytes]:
    """The lines whose first byte lies in the item's range."""
    start, stop = item["start"], item["stop"]
    with source.filesystem.open_input_file(source.path(item["file"])) as file:
        # From one byte earlier: if that is a line's end, the range opens with a line of its own.
        file.seek(start - 1)
        data = file.read(stop - start + 1)
        while not data.endswith(b"\n") and (more := file.read(_READ_ON_BYTES)):
            end = more.find(b"\n") + 1
            data += more[:end] if end else more
            if end:
                break
    _, _, whole = data.partition(b"\n")
    return whole.removesuffix(b"\n").split(b"\n") if whole else []
