"""Data on disk, read as they are asked for, and Ray Data's batches beside those of a thread."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emoray.data import draws, parts
from emoray.data.augmentation import pipeline
from emoray.data.batches import Batches, Epochs
from emoray.data.parts import MappedImages
from emoray.data.stream import DataShare, Stream

SHAPE = (24, 24, 1)


def on_disk(
    folder: Path, files: int, each: int, shape: tuple[int, int, int] = SHAPE
) -> tuple[MappedImages, np.ndarray]:
    """Noise as prepared images, every third of which belongs to another split; and the same as an array."""
    rng, width = np.random.default_rng(0), int(np.prod(shape))
    held, numbers, places = [], [], []
    for part in range(files):
        images = rng.integers(0, 256, (each, width), np.uint8)
        column = pa.array([row.tobytes() for row in images], pa.binary(width))
        plain = {"compression": "none", "use_dictionary": False, "row_group_size": parts.ROW_GROUP}
        pq.write_table(pa.table({"image": column}), parts.part_path(folder, part), **plain)
        ours = np.flatnonzero(np.arange(each) % 3 != 1)
        held.append(images[ours]), numbers.append(np.full(len(ours), part)), places.append(ours)
    array = np.concatenate(held).reshape(-1, *shape)
    return MappedImages(str(folder), np.concatenate(numbers), np.concatenate(places), shape), array


def test_images_on_disk_are_those_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mapped, array = on_disk(tmp_path, files=3, each=200)
    order = np.random.default_rng(1).permutation(len(array))
    assert mapped.shape == array.shape
    assert np.array_equal(mapped[order], array[order])
    assert np.array_equal(mapped[10:90], array[10:90])
    assert np.array_equal(parts.read_all(mapped), array)
    monkeypatch.setattr(parts, "CACHE_BYTES", 1)  # a row group at a time
    assert np.array_equal(mapped[order], array[order])
    assert mapped[np.zeros(0, int)].shape == (0, *SHAPE)


@pytest.mark.parametrize("n", [1, 64, 1000, 1029])
def test_a_windowed_permutation_shuffles_runs_and_then_windows(n: int) -> None:
    window = 256
    order = draws.windowed_permutation(5, 0, n, window)
    assert sorted(order) == list(range(n))
    if n <= window:
        assert np.array_equal(order, draws.permutation(5, 0, n))
        return
    runs = [set(order[i : i + window] // draws.RUN) for i in range(0, n, window)]
    assert all(len(found) <= window // draws.RUN + 1 for found in runs), "a window comes from few runs"
    assert not np.array_equal(order, draws.windowed_permutation(5, 1, n, window))
    assert (np.diff(order) == 1).mean() < 0.05


def stream_and_thread(folder: Path, files: int, cpus: float, rank: int, world: int) -> tuple[Stream, Batches]:
    """Ray Data on images on disk, and a thread on the same in memory; the shuffle's window is smaller than the data."""
    mapped, array = on_disk(folder, files, each=1500 // files)
    labels = np.eye(4, dtype=np.float32)[np.arange(len(array)) % 4]
    augment = pipeline([{"name": "flip"}, {"name": "zoom"}, {"name": "noise"}, {"name": "cutmix"}])
    told = {"batch_size": 64, "pipeline": augment, "seed": 2, "rank": rank, "world": world}
    made = [Epochs(images, labels, np.arange(len(array)), **told) for images in (mapped, array)]
    for epochs in made:
        epochs.window = 200
    return Stream(made[0], 3, DataShare(cpus)), Batches(made[1])


@pytest.mark.ray
@pytest.mark.parametrize(
    ("cpus", "files", "rank", "world"), [(0.5, 1, 0, 1), (1, 3, 0, 2), (2, 5, 0, 3), (2, 5, 1, 3), (2, 5, 2, 3)]
)
def test_any_share_of_cpus_and_any_rank_gives_the_batches_of_a_thread(
    ray_cluster: None, tmp_path: Path, cpus: float, files: int, rank: int, world: int
) -> None:
    """Bit for bit, with one task or two at once, however the images lie in files."""
    stream, thread = stream_and_thread(tmp_path, files, cpus, rank, world)
    for epoch in range(2):
        for ours, theirs in zip(stream.epoch(epoch), thread.epoch(epoch), strict=True):
            assert np.array_equal(ours.images, theirs.images)
            assert np.array_equal(ours.labels, theirs.labels)
    stream.close(), thread.close()


@pytest.mark.ray
def test_ray_data_gives_any_epoch_and_any_rest_of_one(ray_cluster: None, tmp_path: Path) -> None:
    stream, thread = stream_and_thread(tmp_path, files=3, cpus=1, rank=1, world=2)
    for epoch in (0, 1, 2, 1):  # a resumed trial asks for any epoch
        for ours, theirs in zip(stream.epoch(epoch), thread.epoch(epoch), strict=True):
            assert np.array_equal(ours.images, theirs.images)
            assert np.array_equal(ours.labels, theirs.labels)
    last = len(thread.epochs.parts)
    for epoch, first in ((1, 1), (2, 0), (0, last - 1), (1, 0), (2, last)):  # and for an epoch's rest
        pairs = list(zip(stream.epoch(epoch, first), thread.epoch(epoch, first), strict=True))
        assert len(pairs) == last - first
        assert all(np.array_equal(ours.images, theirs.images) for ours, theirs in pairs)
    stream.close(), thread.close()


@pytest.mark.ray
@pytest.mark.keras
def test_data_of_ten_times_the_object_store_train_in_bounded_memory(tmp_path: Path) -> None:
    """In a cluster of its own, whose object store is as small as Ray allows."""
    done = subprocess.run([sys.executable, "-m", "tests.stream_large", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["data_bytes"] > 10 * told["object_store_bytes"]
    assert told["trained_on"] == told["images"]
    assert told["epoch"] == 1
    assert not told["spilled"]
