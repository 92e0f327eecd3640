"""The data job end to end on small data: what it writes, what it refuses, and what it never does twice."""

import csv
import io
import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from emoray import data
from emoray.config import DataSettings, Split
from emoray.data import faces, job, sources
from emoray.errors import UserError

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

SPLITS = ("train", "selection", "validation", "test")
FERPLUS_HAPPY = [0, 9, 0, 0, 0, 0, 0, 1, 0, 0]


def noise(seed: int, side: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def fill(root: Path, classes: dict[str, int], *, first: int = 0) -> None:
    """Class folders with images of noise, none twice."""
    for name, count in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            (root / name / f"{number:03d}.png").write_bytes(png(noise(hash_of(name) + number)))


def hash_of(name: str) -> int:
    return sum(map(ord, name)) * 1000


def prepare(path: Path | None, cache: Path, *, seed: int = 0, **settings) -> data.Prepared:
    said: list[str] = []
    settings = {"image_size": 32, **settings}
    path_text = None if path is None else str(path)
    return data.prepare(DataSettings(path=path_text, **settings), cache=str(cache), seed=seed, progress=said.append)


def listed(path: Path | str) -> list[tuple[str, str, str]]:
    with open(path, newline="") as file:
        return [(row["file"], row["row"], row["reason"]) for row in csv.DictReader(file)]


def images_of(prepared: data.Prepared) -> dict[str, int]:
    return {name: prepared.manifest["splits"][name]["images"] for name in SPLITS}


def test_embedded_faces_come_out_as_they_are_drawn(tmp_path):
    prepared = prepare(None, tmp_path, faces=600, image_size=48)
    assert prepared.manifest["format"] == "embedded"
    assert prepared.manifest["classes"] == list(faces.CLASSES)
    drawn, labels = faces.draw(0, np.arange(600), size=48)
    rows = []
    for name in SPLITS:
        split = prepared.load(name)
        np.testing.assert_array_equal(split.images[..., 0], drawn[split.rows])
        np.testing.assert_array_equal(split.labels, labels[split.rows])
        assert (np.diff(split.rows) > 0).all()
        rows.extend(split.rows)
    assert sorted(rows) == list(range(600))


def test_class_folders_go_through_with_names_shapes_and_counts(tmp_path):
    fill(tmp_path / "faces", {"happy": 20, "bored": 30})
    prepared = prepare(tmp_path / "faces", tmp_path / "cache", channels="rgb")
    assert prepared.manifest["image_shape"] == [32, 32, 3]
    assert prepared.manifest["classes"] == ["bored", "happy"]
    assert prepared.manifest["splits"]["test"] == {"images": 7, "classes": {"bored": 4, "happy": 3}}
    assert sum(images_of(prepared).values()) == 50
    test = prepared.load("test")
    assert test.images.shape == (7, 32, 32, 3)
    assert [file.split("/")[0] for file in test.files] == [prepared.manifest["classes"][label] for label in test.labels]
    assert test.votes is None
    assert json.loads((Path(prepared.folder) / "manifest.json").read_text()) == prepared.manifest


def test_kaggles_csv_goes_through_with_its_splits_names_and_lines(tmp_path):
    lines = ["emotion,pixels,Usage"]
    for usage, count in (("Training", 30), ("PublicTest", 6), ("PrivateTest", 8)):
        for number in range(count):
            pixels = " ".join(map(str, noise(len(lines), 48).ravel()))
            lines.append(f"{(0, 3)[number % 2]},{pixels},{usage}")
    lines[3] = "3,1 2 3,Training"
    lines[5] = lines[5].replace("Training", "Nonsense")
    (tmp_path / "fer2013.csv").write_text("\n".join(lines))
    prepared = prepare(tmp_path / "fer2013.csv", tmp_path / "cache", image_size=48, split=Split(selection=0.2))
    assert prepared.manifest["classes"] == ["angry", "happy"]
    assert images_of(prepared) == {"train": 22, "selection": 6, "validation": 6, "test": 8}
    assert listed(Path(prepared.folder) / "quarantine.csv") == [
        ("fer2013.csv", "4", "3 pixels where 2304 are expected"),
        ("fer2013.csv", "6", "split 'Nonsense' is not known"),
    ]
    test = prepared.load("test")
    assert test.files[0] == "fer2013.csv:38"
    np.testing.assert_array_equal(test.images[0, :, :, 0], noise(37, 48))


@pytest.fixture
def votes_table(tmp_path):
    """36 images with official splits; 8 of FER+'s 10 votes and labels of 2 classes."""
    usage = ["Training"] * 30 + ["PublicTest"] * 6
    table = pa.table(
        {
            "image": [png(noise(i)) for i in range(36)],
            "label": pa.array(["happy", "sad"] * 18).dictionary_encode(),
            "usage": usage,
            "ferplus_votes": pa.array([FERPLUS_HAPPY, [-1] * 10] * 18, pa.list_(pa.int8(), 10)),
        }
    )
    pq.write_table(table, tmp_path / "faces.parquet", row_group_size=7)
    return tmp_path / "faces.parquet"


def test_parquet_goes_through_with_votes(votes_table, tmp_path):
    prepared = prepare(votes_table, tmp_path / "cache", labels="votes")
    assert images_of(prepared)["test"] == 6
    test = prepared.load("test")
    assert test.votes.dtype == np.float32
    assert test.votes.tolist() == [[1.0, 0.0], [0.0, 1.0]] * 3
    assert test.files.tolist() == [f"faces.parquet:{row}" for row in range(30, 36)]
    assert test.rows.tolist() == list(range(30, 36))


def test_a_damaged_page_of_a_table_is_told_with_its_file(tmp_path):
    path = tmp_path / "faces.parquet"
    columns = {"image": [png(noise(i)) for i in range(400)], "label": ["happy", "sad"] * 200}
    pq.write_table(pa.table(columns), path, compression="gzip")
    content = bytearray(path.read_bytes())
    content[1000:3000] = bytes(2000)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"data\.path: .*faces\.parquet cannot be read: \S+"):
        prepare(path, tmp_path / "cache")
    assert not list(tmp_path.glob("cache/*.partial"))


