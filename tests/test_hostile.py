"""What comes from somebody else - sweep files, images, run folders - runs nothing, writes nothing outside, and ends."""

import copy
import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from emoray import cli, config, intact, predict, runs, storage, sweep, trials
from emoray.data import decode, folders, store
from emoray.data.plan import UnusableImage
from emoray.errors import UserError
from emoray.run_folder import RunFolder, write_json
from emoray.trial import checkpoint
from emoray.trial.checkpoint import State

PROJECT = Path(__file__).parents[1]
MEMORY = 6 << 30
"""Of address space, which a process with all libraries takes a good part of."""


@pytest.fixture
def witness() -> Iterator[Path]:
    """A file outside that nothing may make or change."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder, "witness")


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


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A finished run of one small model, as far as it is read before a model is built."""
    folder = RunFolder(tmp_path / "run")
    folder.manifest.parent.mkdir(parents=True)
    folder.sweep.write_text("models: [lenet]")
    manifest = {"image_shape": [48, 48, 1], "classes": ["glad", "sad"], "fingerprint": "x"}
    write_json(folder.manifest, manifest)
    settings = {"model": {"name": "lenet"}}
    told = {"trial": "lenet-001", "study": "lenet", "index": 1, "settings": settings, "drawn": {}}
    write_json(folder.trial("lenet-001") / "settings.json", told)
    checkpoint.write(folder.trial("lenet-001") / "checkpoint" / "best.npz", State({"model": [np.zeros(3, np.float32)]}))
    (folder.trial("lenet-001") / "history.csv").write_text("epoch,score\n1,0.5\n")
    files = ["trials/lenet-001/checkpoint/best.npz"]
    candidate = {"name": "lenet-001", "trial": "lenet-001", "files": files, "temperature": 1.0}
    blend = {"method": "uniform", "weights": [1.0]}
    ensemble = {"classes": ["glad", "sad"], "tta": "none", "candidates": [candidate], "blend": blend}
    write_json(folder.ensemble, ensemble)
    return folder


def edit(file: Path, change: Callable[[dict], None]) -> None:
    told = json.loads(file.read_text())
    change(told)
    write_json(file, told)


def image(tmp_path: Path) -> Path:
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 48), np.uint8)).save(tmp_path / "face.png")
    return tmp_path / "face.png"


def refused(run: RunFolder, tmp_path: Path) -> str:
    """What predict and finalize say of a run folder; both refuse it before any model is built or Ray is started."""
    with pytest.raises(UserError) as by_predict:
        predict.files(run.path, [image(tmp_path)])
    return str(by_predict.value)


@pytest.mark.parametrize("inside", [".lock", "report", "predictions", "trials/lenet-001/checkpoint", "trials/other"])
def test_links_that_lead_out_are_refused(run: RunFolder, tmp_path: Path, witness: Path, inside: str) -> None:
    link = run.path / inside
    if link.exists():
        shutil.rmtree(link)
    target = witness if inside == ".lock" else witness.parent
    if inside == ".lock":
        witness.write_text("precious")
    link.symlink_to(target)
    assert f"{link} is a link that leads out of the run folder" in refused(run, tmp_path)
    with pytest.raises(UserError, match="leads out of the run folder"):
        sweep.finalize_again(run.path)
    loaded = config.load(run.sweep, storage=str(run.path.parent))
    object.__setattr__(loaded, "name", "run")
    with pytest.raises(UserError, match="leads out of the run folder"):
        runs.find(loaded, resume=True)
    assert not witness.exists() or witness.read_text() == "precious"


def test_a_link_within_the_run_and_a_run_behind_a_link_are_fine(run: RunFolder, tmp_path: Path) -> None:
    (run.path / "latest").symlink_to(run.trial("lenet-001"))
    (tmp_path / "moved").symlink_to(run.path)
    intact.links(tmp_path / "moved")
    assert len(list(trials.restore(RunFolder(tmp_path / "moved"), ()))) == 1


