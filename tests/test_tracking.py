"""Where figures go besides the run folder: TensorBoard files that are read back, and a real MLflow server."""

import csv
import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emoray import config, trials
from emoray.run_folder import RunFolder
from emoray.studies import Studies
from emoray.tracking.following import Delivery, Followed
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
    first = {news.trial: len(news.rows) for news in followed.news(studies)}
    assert first == {"lenet-001": 2, "lenet-002": 1}
    assert list(followed.news(studies)) == []


def test_a_disk_that_takes_no_figures_is_told_once_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("no folder can be made here")
    studies = searched(tmp_path, epochs=3)
    board = TensorBoard(tmp_path)
    board.update(studies)
    board.delivery.thread.join(30)
    board.update(studies)
    board.update(studies)
    told = [notice for notice in studies.notices if "is lost" in notice]
    assert len(told) == 1, studies.notices
    assert f"tracking: {tmp_path}/tensorboard/ is lost (" in told[0]
    assert "the search goes on without it" in told[0]
    assert board.close() is None


def test_what_is_lost_after_the_last_look_is_told_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("")
    board = TensorBoard(tmp_path)
    board.update(searched(tmp_path, epochs=1))
    told = board.close()
    assert told is not None
    assert "is lost" in told


def test_what_a_slow_place_has_not_got_is_counted() -> None:
    begun, goes_on, got = threading.Event(), threading.Event(), []
    delivery = Delivery("http://slow")
    delivery.put(lambda: (begun.set(), goes_on.wait(30)))
    for number in range(2):
        delivery.put(lambda number=number: got.append(number))
    assert begun.wait(30)
    assert delivery.close(0) == "tracking: http://slow is slow, and has not got the last 3 of its updates"
    goes_on.set()
    delivery.thread.join(30)
    assert got == [0, 1]


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
        process.wait(120)


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
from emoray.tracking import servers
from emoray.tracking.following import TrackedRun
servers._CLOSING_SECONDS = 300  # however slow the machine is
folder, uri = Path(sys.argv[1]), sys.argv[2]
tracker = registry.build("tracking", {"name": "mlflow", "uri": uri}, TrackedRun("tracked", folder / "run"))
for epochs in sys.argv[3:]:
    tracker.update(searched(folder, int(epochs)))
assert tracker.close() is None
"""


@with_mlflow
@pytest.mark.timeout(400)
def test_mlflow_has_a_run_for_each_trial(tmp_path: Path, server: str) -> None:
    began = int(time.time() * 1000)
    follow(tmp_path, server, 3)
    told = {run["info"]["run_name"]: (run["info"]["status"], tagged(run)) for run in tracked(server)}
    assert told == {"lenet-001": ("FINISHED", "finished"), "lenet-002": ("KILLED", "unfinished")}
    follow(tmp_path, server, 99)  # goes on with what the first began
    found = tracked(server)
    assert {run["info"]["run_name"] for run in found} == {"lenet-001", "lenet-002", "lenet-003"}
    for run in found:
        assert (run["info"]["status"], tagged(run)) == ("FINISHED", "finished")
        assert {p["key"] for p in run["data"]["params"]} >= {"optimizer.learning_rate", "model.name"}
        scores = curve(server, run)
        assert sorted(int(score["step"]) for score in scores) == [1, 2], "every epoch once"
        assert all(began <= int(score["timestamp"]) <= time.time() * 1000 for score in scores)
    follow(tmp_path, server, 0)
    assert ends(tracked(server)) == ends(found), "what has ended does not end again"


@with_mlflow
@pytest.mark.timeout(400)
def test_a_trial_that_begins_anew_has_its_own_curve(tmp_path: Path, server: str) -> None:
    follow(tmp_path, server, 3)
    (tmp_path / "run" / "trials" / "lenet-002" / "history.csv").unlink()  # as a retry does whose loss was lost
    follow(tmp_path, server, 0, 1, 99)
    (run,) = (run for run in tracked(server) if run["info"]["run_name"] == "lenet-002")
    assert run["info"]["status"] == "FINISHED"
    assert sorted(int(score["step"]) for score in curve(server, run)) == [1, 2]
    assert [run["info"]["run_name"] for run in tracked(server, "DELETED_ONLY")] == ["lenet-002"]


@with_mlflow
@pytest.mark.ray
@pytest.mark.timeout(400)
def test_a_real_sweep_is_tracked(tmp_path: Path, server: str) -> None:
    done = real_sweep(tmp_path, server)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "View run" not in done.stdout + done.stderr, "MLflow's own lines would break the display"
    found = tracked(server)
    assert {run["info"]["run_name"]: run["info"]["status"] for run in found} == dict.fromkeys(
        ("lenet-001", "lenet-002"), "FINISHED"
    )
    for run in found:
        folder = tmp_path / "runs" / "tracked" / "trials" / run["info"]["run_name"]
        history = list(csv.DictReader((folder / "history.csv").open()))
        assert {(int(score["step"]), score["value"]) for score in curve(server, run)} == {
            (int(float(row["epoch"])), float(row["score"])) for row in history
        }


@with_mlflow
@pytest.mark.ray
@pytest.mark.timeout(400)
def test_no_run_is_begun_where_the_server_is_not_there(tmp_path: Path) -> None:
    done = real_sweep(tmp_path, "http://127.0.0.1:9")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "error: tracking.uri: no MLflow server answers at http://127.0.0.1:9" in done.stderr
    assert not (tmp_path / "runs" / "tracked").exists()


def follow(folder: Path, server: str, *epochs: int) -> None:
    command = [sys.executable, "-c", SCRIPT, str(folder), server, *map(str, epochs)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)


def real_sweep(folder: Path, uri: str) -> subprocess.CompletedProcess[str]:
    text = SWEEP.replace("trials: 3", "trials: 2") + f"data: {{faces: 400}}\ntracking: {{name: mlflow, uri: '{uri}'}}\n"
    (folder / "sweep.yaml").write_text(text)
    command = [sys.executable, "-m", "emoray.sweep", str(folder / "sweep.yaml"), "--storage", str(folder / "runs")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def tracked(uri: str, view: str = "ACTIVE_ONLY") -> list[dict[str, Any]]:
    """The runs of the sweep's experiment."""
    with urllib.request.urlopen(f"{uri}/api/2.0/mlflow/experiments/get-by-name?experiment_name=tracked") as answer:
        experiment = json.load(answer)["experiment"]["experiment_id"]
    found = asked(uri, "runs/search", {"experiment_ids": [experiment], "run_view_type": view})
    return list(found.get("runs", []))


def tagged(run: dict[str, Any]) -> str:
    (status,) = (tag["value"] for tag in run["data"]["tags"] if tag["key"] == "emoray.status")
    return str(status)


def curve(uri: str, run: dict[str, Any]) -> list[dict[str, Any]]:
    place = f"metrics/get-history?run_id={run['info']['run_id']}&metric_key=score"
    with urllib.request.urlopen(f"{uri}/api/2.0/mlflow/{place}") as answer:
        return list(json.load(answer)["metrics"])


def ends(found: list[dict[str, Any]]) -> dict[str, int]:
    return {run["info"]["run_name"]: run["info"]["end_time"] for run in found}


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