def test_a_file_that_goes_while_it_is_read_is_told(tmp_path):
    path = tmp_path / "faces.parquet"
    pq.write_table(pa.table({"image": [png(noise(i)) for i in range(8)], "label": ["happy", "sad"] * 4}), path)
    source = sources.find(DataSettings(path=str(path)), 0)
    path.unlink()
    with pytest.raises(UserError, match=r"data\.path: .*faces\.parquet cannot be read: No such file"):
        job.decode_all(source, image_size=32, channels=1, folder=tmp_path, progress=print)


def test_votes_that_the_source_lacks_are_an_error(tmp_path):
    with pytest.raises(UserError, match=r"data\.labels: it is votes, but the source has no column of votes"):
        prepare(None, tmp_path, faces=400, labels="votes")
    assert not list(tmp_path.glob("*.partial"))


def test_what_cannot_be_used_is_listed_with_file_and_reason(tmp_path):
    root = tmp_path / "faces"
    fill(root, {"happy": 30, "sad": 30})
    whole = png(noise(999, 64))
    (root / "happy" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "happy" / "empty.jpg").write_bytes(b"")
    (root / "sad" / "flat.png").write_bytes(png(np.full((9, 9), 7, np.uint8)))
    (root / "sad" / "text.png").write_bytes(b"hello")
    prepared = prepare(root, tmp_path / "cache", max_bad_fraction=0.1)
    found = {file: reason for file, _, reason in listed(Path(prepared.folder) / "quarantine.csv")}
    assert found.pop("happy/cut.png").startswith("damaged or incomplete")
    assert found == {
        "happy/empty.jpg": "the file is empty",
        "sad/flat.png": "all pixels are equal",
        "sad/text.png": "not a PNG, JPEG, WebP or BMP image",
    }
    assert sum(prepared.manifest["quarantined"].values()) == 4
    assert prepared.manifest["images"] == 64


def test_too_many_bad_images_are_an_error_with_a_list_that_stays(tmp_path):
    root = tmp_path / "faces"
    fill(root, {"happy": 20, "sad": 20})
    for number in range(4):
        (root / "sad" / f"bad{number}.png").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"4 of 44 images \(9\.1%\).*allows 5\.0%: sad/bad0\.png: the file is empty; "
    ) as error:
        prepare(root, tmp_path / "cache")
    assert len(listed(str(error.value).rsplit(" ", 1)[1])) == 4
    prepared = prepare(root, tmp_path / "cache", max_bad_fraction=0.2)
    with pytest.raises(UserError, match=r"4 of 44 images .* are listed in .*quarantine\.csv"):
        prepare(root, tmp_path / "cache")  # already prepared, but not for this limit
    assert images_of(prepared)["train"] > 0


def test_a_second_call_starts_no_job_and_a_change_starts_one(tmp_path, monkeypatch):
    root = tmp_path / "faces"
    fill(root, {"happy": 20, "sad": 20})
    first = prepare(root, tmp_path / "cache")
    jobs = []
    decode_all = job.decode_all
    monkeypatch.setattr(job, "decode_all", lambda *args, **kwargs: jobs.append(1) or decode_all(*args, **kwargs))
    started = time.monotonic()
    assert prepare(root, tmp_path / "cache") == first
    assert time.monotonic() - started < 1
    assert not jobs
    (root / "sad" / "new.png").write_bytes(png(noise(77)))
    changed = prepare(root, tmp_path / "cache")
    assert (len(jobs), changed.manifest["images"]) == (1, 41)
    assert prepare(root, tmp_path / "cache", seed=1).folder not in (first.folder, changed.folder)
    assert len(jobs) == 2


