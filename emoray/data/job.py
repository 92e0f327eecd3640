"""The Ray Data job: tasks read and decode the items of a source, the driver writes what comes back into the cache.

Images pass through the driver once, a block at a time and without a copy, so that the cache may lie on a disk that only
the driver sees.
"""

import errno
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray.data

from emoray.data import decode
from emoray.data.parts import ROW_GROUP, part_path
from emoray.data.plan import Sample, Source, UnusableImage
from emoray.errors import UserError
from emoray.s3 import RemoteError

MAX_TASKS = 2048
BLOCK_BYTES = 16 << 20
ROWS_PER_BLOCK = 2048
PROGRESS_SECONDS = 1.0
_LOST = -1
"""The position of a row that stands for a task's failure to read its source."""

FOUND = pa.schema(
    [
        ("item", pa.int32()),
        ("position", pa.int32()),
        ("file", pa.string()),
        ("row", pa.int64()),
        ("lines", pa.int64()),
        ("name", pa.string()),
        ("label", pa.string()),
        ("split", pa.string()),
        ("votes", pa.list_(pa.float32())),
        ("digest", pa.string()),
        ("reason", pa.string()),
    ]
)
"""What is known of each image that was found: its place (item, position in it), and either a digest or a reason."""


def decode_all(
    source: Source, *, image_size: int, channels: int, folder: Path, progress: Callable[[str], None]
) -> pa.Table:
    """Decode every image of `source`; the usable ones are written to `folder`.

    Raises RemoteError where S3 does not give what it holds.

    Returns:
        FOUND in the order of the source, with the columns part (a number for `store.part_path`) and index (the
        image's place in it).
    """
    work = [{"item": number, "work": json.dumps(item)} for number, item in enumerate(source.items)]
    if not work:
        return FOUND.empty_table()
    # Every task gets the source, but only its own part of the work.
    light = replace(source, stamps=(), items=())
    decode_items = partial(_decode_items, source=light, image_size=image_size, channels=channels)
    tables: list[pa.Table] = []
    seen, said = 0, time.monotonic()
    with ray.data.DataContext.current(quiet_context()):
        blocks = (
            ray.data.from_items(work, override_num_blocks=min(len(work), MAX_TASKS))
            .map_batches(decode_items, batch_size=None, batch_format="pyarrow", zero_copy_batch=True)
            .iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
        )
        for part, block in enumerate(blocks):
            _refuse_lost(cast(pa.Table, block))
            tables.append(_write(cast(pa.Table, block), part, folder))
            seen += tables[-1].num_rows
            if time.monotonic() - said > PROGRESS_SECONDS:
                said = time.monotonic()
                progress(
                    f"decoded {seen:,} of {source.images:,} images" if source.images else f"decoded {seen:,} images"
                )
    return pa.concat_tables(tables).sort_by([("item", "ascending"), ("position", "ascending")])


def quiet_context() -> ray.data.DataContext:
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # warns of bars that are switched off
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    return context


def _write(block: pa.Table, part: int, folder: Path) -> pa.Table:
    """Write a block's images; what is known of them, with their places."""
    usable = np.asarray(block["reason"].is_null())
    images = block.select(["image"]).filter(pa.array(usable))
    # Neither a dictionary nor compression: noise of pixels gains little, and load() reads plain bytes at memory speed.
    plain = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    pq.write_table(images, part_path(folder, part), row_group_size=ROW_GROUP, **plain)
    index = np.where(usable, np.cumsum(usable) - 1, -1)
    found = block.drop_columns(["image"])
    return found.append_column("part", pa.array(np.full(len(index), part))).append_column("index", pa.array(index))


def _decode_items(batch: pa.Table, *, source: Source, image_size: int, channels: int) -> Iterator[pa.Table]:
    cv2.setNumThreads(1)  # a task is one of Ray's CPUs
    width = image_size * image_size * channels
    rows = max(1, min(ROWS_PER_BLOCK, BLOCK_BYTES // width))
    schema = FOUND.append(pa.field("image", pa.binary(width)))
    for entry in batch.to_pylist():
        samples = enumerate(source.samples(json.loads(entry["work"])))
        # A generator, so that of all samples only one is held as its source has it: photographs may be large.
        decoded = (
            {"item": entry["item"], "position": position, **_decode(sample, image_size, channels)}
            for position, sample in samples
        )
        try:
            while block := list(islice(decoded, rows)):
                yield pa.Table.from_pylist(block, schema)
        except (RemoteError, UserError) as error:  # as a row: Ray Data replaces the text of an error by its own
            file, reason = (error.filename, error.strerror) if isinstance(error, RemoteError) else (None, str(error))
            lost = {"item": entry["item"], "position": _LOST, "file": file, "reason": reason}
            yield pa.Table.from_pylist([lost], schema)


def _refuse_lost(block: pa.Table) -> None:
    """Raise what a task met that could not read the source: what it lacks must not count as not there."""
    for lost in block.filter(pc.equal(block["position"], _LOST)).to_pylist():
        if lost["file"] is None:
            raise UserError(lost["reason"])
        raise RemoteError(errno.EIO, lost["reason"], lost["file"])


def _decode(sample: Sample, image_size: int, channels: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        key: getattr(sample, key) for key in ("file", "row", "lines", "name", "label", "split", "votes")
    }
    try:
        pixels = decode.of_sample(sample.image, channels)
    except UnusableImage as error:
        return row | {"reason": str(error)}
    digest = blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(pixels.tobytes())
    return row | {"digest": digest.hexdigest(), "image": decode.resize(pixels, image_size).tobytes()}
