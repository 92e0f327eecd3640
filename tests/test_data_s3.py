"""Data on S3: every kind of source read as from a disk, prepared data that all machines share, faults on the way."""

import io
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from emoray import storage, tasks
from emoray.config import DataSettings
from emoray.data import faces, job, shared, sources, store
from emoray.data.plan import Sample, UnusableImage
from emoray.data.store import Prepared
from emoray.errors import UserError
from emoray.s3 import RemoteError, S3Path, arrow, requests
from emoray.study_settings import Resources
from tests.s3_server import BUSY, CUT, FAIL, Proxy

COUNT = 40


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same faces as CSV, class folders and Parquet, by path and by bytes."""
    folder = tmp_path_factory.mktemp("data")
    images, labels = faces.draw(0, np.arange(COUNT))
    lines = [f"{label},{' '.join(map(str, image.ravel()))}" for image, label in zip(images, labels, strict=True)]
    (folder / "faces.csv").write_text("\n".join(["emotion,pixels", *lines]) + "\n")
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / "folders" / faces.CLASSES[label] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))
    files = [png(image) for image in images]
    (folder / "tables").mkdir()
    pq.write_table(pa.table({"image": files, "label": labels}), folder / "tables" / "a.parquet", row_group_size=16)
    (folder / "paths" / "own").mkdir(parents=True)
    for number, content in enumerate(files):
        (folder / "paths" / "own" / f"{number}").write_bytes(content)
    names = [f"own/{number}" for number in range(COUNT)]
    pq.write_table(pa.table({"path": names, "label": labels}), folder / "paths" / "a.parquet")
    return folder


KINDS = ("faces.csv", "folders", "tables", "paths")


def upload(local: Path, kind: str, bucket: S3Path) -> str:
    found = [local / kind] if (local / kind).is_file() else [p for p in (local / kind).rglob("*") if p.is_file()]
    for _ in storage.each(bucket, lambda p: storage.copy(p, bucket / p.relative_to(local).as_posix()), found):
        pass
    return f"{bucket}/{kind}"


def samples(path: str) -> list[Sample]:
    """All that a source gives out, read as a task would: from a copy that has travelled."""
    source = pickle.loads(pickle.dumps(sources.find(DataSettings(path=path), 0)))
    return [sample for item in source.items for sample in source.read(source, item)]


def plain(found: Sequence[Sample]) -> list[tuple[Any, ...]]:
    return [
        (s.file, s.row, s.label, s.split, s.image.tobytes() if isinstance(s.image, np.ndarray) else s.image)
        for s in found
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_source_reads_as_from_a_disk(local: Path, s3_bucket: S3Path, kind: str) -> None:
    found = samples(upload(local, kind, s3_bucket))
    assert plain(found) == plain(samples(str(local / kind)))
    assert len(found) == COUNT


@pytest.mark.parametrize("kind", KINDS)
def test_faults_change_no_pixel(
    local: Path, s3_bucket: S3Path, s3_proxy: Proxy, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every ninth answer breaks off, and some requests are refused: what is read is the same."""
    monkeypatch.setattr(requests, "_PAUSE_SECONDS", 0.01)
    address = upload(local, kind, s3_bucket)
    asked = iter(range(10**6))

    def plan(method: str, path: str) -> str | None:
        number = next(asked)
        return CUT if number % 9 == 3 and method == "GET" else BUSY if number in (2, 14) else None

    s3_proxy.plan = plan
    assert plain(samples(address)) == plain(samples(str(local / kind)))
    assert {seen[2] for seen in s3_proxy.seen} >= {CUT, BUSY}


