"""What comes from somebody else - sweep files, images - runs nothing, writes nothing outside, and ends."""

import io
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from emoray import config
from emoray.data import decode, folders, store
from emoray.data.plan import UnusableImage
from emoray.errors import UserError

PROJECT = Path(__file__).parents[1]
MEMORY = 6 << 30
"""Of address space, which a process with all libraries takes a good part of."""


def bounded(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command of emoray's that may take so much memory and 30 seconds."""
    limits = f"ulimit -v {MEMORY >> 10}; exec {sys.executable} -m emoray.cli {' '.join(arguments)}"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    return subprocess.run(["bash", "-c", limits], cwd=cwd, env=environment, capture_output=True, text=True, timeout=30)


HUGE = [
    ("models: [{name: lenet, trials: 1000000000000}]", "trials: 1000000000000 is not allowed"),
    ("models: [{name: lenet, trials: 1e12}]", "it must be a whole number"),
    ("models: [lenet]\nsearch: {trials: 9999999999}", "search.trials: 9999999999 is not allowed"),
    ("models: [lenet]\ndata: {image_size: 1000000000}", "image_size: 1000000000 is not allowed"),
    ("models: [{name: lenet, workers: 1000000000}]", "workers: 1000000000 is not allowed"),
    ("models: [{name: lenet, cpus_per_worker: 1e-9}]", "cpus_per_worker: 1e-09 is not allowed"),
    ("models: [lenet]\ntrain: {epochs: 1000000000000}", "epochs: 1000000000000 is not allowed"),
    ("models: [lenet]\ntrain: {batch_size: 1000000000}", "batch_size: 1000000000 is not allowed"),
    ("models: [lenet]\nsearch: {scheduler: {name: hyperband, brackets: 1000000000}}", "brackets: 1000000000 is not"),
    (
        "models: [lenet]\ndata: {faces: 10000000, image_size: 1024}",
        "data.faces: 10,000,000 faces of 1024 pixels a side are 10,486 GB; at most 64 GB are drawn",
    ),
    ("models: [{name: simple_cnn, dropout: {quniform: [0, 0.5, 1e-300]}}]", "the step is too small"),
    (f"models: [{'lenet, ' * 30_000}]", "30,000 models are listed"),
    (f"models: [lenet]\n{''.join(f'key{i}: 1' + chr(10) for i in range(4_000))}", "there is no key 'key3999'"),
]


@pytest.mark.parametrize(("text", "expected"), HUGE, ids=[text[:45].replace("\n", " ") for text, _ in HUGE])
def test_huge_numbers_are_told_at_once(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "huge.yaml").write_text(text)
    began = time.monotonic()
    with pytest.raises(UserError, match=expected):
        config.load(tmp_path / "huge.yaml")
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "text",
    [
        "models: [{name: simple_cnn, dropout: {quniform: [0, 0.5, 1e-12]}}]\nsearch: {algorithm: grid}",
        "models: [{name: simple_cnn, width: {randint: [1, 100000000000000000]}}]\nsearch: {trials: 1000000}",
    ],
    ids=["a grid of 10^12 points", "10^17 widths"],
)
def test_spaces_that_cannot_be_counted_out_are_planned_with(tmp_path: Path, text: str) -> None:
    (tmp_path / "huge.yaml").write_text(text)
    done = bounded("sweep", "huge.yaml", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/b", "..", ".x", ""])
def test_names_do_not_climb(tmp_path: Path, name: str) -> None:
    file = tmp_path / "sweep.yaml"
    for text in (f"name: '{name}'\nmodels: [lenet]", f"models: [{{name: lenet, study: '{name}'}}]"):
        file.write_text(text)
        with pytest.raises(UserError, match="is not allowed"):
            config.load(file)


@pytest.mark.parametrize("module", ["../evil", "/etc/passwd", "..evil", "", "a/../evil"])
def test_components_are_modules_and_no_paths(tmp_path: Path, module: str) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "evil.py").write_text("raise SystemExit('it ran')")
    file = tmp_path / "inner" / "sweep.yaml"
    file.write_text(f"components: ['{module}']\nmodels: [lenet]")
    with pytest.raises(UserError, match="there is no module"):
        config.load(file)


def test_what_lies_beside_a_sweep_file_is_not_imported(tmp_path: Path, witness: Path) -> None:
    """Not by the processes that train either: the folder is on their path only where the file names modules of it."""
    for name in ("numpy", "keras", "random", "json"):
        (tmp_path / f"{name}.py").write_text(f"open({str(witness)!r}, 'w')")
    (tmp_path / "sweep.yaml").write_text("models: [lenet]")
    assert config.load(tmp_path / "sweep.yaml").import_path == []
    done = subprocess.run(
        [sys.executable, "-c", f"from emoray import cli; cli.main(['sweep', '{tmp_path}/sweep.yaml', '--dry-run'])"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert "simple" in done.stdout or "lenet" in done.stdout, done.stderr
    assert not witness.exists()


def test_a_storage_that_others_use_loses_nothing(tmp_path: Path) -> None:
    theirs, link = tmp_path / "download.partial", tmp_path / f"{'a' * 20}.partial"
    theirs.mkdir()
    (theirs / "movie").touch()
    link.symlink_to(theirs)
    ours = tmp_path / f"{'0123456789' * 2}.partial"
    ours.mkdir()
    store.remove_leftovers(tmp_path)
    assert (theirs / "movie").exists()
    assert not ours.exists()


def png(width: int, height: int, rows: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def test_a_header_of_100_000_by_100_000_is_read_and_no_more() -> None:
    began = time.monotonic()
    with pytest.raises(UnusableImage, match="too large"):
        decode.decode(png(100_000, 100_000), 1)
    assert time.monotonic() - began < 1


def test_a_decompression_bomb_is_no_larger_than_its_header() -> None:
    small = png(10, 10, bytes(32 << 20))  # rows for 33 million pixels behind a header of 100
    assert len(small) < 50_000
    with pytest.raises(UnusableImage, match="all pixels are equal"):
        decode.of_sample(small, 1)
    with pytest.raises(UnusableImage, match="too large"):
        decode.decode(png(40_000, 40_000, bytes(32 << 20)), 1)


def test_a_file_without_end_is_left(tmp_path: Path) -> None:
    with open("/dev/zero", "rb") as endless, pytest.raises(UnusableImage, match="at most 256 MB of a file are read"):
        decode.read(endless)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with (tmp_path / "a" / "sparse.png").open("wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "b" / "x.png").write_bytes(b"x")
    from emoray.data import sources

    source = sources.find(config.DataSettings(path=str(tmp_path)), 0)
    samples = [sample for item in source.items for sample in folders._read(source, item)]
    assert "too large" in str(next(one for one in samples if one.file == "a/sparse.png").image)


def test_reading_in_parts_is_reading() -> None:
    data = os.urandom(3 << 20)
    assert decode.read(io.BytesIO(data)) == data
    assert decode.read(io.BytesIO(b"")) == b""
