"""Run folders that come from somebody else run nothing, write nothing outside, and end."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emoray import cli, config, held_out, intact, predict, runs, storage, sweep, trials
from emoray.errors import UserError
from emoray.run_folder import RunFolder, write_json
from emoray.trial import checkpoint
from emoray.trial.checkpoint import State


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A finished run of one small model, as far as it is read before a model is built."""
    folder = RunFolder(tmp_path / "run")
    folder.manifest.parent.mkdir(parents=True)
    folder.sweep.write_text("models: [lenet]")
    manifest = {"image_shape": [48, 48, 1], "classes": ["glad", "sad"], "fingerprint": "x"}
    write_json(folder.manifest, manifest)
    settings = {"model": {"name": "lenet"}}
    told = {"trial": "lenet-001", "study": "lenet", "index": 1, "settings": settings, "drawn": {}}
    write_json(folder.trial("lenet-001") / "settings.json", told)
    checkpoint.write(folder.trial("lenet-001") / "checkpoint" / "best.npz", State({"model": [np.zeros(3, np.float32)]}))
    (folder.trial("lenet-001") / "history.csv").write_text("epoch,score\n1,0.5\n")
    files = ["trials/lenet-001/checkpoint/best.npz"]
    candidate = {"name": "lenet-001", "trial": "lenet-001", "files": files, "temperature": 1.0}
    blend = {"method": "uniform", "weights": [1.0]}
    ensemble = {"classes": ["glad", "sad"], "tta": "none", "candidates": [candidate], "blend": blend}
    write_json(folder.ensemble, ensemble)
    return folder


def keep_images(run: RunFolder, **meta: object) -> dict[str, np.ndarray]:
    """Held-out images, as they were kept before the names of classes were kept with them."""
    arrays = {"images": np.zeros((3, 48, 48, 1), np.uint8), "labels": np.array([0, 0, 1]), "rows": np.arange(3)}
    arrays["files"] = np.array(["a", "b", "c"])
    for name in held_out.SPLITS:
        stored = {key: [array] for key, array in arrays.items()}
        checkpoint.write(run.manifest.with_name(f"{name}.npz"), State(stored, {"fingerprint": "x", **meta}))
    return arrays


def edit(file: Path, change: Callable[[dict], None]) -> None:
    told = json.loads(file.read_text())
    change(told)
    write_json(file, told)


def image(tmp_path: Path) -> Path:
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 48), np.uint8)).save(tmp_path / "face.png")
    return tmp_path / "face.png"


def refused(run: RunFolder, tmp_path: Path) -> str:
    """What predict and finalize say of a run folder; both refuse it before any model is built or Ray is started."""
    with pytest.raises(UserError) as by_predict:
        predict.files(run.path, [image(tmp_path)])
    return str(by_predict.value)


def refused_by_finalize(run: RunFolder) -> str:
    with pytest.raises(UserError) as by_finalize:
        sweep.finalize_again(run.path)
    return str(by_finalize.value)


@pytest.mark.parametrize("inside", [".lock", "report", "predictions", "trials/lenet-001/checkpoint", "trials/other"])
def test_links_that_lead_out_are_refused(run: RunFolder, tmp_path: Path, witness: Path, inside: str) -> None:
    link = run.path / inside
    if link.exists():
        shutil.rmtree(link)
    target = witness if inside == ".lock" else witness.parent
    if inside == ".lock":
        witness.write_text("precious")
    link.symlink_to(target)
    assert f"{link} is a link that leads out of the run folder" in refused(run, tmp_path)
    with pytest.raises(UserError, match="leads out of the run folder"):
        sweep.finalize_again(run.path)
    loaded = config.load(run.sweep, storage=str(run.path.parent))
    object.__setattr__(loaded, "name", "run")
    with pytest.raises(UserError, match="leads out of the run folder"):
        runs.find(loaded, resume=True)
    assert not witness.exists() or witness.read_text() == "precious"


def test_a_link_within_the_run_and_a_run_behind_a_link_are_fine(run: RunFolder, tmp_path: Path) -> None:
    (run.path / "latest").symlink_to(run.trial("lenet-001"))
    (tmp_path / "moved").symlink_to(run.path)
    intact.links(tmp_path / "moved")
    assert len(list(trials.restore(RunFolder(tmp_path / "moved"), ()))) == 1


@pytest.mark.parametrize("written", ["/etc/passwd", "../../secret.npz", "trials/../../x.npz", 7])
def test_files_of_the_ensemble_lie_in_the_run(run: RunFolder, tmp_path: Path, written: object) -> None:
    edit(run.ensemble, lambda told: told["candidates"][0].update(files=[written]))
    assert "is no file of the run" in refused(run, tmp_path)


