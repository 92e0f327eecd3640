"""The rows of prepared data: what the job found, what of it can be used, and the lists of what is not."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emoray.data import splits
from emoray.data.labels import name_classes
from emoray.storage import AnyPath

Place = tuple[str, int | None, str]
"""A row of quarantine.csv or dropped.csv: file, row in it, reason."""


@dataclass(frozen=True)
class Images:
    """The usable images: n rows of what the job found, and what they mean."""

    table: pa.Table
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    """(n,), an index of `names`."""
    official: NDArray[np.int64]
    """(n,), an index of SPLITS, -1 where the source has no split."""

    @property
    def digests(self) -> list[str]:
        return self.table["digest"].to_pylist()


def placed(found: pa.Table) -> pa.Table:
    """What the job found with each image's `number` in the source, and lines of a CSV counted from its first, as 1."""
    lines = found["lines"].to_numpy(zero_copy_only=False)
    if found.num_rows and not np.isnan(lines).any():
        items, first = np.unique(found["item"].to_numpy(), return_index=True)
        counts = lines[first].astype(np.int64)
        before = np.cumsum(counts) - counts + 2  # the header is line 1
        rows = found["row"].to_numpy() + before[np.searchsorted(items, found["item"].to_numpy())]
        found = found.set_column(found.column_names.index("row"), "row", pa.array(rows))
    return found.append_column("number", pa.array(np.arange(found.num_rows)))


def undecoded(found: pa.Table) -> tuple[pa.Table, list[Place]]:
    """The decoded images, and the places of the others."""
    good = np.asarray(found["reason"].is_null())
    return found.filter(pa.array(good)), _places(found.filter(pa.array(~good)), None)


def understood(found: pa.Table, *, column: str | None, classes: Sequence[str] | None) -> tuple[Images, list[Place]]:
    """The images with a class and a known split, and the places of the others.

    Raises:
        UserError: see `name_classes`.
    """
    names, labels, reasons = name_classes(found["label"].to_pylist(), column=column, classes=classes)
    texts = found["split"].to_pylist()
    official = splits.official_roles(texts)
    if any(texts):
        unknown = [f"split '{text}' is not known" if text else "no split" for text in texts]
        reasons = [r or (unknown[i] if official[i] < 0 else None) for i, r in enumerate(reasons)]
    good = np.array([reason is None for reason in reasons], dtype=bool)
    bad = _places(found.filter(pa.array(~good)), [reason for reason in reasons if reason is not None])
    return Images(found.filter(pa.array(good)), names, labels[good], official[good]), bad


def left_out(images: Images, reasons: NDArray[np.str_]) -> list[Place]:
    """The places of the images with a reason (n,), which is empty for those that stay."""
    out = reasons != ""
    return _places(images.table.filter(pa.array(out)), reasons[out].tolist())


def write_rows(path: Path, images: Images, split: NDArray[np.int64], votes: NDArray[np.float32] | None) -> None:
    """Write rows.parquet: of each image with a split >= 0 its row, place in the parts, split, label, file and votes."""
    table = images.table
    places = table.select(["name", "file", "row"]).to_pylist()
    columns = {
        "row": table["number"],
        "part": table["part"],
        "index": table["index"],
        "split": pa.array(split),
        "label": pa.array(images.labels),
        "file": pa.array([one["name"] or place_text(one["file"], one["row"]) for one in places]),
    }
    if votes is not None:
        columns["votes"] = pa.FixedSizeListArray.from_arrays(pa.array(votes.ravel()), votes.shape[1])
    pq.write_table(pa.table(columns).filter(pa.array(split >= 0)), path)


def write_places(path: Path, places: Sequence[Place]) -> None:
    """Write quarantine.csv or dropped.csv."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("file", "row", "reason"))
        writer.writerows(places)


def read_places(path: AnyPath) -> list[Place]:
    """What `write_places` wrote."""
    with path.open("r", newline="", encoding="utf-8") as file:
        return [(row["file"], int(row["row"]) if row["row"] else None, row["reason"]) for row in csv.DictReader(file)]


def place_text(file: str, row: int | None) -> str:
    """A place as people read it: the file, with the row of a file that holds many images."""
    return file if row is None else f"{file}:{row}"


def _places(table: pa.Table, reasons: Sequence[str] | None) -> list[Place]:
    reasons = table["reason"].to_pylist() if reasons is None else reasons
    return list(zip(table["file"].to_pylist(), table["row"].to_pylist(), reasons, strict=True))