def test_two_at_once_share_one_job_and_leftovers_go(tmp_path):
    root = tmp_path / "faces"
    fill(root, {"happy": 20, "sad": 20})
    leftover, of_others = (tmp_path / "cache" / f"{name}.partial" for name in ("0123456789abcdef0123", "my_own"))
    for folder in (leftover, of_others):
        folder.mkdir(parents=True)
        (folder / "images-00000.parquet").write_bytes(b"half")
    results: list[data.Prepared] = []
    threads = [threading.Thread(target=lambda: results.append(prepare(root, tmp_path / "cache"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1]
    left = {path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()}
    assert left == {results[0].manifest["fingerprint"], of_others.name}, "what is not its own is left alone"


def test_a_folder_without_a_manifest_is_prepared_again(tmp_path):
    root = tmp_path / "faces"
    fill(root, {"happy": 20, "sad": 20})
    first = prepare(root, tmp_path / "cache")
    (Path(first.folder) / "manifest.json").unlink()
    again = prepare(root, tmp_path / "cache")
    np.testing.assert_array_equal(again.load("train").images, first.load("train").images)


@pytest.fixture
def leaking(tmp_path):
    """Folders of splits: 3 test images also in training, one of them as another class; one training image twice."""
    root = tmp_path / "faces"
    fill(root / "train", {"happy": 30, "sad": 30})
    fill(root / "test", {"happy": 6, "sad": 6}, first=500)
    copies = (("train/happy/001", "test/happy/x"), ("train/sad/001", "test/sad/x"), ("train/sad/002", "test/happy/y"))
    for source, copy in (*copies, ("train/happy/005", "train/happy/z")):
        (root / f"{copy}.png").write_bytes((root / f"{source}.png").read_bytes())
    return root


def test_leaks_are_counted_and_kept_or_dropped_with_a_list(leaking, tmp_path):
    kept = prepare(leaking, tmp_path / "cache")
    assert kept.manifest["duplicates"] == {"images": 4, "groups": 4, "conflicting_labels": 1}
    assert kept.manifest["leaks"] == {"selection": 0, "validation": 0, "test": 3, "dropped_from_train": 0}
    dropped = prepare(leaking, tmp_path / "cache", leaks="drop")
    assert dropped.manifest["leaks"] == {"selection": 0, "validation": 0, "test": 3, "dropped_from_train": 3}
    assert sum(images_of(kept).values()) - sum(images_of(dropped).values()) == 3
    assert images_of(dropped)["test"] == images_of(kept)["test"] == 15
    assert listed(Path(dropped.folder) / "dropped.csv") == [
        ("train/happy/001.png", "", "also in test"),
        ("train/sad/001.png", "", "also in test"),
        ("train/sad/002.png", "", "also in test"),
    ]


def test_a_limit_leaves_evaluation_alone_and_is_listed(leaking, tmp_path):
    whole = prepare(leaking, tmp_path / "cache")
    limited = prepare(leaking, tmp_path / "cache", limit=20)
    assert images_of(limited) == {**images_of(whole), "train": 20}
    assert limited.manifest["splits"]["train"]["classes"] == {"happy": 10, "sad": 10}
    for name in SPLITS[1:]:
        np.testing.assert_array_equal(limited.load(name).rows, whole.load(name).rows)
    assert limited.manifest["dropped"] == {"beyond data.limit": images_of(whole)["train"] - 20}


def test_splits_do_not_depend_on_the_order_of_rows(votes_table, tmp_path):
    table = pq.read_table(votes_table)
    shuffled = tmp_path / "shuffled.parquet"
    order = np.random.default_rng(0).permutation(table.num_rows)
    pq.write_table(table.take(order), shuffled)
    straight, mixed = (prepare(path, tmp_path / "cache") for path in (votes_table, shuffled))
    for name in SPLITS:
        one, other = straight.load(name), mixed.load(name)
        assert sorted(one.rows) == sorted(order[other.rows])


def test_one_class_and_a_class_that_is_too_small_are_errors(tmp_path):
    fill(tmp_path / "one", {"happy": 20})
    with pytest.raises(UserError, match="the data has one class, happy"):
        prepare(tmp_path / "one", tmp_path / "cache")
    fill(tmp_path / "two", {"happy": 20, "sad": 3})
    with pytest.raises(UserError, match="class 'sad' has 3 different images to split, but needs at least 4"):
        prepare(tmp_path / "two", tmp_path / "cache")


def test_the_same_real_images_as_csv_folders_and_parquet(shared_data, tmp_path):
    settings = DataSettings(image_size=48, leaks="drop")
    paths = [shared_data / name for name in ("fer2013-mini.csv", "fer2013-mini")]
    prepared = [
        data.prepare(replace(settings, path=str(path)), cache=str(tmp_path), seed=0, progress=lambda _: None)
        for path in paths
    ]
    for one in prepared:
        assert one.manifest["quarantined"] == {"all pixels are equal": 3}
        assert one.manifest["leaks"] == {"selection": 0, "validation": 0, "test": 10, "dropped_from_train": 12}
        assert one.manifest["classes"] == ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    for name in SPLITS:
        csv_split, folder_split = (one.load(name) for one in prepared)
        images = [sorted(map(bytes, split.images)) for split in (csv_split, folder_split)]
        assert images[0] == images[1]
