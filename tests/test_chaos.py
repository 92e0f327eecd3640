"""Sweeps that are killed: the driver at random moments, a trial's process, a disk that is full.

EMORAY_KILLS (2 unless set; `make chaos` sets 30) is how often the driver is killed.
"""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.timeout(3600)]
ROOT = Path(__file__).parents[1]
KILLS = int(os.environ.get("EMORAY_KILLS", "2"))
SWEEP = """
name: chaos
data: {faces: 400}
models:
  - {name: lenet, trials: 3}
  - {name: simple_cnn, trials: 2, width: {choice: [2, 4]}}
train:
  epochs: 3
  batch_size: {choice: [32, 64]}
  optimizer: {name: adam, learning_rate: {loguniform: [1e-4, 1e-2]}}
search: {metric: accuracy}
finalize: {keep: 2}
"""


def command(tmp_path: Path, storage: str, *more: str) -> list[str]:
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP)
    return [sys.executable, "-m", "emoray.sweep", str(file), "--storage", str(tmp_path / storage), *more]


def start(arguments: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(arguments: list[str]) -> str:
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def picture(folder: Path) -> dict[str, Any]:
    """What each trial was given and how it ended: all but times and rates."""
    shown = {}
    for given in (folder / "trials").glob("*/settings.json"):
        told = json.loads(given.read_text())
        history = list(csv.DictReader((given.parent / "history.csv").open()))
        figures = [(row["epoch"], row["score"], row["train_loss"]) for row in history]
        shown[told["trial"]] = (told["settings"], told["changes"], figures)
    return shown


def wait_for(path: Path, pattern: str, process: "subprocess.Popen[str]", seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not list(path.glob(pattern)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], float]:
    """A folder with prepared data, the trials of an uninterrupted sweep and the seconds that it took."""
    folder = tmp_path_factory.mktemp("chaos")
    began = time.monotonic()
    finished(command(folder, "runs", "--set", "name=unbroken"))
    return folder, picture(folder / "runs" / "unbroken"), time.monotonic() - began


def test_a_driver_that_is_killed_again_and_again(unbroken: tuple[Path, dict[str, Any], float]) -> None:
    folder, expected, whole = unbroken
    moments = random.Random(KILLS)
    run = folder / "runs" / "chaos"
    ended: dict[str, bytes] = {}
    for number in range(KILLS):
        process = start(command(folder, "runs", *(["--resume"] if run.exists() else [])))
        try:
            process.wait(moments.uniform(0.2, 0.9) * whole)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        told = process.communicate()[0]
        assert process.returncode in (0, -signal.SIGKILL), f"after {number} kills:\n{told}"
        for name, content in ended.items():
            assert (run / "trials" / name / "history.csv").read_bytes() == content, f"{name} had ended"
        ended = {p.parent.name: (p.parent / "history.csv").read_bytes() for p in run.glob("trials/*/end.json")}
    finished(command(folder, "runs", *(["--resume"] if run.exists() else [])))
    assert picture(run) == expected
    assert {row["status"] for row in csv.DictReader((run / "trials.csv").open())} == {"finished"}


def test_a_trial_whose_process_is_killed_goes_on_calmly(unbroken: tuple[Path, dict[str, Any], float]) -> None:
    folder, expected, _ = unbroken
    process = start(command(folder, "runs", "--set", "name=struck"))
    run = folder / "runs" / "struck"
    wait_for(run, "trials/lenet-001/history.csv", process)
    deadline = time.monotonic() + 60
    while not (victims := [pid for pid in descendants(process.pid) if is_training(pid)]):
        assert time.monotonic() < deadline, [title(pid) for pid in descendants(process.pid)]
        time.sleep(0.05)
    os.kill(victims[0], signal.SIGKILL)
    told = process.communicate()[0]
    assert process.returncode == 0, told
    assert "its process died; it goes on from epoch" in told
    for noise in ("raylet", "Traceback", "ERROR", "ActorDiedError", "tune_controller"):
        assert noise not in told, told
    assert picture(run) == expected


def descendants(pid: int) -> list[int]:
    found = []
    for child in Path(f"/proc/{pid}/task").glob("*/children"):
        for inner in child.read_text().split():
            found += [int(inner), *descendants(int(inner))]
    return found


def title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def is_training(pid: int) -> bool:
    return title(pid).startswith(b"ray::") and b".train" in title(pid)


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of two megabytes, where one may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_the_sweep_in_a_sentence(
    unbroken: tuple[Path, dict[str, Any], float], small_disk: Path
) -> None:
    folder, expected, _ = unbroken
    (small_disk / ".cache").symlink_to(folder / "runs" / ".cache")
    arguments = [*command(folder, "runs"), "--storage", str(small_disk)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "No space left on device; make room and go on with --resume" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "failed" not in done.stdout, "no trial is to blame"
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    finished([*arguments, "--resume"])
    assert picture(small_disk / "chaos") == expected
