"""Run folders on S3: numbering, one owner at a time, what is written and restored, what is listed and reported."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emoray import candidates, config, held_out, listing, ownership, report, runs, storage, trials
from emoray.errors import Stopped, SweepFailed, UserError
from emoray.run_folder import RunFolder
from emoray.s3 import RemoteError, S3Path
from emoray.studies import Studies
from emoray.trial import checkpoint, failures
from emoray.trial.checkpoint import State
from emoray.trial_state import DISK, Trial
from emoray.trials import write_history
from tests import run_folder as synthetic
from tests.s3_server import CUT, DROP, FAIL, LOSE, Proxy
from tests.test_predictions import Data

SWEEP = """
name: mine
models: [{name: lenet, trials: 3}]
train: {epochs: 2, optimizer: {name: adam, learning_rate: {uniform: [0.001, 0.1]}}}
search: {metric: accuracy}
finalize: {keep: 1}
"""


def sweep(tmp_path: Path, bucket: S3Path, text: str = SWEEP) -> config.Sweep:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    return config.load(file, storage=f"{bucket}/runs")


def begun(tmp_path: Path, bucket: S3Path) -> RunFolder:
    with runs.opened(sweep(tmp_path, bucket), None, str(tmp_path)) as folder:
        return folder


def epoch(studies: Studies, trial: Trial, score: float) -> None:
    """What a trial's process leaves of an epoch, and what it reports."""
    number = len(trial.history) + 1
    row = {"epoch": float(number), "score": score, "seconds": 1.0, "images_per_second": 9.0, "train_loss": 1.0}
    history = [*trial.history, row]
    folder = studies.table.folder.trial(trial.id)
    arrays = {"model": [np.full((3, 4), number, np.float32)], "optimizer": [np.ones(2)]}
    checkpoint.write(folder / "checkpoint" / "best.npz", State(arrays, {"epoch": number}))
    checkpoint.write(folder / "checkpoint" / "last.npz", State(arrays, {"history": history}))
    write_history(folder, history)
    end = {"done": True, "status": "finished", "reason": ""} if number == trial.settings["epochs"] else {}
    studies.record({"trial": trial.id, "row": row, "parameters": 7, **end})


def picture(table: trials.TrialTable) -> list[Any]:
    return [(t.id, t.status, t.settings, t.history, t.ended and t.parameters, t.error, len(t.changes)) for t in table]


def test_every_new_run_gets_the_next_number(tmp_path: Path, s3_bucket: S3Path) -> None:
    assert [begun(tmp_path, s3_bucket).path.name for _ in range(3)] == ["mine", "mine-2", "mine-3"]
    (s3_bucket / "runs" / "mine-other" / "sweep.yaml").write_bytes(b"")
    found = runs.find(sweep(tmp_path, s3_bucket), resume=True)
    assert found is not None
    assert str(found.path) == f"{s3_bucket}/runs/mine-3"
    with pytest.raises(UserError, match="seed: 0 -> 5"):
        runs.find(sweep(tmp_path, s3_bucket, f"{SWEEP}seed: 5\n"), resume=True)
    with pytest.raises(UserError, match="there is no run of 'other' in s3://"):
        runs.find(sweep(tmp_path, s3_bucket, SWEEP.replace("mine", "other")), resume=True)


