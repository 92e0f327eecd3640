"""Which checkpoints become candidates, what a run says that has none, and the versions that a run was made with."""

import json
from pathlib import Path

import numpy as np
import pytest

from emoray import candidates, cli, config, held_out, ownership, retention, sweep, trials, versions
from emoray.config import Sweep
from emoray.errors import UserError
from emoray.inside import jobs
from emoray.predictions import Predicted
from emoray.run_folder import RunFolder, write_json
from emoray.trial import checkpoint
from emoray.trial.checkpoint import State
from emoray.trial_state import Trial
from emoray.trials import TrialTable, write_history

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
    found, left_out, not_kept = candidates.choose(table, loaded)
    assert (left_out, not_kept) == ([], 0)
    assert [one.name for one in found] == [
        *("small-3", "small-3-soup", "simple_cnn-2", "simple_cnn-2-soup", "small-1", "small-1-soup"),
    ]
    assert [file.stem for file in found[1].files] == ["epoch-0003", "epoch-0002"], "the better epoch first"
    assert [one.resources.cpus_per_worker for one in found] == [1, 1, 2, 2, 1, 1]
    told = found[1].identity(table.folder)
    assert told["files"][0] == "trials/small-3/checkpoint/epoch-0003.npz"
    assert told["model"] == "lenet"


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"small-1": 1.0}, ["small-1", "simple_cnn-2"]),
        ({"small-1-soup": 0.6, "small-3": 0.4}, ["small-1-soup", "simple_cnn-2"]),
        ({"small-1": None, "simple_cnn-2-soup": None}, ["small-1", "simple_cnn-2-soup"]),
    ],
    ids=["best on selection", "largest weight", "stack"],
)
def test_what_is_in_use_is_looked_into(
    table: TrialTable, loaded: Sweep, members: dict[str, float | None], expected: list[str]
) -> None:
    found = candidates.choose(table, loaded).candidates
    own = [np.full((2, 3), number, np.float32) for number in range(len(found))]
    told = [{"name": name, "weight": weight} for name, weight in members.items()]
    shown = jobs.shown(Predicted(found, {"selection": np.stack(own)}, []), told)
    assert [shown[study][0].name for study in ("small", "simple_cnn")] == expected
    assert all(found[int(shares[0, 0])] == candidate for candidate, shares in shown.values()), "with its own shares"


def test_a_broken_file_is_left_out_and_the_next_takes_its_place(table: TrialTable, loaded: Sweep) -> None:
    best = table.folder.trial("small-3") / "checkpoint" / "best.npz"
    best.write_bytes(best.read_bytes()[:-40])
    (table.folder.trial("simple_cnn-2") / "checkpoint" / "best.npz").unlink()
    found, left_out, _ = candidates.choose(table, loaded)
    assert [one.name for one in found if one.kind == "best"] == ["small-1", "simple_cnn-0"]
    reasons = {one.name: one.reason for one in left_out}
    assert f"{best} is damaged or cut off" in reasons["small-3"]
    assert "best.npz is missing" in reasons["simple_cnn-2"]


def test_a_broken_soup_costs_the_soup_alone(table: TrialTable, loaded: Sweep) -> None:
    (table.folder.trial("small-3") / "checkpoint" / "epoch-0002.npz").write_bytes(b"PK")
    found, left_out, _ = candidates.choose(table, loaded)
    assert [one.name for one in left_out] == ["small-3-soup"]
    assert found[0].name == "small-3"


