"""Sweeps whose trials each have several workers: one whose process dies, and a population that takes over weights."""

import os
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emoray import config, search
from emoray.run_folder import RunFolder
from emoray.studies import Studies
from emoray.trial import checkpoint
from emoray.trial.checkpoint import State
from emoray.trial_state import FINISHED
from emoray.trials import TrialTable
from tests.test_distributed import of_raylet
from tests.training import faces_of

SWEEP = """
models: [{name: lenet, trials: 2}]
train:
  epochs: 2
  batch_size: 32
  optimizer: {name: sgd, learning_rate: {loguniform: [1e-6, 0.1]}}
  workers: 2
search:
  metric: accuracy
  scheduler: {name: pbt, interval_epochs: 1}
  storage_limit: 1 KB
  first: [{study: lenet, optimizer: {learning_rate: 0.05}}, {study: lenet, optimizer: {learning_rate: 1e-6}}]
"""
ONE_TRIAL = """
models: [{name: simple_cnn, trials: 1, width: 4, dropout: 0.3}]
train: {epochs: 3, batch_size: 32, workers: 2}
search: {metric: accuracy}
"""
KINDS = ("best", "last")


class Onlooker:
    """Keeps what a trial takes over, and whether the donor's own state was gone when it was trained on."""

    def __init__(self) -> None:
        self.taken: State | None = None
        self.donor_was_deleted = False

    def update(self, studies: Studies) -> None:
        trials = studies.table.trials
        if len(trials) < 2:
            return
        taken = studies.table.checkpoint(trials["lenet-002"], "taken")
        if self.taken is None and taken.exists():
            self.taken = checkpoint.read(taken)
        donor = studies.table.checkpoint(trials["lenet-001"], "last")
        if self.taken is not None and len(trials["lenet-002"].history) == 1 and not donor.exists():
            self.donor_was_deleted = True


class Striker:
    """Kills processes of a trial, when an epoch is behind it."""

    def __init__(self, title: str) -> None:
        self.title, self.struck = title, False

    def update(self, studies: Studies) -> None:
        if not self.struck and any(len(trial.history) == 1 for trial in studies.table):
            for process in of_raylet(self.title)[:1]:
                os.kill(process, signal.SIGKILL)
                self.struck = True


@pytest.mark.ray
@pytest.mark.keras
@pytest.mark.timeout(600)
def test_a_trial_on_two_workers_one_of_whose_processes_is_killed_ends_with_the_same_bits(
    ray_cluster: None, tmp_path: Path
) -> None:
    """Its own in its second epoch, which it has begun, or a worker's; with dropout and batch norm."""
    (tmp_path / "sweep.yaml").write_text(ONE_TRIAL)
    sweep, data, found = config.load(tmp_path / "sweep.yaml"), faces_of(203), []
    own, worker = Striker("ResourceTrainable.train"), Striker("RayTrainWorker")
    told = {
        "own": "its process died; it goes on from epoch 1",
        "worker": r"the process of its worker \d died; it goes on",
    }
    for name, onlooker in (("unbroken", Onlooker()), ("own", own), ("worker", worker)):
        table = TrialTable(RunFolder(tmp_path / name))
        studies = search.run(sweep, table, data, 1, onlooker)
        assert table.trials["simple_cnn-001"].status == FINISHED, studies.notices
        assert name not in told or any(re.search(told[name], notice) for notice in studies.notices), studies.notices
        found.append([checkpoint.read(table.checkpoint(table.trials["simple_cnn-001"], kind)) for kind in KINDS])
    assert own.struck
    assert worker.struck
    for unbroken, broken in [*zip(found[0], found[1], strict=True), *zip(found[0], found[2], strict=True)]:
        assert unbroken.arrays.keys() == broken.arrays.keys()
        for kind, arrays in unbroken.arrays.items():
            assert all(map(np.array_equal, arrays, broken.arrays[kind]))


@pytest.mark.ray
@pytest.mark.keras
@pytest.mark.timeout(400)
def test_a_trial_on_two_workers_takes_over_anothers_weights_which_are_then_deleted(
    ray_cluster: None, tmp_path: Path
) -> None:
    """It trains on from them as one worker would, with settings of its own; the donor, ended, has no state any more."""
    from emoray.trial.player import Player

    (tmp_path / "sweep.yaml").write_text(SWEEP)
    table, data, onlooker = TrialTable(RunFolder(tmp_path / "run")), faces_of(203), Onlooker()
    studies = search.run(config.load(tmp_path / "sweep.yaml"), table, data, 1, onlooker)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "Ctrl-C works on after the search"
    donor, receiver = table.trials["lenet-001"], table.trials["lenet-002"]
    assert [trial.status for trial in (donor, receiver)] == [FINISHED, FINISHED], studies.notices
    assert [change.donor for change in receiver.changes] == [donor.id]
    assert onlooker.donor_was_deleted

    alone: Any = Player(receiver.settings, "accuracy", data)
    assert onlooker.taken is not None
    alone.load(State(onlooker.taken.arrays, {"history": receiver.history[:1]}), None)
    row = alone.play()
    best = checkpoint.read(table.checkpoint(receiver, "best"))
    assert best.meta["epoch"] == 2
    for ours, theirs in zip(alone.state().arrays["model"], best.arrays["model"], strict=True):
        assert np.allclose(ours, theirs, atol=1e-6)
    assert receiver.history[1]["train_loss"] == pytest.approx(row["train_loss"], abs=1e-5)
    alone.close()
