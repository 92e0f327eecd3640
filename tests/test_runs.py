"""Run folders: numbering, locking, what may change on a resume, files that are whole or not at all."""

import csv
import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from emoray import cli, config, held_out, listing, overview, ownership, run_folder, runs, search, trials
from emoray.errors import Stopped, UserError
from emoray.studies import Studies
from emoray.trials import TrialTable, write_history


def sweep(tmp_path: Path, text: str = "models: [lenet]") -> config.Sweep:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    return config.load(file, storage=str(tmp_path / "runs"))


def begun(tmp_path: Path) -> run_folder.RunFolder:
    (tmp_path / "runs").mkdir(exist_ok=True)
    with runs.opened(sweep(tmp_path), None, str(tmp_path)) as folder:
        return folder


def test_every_new_run_gets_the_next_number(tmp_path: Path) -> None:
    assert [begun(tmp_path).path.name for _ in range(3)] == ["mine", "mine-2", "mine-3"]
    (tmp_path / "runs" / "mine-other").mkdir()
    found = runs.find(sweep(tmp_path), resume=True)
    assert found is not None
    assert found.path.name == "mine-3"


def test_a_run_of_another_sweep_is_not_resumed(tmp_path: Path) -> None:
    """`mine-2` is the second run of `mine`, or the first of a sweep that is called so."""
    begun(tmp_path)
    other = tmp_path / "mine-2.yaml"
    other.write_text("models: [lenet]")
    named_so = config.load(other, storage=str(tmp_path / "runs"))
    with runs.opened(named_so, None, str(tmp_path)) as folder:
        assert folder.path.name == "mine-2"
    found = [runs.find(one, resume=True) for one in (sweep(tmp_path), named_so)]
    assert [folder.path.name for folder in found if folder] == ["mine", "mine-2"]
    assert begun(tmp_path).path.name == "mine-3"
    with pytest.raises(UserError, match="there is no run of 'mine-3'"):
        runs.find(config.load(other, ["name=mine-3"], str(tmp_path / "runs")), resume=True)


@pytest.mark.parametrize("change", ["mode: stream", "max_bad_fraction: 0.5"])
def test_what_changes_nothing_that_was_measured_may_differ(tmp_path: Path, change: str) -> None:
    begun(tmp_path)
    assert runs.find(sweep(tmp_path, f"models: [lenet]\ndata: {{{change}}}"), resume=True)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"fingerprint": "b" * 20}, f"other images or splits ({'a' * 20}) than its data source now gives ({'b' * 20})"),
        ({"classes": ["joy"]}, "other classes (joy, other) than its data source now gives (joy)"),
    ],
)
def test_data_that_changed_is_refused_and_nothing_of_the_run_is_touched(
    tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    prepared = {"fingerprint": "a" * 20, "classes": ["joy", "other"], "image_shape": [48, 48, 1]}
    (tmp_path / "manifest.json").write_text(json.dumps(prepared))
    folder = begun(tmp_path)
    held_out.check(folder, prepared["fingerprint"], prepared["classes"])
    now = prepared | changed
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=re.escape(reason)):
        held_out.check(folder, now["fingerprint"], now["classes"])
    assert {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()} == before
    folder.manifest.unlink()
    held_out.check(folder, now["fingerprint"], now["classes"])


def test_there_must_be_something_to_resume(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no run of 'mine'"):
        runs.find(sweep(tmp_path), resume=True)


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ("seed: 5", "seed: 0 -> 5"),
        ("data: {image_size: 64}", "data.image_size: 48 -> 64"),
        ("search: {metric: accuracy}", "search.metric: 'macro_f1' -> 'accuracy'"),
    ],
)
def test_what_would_make_results_incomparable_is_refused(tmp_path: Path, change: str, shown: str) -> None:
    begun(tmp_path)
    with pytest.raises(UserError, match=shown):
        runs.find(sweep(tmp_path, f"models: [lenet]\n{change}"), resume=True)