def test_at_most_so_many_of_an_architecture(table: TrialTable, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(TEXT.replace("soup: 2", "per_architecture: 1"))
    found, *_ = candidates.choose(table, config.load(tmp_path / "one.yaml"))
    assert [one.name for one in found] == ["small-3", "simple_cnn-2"]


def test_studies_of_one_architecture_count_together(table: TrialTable, tmp_path: Path) -> None:
    for trial in table:
        trial.settings = {"model": {"name": "lenet"}}
    (tmp_path / "one.yaml").write_text(TEXT.replace("soup: 2", "per_architecture: 2"))
    found, *_ = candidates.choose(table, config.load(tmp_path / "one.yaml"))
    assert [one.name for one in found] == ["small-3", "simple_cnn-2"]


def test_what_the_search_deleted_is_not_called_missing(table: TrialTable, loaded: Sweep, tmp_path: Path) -> None:
    (tmp_path / "searched.yaml").write_text(TEXT.replace("keep: 3", "keep: 2"))
    searched = config.load(tmp_path / "searched.yaml")
    retention.tidy(table, table.trials["small-1"], searched)
    kept = {path.parents[1].name for path in tmp_path.glob("trials/*/checkpoint/best.npz")}
    assert kept == {"small-3", "simple_cnn-2"}
    found, left_out, not_kept = candidates.choose(table, loaded, searched.finalize)
    assert [one.trial.id for one in found if one.kind == "best"] == ["small-3", "simple_cnn-2"]
    assert (left_out, not_kept) == ([], 2)
    assert candidates.choose(table, searched).not_kept == 0, "nobody asks for more than was kept"
    table.checkpoint(table.trials["small-3"], "best").unlink()
    found, left_out, not_kept = candidates.choose(table, loaded, searched.finalize)
    assert [one.name for one in left_out] == ["small-3"], "which was kept, and is lost"
    assert not_kept == 2


def test_a_checkpoint_of_which_nothing_else_is_known_is_told(table: TrialTable, loaded: Sweep) -> None:
    stray = table.trials.pop("small-1")
    table.trials["simple_cnn-2"].history = []
    reasons = {one.name: one.reason for one in candidates.choose(table, loaded).left_out}
    assert reasons.keys() == {"small-1", "simple_cnn-2"}
    assert f"{table.folder.trial(stray.id) / 'settings.json'} is missing" in reasons["small-1"]
    assert "history.csv is missing or empty" in reasons["simple_cnn-2"]


def test_each_study_gives_its_best_whole_checkpoint_to_look_into(table: TrialTable, loaded: Sweep) -> None:
    table.checkpoint(table.trials["small-3"], "best").write_bytes(b"PK")
    found, without = candidates.of_other_studies(table, loaded, known=(), unusable=["simple_cnn-2"])
    assert [one.name for one in found] == ["small-1", "simple_cnn-0"]
    assert without == {}
    table.checkpoint(table.trials["small-1"], "best").unlink()
    found, without = candidates.of_other_studies(table, loaded, known=["simple_cnn"], unusable=())
    assert found == []
    assert without == {"small": "none of the checkpoints of its 2 trials is there and whole"}


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
    with pytest.raises(UserError, match="its trial small-1 failed with: no memory"):
        sweep.finalize_again(folder.path)
    assert len(list(trials.restore(folder))) == 1


@pytest.mark.parametrize("name", ["settings.json", "end.json", "history.csv"])
def test_a_file_of_a_trial_that_is_cut_off_is_named(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(tmp_path)
    given = {"trial": "small-1", "study": "small", "index": 1, "settings": {"model": {"name": "lenet"}}, "drawn": {}}
    trial = folder.trial("small-1")
    write_json(trial / "settings.json", given)
    write_json(trial / "end.json", {"status": "finished", "reason": "", "parameters": None})
    write_history(trial, [{"epoch": 1, "score": 0.512345, "seconds": 1.0}])
    for size in (-1, 10):
        whole = (trial / name).read_bytes()
        (trial / name).write_bytes(whole.rstrip()[:size])
        assert cli.main(["finalize", str(folder.path)]) == 2
        told = capsys.readouterr().err
        assert f"{trial / name} is damaged or cut off" in told
        assert "Traceback" not in told
        assert len(told.splitlines()) == 1
        (trial / name).write_bytes(whole)


def test_a_run_at_which_another_process_is_at_work_is_left_alone(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    with ownership.of(folder.path, print), pytest.raises(UserError, match="another process is at work on"):
        sweep.finalize_again(folder.path)


@pytest.mark.parametrize("path", ["faces.csv", "/etc/passwd", None])
def test_images_that_are_missing_are_not_made_of_whatever_the_run_names(tmp_path: Path, path: str | None) -> None:
    """A run whose source is not what it was trained on: nothing of it is read, and no Ray job is started."""
    folder = run_folder(tmp_path)
    if path is not None:
        folder.sweep.write_text(f"{TEXT}data: {{path: {path}}}\n")
    write_json(folder.manifest, {"fingerprint": "f00d", "classes": ["a", "b"], "image_shape": [48, 48, 1]})
    checkpoint.write(folder.manifest.with_name("selection.npz"), State({}))
    assert held_out.read(folder) is None
    said: list[str] = []
    with pytest.raises(UserError, match=r"test\.npz is missing, and .*bring back what is missing") as refused:
        held_out.anew(folder, config.load(folder.sweep), said.append)
    assert (path or "the embedded faces") in str(refused.value)
    assert (path or "the embedded faces") in said[0], "it is told before anything is looked at"
    assert "selection.npz" not in str(refused.value)
    assert not (tmp_path.parent / ".cache").exists()


def test_only_finalize_settings_may_differ(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"only finalize\.\* can differ"):
        sweep.finalize_again(run_folder(tmp_path).path, ["data.limit=3"])
    with pytest.raises(UserError) as refused:
        sweep.finalize_again(tmp_path, ["finalize.tta=fllip", "finalize.keep=0", "search.metric=accuracy"])
    head, *told = str(refused.value).splitlines()
    assert head == "3 mistakes on the command line:"
    assert [line.partition(": ")[0] for line in told] == [
        "  --set finalize.tta=fllip",
        "  --set finalize.keep=0",
        "  --set search.metric=accuracy",
    ]
    for setting in ("finalize.ensemble.name=greddy", "finalize.kep=3", "finalize.keep"):
        with pytest.raises(UserError, match=rf"^--set {setting}: .+") as refused:
            sweep.finalize_again(tmp_path, [setting])
        assert "sweep.yaml" not in str(refused.value)
        assert "\n" not in str(refused.value)


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
