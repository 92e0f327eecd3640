"""The commands that a user types, from the shell: a shipped sweep, shrunk; what breaks; what is stopped and resumed."""

import csv
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from emoray.data import faces

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]
ROOT = Path(__file__).parents[1]
SMALL = [
    *("--set", "train.epochs=2", "--set", "models.lenet.trials=2", "--set", "models.simple_cnn.trials=1"),
    *("--set", "models.simple_cnn.width=4", "--set", "finalize.keep=2"),
]


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "emoray.sweep", *map(str, arguments)]


def emoray(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "emoray.cli", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def quickstart(storage: Path, *more: str) -> list[str]:
    return command("sweeps/quickstart.yaml", "--storage", storage, "--set", "data.faces=600", *SMALL, *more)


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def processes_with(mark: str) -> set[int]:
    """The processes that have `mark` in their environment, which they hand down to all that they start."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.add(int(process.name))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The quickstart, shrunk: its run folder and what it printed. It leaves no process of Ray behind."""
    storage, mark = tmp_path_factory.mktemp("runs"), f"EMORAY_TEST={secrets.token_hex(8)}"
    name, _, value = mark.partition("=")
    done = subprocess.run(
        quickstart(storage), cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, name: value}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    deadline = time.monotonic() + 15
    while processes_with(mark) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not processes_with(mark)
    return storage / "quickstart", done.stdout


def test_a_sweep_leaves_all_that_is_promised(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    rows = table(folder)
    assert [row["trial"] for row in rows] == ["lenet-001", "simple_cnn-001", "lenet-002"]
    assert {row["status"] for row in rows} <= {"finished", "stopped"}
    for row in rows:
        trial = folder / "trials" / row["trial"]
        told = json.loads((trial / "settings.json").read_text())
        assert told["signature"] == row["signature"]
        history = list(csv.DictReader((trial / "history.csv").open()))
        assert len(history) == int(row["epochs"])
        assert float(row["score"]) == pytest.approx(max(float(h["macro_f1"]) for h in history), rel=1e-5)
    kept = {path.parents[1].name for path in folder.glob("trials/*/checkpoint/best.npz")}
    with (folder / "leaderboard.csv").open() as file:
        best = {row["trial"] for row in csv.DictReader(file)} | {"simple_cnn-001"}  # the only one of its study
        assert kept == best, "the best `keep` and the best of each study are kept, and no others"
    told = ("sweep.yaml", "versions.json", "leaderboard.csv", "report.html", "model_card.md", "report/mistakes.png")
    for file in (*told, "data/manifest.json", "data/quarantine.csv", "data/selection.npz", "data/test.npz"):
        assert (folder / file).stat().st_size > 0, file
    assert not list(folder.rglob("*.pkl")), "nothing of ours is a pickle"


def test_what_is_hardly_meant_is_told_at_the_start(finished: tuple[Path, str]) -> None:
    lines = finished[1].splitlines()
    (told,) = (i for i, line in enumerate(lines) if "doubtful   lenet: asha never judges" in line)
    assert told < next(i for i, line in enumerate(lines) if "run folder: " in line), "before anything is spent"


def test_the_ensemble_is_weighed_on_selection_and_told_on_test(finished: tuple[Path, str]) -> None:
    ensemble = json.loads((finished[0] / "ensemble.json").read_text())
    manifest = json.loads((finished[0] / "data" / "manifest.json").read_text())
    assert ensemble["selection_images"] == manifest["splits"]["selection"]["images"]
    assert ensemble["test"]["images"] == manifest["splits"]["test"]["images"]
    assert sum(member["weight"] for member in ensemble["members"]) == pytest.approx(1)
    test = ensemble["test"]
    for metric in ("accuracy", "macro_f1"):
        interval = test["ensemble"][metric]
        assert interval["low"] <= interval["estimate"] <= interval["high"]
    confusion = np.array(test["confusion"])
    assert confusion.sum() == test["images"]
    used = test[ensemble["recommended"]]
    assert np.trace(confusion) / confusion.sum() == pytest.approx(used["accuracy"]["estimate"])


def test_the_terminal_says_what_matters(finished: tuple[Path, str]) -> None:
    _, told = finished
    for words in (
        "Ray dashboard http://127.0.0.1",
        "lenet-001 epoch 1/2",
        "of the candidates:",
        "nothing was chosen on",
        "report:",
    ):
        assert words in told
    assert "Traceback" not in told


def test_a_finished_run_predicts_files(finished: tuple[Path, str], tmp_path: Path) -> None:
    images, _ = faces.draw(99, np.arange(12))
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number:02}.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    done = emoray("predict", finished[0], *sorted(tmp_path.glob("*.png")))
    assert done.returncode == 2
    assert "1 of 13 files could not be used" in done.stderr
    assert "bad.png: not a PNG" in done.stderr
    (tmp_path / "notes.txt").write_text("no image, and not meant")
    of_folder = emoray("predict", finished[0], tmp_path)
    assert (of_folder.stdout, of_folder.stderr, of_folder.returncode) == (done.stdout, done.stderr, 2)
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert len(rows) == 12
    for row in rows:
        shares = [float(row[name]) for name in faces.CLASSES]
        assert sum(shares) == pytest.approx(1, abs=1e-3)
        assert row["label"] == faces.CLASSES[int(np.argmax(shares))]


def test_finalize_runs_again_elsewhere_and_says_the_same(finished: tuple[Path, str], tmp_path: Path) -> None:
    """On a copy of the run folder alone: neither the data cache nor the source is beside it."""
    folder = tmp_path / "moved"
    shutil.copytree(finished[0], folder)
    before = (folder / "ensemble.json").read_text()
    (folder / "report.html").unlink()
    done = emoray("finalize", folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "ensemble.json").read_text() == before
    assert (folder / "report.html").exists()
    assert not (tmp_path / ".cache").exists()


def test_a_resumed_sweep_keeps_finished_trials_and_can_have_more(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    before = table(folder)
    kept = {t: (folder / "trials" / t / "history.csv").stat().st_mtime_ns for t in ("lenet-001", "simple_cnn-001")}
    done = run(quickstart(folder.parent, "--resume", "--set", "models.lenet.trials=3"))
    assert done.returncode == 0, done.stdout + done.stderr
    after = table(folder)
    assert after[:3] == before
    assert after[3]["trial"] == "lenet-003"
    for trial, written in kept.items():
        assert (folder / "trials" / trial / "history.csv").stat().st_mtime_ns == written
    refused = run(quickstart(folder.parent, "--resume", "--set", "data.image_size=64"))
    assert refused.returncode == 2
    assert "data.image_size: 48 -> 64" in refused.stderr


def test_data_that_has_changed_is_refused_before_the_run_is_touched(finished: tuple[Path, str], tmp_path: Path) -> None:
    folder = tmp_path / "quickstart"
    shutil.copytree(finished[0], folder)
    manifest = folder / "data" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"fingerprint": "0" * 20}))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = run(quickstart(tmp_path, "--resume", "--set", "models.lenet.trials=3"))
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"was trained on other images or splits ({'0' * 20})" in done.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("ended_by", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_sweep_that_was_stopped_goes_on(tmp_path: Path, ended_by: signal.Signals, status: int) -> None:
    arguments = quickstart(tmp_path, "--set", "train.epochs=4")
    folder = tmp_path / "quickstart"
    process = started(arguments)
    wait_for(lambda: list(folder.glob("trials/*/history.csv")), process)
    os.killpg(process.pid, ended_by)  # as a terminal and `timeout` do
    said, told = process.communicate(timeout=60)
    assert process.returncode == status, said + told
    assert told.strip().startswith(
        "stopped; what was trained is kept. Go on with:\n    emoray sweep sweeps/quickstart.yaml"
    )
    assert told.strip().endswith("--resume")
    assert len(told.strip().splitlines()) == 2, "and nothing of Ray's"
    assert "***" not in said
    for row in table(folder):
        history = folder / "trials" / row["trial"] / "history.csv"
        epochs = len(history.read_text().splitlines()) - 1 if history.exists() else 0
        assert row["epochs"] == str(epochs), "the table is written last"
        assert row["status"] in ("unfinished", "finished", "stopped")
    assert "unfinished" in emoray("show", folder).stdout
    first = next(folder.glob("trials/*/history.csv"))
    before = first.read_text().splitlines()
    done = run([*arguments, "--resume"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"resume: \d ended, \d go on, \d new", done.stdout)
    assert first.read_text().splitlines()[: len(before)] == before, "epochs that were trained are kept as they were"
    assert all(row["status"] in ("finished", "stopped") for row in table(folder))


@pytest.mark.parametrize(("ended_by", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_sweep_that_is_stopped_early_leaves_no_run(tmp_path: Path, ended_by: signal.Signals, status: int) -> None:
    folder = tmp_path / "quickstart"
    process = started(quickstart(tmp_path))
    wait_for(folder.exists, process)
    process.send_signal(ended_by)
    said, told = process.communicate(timeout=60)
    assert process.returncode == status, said + told
    assert told.strip() == "stopped; nothing was trained"
    assert not folder.exists()


def started(arguments: list[str]) -> "subprocess.Popen[str]":
    """A command in a session of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(arguments, cwd=ROOT, text=True, start_new_session=True, **pipes)


def wait_for(what: Callable[[], Any], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 300
    while not what():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Class folders with two emotions of other names, and some files that are no images."""
    images, labels = faces.draw(3, np.arange(900))
    folder = tmp_path / "faces"
    for name, label in (("joy", 3), ("other", 6)):
        (folder / name).mkdir(parents=True)
        for number, image in enumerate(images[labels == label][:110]):
            Image.fromarray(image).save(folder / name / f"{number:03}.png")
    (folder / "joy" / "cut.png").write_bytes((folder / "joy" / "000.png").read_bytes()[:200])
    (folder / "joy" / "empty.jpg").write_bytes(b"")
    (folder / "other" / "text.png").write_text("no image")
    return folder


def test_own_classes_with_broken_files_in_a_terminal(pictures: Path, tmp_path: Path) -> None:
    """In a real terminal, with the escapes that draw it: a live table of trials, the best so far, what is left."""
    import pty

    output, terminal = pty.openpty()
    variables = {**os.environ, "COLUMNS": "160", "LINES": "24", "TERM": "xterm"}
    own = ["--storage", tmp_path / "runs", "--set", f"data.path={pictures}", *SMALL]
    arguments = command("sweeps/quickstart.yaml", *own)
    process = subprocess.Popen(arguments, cwd=ROOT, env=variables, stdout=terminal, stderr=terminal)
    os.close(terminal)
    told = b""
    while True:
        try:
            told += os.read(output, 65536)
        except OSError:  # the terminal's other end is closed
            break
    assert process.wait() == 0, told.decode(errors="replace")[-3000:]
    for words in (b"trials", b"best macro_f1", b"images/s", b"left", b"report:", b"3 could not be used"):
        assert words in told
    assert b"Traceback" not in told
    folder = tmp_path / "runs" / "quickstart"
    listed = list(csv.DictReader((folder / "data" / "quarantine.csv").open()))
    assert {Path(row["file"]).name for row in listed} == {"cut.png", "empty.jpg", "text.png"}
    assert json.loads((folder / "ensemble.json").read_text())["classes"] == ["joy", "other"]


def test_a_sweep_whose_trials_all_fail_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "def explode(image_shape, classes):\n    'Fails.'\n    raise ValueError('this model cannot be built')\n"
    )
    (tmp_path / "sweep.yaml").write_text(
        "components: [broken]\ndata: {faces: 600}\nmodels: [{name: explode, trials: 1}]\n"
    )
    done = run(command(tmp_path / "sweep.yaml", "--storage", tmp_path / "runs"))
    assert done.returncode == 1
    assert "ValueError: this model cannot be built" in done.stderr
    assert "cli.py" not in done.stderr
    assert "ValueError: this model cannot be built" in table(tmp_path / "runs" / "sweep")[0]["reason"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["sweeps/quickstrat.yaml"], "did you mean 'quickstart.yaml'"),
        (["sweeps/quickstart.yaml", "--set", "data.path=nowhere"], "nowhere"),
        (["sweeps/quickstart.yaml", "--set", "train.cpus_per_worker=9999"], "9999 CPUs"),
        (["sweeps/quickstart.yaml", "--set", "train.gpus_per_worker=99"], "99 GPUs"),
        (["sweeps/quickstart.yaml", "--set", "train.optimizer=adma"], "did you mean 'adam'"),
        (["sweeps/quickstart.yaml", "--resume", "--set", "name=never_run"], "there is no run of 'never_run'"),
        (["sweeps/quickstart.yaml", "--address", "127.0.0.1:1"], "no Ray cluster answers"),
        (
            [
                "sweeps/fine_tuning.yaml",
                "--set",
                "models.fine_tuned.weights=no.h5",
                "--set",
                "models.frozen.weights=no.h5",
            ],
            "fine_tuned, frozen: mobilenet_v2.weights",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(tmp_path: Path, arguments: list[str], reason: str) -> None:
    done = run(command(*arguments, "--storage", tmp_path / "runs"))
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.csv")) + list(tmp_path.rglob("*.yaml"))


def test_the_recall_of_a_class_that_is_not_there(finished: tuple[Path, str]) -> None:
    storage = finished[0].parent
    done = run(quickstart(storage, "--set", "search.metric=recall_hapy", "--set", "name=misspelt"))
    assert done.returncode == 2
    assert "there is no class 'hapy': did you mean 'happy'?" in done.stderr
    assert not list(storage.glob("misspelt*"))


def test_the_cost_of_a_class_that_is_not_there(finished: tuple[Path, str]) -> None:
    """Named in one option of a choice, which the first trial need not draw."""
    storage = finished[0].parent
    loss = "{choice: [focal, {name: cost_sensitive, costs: {fear: {hapy: 2.0}}}]}"
    done = run(quickstart(storage, "--set", f"train.loss={loss}", "--set", "name=misspelt"))
    assert done.returncode == 2
    assert "loss.costs.fear: there is no class 'hapy': did you mean 'happy'?" in done.stderr
    assert not list(storage.glob("misspelt*"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("one class", "class"),
    ],
)
def test_data_that_cannot_be_split_is_told_before_training(tmp_path: Path, text: str, reason: str) -> None:
    folder = tmp_path / "faces"
    (folder / "joy").mkdir(parents=True)
    if text:
        images, _ = faces.draw(3, np.arange(30))
        for number, image in enumerate(images):
            Image.fromarray(image).save(folder / "joy" / f"{number}.png")
    done = run(command("sweeps/quickstart.yaml", "--storage", tmp_path / "runs", "--set", f"data.path={folder}"))
    assert done.returncode == 2, done.stderr
    assert reason in done.stderr
    assert not list((tmp_path / "runs").glob("quickstart*"))


def test_real_images(shared_data: Path, tmp_path: Path) -> None:
    source = f"data.path={shared_data / 'fer2013-mini.csv'}"
    done = run(command("sweeps/quickstart.yaml", "--storage", tmp_path, "--set", source, *SMALL))
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = json.loads((tmp_path / "quickstart" / "data" / "manifest.json").read_text())
    assert sum(split["images"] for split in manifest["splits"].values()) + sum(manifest["quarantined"].values()) == 1750
