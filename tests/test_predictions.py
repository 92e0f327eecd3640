"""From checkpoints to one recommendation, without training: predictions on Ray, their cache, soups, what is broken."""

import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emoray import candidates, config, data, finalize, held_out, inference, predict, predictions, registry
from emoray.closing import closing
from emoray.data import Split, faces
from emoray.errors import UserError
from emoray.held_out import HeldOut
from emoray.run_folder import RunFolder, write_json
from emoray.trial import checkpoint
from emoray.trial.checkpoint import State
from emoray.trials import write_history

pytestmark = [pytest.mark.ray, pytest.mark.keras, pytest.mark.timeout(300)]
SHAPE = (48, 48, 1)
TEXT = """
name: small
models: [{name: lenet}, {name: simple_cnn, width: 4}]
finalize: {keep: 3, soup: 2}
"""


class Data:
    """Prepared data of embedded faces, without a data job."""

    folder = "none"

    def __init__(self) -> None:
        images, labels = faces.draw(5, np.arange(140))
        self.images, self.labels = images.reshape(-1, *SHAPE), labels.astype(np.int64)
        halves = {"selection": self.labels[:70], "test": self.labels[70:]}
        counts = {name: np.bincount(half, minlength=7).tolist() for name, half in halves.items()}
        splits = {n: {"images": 70, "classes": dict(zip(faces.CLASSES, c, strict=True))} for n, c in counts.items()}
        self.manifest = {"fingerprint": "f00d", "classes": list(faces.CLASSES), "image_shape": list(SHAPE)}
        self.manifest |= {"splits": splits, "quarantined": {}, "duplicates": {}, "leaks": {}, "source": "faces"}

    def load(self, name: str) -> Split:
        part = slice(0, 70) if name == "selection" else slice(70, 140)
        rows = np.arange(140)[part]
        files = np.array([f"{row}.png" for row in rows], object)
        return Split(self.images[part], self.labels[part], rows, files, None)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three trials whose weights were drawn and never trained."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "small")
    folder.path.mkdir()
    folder.sweep.write_text(TEXT)
    write_json(folder.manifest, Data().manifest)
    held_out.keep(folder, Data())  # type: ignore[arg-type]
    for number, model in enumerate([{"name": "lenet"}, {"name": "simple_cnn", "width": 4}, {"name": "lenet"}]):
        name, study = f"{model['name']}-{number}", model["name"]
        settings = {"model": model, "epochs": 2, "seed": number}
        given = {"trial": name, "study": study, "index": number, "settings": settings, "drawn": {}}
        write_json(folder.trial(name) / "settings.json", given)
        rows = [{"epoch": e, "score": 0.3 + 0.1 * number + 0.01 * e, "seconds": 1.0} for e in (1, 2)]
        more = {"images_per_second": 9.0, "accuracy": 0.4, "macro_f1": 0.4, "balanced_accuracy": 0.4, "log_loss": 1.8}
        write_history(folder.trial(name), [row | more for row in rows])
        write_json(folder.trial(name) / "end.json", {"status": "finished", "reason": "", "parameters": 9})
        for file in ("best", "epoch-0001", "epoch-0002"):
            built = registry.build("models", model, SHAPE, 7)
            arrays = {"model": [v.numpy() for v in built.variables]}
            checkpoint.write(folder.trial(name) / "checkpoint" / f"{file}.npz", State(arrays))
    (folder.path / "trials.csv").write_text("trial,study,model,status\n")
    return folder.path


@pytest.fixture
def run(original: Path, tmp_path: Path, ray_cluster: None) -> Callable[..., dict]:
    """Finalizes a copy of the run, with what was predicted before; gives ensemble.json."""
    folder = RunFolder(tmp_path / "small")
    shutil.copytree(original, folder.path)

    def again(*settings: str) -> dict:
        said: list[str] = []
        found = held_out.read(folder)
        assert found is not None
        searched = config.load(folder.sweep).finalize
        result = finalize.run(folder, config.load(folder.sweep, settings), found, said.append, searched)
        told = closing(result.candidates, result.ensemble, folder)
        return json.loads(folder.ensemble.read_text()) | {"said": said, "folder": folder, "closing": told}

    return again


