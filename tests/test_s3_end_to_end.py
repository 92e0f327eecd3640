"""A sweep with its data and its run folder on S3, on a server that fails at times; killed and resumed."""

import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emoray import cli
from emoray.data import faces
from emoray.s3 import S3Path
from tests import s3_server as s3

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]
KILLS = int(os.environ.get("EMORAY_KILLS", "2"))
"""As in test_chaos.py: more than 2 with `make chaos`."""
ROOT = Path(__file__).parents[1]
SWEEP = """
name: mine
models: [{name: lenet, trials: 2}, {name: simple_cnn, trials: 1, width: 4}]
train: {epochs: 3, optimizer: {name: adam, learning_rate: {loguniform: [1e-4, 1e-2]}}}
search: {metric: accuracy}
finalize: {keep: 2}
"""


def now_and_then() -> s3.Plan:
    """One request in twelve fails, in one of five ways."""
    chance = random.Random(7)

    def plan(method: str, path: str) -> str | None:
        if chance.random() > 1 / 12:
            return None
        return chance.choice([s3.FAIL, s3.BUSY, s3.DROP, s3.LOSE, s3.CUT if method == "GET" else s3.DROP])

    return plan


@pytest.fixture
def proxy(s3_proxy: s3.Proxy) -> s3.Proxy:
    s3_proxy.plan = now_and_then()
    return s3_proxy


@pytest.fixture
def data(s3_bucket: S3Path) -> S3Path:
    """Class folders, with one file that is no image."""
    images, labels = faces.draw(3, np.arange(700))
    folder = s3_bucket / "faces"
    for name, label in (("joy", 3), ("other", 6)):
        for number, image in enumerate(images[labels == label][:75]):
            content = io.BytesIO()
            Image.fromarray(image).save(content, "PNG")
            (folder / name / f"{number:03}.png").write_bytes(content.getvalue())
    (folder / "joy" / "text.png").write_bytes(b"no image")
    return folder


