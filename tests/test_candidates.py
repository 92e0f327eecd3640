"""Which checkpoints become candidates, what a run says that has none, and the versions that a run was made with."""

import json
from pathlib import Path

import numpy as np
import pytest

from emoray import candidates, config, sweep, trials, versions
from emoray.config import Sweep
from emoray.errors import UserError
from emoray.run_folder import RunFolder, write_json
from emoray.trial import checkpoint
from emoray.trial.checkpoint import State
from emoray.trial_state import Trial
from emoray.trials import TrialTable

TEXT = "models: [{name: lenet, study: small}, {name: simple_cnn, cpus_per_worker: 2}]\nfinalize: {keep: 3, soup: 2}\n"


@pytest.fixture
def loaded(tmp_path: Path) -> Sweep:
    (tmp_path / "sweep.yaml").write_text(TEXT)
    return config.load(tmp_path / "sweep.yaml")


@pytest.fixture
def table(tmp_path: Path) -> TrialTable:
    """Five trials: scores 0.1 to 0.5 in two studies, the last of them failed."""
    table = TrialTable(RunFolder(tmp_path))
    for number in range(5):
        study, model = ("small", "lenet") if number % 2 else ("simple_cnn", "simple_cnn")
        trial = Trial(f"{study}-{number}", study, number, {"model": {"name": model}}, {})
        trial.history = [{"epoch": e + 1, "score": 0.1 * number + 0.01 * e, "seconds": 1.0} for e in range(3)]
        trial.status = "failed" if number == 4 else "finished"
        for name in ("best", "epoch-0002", "epoch-0003"):
            arrays = {"model": [np.full(3, float(number), np.float32)]}
            checkpoint.write(tmp_path / "trials" / trial.id / "checkpoint" / f"{name}.npz", State(arrays))
        table.trials[trial.id] = trial
    return table


def test_the_best_trials_and_their_soups(table: TrialTable, loaded: Sweep) -> None:
    found, left_out = candidates.choose(table, loaded)
    assert left_out == []
    assert [one.name for one in found] == [
        *("small-3", "small-3-soup", "simple_cnn-2", "simple_cnn-2-soup", "small-1", "small-1-soup"),
    ]
    assert [file.stem for file in found[1].files] == ["epoch-0003", "epoch-0002"], "the better epoch first"
    assert [one.resources.cpus_per_worker for one in found] == [1, 1, 2, 2, 1, 1]
    told = found[1].identity(table.folder)
    assert told["files"][0] == "trials/small-3/checkpoint/epoch-0003.npz"
    assert told["model"] == "lenet"


def test_a_broken_file_is_left_out_and_the_next_takes_its_place(table: TrialTable, loaded: Sweep) -> None:
    best = table.folder.trial("small-3") / "checkpoint" / "best.npz"
    best.write_bytes(best.read_bytes()[:-40])
    (table.folder.trial("simple_cnn-2") / "checkpoint" / "best.npz").unlink()
    found, left_out = candidates.choose(table, loaded)
    assert [one.name for one in found if one.kind == "best"] == ["small-1", "simple_cnn-0"]
    reasons = {one.name: one.reason for one in left_out}
    assert f"{best} is damaged or cut off" in reasons["small-3"]
    assert "best.npz is missing" in reasons["simple_cnn-2"]


def test_a_broken_soup_costs_the_soup_alone(table: TrialTable, loaded: Sweep) -> None:
    (table.folder.trial("small-3") / "checkpoint" / "epoch-0002.npz").write_bytes(b"PK")
    found, left_out = candidates.choose(table, loaded)
    assert [one.name for one in left_out] == ["small-3-soup"]
    assert found[0].name == "small-3"


def test_at_most_so_many_of_an_architecture(table: TrialTable, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(TEXT.replace("soup: 2", "per_architecture: 1"))
    found, _ = candidates.choose(table, config.load(tmp_path / "one.yaml"))
    assert [one.name for one in found] == ["small-3", "simple_cnn-2"]


def test_epochs_of_a_lower_rank_are_given_up(tmp_path: Path) -> None:
    scores: list[float] = []
    for score in (0.3, 0.5, 0.2, float("nan"), 0.6):
        scores.append(score)
        state = State({"model": [np.full(1, score, np.float32)], "optimizer": [np.zeros(9)]})
        checkpoint.keep_epochs(tmp_path, state, scores, 2)
    kept = {path.stem: checkpoint.read(path) for path in tmp_path.glob("*.npz")}
    assert {name: state.meta["score"] for name, state in kept.items()} == {"epoch-0002": 0.5, "epoch-0005": 0.6}
    assert all(state.arrays.keys() == {"model"} for state in kept.values())
    checkpoint.keep_epochs(tmp_path, state, scores, 0)
    assert list(tmp_path.glob("*.npz")) == []


def run_folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "sweep.yaml").write_text(TEXT)
    return RunFolder(tmp_path)


def test_finalize_without_a_trained_epoch_says_so_before_ray_starts(tmp_path: Path, monkeypatch) -> None:
    folder = run_folder(tmp_path)
    monkeypatch.setattr(sweep.cluster, "connected", lambda *_: pytest.fail("Ray was started"))
    with pytest.raises(UserError, match="has finished an epoch yet"):
        sweep.finalize_again(folder.path)
    given = {"trial": "small-1", "study": "small", "index": 1, "settings": {"model": {"name": "lenet"}}, "drawn": {}}
    write_json(folder.trial("small-1") / "settings.json", given)
    write_json(folder.trial("small-1") / "end.json", {"status": "failed", "reason": "no memory", "parameters": None})
    with pytest.raises(UserError, match="all 1 trials failed; small-1, the first, with:\nno memory"):
        sweep.finalize_again(folder.path)
    assert len(list(trials.restore(folder))) == 1


def test_only_finalize_settings_may_differ(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"only finalize\.\* can differ"):
        sweep.finalize_again(run_folder(tmp_path).path, ["data.limit=3"])


def test_a_run_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    assert versions.read(folder) == {}
    versions.write(folder)
    told = versions.read(folder)
    assert told["format"] == versions.FORMAT
    assert told["numpy"] == np.__version__
    write_json(folder.versions, {**told, "format": versions.FORMAT + 1, "emoray": "9.9"})
    with pytest.raises(UserError, match=r"made by emoray 9\.9 in format 2.*use that version"):
        sweep.finalize_again(folder.path)
    folder.versions.write_text("{")
    with pytest.raises(UserError, match=r"versions\.json cannot be read"):
        versions.read(folder)
    assert json.loads(json.dumps(told)) == told
