"""Where figures go besides the run folder: TensorBoard files that are read back, and a real MLflow server."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emoray import config, trials
from emoray.run_folder import RunFolder
from emoray.studies import Studies
from emoray.tracking.following import Followed
from emoray.tracking.tensorboard import TensorBoard

ROOT = Path(__file__).parents[1]
SERVER = ROOT / ".venv-mlflow"
"""Where `make mlflow` puts the server; it puts the client beside the project."""
with_mlflow = pytest.mark.skipif(
    not (SERVER / "ready").exists() or importlib.util.find_spec("mlflow") is None,
    reason="no MLflow: `make mlflow` installs the client and a server",
)
SWEEP = """
name: tracked
models: [{name: lenet, trials: 3}]
train: {epochs: 2, optimizer: {name: adam, learning_rate: {uniform: [0.001, 0.1]}}}
search: {metric: accuracy}
"""


def searched(tmp_path: Path, epochs: int = 99) -> Studies:
    """A search of pretended trials, begun or gone on with, for so many epochs in all."""
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    folder = RunFolder(tmp_path / "run")
    studies = Studies(config.load(tmp_path / "sweep.yaml"), trials.restore(folder))
    while epochs and (trial := studies.next()) is not None:
        while not trial.ended and epochs:
            number = len(trial.history) + 1
            row = {"epoch": number, "score": trial.index / 10 + number, "seconds": 1.0, "images_per_second": 5.0}
            row |= {"train_loss": 0.5, "recall_é/!": 0.25}
            trials.write_history(folder.trial(trial.id), [*trial.history, row])
            done = {"status": "finished", "reason": ""} if number == 2 else {}
            studies.record({"trial": trial.id, "row": list(row.items()), **done})
            epochs -= 1
    return studies


def scalars(folder: Path) -> dict[int, float]:
    """The scores by step in TensorBoard's records: a length, its checksum, an event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for file in folder.glob("events*"):
        data = file.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + length])
            values = [value.simple_value for value in event.summary.value if value.tag == "score"]
            if values:
                found[event.step] = values[-1]
            data = data[16 + length :]
    return found


def test_tensorboard_gets_every_epoch_once(tmp_path: Path) -> None:
    studies = searched(tmp_path, epochs=3)
    board = TensorBoard(tmp_path)
    board.update(studies)
    board.update(studies)
    board.close()
    assert scalars(tmp_path / "tensorboard" / "lenet-001") == pytest.approx({1: 1.1, 2: 2.1})
    resumed = searched(tmp_path)
    board = TensorBoard(tmp_path)
    board.update(resumed)
    board.close()
    assert scalars(tmp_path / "tensorboard" / "lenet-002") == pytest.approx({1: 1.2, 2: 2.2})
    assert len(list((tmp_path / "tensorboard" / "lenet-002").glob("events*"))) == 1


def test_what_was_followed_is_not_new(tmp_path: Path) -> None:
    studies, followed = searched(tmp_path, epochs=3), Followed()
    first = {trial.id: len(rows) for trial, rows in followed.news(studies)}
    assert first == {"lenet-001": 2, "lenet-002": 1}
    assert list(followed.news(studies)) == []


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    store = ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db", "--default-artifact-root", str(tmp_path / "art")]
    command = [str(SERVER / "bin" / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen([*command, *store], stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                with urllib.request.urlopen(f"{uri}/health", timeout=2):
                    break
            except OSError:
                assert process.poll() is None, (tmp_path / "server.log").read_text()
                assert time.monotonic() < deadline, (tmp_path / "server.log").read_text()
                time.sleep(0.3)
        yield uri
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 15)
        process.wait(20)


def asked(uri: str, path: str, body: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{uri}/api/2.0/mlflow/{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


SCRIPT = """
import sys
from pathlib import Path
from tests.test_tracking import searched
from emoray import registry
from emoray.tracking.following import TrackedRun
folder, uri, epochs = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
tracker = registry.build("tracking", {"name": "mlflow", "uri": uri}, TrackedRun("tracked", folder / "run"))
tracker.update(searched(folder, epochs))
tracker.close()
assert tracker.lost is None, tracker.lost
"""


@with_mlflow
@pytest.mark.timeout(400)
def test_mlflow_has_a_run_for_each_trial(tmp_path: Path, server: str) -> None:
    for epochs in ("3", "99"):  # the second goes on with what the first began
        variables = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", SCRIPT, str(tmp_path), server, epochs]
        subprocess.run(command, cwd=ROOT, env=variables, check=True)
    with urllib.request.urlopen(f"{server}/api/2.0/mlflow/experiments/get-by-name?experiment_name=tracked") as answer:
        experiment = json.load(answer)["experiment"]["experiment_id"]
    found = asked(server, "runs/search", {"experiment_ids": [experiment]})["runs"]
    assert {run["info"]["run_name"] for run in found} == {"lenet-001", "lenet-002", "lenet-003"}
    for run in found:
        assert run["info"]["status"] == "FINISHED"
        assert {p["key"] for p in run["data"]["params"]} >= {"optimizer.learning_rate", "model.name"}
        told = f"{server}/api/2.0/mlflow/metrics/get-history?run_id={run['info']['run_id']}&metric_key=score"
        with urllib.request.urlopen(told) as answer:
            steps = [metric.get("step", 0) for metric in json.load(answer)["metrics"]]
        assert sorted(int(step) for step in steps) == [1, 2], "every epoch once"


@with_mlflow
def test_a_server_that_is_not_there_is_told_before_anything_is_spent(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), "http://127.0.0.1:9", "1"]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert "UserError: tracking.uri: no MLflow server answers at http://127.0.0.1:9" in done.stderr


def test_mlflow_is_asked_for_by_the_file(tmp_path: Path) -> None:
    text = SWEEP + "tracking: {name: mlflow, uri: 'http://127.0.0.1:5000'}\n"
    (tmp_path / "sweep.yaml").write_text(text)
    script = f"from emoray import config; print(config.load({str(tmp_path / 'sweep.yaml')!r}).tracking)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    told = done.stdout + done.stderr
    assert "'name': 'mlflow'" in told or "mlflow is not installed: pip install 'emoray[mlflow]'" in told