def emoray(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "emoray.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def started(given: list[str], run: S3Path) -> "subprocess.Popen[str]":
    """A sweep that has trained an epoch since it was started."""
    known = len(list(chain(*histories(run).values())))
    command = [sys.executable, "-m", "emoray.cli", *given]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 200
    while len(list(chain(*histories(run).values()))) == known:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return process


def histories(run: S3Path) -> dict[str, list[str]]:
    return {str(p): p.read_text().splitlines() for p in run.glob("trials/*/history.csv")}


@pytest.fixture
def killed(
    tmp_path: Path, data: S3Path, s3_bucket: S3Path, proxy: s3.Proxy
) -> tuple[list[str], S3Path, dict[str, list[str]]]:
    """A sweep that was killed while it trained: its command, its run folder and the histories that were there."""
    file = tmp_path / "mine.yaml"
    file.write_text(SWEEP)
    given = ["sweep", str(file), "--storage", f"{s3_bucket}/runs", "--set", f"data.path={data}", "--tensorboard"]
    run = s3_bucket / "runs" / "mine"
    process = started(given, run)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert (run / ".lease.json").exists(), "it could not say goodbye"
    return given, run, histories(run)


def test_a_killed_sweep_goes_on_and_its_result_is_used(
    killed: tuple[list[str], S3Path, dict[str, list[str]]],
    proxy: s3.Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given, run, before = killed
    monkeypatch.setenv("EMORAY_CACHE", str(tmp_path / "another machine"))
    done = emoray(*given, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    told = {str(one.path.key.removeprefix(f"{run.key}/")) for one in run.below()}
    assert {"report.html", "ensemble.json", "model_card.md", "leaderboard.csv", "versions.json"} <= told
    assert not {name for name in told if "tmp" in name or name.startswith(".lease")}
    assert sum("tfevents" in name for name in told) >= 3
    rows = list(csv.DictReader(io.StringIO((run / "trials.csv").read_text())))
    assert [row["status"] for row in rows] == ["finished"] * 3
    for path, lines in before.items():
        assert S3Path.parse(path).read_text().splitlines()[: len(lines)] == lines, "what was trained is kept as it was"
    for row in rows:
        epochs = csv.DictReader(io.StringIO((run / "trials" / row["trial"] / "history.csv").read_text()))
        assert [int(float(epoch["epoch"])) for epoch in epochs] == [1, 2, 3]
    quarantine = list(csv.DictReader(io.StringIO((run / "data" / "quarantine.csv").read_text())))
    assert [row["file"] for row in quarantine] == ["joy/text.png"], "no fault of the server's counts as an image's"
    assert "<!doctype html>" in (run / "report.html").read_text().lower()
    faults = {fault for _, _, fault in proxy.seen}
    assert faults == {None, s3.FAIL, s3.BUSY, s3.DROP, s3.LOSE, s3.CUT}
    _used_again(run, proxy, tmp_path, capsys)


@pytest.mark.skipif(KILLS <= 2, reason="a test of make chaos")
def test_a_server_that_is_gone_ends_a_sweep_that_goes_on_when_it_is_back(
    tmp_path: Path, s3_bucket: S3Path, s3_proxy: s3.Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    file = tmp_path / "mine.yaml"
    file.write_text(f"{SWEEP}data: {{faces: 400}}\n")
    given = ["sweep", str(file), "--storage", f"{s3_bucket}/runs", "--set", "train.epochs=6"]
    run = s3_bucket / "runs" / "mine"
    for fault in (s3.FAIL, s3.DROP, "403"):
        process = started([*given, *(["--resume"] if run.is_dir() else [])], run)
        time.sleep(random.Random(fault).uniform(0, 3))
        s3_proxy.plan = lambda method, path, fault=fault: fault
        said = process.communicate(timeout=200)[0]
        s3_proxy.plan = lambda method, path: None
        assert process.returncode == 1, said
        assert "put that right and go on with --resume" in said
        assert f"failed: {s3_bucket}/" in said
    before = histories(run)
    done = emoray(*given, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    for path, lines in histories(run).items():
        assert lines[: len(before.get(path, []))] == before.get(path, [])
        assert [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.skipif(KILLS <= 2, reason="a test of make chaos")
def test_a_node_that_dies_takes_nothing_with_it(tmp_path: Path, s3_bucket: S3Path, proxy: s3.Proxy) -> None:
    """Three nodes, the driver's without a CPU: what one of the others had trained goes on upon the third."""
    from ray.cluster_utils import Cluster

    file = tmp_path / "mine.yaml"
    file.write_text(f"{SWEEP}data: {{faces: 400}}\n")
    run = s3_bucket / "runs" / "mine"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        given = ["sweep", str(file), "--storage", f"{s3_bucket}/runs", "--address", cluster.address]
        process = started([*given, "--set", "train.epochs=8"], run)
        while len(histories(run)) < 2:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)
        before = histories(run)
        cluster.remove_node(nodes[0], allow_graceful=False)
        said = process.communicate(timeout=300)[0]
        assert process.returncode == 0, said
    finally:
        cluster.shutdown()
    after = histories(run)
    assert len(after) == 3
    for path, lines in after.items():
        assert lines[: len(before.get(path, []))] == before.get(path, [])
        assert [line.split(",")[0] for line in lines[1:]] == [str(epoch) for epoch in range(1, 9)]


def _used_again(run: S3Path, proxy: s3.Proxy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Finalized again, predicted with, listed."""
    ensemble = (run / "ensemble.json").read_text()
    (run / "report.html").unlink()
    done = emoray("finalize", run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (run / "ensemble.json").read_text() == ensemble
    assert (run / "report.html").exists()
    image, _ = faces.draw(5, np.arange(1))
    Image.fromarray(image[0]).save(tmp_path / "face.png")
    done = emoray("predict", run, tmp_path / "face.png")
    assert done.returncode == 0, done.stderr
    assert json.loads(ensemble)["classes"] == ["joy", "other"]
    assert done.stdout.splitlines()[0] == "file,label,confidence,joy,other"
    assert cli.main(["runs", str(run.parent)]) == 0
    assert cli.main(["show", str(run), "lenet-001"]) == 0
    told = capsys.readouterr().out
    assert "finished" in told
    assert "lenet-001: finished" in told
    proxy.plan = lambda method, path: None
    nobody = "s3://nobody-has-this/runs"
    sweep = ["sweep", "sweeps/quickstart.yaml", "--storage", nobody]
    for command in (["show", f"{nobody}/mine"], ["runs", nobody], sweep):
        assert cli.main(command) == 2, command
        assert "nobody-has-this" in capsys.readouterr().err
