"""Run folders: numbering, locking, what may change on a resume, files that are whole or not at all."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from emoray import config, held_out, run_folder, runs
from emoray.errors import UserError


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


def test_more_models_and_trials_are_welcome(tmp_path: Path) -> None:
    begun(tmp_path)
    assert runs.find(sweep(tmp_path, "models: [lenet, simple_cnn]\nsearch: {trials: 99}"), resume=True)


def test_a_run_belongs_to_one_process(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with (
        runs.opened(sweep(tmp_path), None, str(tmp_path)) as folder,
        pytest.raises(UserError, match="another process"),
        runs.opened(sweep(tmp_path), folder, str(tmp_path)),
    ):
        pass
    with runs.opened(sweep(tmp_path), folder, str(tmp_path)):
        pass


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