@pytest.mark.parametrize(("fault", "told"), [("403", "s3:ListBucket"), ("301", "eu-west-1"), (FAIL, "InternalError")])
def test_a_bucket_that_cannot_be_used_is_refused_before_anything(
    tmp_path: Path, s3_bucket: S3Path, s3_proxy: Proxy, fault: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3_proxy.plan = lambda method, path: fault
    with pytest.raises(UserError, match=f"storage: s3://.*/runs/ cannot be written: .*{told}"):
        runs.find(sweep(tmp_path, s3_bucket), resume=False)


def test_a_trial_is_restored_as_it_was(tmp_path: Path, s3_bucket: S3Path) -> None:
    folder = begun(tmp_path, s3_bucket)
    studies = Studies(sweep(tmp_path, s3_bucket), trials.restore(folder))
    one, two, three = (studies.next() for _ in range(3))
    assert one is not None
    assert two is not None
    assert three is not None
    for score in (0.1, 0.25):
        epoch(studies, one, score)
    epoch(studies, two, 1 / 3)
    studies.record({"trial": three.id, "status": "failed", "reason": "no", "failure": "error", "error": "Traceback\nX"})
    studies.table.write()
    again = trials.restore(folder)
    assert picture(again) == picture(studies.table)
    state = checkpoint.read(again.checkpoint(two, "last"))
    assert state.meta["history"] == two.history
    assert (state.arrays["model"][0] == 1).all()
    studies.table.take_over(two, one, {**two.settings, "batch_size": 8}, {})
    assert (checkpoint.read(again.checkpoint(two, "taken")).arrays["model"][0] == 2).all()
    assert trials.restore(folder).trials[two.id].changes[0].donor == one.id
    assert len(folder.trials.read_text().splitlines()) == 4
    assert "1 finished · 1 failed · 1 unfinished" in listing.run(folder.path)
    assert "Traceback" in listing.trial(folder.path, three.id)
    assert "mine" in listing.runs(folder.path.parent)
    going = Studies(sweep(tmp_path, s3_bucket), trials.restore(folder), retry_failed=True)
    assert [trial.id for trial in going.waiting] == [three.id]


def test_checkpoints_are_tidied_and_chosen(tmp_path: Path, s3_bucket: S3Path) -> None:
    folder = begun(tmp_path, s3_bucket)
    text = SWEEP.replace("metric: accuracy", "metric: accuracy, storage_limit: 1500 B")
    studies = Studies(sweep(tmp_path, s3_bucket, text), trials.restore(folder))
    for score in (0.3, 0.9, 0.1):
        trial = studies.next()
        assert trial is not None
        epoch(studies, trial, score)
        epoch(studies, trial, score)
    left = {f"{p.parent.parent.name} {p.stem}" for p in folder.path.glob("trials/*/checkpoint/*.npz")}
    assert "lenet-002 best" in left
    assert not left & {"lenet-001 best", "lenet-003 best", "lenet-003 last"}
    chosen, left_out, *_ = candidates.choose(trials.restore(folder), studies.sweep)
    assert [candidate.name for candidate in chosen] == ["lenet-002"]
    assert not left_out
    assert chosen[0].identity(folder)["files"] == ["trials/lenet-002/checkpoint/best.npz"]


def test_only_one_process_owns_a_run(tmp_path: Path, s3_bucket: S3Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "LEASE_SECONDS", 6.0)
    monkeypatch.setattr(ownership, "RENEW_SECONDS", 0.5)
    said: list[str] = []
    with runs.opened(sweep(tmp_path, s3_bucket), None, str(tmp_path)) as folder:
        assert ownership.is_owned(folder.path)
        another = runs.held(folder, said.append)
        with pytest.raises(UserError, match=f"process {os.getpid()} on .* is at work on"), another:
            pass
    assert "waiting 6 s for a sign of it" in said[0]
    assert not ownership.is_owned(folder.path)
    with runs.held(folder, said.append):
        pass
    assert len(said) == 1, "who says goodbye need not be waited for"


def test_the_run_of_a_machine_that_died_is_taken_over(
    tmp_path: Path, s3_bucket: S3Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "LEASE_SECONDS", 2.0)
    folder = begun(tmp_path, s3_bucket)
    left = {"machine": "another one", "process": 1, "owner": "x", "renewed": 3}
    (folder.path / ownership.LEASE).write_bytes(json.dumps(left).encode())
    said: list[str] = []
    began = time.monotonic()
    with ownership.of(folder.path, said.append):
        assert time.monotonic() - began > 2
    assert len(said) == 1
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left |= {"machine": ownership._machine(), "process": gone.pid}
    (folder.path / ownership.LEASE).write_bytes(json.dumps(left).encode())
    with ownership.of(folder.path, said.append):
        pass
    assert len(said) == 1, "a process of this machine that is gone need not be waited for"


def test_an_owner_whose_run_is_taken_over_ends(
    tmp_path: Path, s3_bucket: S3Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "RENEW_SECONDS", 0.2)
    folder = begun(tmp_path, s3_bucket)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    taken = pytest.raises(SweepFailed, match="another process has taken the run over")
    with taken, ownership.of(folder.path, print):
        (folder.path / ownership.LEASE).write_bytes(b'{"owner": "another"}')
        time.sleep(20)
    assert json.loads((folder.path / ownership.LEASE).read_text())["owner"] == "another"
    (folder.path / ownership.LEASE).unlink()
    with pytest.raises(Stopped), ownership.of(folder.path, print):
        raise Stopped


def test_a_run_that_is_stopped_before_its_first_trial_leaves_nothing(
    tmp_path: Path, s3_bucket: S3Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "RENEW_SECONDS", 0.2)
    opened = runs.opened(sweep(tmp_path, s3_bucket), None, str(tmp_path))
    folder = opened.__enter__()
    assert folder.sweep.exists()
    with pytest.raises(KeyboardInterrupt):
        opened.__exit__(Stopped, Stopped(), None)
    assert not folder.path.is_dir()


def test_a_lease_outlives_faults(
    tmp_path: Path, s3_bucket: S3Path, s3_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "RENEW_SECONDS", 0.1)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    folder = begun(tmp_path, s3_bucket)
    with ownership.of(folder.path, print):
        faults = iter([DROP, LOSE, FAIL, CUT, DROP, DROP, DROP, DROP, None])
        s3_proxy.plan = lambda method, path: next(faults, None) if ownership.LEASE in path else None
        deadline = time.monotonic() + 60
        while next(faults, None) is not None and time.monotonic() < deadline:
            time.sleep(0.5)
        time.sleep(1)
    assert not (folder.path / ownership.LEASE).exists()


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one_and_ends_the_sweep(
    s3_bucket: S3Path, s3_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    file = s3_bucket / "trials" / "x" / "checkpoint" / "last.npz"
    checkpoint.write(file, State({"model": [np.zeros(9)]}, {"epoch": 1}))
    for fault in (FAIL, DROP, "403"):
        s3_proxy.fails(fault, method="PUT")
        with pytest.raises(RemoteError) as raised:
            checkpoint.write(file, State({"model": [np.ones(9)]}, {"epoch": 2}))
        assert failures.told(raised.value)["failure"] == DISK, "no failure of the trial's: others would meet it too"
        assert str(file) in failures.told(raised.value)["reason"]
        assert checkpoint.read(file).meta == {"epoch": 1}
    s3_proxy.fails(FAIL, method="GET")
    with pytest.raises(RemoteError):
        checkpoint.read(file)  # and no word of a damaged one
    (s3_bucket / "cut.npz").write_bytes(file.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"cut.npz is damaged"):
        checkpoint.read(s3_bucket / "cut.npz")
    with pytest.raises(UserError, match="there is no checkpoint s3://"):
        checkpoint.read(s3_bucket / "none.npz")


def test_held_out_images_lie_with_the_run(s3_bucket: S3Path) -> None:
    folder = RunFolder(s3_bucket / "run")
    with pytest.raises(UserError, match=r"manifest\.json is missing"):
        held_out.read(folder)
    storage.write(folder.manifest, json.dumps(Data().manifest).encode())
    assert held_out.read(folder) is None
    held_out.keep(folder, Data())  # type: ignore[arg-type]
    kept = held_out.read(folder)
    assert kept is not None
    assert np.array_equal(kept.load("test").images, Data().load("test").images)


def test_own_components_come_with_the_run(tmp_path: Path, s3_bucket: S3Path) -> None:
    (tmp_path / "my_models.py").write_text("def tiny(image_shape, classes):\n    'Small.'\n")
    loaded = sweep(tmp_path, s3_bucket, "components: [my_models]\nmodels: [tiny]")
    with runs.opened(loaded, None, str(tmp_path)) as folder:
        pass
    (tmp_path / "my_models.py").unlink()
    with runs.at_hand(folder) as here:
        again = config.load(here / "sweep.yaml")
        assert again.studies[0].space["model"] == loaded.studies[0].space["model"]
    assert not here.exists()


def test_a_run_is_listed_and_reported_as_from_a_disk(tmp_path: Path, s3_bucket: S3Path) -> None:
    local = synthetic.build(tmp_path / "runs" / "made", trials=6, studies=2, epochs=3)
    for file in (file for file in local.rglob("*") if file.is_file()):
        storage.copy(file, s3_bucket / "runs" / "made" / file.relative_to(local).as_posix())
    remote = s3_bucket / "runs" / "made"
    report.write(remote)
    report.model_card.write(remote)
    page = (remote / "report.html").read_text()
    report.write(local)
    said = (local / "report.html").read_text()
    assert page.replace(str(remote), "HERE").split("UTC", 1)[1] == said.replace(str(local), "HERE").split("UTC", 1)[1]
    assert (remote / "model_card.md").read_text().startswith("#")
    with pytest.raises(UserError, match="holds no runs"):
        listing.runs(s3_bucket / "elsewhere")
    with pytest.raises(UserError, match="is no run folder"):
        listing.run(s3_bucket / "elsewhere")
