"""Parquet as a source: one file, or a folder of them such as Hugging Face writes.

Columns are found by their names and types, in each file for itself. An item is a slice of a row group.
"""

import json
import re
from collections.abc import Iterator, Sequence
from math import ceil
from posixpath import basename, dirname, isabs, join
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs, types

from emoray.data import decode
from emoray.data.kaggle import parse_pixels
from emoray.data.plan import (
    LABEL_COLUMNS,
    NAME_COLUMNS,
    SPLIT_COLUMNS,
    Item,
    Marks,
    Sample,
    Source,
    Stamp,
    UnusableImage,
)
from emoray.data.splits import ROLES
from emoray.errors import UserError
from emoray.s3 import RemoteError

IMAGE_COLUMNS = ("image", "img", "pixels", "bytes", "path", "image_path", "file", "filename")
ROWS_PER_ITEM = 2048
BYTES_PER_ITEM = 8 << 20
MAX_SLICES = 8
"""Every slice reads its row group up to its own end, so a huge group is not cut into ever more of them."""
ROWS_PER_BATCH = 64
READ_BYTES = 1 << 20
"""What is read ahead of a row group; without this Arrow holds all of the group."""


def find(filesystem: fs.FileSystem, root: str, name: str, stamps: Sequence[Stamp]) -> Source:
    """The source in these Parquet files.

    Raises:
        UserError: a file is damaged, or has no column of images or of labels.
    """
    items: list[Item] = []
    images = 0
    by_file_name = all(_leading_word(stamp.file) in ROLES for stamp in stamps)
    for stamp in stamps:
        try:
            with filesystem.open_input_file(f"{root}/{stamp.file}") as file:
                metadata = pq.read_metadata(file)
                columns = _columns(metadata.schema.to_arrow_schema(), stamp.file)
        except RemoteError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{stamp.file}: cannot be read as Parquet: {error}") from error
        if columns["split"] is None and by_file_name:
            columns["file_split"] = _leading_word(stamp.file)
        first = 0
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            slices = ceil(max(rows / ROWS_PER_ITEM, metadata.row_group(group).total_byte_size / BYTES_PER_ITEM))
            size = ceil(rows / min(MAX_SLICES, max(1, slices)))
            for start in range(0, rows, max(1, size)):
                items.append(
                    {**columns, "group": group, "first": first, "start": start, "stop": min(start + size, rows)}
                )
            first += rows
        images += first
    return Source(
        format="parquet",
        name=name,
        stamps=tuple(stamps),
        items=tuple(items),
        read=_read,
        filesystem=filesystem,
        root=root,
        images=images,
        label_column=items[0]["label"].strip().lower() if items else None,
        mark=_mark,
    )


def _leading_word(file: str) -> str:
    return re.split(r"[-_.]", basename(file))[0].lower()


def _columns(schema: pa.Schema, file: str) -> dict[str, Any]:
    """Which column is what: name of the column or None, by role."""
    names = {name.strip().lower(): name for name in schema.names}
    image, kind = _image_column(schema, names)
    label = _first(names, LABEL_COLUMNS)
    if image is None or label is None:
        lacks, known = ("images", IMAGE_COLUMNS) if image is None else ("labels", LABEL_COLUMNS)
        has = ", ".join(f"{field.name}: {field.type}" for field in schema)
        raise UserError(f"{file}: has no column of {lacks} ({', '.join(known)}); its columns are {has}")
    texts = {key: name for key, name in names.items() if name != image and _is_text(schema.field(name).type)}
    return {
        "file": file,
        "image": image,
        "kind": kind,
        "label": label,
        "label_names": _label_names(schema, label),
        "split": _first(names, SPLIT_COLUMNS),
        "votes": next((name for key, name in names.items() if key == "votes" or key.endswith("_votes")), None),
        "name": _first(texts, NAME_COLUMNS),
    }


def _first(names: dict[str, str], known: Sequence[str]) -> str | None:
    return next((names[key] for key in known if key in names), None)


