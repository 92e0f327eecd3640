"""A cluster by `ray start` in the words of docs/cluster.md, and a sweep that joins it by its address.

Everything of it is a child of this process and ends with it; `ray stop` would end other clusters of this machine too.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.keras, pytest.mark.timeout(600)]
PROJECT = Path(__file__).parents[1]
DOCS = re.sub(r"\\\n *", "", (PROJECT / "docs" / "cluster.md").read_text())
SMALL = ("models=[{name: lenet, trials: 1}]", "data.faces=300", "train.epochs=1", "search.scheduler=none")


@dataclass(frozen=True)
class Started:
    """A head and a worker, and what a shell beside them has in its environment."""

    port: int
    dashboard: int
    environment: dict[str, str]

    def here(self, command: str) -> list[str]:
        """A command of the docs with the addresses and ports of this test."""
        command = re.sub(r"(HEAD|10\.0\.0\.5):6379", f"127.0.0.1:{self.port}", command)
        return shlex.split(command.replace("6379", str(self.port)).replace("8265", str(self.dashboard)))

    def typed(self, command: str, *more: str) -> str:
        """What a command prints that is typed in the project's folder."""
        words = [*self.here(command), *more]
        done = subprocess.run(words, cwd=PROJECT, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def swept(self, beginning: str, storage: Path) -> str:
        """What a small sweep prints that is started by the docs' command."""
        settings = [word for setting in SMALL for word in ("--set", setting)]
        command = documented(beginning).replace("FILE", "sweeps/quickstart.yaml")
        return self.typed(command, *settings, "--storage", str(storage))


def documented(beginning: str) -> str:
    """The command of the docs that begins so, without what is said of it on its right."""
    found = re.search(rf"^    ({re.escape(beginning)}.*?)(?:   |$)", DOCS, re.MULTILINE)
    assert found, f"docs/cluster.md no longer says '{beginning}'"
    return found[1]


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@contextlib.contextmanager
def blocking(command: list[str], environment: dict[str, str]) -> Iterator[None]:
    """A `ray start` that stays in the foreground, leader of a session of its own with all that it starts."""
    with tempfile.TemporaryFile("w+") as said:
        output = {"stdout": said, "stderr": said, "start_new_session": True}
        process = subprocess.Popen([*command, "--block"], env=environment, **output)
        try:
            limit = time.monotonic() + 180
            while "Ray runtime started" not in (text := read(said)):
                assert process.poll() is None, text
                assert time.monotonic() < limit, text
                time.sleep(0.2)
            yield
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError):  # what has outlived it
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def read(file: IO[str]) -> str:
    return os.pread(file.fileno(), 100_000, 0).decode()


@pytest.fixture(scope="module")
def started() -> Iterator[Started]:
    port, dashboard, *others = free_ports(5)
    folder, workers = tempfile.mkdtemp(prefix="er-"), tempfile.mkdtemp(prefix="er-")  # short: sockets' names must be
    environment = {**os.environ, "RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0"}
    environment["RAY_raylet_start_wait_time_s"] = "150"  # on a machine with other work half a minute is too short
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT),
    }
    there = Started(port, dashboard, environment)
    own = [f"--object-store-memory={200 << 20}", "--dashboard-agent-listen-port"]
    # In one folder with the head the worker would remove the files of its jobs.
    worker = ["--node-ip-address=127.0.0.2", f"--temp-dir={workers}"]
    head = [f"--dashboard-port={dashboard}", f"--ray-client-server-port={others[0]}", "--node-ip-address=127.0.0.1"]
    try:
        with (
            blocking([*there.here(documented("ray start --head")), *head, *own, str(others[1])], environment),
            blocking(
                [*there.here(documented("ray start --address")), *worker, *own, str(others[2])],
                environment,
            ),
        ):
            yield there
    finally:
        for each in (folder, workers):
            shutil.rmtree(each, ignore_errors=True)


def test_a_sweep_joins_a_head_without_cpus_and_its_worker(started: Started, tmp_path: Path) -> None:
    told = started.swept("python -m emoray.sweep FILE --address 10.0.0.5:6379", tmp_path)
    assert f"run folder: {tmp_path}/quickstart/" in told
    assert (tmp_path / "quickstart" / "trials.csv").read_text().count(",finished,") == 1
    assert (tmp_path / "quickstart" / "report.html").exists()


def test_a_sweep_runs_as_a_job_with_the_project_as_its_working_directory(started: Started, tmp_path: Path) -> None:
    told = started.swept("ray job submit --address http://127.0.0.1:8265", tmp_path)
    assert "succeeded" in told
    assert (tmp_path / "quickstart" / "trials.csv").read_text().count(",finished,") == 1
    assert (tmp_path / "quickstart" / "report.html").exists()