@pytest.mark.parametrize("written", ["/etc/passwd", "../../secret.npz", "trials/../../x.npz", 7])
def test_files_of_the_ensemble_lie_in_the_run(run: RunFolder, tmp_path: Path, written: object) -> None:
    edit(run.ensemble, lambda told: told["candidates"][0].update(files=[written]))
    assert "is no file of the run" in refused(run, tmp_path)


@pytest.mark.parametrize("name", ["../../../tmp/x", "/tmp/x", "other", "", 3])
def test_trials_are_called_like_their_folders(run: RunFolder, tmp_path: Path, name: object) -> None:
    edit(run.trial("lenet-001") / "settings.json", lambda told: told.update(trial=name))
    assert "settings.json" in refused(run, tmp_path)
    with pytest.raises(UserError, match=r"settings\.json"):
        sweep.finalize_again(run.path)


def test_what_blocks_or_has_no_end_is_refused(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = run.trial("lenet-001") / "history.csv"
    history.unlink()
    os.mkfifo(history)
    assert f"{history} is neither a file nor a folder" in refused(run, tmp_path)
    for command in (["show", str(run.path)], ["show", str(run.path), "lenet-001"]):
        assert cli.main(command) == 2
    assert cli.main(["runs", str(run.path.parent)]) == 0
    assert f"is damaged: {history} is neither a file nor a folder" in capsys.readouterr().out
    history.unlink()
    with history.open("wb") as file:
        file.truncate((256 << 20) + 1)
    assert f"{history} has 268,435,457 bytes" in refused(run, tmp_path)


def test_what_a_run_tells_cannot_steer_the_terminal(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """Its texts are shown without their control characters, in errors too."""
    escape = "\x1b]0;owned\x07\x1b[2J\u202e\x9b31m"
    (run.trial("lenet-001") / "error.txt").write_text(f"Traceback\n{escape}ValueError")
    settings = {"model": {"name": escape}, "epochs": 1}
    edit(run.trial("lenet-001") / "settings.json", lambda told: told.update(settings=settings))
    end = {"status": "failed", "failure": "error", "reason": f"{escape}oops", "parameters": 1}
    write_json(run.trial("lenet-001") / "end.json", end)
    assert cli.main(["show", str(run.path)]) == 0
    assert cli.main(["show", str(run.path), "lenet-001"]) == 0
    assert cli.main(["runs", str(run.path.parent)]) == 0
    told = capsys.readouterr().out
    assert "ValueError" in told
    assert "oops" in told
    run.sweep.write_text(f"models: [lenet]\nfinalize: {{keep: '{escape}'}}".replace("\x07", ""))
    assert cli.main(["finalize", str(run.path)]) == 2
    told += capsys.readouterr().err
    assert not [c for c in told if c != "\n" and not c.isprintable()]


def test_an_ensemble_method_of_the_run_runs_only_where_that_is_asked_for(run: RunFolder, witness: Path) -> None:
    method = "def f(probabilities, labels, metric):\n    'Mine.'\n"
    (run.path / "evil.py").write_text(f"open({str(witness)!r}, 'w')\n{method}")
    run.sweep.write_text("models: [lenet]\ncomponents: [evil]\nfinalize: {ensemble: f}")
    with pytest.raises(UserError, match=r"\(evil\.f\), which would have all your rights: .*--run-components"):
        sweep.finalize_again(run.path)
    assert not witness.exists()


def test_code_in_a_run_folder_runs_only_where_that_is_asked_for(
    run: RunFolder, tmp_path: Path, witness: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.path / "evil.py").write_text(f"open({str(witness)!r}, 'w')\n")
    for name in ("torch", "jax", "numpy"):  # what libraries import where it is there
        (run.path / f"{name}.py").write_text(f"open({str(witness)!r}, 'w')\n")
    edit(run.trial("lenet-001") / "settings.json", lambda told: told["settings"].update(model={"name": "evil.net"}))
    assert "(evil.net), which would have all your rights: read it, then add --run-components" in refused(run, tmp_path)
    with pytest.raises(UserError, match="--run-components"):
        sweep.finalize_again(run.path)
    edit(run.trial("lenet-001") / "settings.json", lambda told: told["settings"].update(model={"name": "os.system"}))
    assert "os.system" in refused(run, tmp_path)
    assert str(run.path) not in sys.path
    assert not witness.exists()


@pytest.mark.parametrize("module", ["..evil", "/evil", "../evil", "a..b", "", 3, "evil "])
def test_modules_of_a_run_elsewhere_are_no_paths(
    tmp_path: Path, module: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run in a bucket is brought here with its modules, by names that its sweep.yaml gives."""
    copied: list[tuple[object, Path]] = []

    def copy(source: object, target: Path) -> None:
        copied.append((source, target))
        target.write_text(json.dumps({"components": [module], "models": ["lenet"]}))

    monkeypatch.setattr(storage, "copy", copy)
    elsewhere = RunFolder(storage.at("s3://bucket/run"))
    with pytest.raises(UserError, match="is no name of a module"), runs.at_hand(elsewhere):
        pass
    assert [target.name for _, target in copied] == ["sweep.yaml"]


@pytest.mark.parametrize(
    "manifest",
    [{"image_shape": [10**9, 10**9, 1]}, {"image_shape": [48, 48, 10**9]}, {"image_shape": "48"}, {"classes": 1}],
)
def test_sizes_of_a_manifest_are_believed_within_reason(run: RunFolder, tmp_path: Path, manifest: dict) -> None:
    edit(run.manifest, lambda told: told.update(manifest))
    assert "manifest.json" in refused(run, tmp_path)


class Evil:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple:
        return open, (str(self.witness), "w")


def test_a_checkpoint_that_is_a_pickle_is_no_checkpoint(tmp_path: Path, witness: Path) -> None:
    bare, inside = tmp_path / "bare.npz", tmp_path / "inside.npz"
    bare.write_bytes(pickle.dumps(Evil(witness)))
    np.savez(inside, meta=np.frombuffer(b"{}", np.uint8), **{"model/0": np.array([Evil(witness)], dtype=object)})
    for path in (bare, inside):
        with pytest.raises(UserError, match="is damaged and cannot be read"):
            checkpoint.read(path)
    assert not witness.exists()


def test_a_checkpoint_that_unpacks_without_end_is_no_checkpoint(tmp_path: Path) -> None:
    bomb, lying = tmp_path / "bomb.npz", tmp_path / "lying.npz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("model/0.npy", "w") as part:
        np.lib.format.write_array_header_1_0(part, {"descr": "<f4", "fortran_order": False, "shape": (1 << 28,)})
        for _ in range(64):
            part.write(bytes(1 << 20))
    with zipfile.ZipFile(lying, "w") as archive, archive.open("model/0.npy", "w") as part:
        np.lib.format.write_array_header_1_0(part, {"descr": "<f4", "fortran_order": False, "shape": (1 << 50,)})
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(UserError, match="is compressed, which no checkpoint of emoray is"):
        checkpoint.read(bomb)
    with pytest.raises(UserError, match="is damaged"):
        checkpoint.read(lying)


def test_a_checkpoint_whose_parts_are_one_part_is_no_checkpoint(tmp_path: Path) -> None:
    """The list at a zip file's end may name the same bytes any number of times."""
    for many in (True, False):
        file = tmp_path / f"many-{many}.npz"
        with zipfile.ZipFile(file, "w") as archive:
            with archive.open("model/0.npy", "w") as part:
                np.lib.format.write_array(part, np.zeros(1 << 16, np.float32))
            (only,) = archive.filelist
            for number in range(1, 100):
                again = copy.copy(only)
                again.filename = only.filename if many else f"model/{number}.npy"
                archive.filelist.append(again)
        with pytest.raises(UserError, match="its parts lie one over the other"):
            checkpoint.read(file)