@pytest.mark.parametrize("kind", ["folders", "paths"])
def test_a_server_that_fails_for_good_is_no_unusable_image(
    local: Path, s3_bucket: S3Path, s3_proxy: Proxy, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    address = upload(local, kind, s3_bucket)
    s3_proxy.plan = lambda method, path: FAIL if "/own/1" in path or "003.png" in path else None
    with pytest.raises(RemoteError, match="InternalError"):
        samples(address)


@pytest.mark.ray
def test_the_data_job_ends_where_a_task_cannot_read(ray_cluster: None, local: Path, tmp_path: Path) -> None:
    """The tasks of this cluster know of no server and have no keys, as on a node without a role."""
    source = replace(
        sources.find(DataSettings(path=str(local / "folders")), 0),
        filesystem=arrow.filesystem(),
        root="nobody-has-this",
    )
    with pytest.raises(RemoteError) as raised:
        job.decode_all(source, image_size=48, channels=1, folder=tmp_path, progress=print)
    assert str(raised.value.filename).startswith("s3://nobody-has-this/")
    failed = tasks.on_each_node(storage.check_writable, S3Path("nobody-has-this"))
    assert [type(found) for found in failed.values()] == [RemoteError]
    with pytest.raises(RemoteError):
        tasks.run(storage.check_writable, [(S3Path("nobody-has-this"),)], [Resources()])


def test_a_file_that_is_gone_is_an_unusable_image(local: Path, s3_bucket: S3Path) -> None:
    address = upload(local, "folders", s3_bucket)
    source = sources.find(DataSettings(path=address), 0)
    gone = source.stamps[0].file
    (storage.at(address) / gone).unlink()
    found = {sample.file: sample.image for item in source.items for sample in source.read(source, item)}
    assert isinstance(found[gone], UnusableImage)
    assert len(found) == COUNT


def test_mistakes_are_told_in_a_sentence(local: Path, s3_bucket: S3Path, s3_proxy: Proxy) -> None:
    upload(local, "faces.csv", s3_bucket)
    for path, told in (
        (f"{s3_bucket}/face.csv", "there is nothing at s3://.*; did you mean .*faces.csv"),
        ("s3://nobody-has-this/faces.csv", "there is no bucket 'nobody-has-this'"),
        ("s3://a:b@bucket/faces.csv", "neither keys nor options"),
    ):
        with pytest.raises(UserError, match=told):
            sources.find(DataSettings(path=path), 0)
    folder = upload(local, "folders", s3_bucket)
    s3_proxy.plan = lambda method, path: "403" if path.endswith(".png") else None
    with pytest.raises(UserError, match=r"data.path: s3://.*png: access is denied"):
        sources.find(DataSettings(path=folder), 0)


def prepared(folder: Path, mark: str = "") -> Prepared:
    """Prepared data of 100 images in two parts, as the data job would leave it."""
    folder.mkdir(parents=True)
    pixels = np.arange(100 * 4, dtype=np.uint32).astype(np.uint8).reshape(100, 4)
    for part in range(2):
        column = pa.array([row.tobytes() for row in pixels[part * 50 : part * 50 + 50]], pa.binary(4))
        pq.write_table(pa.table({"image": column}), folder / f"images-{part:05d}.parquet", row_group_size=64)
    number = np.arange(100)
    rows = {"row": number, "part": number // 50, "index": number % 50, "split": number % 4, "label": number % 2}
    pq.write_table(pa.table({**rows, "file": [f"{n}{mark}" for n in number]}), folder / store.ROWS)
    store.write_manifest(folder, {"image_shape": [2, 2, 1], "fingerprint": folder.name, "mark": mark})
    found = store.read(folder)
    assert found is not None
    return found


def never(*arguments: Any) -> Any:
    raise AssertionError("the data were there")


def test_prepared_data_is_for_every_machine(s3_bucket: S3Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = s3_bucket / ".cache"
    made = shared.prepare(cache, "abc", prepared, never)
    assert shared.prepare(cache, "abc", never, never) == made
    here = made.load("train")
    monkeypatch.setenv("EMORAY_CACHE", str(tmp_path / "another machine"))
    there = pickle.loads(pickle.dumps(made)).load("train")
    streamed = made.mapped("train").images[np.array([3, 1, 24])]
    assert here.images.shape == (25, 2, 2, 1)
    assert np.array_equal(here.images, there.images)
    assert np.array_equal(streamed, here.images[[3, 1, 24]])
    assert here.files.tolist() == there.files.tolist()
    assert [p.name for p in (tmp_path / "another machine" / "data").iterdir()] == [made.folder.rpartition("/")[2]]


def test_who_is_second_takes_what_the_first_has_made(
    s3_bucket: S3Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = s3_bucket / ".cache"

    def slow(folder: Path) -> Prepared:
        with monkeypatch.context() as patch:
            patch.setenv("EMORAY_CACHE", str(tmp_path / "faster"))
            shared.prepare(cache, "abc", lambda folder: prepared(folder, "first"), never)
        return prepared(folder, "second")

    made = shared.prepare(cache, "abc", slow, never)
    assert made.manifest["mark"] == "first"
    assert made.load("test").files[0].endswith("first")
    assert len(cache.folders()) == 1, "what the second one uploaded is gone"


def test_an_upload_that_died_counts_for_nothing(
    s3_bucket: S3Path, s3_proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = s3_bucket / ".cache"
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3_proxy.plan = lambda method, path: FAIL if "images-00001" in path else None
    with pytest.raises(RemoteError):
        shared.prepare(cache, "abc", prepared, never)
    assert shared.read(cache, "abc") is None
    s3_proxy.plan = lambda method, path: None
    made = shared.prepare(cache, "abc", never, never)  # what was built here is uploaded, not built again
    assert len(made.load("train").labels) == 25
    monkeypatch.setattr(shared, "_ABANDONED_SECONDS", -10.0)
    shared._remove_abandoned(cache, "abc", made)
    assert [str(folder) for folder in cache.folders()] == [made.folder]


def test_a_machine_without_room_for_copies(s3_bucket: S3Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("EMORAY_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="name another folder in EMORAY_CACHE"):
        shared.prepare(s3_bucket / ".cache", "abc", never, never)


@pytest.mark.parametrize("text", ['{"folder": "abc-/../..", "manifest": {}}', '{"folder": 1}', "[]", "no JSON"])
def test_a_pointer_that_another_has_written(s3_bucket: S3Path, text: str) -> None:
    (s3_bucket / "abc.json").write_bytes(text.encode())
    with pytest.raises(UserError, match=r"abc.json .*delete it"):
        shared.prepare(s3_bucket, "abc", never, never)


def test_of_a_large_object_only_what_is_read_is_fetched(
    s3_bucket: S3Path, s3_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes(range(256)) * 40  # ten parts
    (s3_bucket / "large").write_bytes(content)
    (s3_bucket / "small").write_bytes(content[:1024])
    (s3_bucket / "empty").write_bytes(b"")
    monkeypatch.setattr(arrow, "WHOLE_BYTES", 1024)
    system = arrow.filesystem()
    s3_proxy.seen.clear()
    with system.open_input_stream(f"{s3_bucket.bucket}/large") as stream:
        assert stream.read(1500) == content[:1500]
    asked = [method for method, *_ in s3_proxy.seen]
    assert asked == ["GET", "HEAD", "GET", "GET"], "what is too large, its size, and two of ten parts"
    with system.open_input_stream(f"{s3_bucket.bucket}/large") as stream:
        assert stream.read() == content
    s3_proxy.seen.clear()
    for name, size in (("small", 1024), ("empty", 0)):
        with system.open_input_stream(f"{s3_bucket.bucket}/{name}") as stream:
            assert stream.read() == content[:size]
    assert len(s3_proxy.seen) == 2, "one request each"
    with pytest.raises(FileNotFoundError):
        system.open_input_stream(f"{s3_bucket.bucket}/nothing")