def test_a_run_is_finalized_from_its_folder_alone(run: Callable[..., dict]) -> None:
    told = run()
    folder: RunFolder = told["folder"]
    assert [c["name"] for c in told["candidates"]] == [
        *("lenet-2", "lenet-2-soup", "simple_cnn-1", "simple_cnn-1-soup", "lenet-0", "lenet-0-soup"),
    ]
    assert set(finalize.METHODS) == set(told["methods"])
    assert told["left_out"] == []
    assert told["test"]["images"] == 70
    for file in ("leaderboard.csv", "report.html", "model_card.md", "report/pictures.json", "report/mistakes.png"):
        assert (folder.path / file).stat().st_size > 0, file
    for study in ("lenet", "simple_cnn"):
        assert "error" not in json.loads((folder.pictures / study / "inside.json").read_text())
    assert not list(folder.path.rglob("*.pkl"))
    images = held_out.read(folder).load("test").images
    ensemble = {**told, "candidates": told["candidates"]}
    shares = predict.probabilities(folder.path, ensemble, images)
    labels = held_out.read(folder).load("test").labels
    assert (shares.argmax(1) == labels).mean() == pytest.approx(
        told["test"][told["recommended"]]["accuracy"]["estimate"]
    ), "emoray predict is what was scored"

    before = {path: path.stat().st_mtime_ns for path in folder.path.glob("predictions/*")}
    again = run()
    assert not any("predicting" in line for line in again["said"]), "nothing is predicted twice"
    assert {path: path.stat().st_mtime_ns for path in folder.path.glob("predictions/*")} == before
    assert again["test"] == told["test"]

    flipped = run("finalize.tta=flip", "finalize.soup=0", "finalize.use=ensemble")
    assert any("predicting selection and test with 3 checkpoints" in line for line in flipped["said"])
    assert flipped["recommended"] == "ensemble"
    assert len(list(folder.path.glob("predictions/*-flip-*.npz"))) == 3


def test_each_reading_of_test_under_other_settings_is_counted(run: Callable[..., dict]) -> None:
    first = run("finalize.soup=0")
    assert [one["finalize"]["soup"] for one in first["test_reads"]] == [0]
    assert first["test_reads"][0]["checkpoints"] == ["lenet-2", "simple_cnn-1", "lenet-0"]
    again = run("finalize.soup=0")
    assert again["test_reads"] == first["test_reads"], "the same again tells nothing new"
    assert "scored under" not in again["closing"]
    assert "Measured once on 70 test images" in again["folder"].report.read_text()
    other = run("finalize.soup=0", "finalize.use=single")
    assert [one["finalize"]["use"] for one in other["test_reads"]] == ["auto", "single"]
    folder: RunFolder = other["folder"]
    for told in (folder.report.read_text(), folder.model_card.read_text(), other["closing"]):
        assert "est has been scored under 2 different settings" in told
        assert "that nothing was chosen on" not in told
    assert other["finalize"]["keep"] == 3
    assert other["seed"] == 0
    assert other["versions"]["numpy"] == np.__version__
    folder.ensemble.write_text(folder.ensemble.read_text()[:-20])
    assert len(run("finalize.soup=0")["test_reads"]) == 2, "one that cannot be read counts as one"


def test_every_study_is_looked_into(run: Callable[..., dict], tmp_path: Path) -> None:
    """More studies than candidates; one of them then without a checkpoint that could be looked into."""
    told = run("finalize.keep=1", "finalize.soup=5")
    assert {one["study"] for one in told["candidates"]} == {"lenet"}
    for study in ("lenet", "simple_cnn"):
        assert "error" not in json.loads((told["folder"].pictures / study / "inside.json").read_text())
    note = "finalize.soup is 5, and the search kept the weights of the 2 best epochs"
    assert any(note in line for line in told["said"])
    assert note in told["folder"].report.read_text()
    (tmp_path / "small/trials/simple_cnn-1/checkpoint/best.npz").unlink()
    page = run("finalize.keep=1", "finalize.soup=0")["folder"].report.read_text()
    assert "<b>simple_cnn could not be looked into.</b> none of the checkpoints of its 1 trials is there" in page


def test_the_snippet_on_the_page_loads_what_is_recommended(run: Callable[..., dict]) -> None:
    told = run("finalize.use=single", "finalize.ensemble=auto")
    (member,) = told["members"]
    source = told["folder"].report.read_text()
    assert f"auto ({told['picked']})" in source
    assert f"auto ({told['picked']})" in told["closing"]
    blocks = re.findall(r"<pre[^>]*>(.*?)</pre>", source, re.DOTALL)
    names: dict = {}
    exec(html.unescape(next(block for block in blocks if "import load" in block)), names)
    images = held_out.read(told["folder"]).load("test").images
    shares = inference.Predictor(names["model"], SHAPE)(images)
    found = [one.stem for one in told["folder"].path.glob(f"predictions/{member['name']}-none-*.npz")]
    stored = checkpoint.read(told["folder"].path / "predictions" / f"{found[0]}.npz").arrays["test"][0]
    np.testing.assert_allclose(shares, stored, atol=1e-5)


@pytest.mark.parametrize("level", [None, "0"])
def test_loading_a_model_is_quiet_unless_somebody_wants_to_hear(original: Path, level: str | None) -> None:
    """In a process of its own, as TensorFlow talks when it is first imported."""
    trial = original / "trials" / "lenet-0"
    source = "from pathlib import Path\nfrom emoray.inference import load\n"
    source += f"run = Path({str(trial)!r})\nload(run, [run / 'checkpoint/best.npz'], {SHAPE}, 7)"
    own = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    environment = own | ({} if level is None else {"TF_CPP_MIN_LOG_LEVEL": level})
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, env=environment)
    assert bool(done.stderr) == (level == "0"), done.stderr
    source = "import os\nfrom emoray import quiet\nwith quiet.without_chatter():\n"
    source += "    os.write(2, b'I0000 00:00:1.5 9 x.cc:1] no GPU\\nWARNING: other\\n')\nos.write(2, b'later\\n')"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stderr == "WARNING: other\nlater\n", "what others say meanwhile is handed on"


