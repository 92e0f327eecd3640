"""Sweeps that are killed: the driver at random moments, a trial's process, a disk that is full.

EMORAY_KILLS (2 unless set; `make chaos` sets 30) is how often the driver is killed while trials train.
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
PAUSE = 4.0
"""Seconds of training after which a driver is killed at the latest: some trials end meanwhile, seldom all."""
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
search: SEARCH
finalize: {keep: 2}
"""
RANDOM = "{metric: accuracy}"
ADAPTIVE = (
    "{metric: accuracy, algorithm: {name: optuna, startup_trials: 2}, scheduler: {name: asha, grace_epochs: 1}, "
    "max_concurrent: 1}"
)
"""One trial after the other: what it decides hangs on all that ended before, and on their order."""


def command(tmp_path: Path, storage: str, *more: str, search: str = RANDOM) -> list[str]:
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP.replace("SEARCH", search))
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
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with prepared data, and the trials of an uninterrupted sweep."""
    folder = tmp_path_factory.mktemp("chaos")
    finished(command(folder, "runs", "--set", "name=unbroken"))
    return folder, picture(folder / "runs" / "unbroken")


class Killed:
    """Sweeps of one kind, begun anew when all has ended, whose driver is killed while trials train."""

    def __init__(self, folder: Path, search: str, name: str, expected: dict[str, Any]) -> None:
        self.folder, self.search, self.name, self.expected = folder, search, name, expected
        self.number, self.kills = 1, 0
        self.ended: dict[str, bytes] = {}

    @property
    def run(self) -> Path:
        return self.folder / "runs" / f"{self.name}-{self.number}"

    def strike(self, pause: float) -> None:
        """Start or resume the sweep, and kill it so many seconds after a trial trains, or let it end before."""
        process = self._start()
        while process.poll() is None and not any(is_training(pid) for pid in descendants(process.pid)):
            time.sleep(0.05)
        try:
            process.wait(pause)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        told = process.communicate()[0]
        assert process.returncode in (0, -signal.SIGKILL), f"{self.run.name}, after {self.kills} kills:\n{told}"
        self._look()
        if len(self.ended) < len(self.expected):
            assert process.returncode == -signal.SIGKILL, told
            self.kills += 1
        else:
            self.finish()

    def finish(self) -> None:
        """Let the sweep end, see that it is as an unbroken one, and begin another."""
        if not self.run.exists():
            return
        finished(self._command())
        self._look()
        assert picture(self.run) == self.expected
        self.number, self.ended = self.number + 1, {}

    def _look(self) -> None:
        for name, content in self.ended.items():
            assert (self.run / "trials" / name / "history.csv").read_bytes() == content, f"{name} had ended"
        paths = [path.parent for path in self.run.glob("trials/*/end.json")]
        self.ended = {path.name: (path / "history.csv").read_bytes() for path in paths}

    def _command(self) -> list[str]:
        resume = ["--resume"] if self.run.exists() else []
        return command(self.folder, "runs", "--set", f"name={self.run.name}", *resume, search=self.search)

    def _start(self) -> "subprocess.Popen[str]":
        return start(self._command())


def test_a_driver_that_is_killed_again_and_again(unbroken: tuple[Path, dict[str, Any]]) -> None:
    folder, expected = unbroken
    sweeps = [Killed(folder, RANDOM, "random", expected)]
    if KILLS > 2:
        finished(command(folder, "runs", "--set", "name=adaptive", search=ADAPTIVE))
        stopped = picture(folder / "runs" / "adaptive")
        assert any(len(figures) < 3 for *_, figures in stopped.values()), "the scheduler has something to decide"
        sweeps.append(Killed(folder, ADAPTIVE, "adaptive", stopped))
    moments, tries = random.Random(KILLS), 0
    while sum(sweep.kills for sweep in sweeps) < KILLS:
        tries += 1
        assert tries <= 5 * KILLS, "kills hardly ever strike while trials train"
        sweeps[tries % len(sweeps)].strike(moments.uniform(0.0, PAUSE))
    for sweep in sweeps:
        sweep.finish()
    assert sum(sweep.kills for sweep in sweeps) == KILLS
    assert all(sweep.number > 1 for sweep in sweeps), "each was brought to its end"


def test_a_trial_whose_process_is_killed_goes_on_calmly(unbroken: tuple[Path, dict[str, Any]]) -> None:
    folder, expected = unbroken
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


def test_a_full_disk_ends_the_sweep_in_a_sentence(unbroken: tuple[Path, dict[str, Any]], small_disk: Path) -> None:
    folder, expected = unbroken
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
