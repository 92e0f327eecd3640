"""Sources are found by what lies at a path, and read item by item; no Ray here."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from emoray.config import DataSettings
from emoray.data import folders, kaggle, sources
from emoray.data.plan import UnusableImage
from emoray.errors import UserError

NO_CSV = [b"emotion,pixels\r0,1 2 3 4\r", "emotion,pixels\n0,1\n".encode("utf-16"), b"\xff\r\x00" * 99]


@pytest.mark.parametrize("content", NO_CSV)
def test_what_is_no_csv_is_told_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "faces.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"faces\.csv"):
        sources.find(DataSettings(path=str(tmp_path / "faces.csv")), 0)


def png(seed=0, side=8):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def samples(path, **settings):
    source = sources.find(DataSettings(path=str(path), **settings), seed=0)
    return source, [sample for item in source.items for sample in source.read(source, json.loads(json.dumps(item)))]


def write_csv(path, lines, header="emotion,pixels,Usage"):
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def write_parquet(path, /, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


# --- CSV


def test_a_csv_line_is_a_label_pixels_and_a_split(tmp_path):
    path = write_csv(tmp_path / "fer2013.csv", ["3,1 2 3 4,Training", "", "0,5 6 7 255,PublicTest"])
    source, found = samples(path)
    assert (source.format, source.label_column) == ("csv", "emotion")
    assert [(s.row, s.lines, s.label, s.split) for s in found] == [(0, 3, "3", "Training"), (2, 3, "0", "PublicTest")]
    assert found[1].image.tolist() == [[5, 6], [7, 255]]


def test_spaced_headers_in_another_order_and_a_byte_order_mark_are_understood(tmp_path):
    path = write_csv(tmp_path / "icml_face_data.csv", ["6, Training,1 2 3 4"], header="\ufeffemotion, Usage, pixels")
    _, found = samples(path)
    assert (found[0].label, found[0].split.strip()) == ("6", "Training")
    assert found[0].image.shape == (2, 2)


@pytest.mark.parametrize("size", [1, 7, 40, 10_000])
@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_byte_ranges_give_every_line_once(tmp_path, monkeypatch, size, ending):
    monkeypatch.setattr(kaggle, "BYTES_PER_ITEM", size)
    lines = [f"{i % 3},{i} 2 3 4" for i in range(20)]
    path = tmp_path / "faces.csv"
    path.write_bytes(((ending or "\n").join(["emotion,pixels", *lines]) + ending).encode())
    _, found = samples(path)
    assert [sample.image[0, 0] for sample in found] == list(range(20))


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        ("1 2 3", "3 pixels where 4 are expected"),
        ("1 2 3 4 5 6 7 8 9", "9 pixels where 4 are expected"),
        ("1 2 3 x", "a pixel is not a whole number from 0 to 255"),
        ("1 2 3 4.5", "a pixel is not a whole number from 0 to 255"),
        ("1 2 3 -4", "a pixel is not a whole number from 0 to 255"),
        ("1 2 3 256", "a pixel is not a whole number from 0 to 255"),
        ("1 2 3 99999999999999999999999", "a pixel is not a whole number from 0 to 255"),
        ("", "no pixels"),
    ],
)
def test_bad_pixels_are_told_apart(tmp_path, pixels, reason):
    _, found = samples(write_csv(tmp_path / "a.csv", ["0,1 2 3 4,Training", f"1,{pixels},Training"]))
    assert isinstance(found[1].image, UnusableImage)
    assert str(found[1].image) == reason


def test_a_line_with_too_few_columns_is_unusable(tmp_path):
    _, found = samples(write_csv(tmp_path / "a.csv", ["0,1 2 3 4,Training", "1,1 2 3 4"]))
    assert str(found[1].image) == "2 columns where 3 are expected"


def test_a_csv_without_pixels_is_refused_with_its_columns(tmp_path):
    with pytest.raises(UserError, match=r"a\.csv: needs a column pixels or .* its columns are emotion, score"):
        samples(write_csv(tmp_path / "a.csv", ["0,1"], header="emotion,score"))
    with pytest.raises(UserError, match=r"a\.csv: none of its first lines holds the pixels of a square image"):
        samples(write_csv(tmp_path / "a.csv", ["0,1 2 3,Training"]))
    (tmp_path / "b.csv").write_text("")
    with pytest.raises(UserError, match=r"b\.csv: needs a column label .* its columns are none"):
        samples(tmp_path / "b.csv")


# --- Parquet


def test_parquet_of_bytes_and_dictionaries_is_read_by_column_names(tmp_path):
    labels = pa.array(["sad", "happy", None]).dictionary_encode()
    path = write_parquet(
        tmp_path / "a.parquet",
        image=[png(0), png(1), None],
        label=labels,
        usage=["Training", "PublicTest", "Training"],
        file=["x.jpg", "y.jpg", "z.jpg"],
        ferplus_votes=pa.array([[1] * 10, [-1] * 10, None], pa.list_(pa.int8(), 10)),
    )
    source, found = samples(path)
    assert (source.format, source.images) == ("parquet", 3)
    assert [(s.file, s.row, s.name, s.label, s.split) for s in found] == [
        ("a.parquet", 0, "x.jpg", "sad", "Training"),
        ("a.parquet", 1, "y.jpg", "happy", "PublicTest"),
        ("a.parquet", 2, "z.jpg", None, "Training"),
    ]
    assert found[0].image == png(0)
    assert str(found[2].image) == "no image"
    assert found[1].votes == [-1] * 10


def test_parquet_as_hugging_face_writes_it_keeps_class_names_and_splits(tmp_path):
    table = pa.table({"image": [{"bytes": png(0), "path": "p.png"}, {"bytes": png(1), "path": None}], "label": [1, 0]})
    features = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    (tmp_path / "data").mkdir()
    for name in ("train-00000-of-00001", "test-00000-of-00001"):
        file = tmp_path / "data" / f"{name}.parquet"
        pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), file)
    _, found = samples(tmp_path)
    assert [(s.label, s.split, s.name) for s in found[:2]] == [("dog", "test", "p.png"), ("cat", "test", None)]
    assert [s.split for s in found] == ["test"] * 2 + ["train"] * 2
    assert found[0].image == png(0)


def test_parquet_of_paths_reads_files_beside_it(tmp_path):
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "a.png").write_bytes(png())
    path = write_parquet(tmp_path / "a.parquet", path=["faces/a.png", "faces/b.png"], emotion=[0.0, float("nan")])
    _, found = samples(path)
    assert found[0].image == png()
    assert str(found[1].image) == "there is no file faces/b.png"
    assert [s.label for s in found] == ["0", None]
    assert [s.name for s in found] == ["faces/a.png", "faces/b.png"]


@pytest.mark.parametrize("as_struct", [False, True])
def test_parquet_of_paths_names_no_file_elsewhere(tmp_path, as_struct):
    (tmp_path / "secret.png").write_bytes(png())
    (tmp_path / "own").mkdir()
    named = ["/dev/zero", "../secret.png", "x/../../secret.png", f"{tmp_path}/secret.png"]
    images = [{"bytes": None, "path": name} for name in named] if as_struct else named
    column = "image" if as_struct else "path"
    path = write_parquet(tmp_path / "own" / "a.parquet", **{column: images}, emotion=[0, 1, 2, 3])
    _, found = samples(path)
    assert [str(s.image) for s in found] == [
        f"the path {name} leads out of the Parquet file's folder" for name in named
    ]


def test_parquet_of_paths_reads_no_file_without_end(tmp_path):
    (tmp_path / "link.png").symlink_to("/dev/zero")
    _, found = samples(write_parquet(tmp_path / "a.parquet", path=["link.png", "a\0b"], emotion=[0, 1]))
    assert str(found[0].image) == "too large: at most 256 MB of a file are read"
    assert str(found[1].image).startswith("cannot be read")


def test_parquet_of_pixels_as_text_or_numbers_is_read(tmp_path):
    as_text = write_parquet(tmp_path / "a.parquet", pixels=["1 2 3 4", "1 2 3"], emotion=[1, 2])
    as_numbers = write_parquet(tmp_path / "b.parquet", pixels=[[1, 2, 3, 4], [1, 2, 3, 300]], emotion=[1, 2])
    assert samples(as_text)[1][0].image.tolist() == [[1, 2], [3, 4]]
    assert samples(as_numbers)[1][0].image.tolist() == [[1, 2], [3, 4]]
    assert isinstance(samples(as_text)[1][1].image, UnusableImage)
    assert isinstance(samples(as_numbers)[1][1].image, UnusableImage)


def test_large_row_groups_are_cut_into_slices_that_give_every_row_once(tmp_path):
    count = 5000
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": [b"x"] * count, "label": range(count)}), path, row_group_size=4500)
    source, found = samples(path)
    assert len(source.items) == 4  # 3 of 1500 rows, 1 of 500
    assert [sample.row for sample in found] == list(range(count))
    assert [sample.label for sample in found] == [str(i) for i in range(count)]


def test_parquet_without_images_is_refused_with_its_columns(tmp_path):
    with pytest.raises(
        UserError, match=r"a\.parquet: has no column of images .*; its columns are label: int64, score: int64"
    ):
        samples(write_parquet(tmp_path / "a.parquet", label=[1], score=[2]))
    with pytest.raises(UserError, match=r"b\.parquet: has no column of labels .*; its columns are image: binary"):
        samples(write_parquet(tmp_path / "b.parquet", image=[b""]))
    (tmp_path / "c.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(UserError, match=r"c\.parquet: cannot be read as Parquet"):
        samples(tmp_path / "c.parquet")


# --- folders


def fill(root, *files, content=None):
    for number, file in enumerate(files):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(png(number) if content is None else content)


def test_class_folders_name_the_labels(tmp_path):
    fill(tmp_path, "happy/a.png", "sad/deeper/b.PNG", "sad/no_suffix")
    fill(tmp_path, "sad/.DS_Store", "happy/Thumbs.db", "README.txt", "__MACOSX/happy/a.png", content=b"x")
    fill(tmp_path, "sad/notes.txt", "loose.png", content=b"x")
    source, found = samples(tmp_path)
    assert (source.format, source.images) == ("folders", 5)
    by_file = {sample.file: sample for sample in found}
    assert by_file["happy/a.png"].label == "happy"
    assert by_file["happy/a.png"].split is None
    assert by_file["sad/deeper/b.PNG"].label == "sad"
    assert by_file["sad/no_suffix"].image == png(2)
    assert str(by_file["sad/notes.txt"].image) == "not an image file by its name"
    assert str(by_file["loose.png"].image) == "not in a class folder"


def test_large_files_and_many_files_are_shared_out(tmp_path, monkeypatch):
    fill(tmp_path, *[f"{'ab'[i % 2]}/{i}.png" for i in range(20)])
    monkeypatch.setattr(folders, "FILES_PER_ITEM", 8)
    assert [len(item["files"]) for item in samples(tmp_path)[0].items] == [8, 8, 4]
    monkeypatch.setattr(folders, "BYTES_PER_ITEM", 1)
    source, found = samples(tmp_path)
    assert len(source.items) == 20
    assert len({sample.file for sample in found}) == 20


def test_folders_of_splits_hold_class_folders(tmp_path):
    fill(tmp_path, "Train/happy/a.png", "Train/sad/b.png", "test/happy/c.png")
    _, found = samples(tmp_path)
    assert [(s.split, s.label) for s in found] == [("Train", "happy"), ("Train", "sad"), ("test", "happy")]


def test_a_class_may_be_called_test(tmp_path):
    fill(tmp_path, "test/a.png", "other/b.png")
    _, found = samples(tmp_path)
    assert [(s.split, s.label) for s in found] == [(None, "other"), (None, "test")]


def test_folders_of_splits_beside_others_are_refused(tmp_path):
    fill(tmp_path, "train/happy/a.png", "extra/b.png")
    with pytest.raises(UserError, match=r"holds folders of splits \(train\) beside others \(extra\)"):
        samples(tmp_path)


# --- what lies at a path


def test_a_missing_path_suggests_its_neighbour(tmp_path):
    (tmp_path / "fer2013.csv").write_text("")
    with pytest.raises(UserError, match=r"there is nothing at .*fer2103\.csv; did you mean .*fer2013\.csv\?"):
        samples(tmp_path / "fer2103.csv")
    with pytest.raises(UserError, match=r"there is nothing at .*x\.csv$"):
        samples(tmp_path / "nowhere" / "x.csv")


def test_empty_folders_and_folders_without_images_are_told_apart(tmp_path):
    with pytest.raises(UserError, match="is empty; what is read: CSV as Kaggle"):
        samples(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="holds no images"):
        samples(tmp_path)


def test_images_without_class_folders_are_refused(tmp_path):
    fill(tmp_path, "a.png", "b.png")
    with pytest.raises(UserError, match="has images but no class folders"):
        samples(tmp_path)


def test_other_files_are_refused_with_what_is_read(tmp_path):
    (tmp_path / "faces.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"faces\.zip is a kind of file that is not read; what is read: CSV"):
        samples(tmp_path / "faces.zip")
    with pytest.raises(UserError, match=r"nosuch://x is no place that is read"):
        samples("nosuch://x")


def test_a_folder_with_one_csv_is_that_csv_and_with_several_a_question(tmp_path):
    write_csv(tmp_path / "fer2013.csv", ["0,1 2 3 4,Training"])
    (tmp_path / "README").write_text("x")
    assert samples(tmp_path)[0].format == "csv"
    write_csv(tmp_path / "other.csv", ["0,1 2 3 4,Training"])
    with pytest.raises(UserError, match=r"holds 2 CSV files \(fer2013\.csv, other\.csv\); name the one to read"):
        samples(tmp_path)


def test_a_uri_is_read_as_a_path_is(tmp_path):
    write_csv(tmp_path / "fer2013.csv", ["0,1 2 3 4,Training"])
    assert len(samples(f"file://{tmp_path}/fer2013.csv")[1]) == 1


def test_a_path_that_no_disk_takes_is_a_sentence():
    with pytest.raises(UserError, match=r"data\.path: '/tmp/aaa.*\.\.\. cannot be read: File name too long"):
        samples("/tmp/" + "a" * 300)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_a_sentence(tmp_path):
    fill(tmp_path, "joy/a.png")
    (tmp_path / "joy").chmod(0)
    with pytest.raises(UserError, match=r"cannot be read: Permission denied"):
        samples(tmp_path)
    (tmp_path / "joy").chmod(0o700)


# --- labels and votes


def test_a_link_to_a_folder_above_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    with pytest.raises(UserError, match="up is a link to"):
        sources.find(DataSettings(path=str(tmp_path)), 0)


def test_what_is_called_an_image_and_is_no_file_is_listed(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(png())
    (tmp_path / "a" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "b" / "pipe.png")
    _, found = samples(tmp_path)
    unusable = [sample for sample in found if isinstance(sample.image, UnusableImage)]
    assert sorted(sample.file for sample in unusable) == ["a/lost.png", "b/pipe.png"]


def test_a_pipe_is_no_data(tmp_path):
    os.mkfifo(tmp_path / "faces.csv")
    with pytest.raises(UserError, match=r"faces\.csv is neither a file nor a folder"):
        samples(tmp_path / "faces.csv")