def test_all_that_would_be_incomparable_is_told_at_once(tmp_path: Path) -> None:
    begun(tmp_path)
    changed = "models: [lenet]\nseed: 1\ndata: {faces: 1600, image_size: 64}\nsearch: {metric: accuracy}\n"
    with pytest.raises(UserError) as refused:
        runs.find(sweep(tmp_path, changed), resume=True)
    told = ("seed: 0 -> 1", "data.faces: 4000 -> 1600", "data.image_size: 48 -> 64", "'macro_f1' -> 'accuracy'")
    assert [one for one in told if one not in str(refused.value)] == [], refused.value


def test_what_was_typed_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--retry-failed: there is no run of 'mine' .* start one without --retry-f"):
        runs.find(sweep(tmp_path), resume=True, option="--retry-failed")


def test_settings_and_models_that_changed_are_told(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    before = sweep(tmp_path, "models: [lenet, simple_cnn, vgg10]\ntrain: {batch_size: {choice: [16, 32]}, epochs: 4}")
    with runs.opened(before, None, str(tmp_path)) as folder:
        pass
    assert runs.changed(folder, before) == []
    wider = sweep(tmp_path, "models: [lenet, simple_cnn, vgg10]\ntrain: {batch_size: {choice: [16, 64]}, epochs: 9}")
    assert runs.changed(folder, wider) == []
    now = "models: [{name: lenet, activation: relu, batch_size: 16}, simple_cnn]\n"
    now += "train: {loss: focal, batch_size: {choice: [8]}}"
    assert runs.changed(folder, sweep(tmp_path, now)) == [
        "vgg10 is no longer in the file: its trials are kept, and get no more epochs",
        "changed for new trials alone, those that were begun keep theirs: lenet: activation 'tanh' -> 'relu'; "
        'lenet: batch_size {"choice": [16, 32]} -> 16; lenet, simple_cnn: loss cross_entropy -> focal',
    ]


def test_more_models_and_trials_are_welcome(tmp_path: Path) -> None:
    begun(tmp_path)
    assert runs.find(sweep(tmp_path, "models: [lenet, simple_cnn]\nsearch: {trials: 99}"), resume=True)


def test_a_run_belongs_to_one_process(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with (
        runs.opened(sweep(tmp_path), None, str(tmp_path)) as folder,
        pytest.raises(UserError, match="another process"),
        runs.held(folder, print),
    ):
        pass
    with runs.held(folder, print), runs.opened(sweep(tmp_path), folder, str(tmp_path)):
        assert ownership.is_owned(folder.path)
    assert not ownership.is_owned(folder.path)


@pytest.mark.parametrize("option", ["--resume", "--retry-failed"])
def test_the_run_of_another_process_is_refused_before_ray_starts(
    tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = begun(tmp_path)
    with ownership.of(folder.path, print):
        assert cli.main(["sweep", str(_file(tmp_path)), "--storage", str(tmp_path / "runs"), option]) == 2
    told = capsys.readouterr()
    assert f"another process is at work on {folder.path}/; wait for its end" in told.err
    assert "starting Ray" not in told.out


def test_who_only_asks_for_the_owner_keeps_nobody_out(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            ownership.is_owned(folder.path)
            time.sleep(0.005)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(200):
            with runs.held(folder, print):
                pass
    finally:
        ended.set()
        asking.join()


@pytest.mark.parametrize("error", [Stopped, KeyboardInterrupt])
def test_a_run_that_is_stopped_before_its_first_trial_leaves_no_folder(tmp_path: Path, error: type) -> None:
    before = begun(tmp_path)
    opened = runs.opened(sweep(tmp_path), None, str(tmp_path))
    folder = opened.__enter__()
    assert folder.sweep.exists()
    with pytest.raises(KeyboardInterrupt):
        opened.__exit__(error, error(), None)
    assert not folder.path.exists()
    with pytest.raises(error), runs.held(before, print), runs.opened(sweep(tmp_path), before, str(tmp_path)):
        raise error
    assert before.sweep.exists(), "what was there before stays"


def test_a_run_that_is_stopped_while_its_folder_is_made_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(folder: Path, say: Any) -> None:
        assert folder.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(ownership, "of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        begun(tmp_path)
    assert not list((tmp_path / "runs").iterdir())


class _Interrupts:
    def update(self, studies: Studies) -> None:
        raise KeyboardInterrupt


def test_a_run_that_is_stopped_later_stays_and_tells_what_its_trials_have_left(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    given = sweep(tmp_path, "models: [{name: lenet, trials: 5}]\ntrain: {batch_size: {choice: [16, 32, 64]}}")
    opened = runs.opened(given, None, str(tmp_path))
    folder = opened.__enter__()
    studies = Studies(given, TrialTable(folder))
    one, two = studies.next(), studies.next()
    assert one is not None
    assert two is not None
    row = {"epoch": 1, "score": 0.5, "seconds": 1.0, "images_per_second": 5.0, "train_loss": 1.0, "accuracy": 0.5}
    studies.record({"trial": one.id, "row": list(row.items())})
    studies.table.write()
    write_history(folder.trial(one.id), [row, row | {"epoch": 2}])  # saved, and its process ended before it told
    write_history(folder.trial(two.id), [row])
    assert {line["status"] for line in _table(folder)} == {"running"}
    assert "2 running" in listing.run(folder.path)
    assert not opened.__exit__(Stopped, Stopped(), None), "it goes on its way"
    assert [(line["status"], line["epochs"]) for line in _table(folder)] == [("unfinished", "2"), ("unfinished", "1")]
    assert ": unfinished, 2 unfinished, changed" in listing.run(folder.path)
    assert listing.trial(folder.path, one.id).startswith(f"{one.id}: unfinished\n")
    with pytest.raises(KeyboardInterrupt):  # before any trial has shown anything
        search.run(given, trials.restore(folder), None, 1, _Interrupts())  # type: ignore[arg-type]
    assert {line["status"] for line in _table(folder)} == {"running"}
    resumed = Studies(given, trials.restore(folder))
    assert [trial.id for trial in resumed.waiting] == [one.id, two.id]
    assert overview.standing(resumed) == "0 ended, 2 go on, 1 new: at most 57 epochs more", (
        "its space holds three settings"
    )


def test_a_folder_that_its_owner_has_deleted_meanwhile_is_told(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    with ownership.of(folder.path, print) as remove:
        remove()
    with pytest.raises(UserError, match="is gone: the sweep that had made it was stopped"), runs.held(folder, print):
        pass


def _table(folder: run_folder.RunFolder) -> list[dict[str, str]]:
    with folder.trials.open(newline="") as file:
        return list(csv.DictReader(file))


def test_storage_must_be_a_folder_that_can_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    for storage in (blocked, blocked / "below"):
        with pytest.raises(UserError, match="cannot be written"):
            runs.find(config.load(_file(tmp_path), storage=str(storage)), resume=False)
    with pytest.raises(UserError, match="gs://bucket/runs: runs are kept in a local folder or on S3"):
        runs.find(config.load(_file(tmp_path), storage="gs://bucket/runs"), resume=False)


def test_a_file_that_cannot_be_written_whole_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    run_folder.write_csv(path, ["a"], [{"a": 1.23456789}, {"b": 2}])
    assert path.read_text() == 'a\n1.23457\n""\n'
    with pytest.raises(UnicodeEncodeError):
        run_folder.write_text(path, "\udc80")
    assert path.read_text() == 'a\n1.23457\n""\n'
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


def _file(tmp_path: Path) -> Path:
    file = tmp_path / "mine.yaml"
    file.write_text("models: [lenet]")
    return file


def test_own_components_are_kept_with_the_run(tmp_path: Path) -> None:
    (tmp_path / "my_models.py").write_text("def tiny(image_shape, classes):\n    'Small.'\n")
    (tmp_path / "runs").mkdir()
    loaded = sweep(tmp_path, "components: [my_models]\nmodels: [tiny]")
    with runs.opened(loaded, None, str(tmp_path)) as folder:
        pass
    (tmp_path / "my_models.py").unlink()
    again = config.load(folder.sweep)
    assert again.studies[0].space["model"] == loaded.studies[0].space["model"]
    with runs.opened(again, folder, str(tmp_path)):
        pass  # the module is its own copy now