@pytest.mark.parametrize("name", ["../../../tmp/x", "/tmp/x", "other", "", 3])
def test_trials_are_called_like_their_folders(run: RunFolder, tmp_path: Path, name: object) -> None:
    edit(run.trial("lenet-001") / "settings.json", lambda told: told.update(trial=name))
    assert "settings.json" in refused(run, tmp_path)
    with pytest.raises(UserError, match=r"settings\.json"):
        sweep.finalize_again(run.path)


def test_what_blocks_or_has_no_end_is_refused(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = run.trial("lenet-001") / "history.csv"
    history.unlink()
    os.mkfifo(history)
    assert f"{history} is neither a file nor a folder" in refused(run, tmp_path)
    for command in (["show", str(run.path)], ["show", str(run.path), "lenet-001"]):
        assert cli.main(command) == 2
    assert cli.main(["runs", str(run.path.parent)]) == 0
    assert f"is damaged: {history} is neither a file nor a folder" in capsys.readouterr().out
    history.unlink()
    with history.open("wb") as file:
        file.truncate((256 << 20) + 1)
    assert f"{history} has 268,435,457 bytes" in refused(run, tmp_path)


def test_what_a_run_tells_cannot_steer_the_terminal(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """Its texts are shown without their control characters, in errors too."""
    escape = "\x1b]0;owned\x07\x1b[2J\u202e\x9b31m"
    (run.trial("lenet-001") / "error.txt").write_text(f"Traceback\n{escape}ValueError")
    settings = {"model": {"name": escape}, "epochs": 1}
    edit(run.trial("lenet-001") / "settings.json", lambda told: told.update(settings=settings))
    end = {"status": "failed", "failure": "error", "reason": f"{escape}oops", "parameters": 1}
    write_json(run.trial("lenet-001") / "end.json", end)
    assert cli.main(["show", str(run.path)]) == 0
    assert cli.main(["show", str(run.path), "lenet-001"]) == 0
    assert cli.main(["runs", str(run.path.parent)]) == 0
    told = capsys.readouterr().out
    assert "ValueError" in told
    assert "oops" in told
    run.sweep.write_text(f"models: [lenet]\nfinalize: {{keep: '{escape}'}}".replace("\x07", ""))
    assert cli.main(["finalize", str(run.path)]) == 2
    told += capsys.readouterr().err
    assert not [c for c in told if c != "\n" and not c.isprintable()]


def test_an_ensemble_method_of_the_run_runs_only_where_that_is_asked_for(run: RunFolder, witness: Path) -> None:
    method = "def f(probabilities, labels, metric):\n    'Mine.'\n"
    (run.path / "evil.py").write_text(f"open({str(witness)!r}, 'w')\n{method}")
    run.sweep.write_text("models: [lenet]\ncomponents: [evil]\nfinalize: {ensemble: f}")
    with pytest.raises(UserError, match=r"\(evil\.f\), which would have all your rights: .*--run-components"):
        sweep.finalize_again(run.path)
    assert not witness.exists()


def test_code_in_a_run_folder_runs_only_where_that_is_asked_for(
    run: RunFolder, tmp_path: Path, witness: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.path / "evil.py").write_text(f"open({str(witness)!r}, 'w')\n")
    for name in ("torch", "jax", "numpy"):  # what libraries import where it is there
        (run.path / f"{name}.py").write_text(f"open({str(witness)!r}, 'w')\n")
    edit(run.trial("lenet-001") / "settings.json", lambda told: told["settings"].update(model={"name": "evil.net"}))
    assert "(evil.net), which would have all your rights: read it, then add --run-components" in refused(run, tmp_path)
    with pytest.raises(UserError, match="--run-components"):
        sweep.finalize_again(run.path)
    edit(run.trial("lenet-001") / "settings.json", lambda told: told["settings"].update(model={"name": "os.system"}))
    assert "os.system" in refused(run, tmp_path)
    assert str(run.path) not in sys.path
    assert not witness.exists()


@pytest.mark.parametrize("module", ["..evil", "/evil", "../evil", "a..b", "", 3, "evil "])
def test_modules_of_a_run_elsewhere_are_no_paths(
    tmp_path: Path, module: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run in a bucket is brought here with its modules, by names that its sweep.yaml gives."""
    copied: list[tuple[object, Path]] = []

    def copy(source: object, target: Path) -> None:
        copied.append((source, target))
        target.write_text(json.dumps({"components": [module], "models": ["lenet"]}))

    monkeypatch.setattr(storage, "copy", copy)
    elsewhere = RunFolder(storage.at("s3://bucket/run"))
    with pytest.raises(UserError, match="is no name of a module"), runs.at_hand(elsewhere):
        pass
    assert [target.name for _, target in copied] == ["sweep.yaml"]


def test_a_list_of_classes_that_is_not_the_one_trained_on_is_refused(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The models' outputs are indices of that list: another one gives every image another name."""
    monkeypatch.setattr(sweep.cluster, "connected", lambda *_: pytest.fail("Ray was started"))
    counts = {"test": {"images": 3, "classes": {"glad": 2, "sad": 1}}}
    edit(run.manifest, lambda told: told.update(splits=counts | {"selection": counts["test"]}))
    keep_images(run)
    kept = held_out.read(run)
    assert kept is not None
    assert kept.classes == ["glad", "sad"]

    edit(run.manifest, lambda told: told.update(classes=["sad", "glad"]))
    for told in (refused(run, tmp_path), refused_by_finalize(run)):
        assert told == (
            f"{run.manifest}: classes (sad, glad) is another list than splits.test counts by (glad, sad); bring back "
            "the manifest.json that the run was trained with"
        )
    reversed_counts = {"images": 3, "classes": {"sad": 2, "glad": 1}}  # in one order, so only the labels can tell
    swapped = {"images": 3, "classes": {"sad": 1, "glad": 2}}
    edit(run.manifest, lambda told: told.update(splits={"selection": swapped, "test": swapped}))
    assert f"{run.manifest}: its classes (sad, glad) are not those that the labels in" in refused_by_finalize(run)
    told = refused(run, tmp_path)
    assert told.startswith(f"{run.ensemble}: its classes (glad, sad) are not those of {run.manifest} (sad, glad); ")
    assert f"`emoray finalize {run.path}` writes it anew" in told
    edit(run.manifest, lambda told: told.update(splits={"selection": reversed_counts, "test": reversed_counts}))
    keep_images(run, classes=["glad", "sad"])  # where only the names that are kept with the images can tell
    assert "its classes (sad, glad) are not those that the labels in" in refused_by_finalize(run)


@pytest.mark.parametrize("name", held_out.SPLITS)
def test_held_out_images_that_are_cut_off_are_told_before_ray_starts(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(sweep.cluster, "connected", lambda *_: pytest.fail("Ray was started"))
    arrays = keep_images(run)
    assert held_out.read(run) is not None
    file = run.manifest.with_name(f"{name}.npz")
    checkpoint.write(file, State({k: [v] for k, v in arrays.items() if k != "labels"}, {"fingerprint": "x"}))
    assert f"{file} is damaged: it holds no 'labels'; bring back a whole copy" in refused_by_finalize(run)
    file.write_bytes(file.read_bytes()[:-40])
    told = refused_by_finalize(run)
    assert told.startswith(f"the file of images {file} is damaged and cannot be read (")
    assert told.endswith(
        "; bring back a whole copy from the machine that the run was trained on, or delete it: it is made anew where "
        "the data source is as it was"
    )


def test_a_checkpoint_that_is_cut_off_leaves_predict_a_way_out(run: RunFolder, tmp_path: Path) -> None:
    best = run.trial("lenet-001") / "checkpoint" / "best.npz"
    best.write_bytes(best.read_bytes()[:-40])
    told = refused(run, tmp_path)
    assert told.startswith(f"the checkpoint {best} is damaged and cannot be read (")
    assert told.endswith(f"; bring back a whole copy, or `emoray finalize {run.path}` chooses without it")


def test_a_folder_stands_for_the_images_in_it(run: RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    (folder / "below").mkdir(parents=True)
    with pytest.raises(UserError, match=r"faces/ holds no image files .*; name those below it as .*faces/\*/\*\.png"):
        predict.files(run.path, [folder])
    (folder / "below").rmdir()
    (folder / "notes.txt").write_text("no image")
    with pytest.raises(UserError, match=r"faces/ holds no image files \(\.png, \.jpg, \.webp, \.bmp\)$"):
        predict.files(run.path, [folder])
    for name in ("b.png", "a.JPG", "._a.png"):
        (folder / name).write_text("no image")
    (folder / "c.png").mkdir()
    (tmp_path / "alone").write_text("no image either")
    told = predict.files(run.path, [folder, tmp_path / "alone"])
    assert list(told.unusable) == [folder / "a.JPG", folder / "b.png", tmp_path / "alone"]


@pytest.mark.parametrize(
    "manifest",
    [{"image_shape": [10**9, 10**9, 1]}, {"image_shape": [48, 48, 10**9]}, {"image_shape": "48"}, {"classes": 1}],
)
def test_sizes_of_a_manifest_are_believed_within_reason(run: RunFolder, tmp_path: Path, manifest: dict) -> None:
    edit(run.manifest, lambda told: told.update(manifest))
    assert "manifest.json" in refused(run, tmp_path)