def _image_column(schema: pa.Schema, names: dict[str, str]) -> tuple[str | None, str | None]:
    """The column of images and what it holds: file (its bytes), struct (of bytes and path), numbers, pixels or path."""
    for key in IMAGE_COLUMNS:
        if key not in names:
            continue
        kind = schema.field(names[key]).type
        kind = kind.value_type if types.is_dictionary(kind) else kind
        if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
            return names[key], "file"
        if types.is_struct(kind) and {"bytes", "path"} <= {field.name for field in kind}:
            return names[key], "struct"
        if key == "pixels" and (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
            return names[key], "numbers"
        if _is_text(kind):
            return names[key], "pixels" if key == "pixels" else "path"
    return None, None


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _label_names(schema: pa.Schema, label: str) -> list[str] | None:
    """The names of numeric labels where Hugging Face's `datasets` wrote them into the schema."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return features[label]["names"]
    except (KeyError, TypeError, ValueError):
        return None


def _read(source: Source, item: Item) -> Iterator[Sample]:
    for row, values in _rows(source, item, ("image", "label", "split", "votes", "name")):
        yield _sample(source, item, item["first"] + row, values)


def _mark(source: Source, item: Item) -> Iterator[Marks]:
    for _, values in _rows(source, item, ("label", "split")):
        yield _label(item, values), _split(item, values)


def _rows(source: Source, item: Item, roles: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The item's rows in its row group, by number, with the columns that have these roles."""
    wanted = [item[role] for role in roles if item[role] is not None]
    row = -1
    with source.filesystem.open_input_file(source.path(item["file"])) as file:
        batches = pq.ParquetFile(file, buffer_size=READ_BYTES, pre_buffer=False).iter_batches(
            ROWS_PER_BATCH, row_groups=[item["group"]], columns=wanted
        )
        for batch in batches:
            if row + batch.num_rows < item["start"]:
                row += batch.num_rows
                continue
            for values in batch.to_pylist():
                row += 1
                if item["start"] <= row < item["stop"]:
                    yield row, values
            if row + 1 >= item["stop"]:
                return


def _sample(source: Source, item: Item, row: int, values: dict[str, Any]) -> Sample:
    image = values[item["image"]]
    name = values[item["name"]] if item["name"] is not None else None
    if name is None and item["kind"] in ("struct", "path"):
        name = image["path"] if isinstance(image, dict) else image
    votes = values[item["votes"]] if item["votes"] is not None else None
    content: bytes | np.ndarray | UnusableImage
    try:
        content = _content(source, item, image)
    except UnusableImage as error:
        content = error
    return Sample(item["file"], row, name, _label(item, values), _split(item, values), votes, content)


def _label(item: Item, values: dict[str, Any]) -> str | None:
    label = values[item["label"]]
    if item["label_names"] is not None and isinstance(label, int) and 0 <= label < len(item["label_names"]):
        label = item["label_names"][label]
    return _text(label)


def _split(item: Item, values: dict[str, Any]) -> str | None:
    return _text(item.get("file_split") if item["split"] is None else values[item["split"]])


def _text(value: Any) -> str | None:
    if value is None or value != value:  # pandas writes missing labels as NaN, the only value unlike itself
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _content(source: Source, item: Item, image: Any) -> bytes | np.ndarray:
    if item["kind"] == "pixels" and image is not None:
        return parse_pixels(image)
    if item["kind"] == "numbers" and image is not None:
        return parse_pixels(" ".join(map(str, image)))
    if isinstance(image, dict):
        image = image["bytes"] if image["bytes"] is not None else image["path"]
    if image is None:
        raise UnusableImage("no image")
    if isinstance(image, bytes):
        return image
    if isabs(image) or ".." in image.split("/"):  # a table that somebody sent could name any file of this machine
        raise UnusableImage(f"the path {image} leads out of the Parquet file's folder")
    try:
        path = join(dirname(source.path(item["file"])), image)
        with source.filesystem.open_input_stream(path) as stream:
            return decode.read(stream)
    except FileNotFoundError as error:
        raise UnusableImage(f"there is no file {image}") from error
    except RemoteError:  # that a server does not answer says nothing of the image
        raise
    except (OSError, pa.ArrowException) as error:
        raise UnusableImage(f"cannot be read: {error}") from error