def test_missing_images_come_from_the_source_as_it_was(tmp_path: Path, ray_cluster: None) -> None:
    folder = RunFolder(tmp_path / "runs" / "small")
    folder.path.mkdir(parents=True)
    folder.sweep.write_text("name: small\nmodels: [lenet]\ndata: {faces: 400}\n")
    sweep, said = config.load(folder.sweep), []
    prepared = data.prepare(sweep.data, cache=str(tmp_path / "cache"), seed=sweep.seed, progress=said.append)
    write_json(folder.manifest, prepared.manifest)
    before = held_out.keep(folder, prepared).load("test")
    file = folder.path / "data" / "test.npz"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"test\.npz is damaged"):
        held_out.keep(folder, prepared)  # as a resume does, before it trains
    os.remove(file)
    assert held_out.read(folder) is None
    found = held_out.anew(folder, sweep, said.append).load("test")
    np.testing.assert_array_equal(found.images, before.images)
    np.testing.assert_array_equal(found.labels, before.labels)


def test_one_broken_member_is_left_out_and_told(run: Callable[..., dict], tmp_path: Path) -> None:
    checkpoints = tmp_path / "small" / "trials"
    shutil.copyfile(checkpoints / "lenet-2/checkpoint/best.npz", checkpoints / "simple_cnn-1/checkpoint/best.npz")
    told = run("finalize.soup=0")
    assert [c["name"] for c in told["candidates"]] == ["lenet-2", "lenet-0"]
    (left_out,) = told["left_out"]
    assert left_out["name"] == "simple_cnn-1"
    assert "does not fit the model" in left_out["reason"]
    assert any(line.startswith("left out: simple_cnn-1") for line in told["said"])
    assert "Left out: simple_cnn-1." in told["folder"].report.read_text()


def test_a_run_of_which_nothing_can_be_used(run: Callable[..., dict], tmp_path: Path) -> None:
    for best in tmp_path.glob("small/trials/*/checkpoint/best.npz"):
        best.write_bytes(best.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"none of the 3 best checkpoints can be used; .*lenet-2.*damaged or cut off"):
        run()


def test_predictions_of_other_data_are_refused(run: Callable[..., dict], tmp_path: Path) -> None:
    run("finalize.soup=0")
    files = sorted(tmp_path.glob("small/predictions/*.npz"))
    shutil.copyfile(files[0], files[1])
    with pytest.raises(UserError, match=rf"{files[1].name} holds predictions for other data or other weights.*delete"):
        run("finalize.soup=0")
    files[1].write_bytes(files[1].read_bytes()[:100])
    run("finalize.soup=0")  # cut off by a crash: predicted anew
    assert len(checkpoint.read(files[1]).arrays["test"][0]) == 70


def test_held_out_images_of_other_data_are_refused(original: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "small")
    shutil.copytree(original, folder.path)
    manifest = json.loads(folder.manifest.read_text())
    write_json(folder.manifest, manifest | {"fingerprint": "beef"})
    with pytest.raises(UserError, match=r"selection\.npz holds images of other data"):
        held_out.read(folder).load("selection")
    os.remove(folder.path / "data" / "test.npz")
    assert held_out.read(folder) is None


def test_views_and_soups(original: Path) -> None:
    folder = original / "trials" / "simple_cnn-1"
    files = [folder / "checkpoint" / f"epoch-000{e}.npz" for e in (1, 2)]
    mean = inference.load(folder, files, SHAPE, 7)
    each = [checkpoint.read(file).arrays["model"] for file in files]
    for found, one, two in zip(mean.variables, *each, strict=True):
        np.testing.assert_allclose(found.numpy(), (one + two) / 2, atol=1e-6)

    images = Data().load("test").images
    plain = inference.Predictor(mean, SHAPE)
    flip = inference.Predictor(mean, SHAPE, "flip")
    np.testing.assert_allclose(flip(images), (plain(images) + plain(images[:, :, ::-1])) / 2, atol=1e-5)
    ten = inference.Predictor(mean, SHAPE, "ten_crop")
    np.testing.assert_allclose(ten(images), ten(images[:, :, ::-1]), atol=1e-5)
    flat = np.full((3, *SHAPE), 77, np.uint8)
    np.testing.assert_allclose(ten(flat), plain(flat), atol=1e-5)
    np.testing.assert_allclose(ten(images).sum(axis=1), 1, atol=1e-5)


def test_the_cache_depends_on_all_that_predictions_depend_on(original: Path) -> None:
    folder = RunFolder(original)
    loaded = config.load(folder.sweep)
    from emoray import trials

    first, soup, *_ = candidates.choose(trials.restore(folder), loaded)[0]
    data = held_out.read(folder)
    other = HeldOut(data.folder, data.manifest | {"fingerprint": "beef"})
    keys = [predictions.key(first, data, "none"), predictions.key(soup, data, "none")]
    keys += [predictions.key(first, other, "none"), predictions.key(first, data, "flip")]
    assert len(set(keys)) == 4
    assert predictions.key(first, data, "none") == keys[0]
