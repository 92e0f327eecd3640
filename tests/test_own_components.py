"""The documented example of a user's own model, taken from the page and used as a user would."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from emoray import config, predict, registry
from emoray.cli import main
from emoray.data import preview
from emoray.errors import UserError
from emoray.run_folder import RunFolder, write_json
from emoray.sheets import augmentations
from emoray.trial import checkpoint
from emoray.trial.checkpoint import State

DOCS = Path(__file__).parents[1] / "docs" / "sweep_files.md"


def example(tmp_path: Path) -> config.Sweep:
    blocks = re.findall(r"(?:^    .*\n|^\n)+", DOCS.read_text(), flags=re.M)
    (source,) = (block for block in blocks if "import keras" in block)
    (sweep,) = (block for block in blocks if "components: [my_models]" in block)
    (tmp_path / "my_models.py").write_text("\n".join(line[4:] for line in source.splitlines()))
    (tmp_path / "mine.yaml").write_text("\n".join(line[4:] for line in sweep.splitlines()))
    return config.load(tmp_path / "mine.yaml")


@pytest.mark.keras
def test_the_documented_model_is_found_and_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (study,) = example(tmp_path).studies
    monkeypatch.syspath_prepend(tmp_path)  # as the processes that train have it
    settings = dict(study.space["model"]) | {"width": 16}
    assert settings["name"] == "my_models.tiny"
    model = registry.build("models", settings, (48, 48, 1), 5)
    assert model(np.zeros((2, 48, 48, 1), np.uint8)).shape == (2, 5)


@pytest.mark.keras
def test_a_run_that_brings_its_model_runs_it_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    (study,) = example(tmp_path).studies
    settings = dict(study.space["model"]) | {"width": 16}
    with monkeypatch.context() as here:
        here.syspath_prepend(tmp_path)
        weights = [v.numpy() for v in registry.build("models", settings, (48, 48, 1), 2).variables]
        here.delitem(sys.modules, "my_models")
    folder = RunFolder(tmp_path / "run")
    given = {"trial": "tiny-001", "study": "tiny", "index": 1, "settings": {"model": settings}, "drawn": {}}
    write_json(folder.trial("tiny-001") / "settings.json", given)
    checkpoint.write(folder.trial("tiny-001") / "checkpoint" / "best.npz", State({"model": weights}))
    write_json(folder.manifest, {"image_shape": [48, 48, 1], "classes": ["glad", "sad"]})
    member = {"trial": "tiny-001", "files": ["trials/tiny-001/checkpoint/best.npz"], "temperature": 1.0}
    blend = {"method": "single", "weights": [1.0]}
    write_json(folder.ensemble, {"classes": ["glad", "sad"], "tta": "none", "candidates": [member], "blend": blend})
    shutil.move(tmp_path / "my_models.py", folder.path)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 48), np.uint8)).save(tmp_path / "face.png")
    with pytest.raises(UserError, match=r"my_models\.tiny.*--run-components"):
        predict.files(folder.path, [tmp_path / "face.png"])
    told = predict.files(folder.path, [tmp_path / "face.png"], run_components=True)
    monkeypatch.delitem(sys.modules, "my_models")
    assert told.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert str(folder.path) not in sys.path


OWN = """
from emoray.settings import Fraction


def halving(epoch, epochs, *, share: Fraction = 0.5):
    "Half the rate after a share of the epochs."
    return 1.0 if epoch < share * epochs else 0.5


def negative(images, draws, *, probability: Fraction = 0.5):
    "Black for white."
    return 255 - images
"""


def emoray(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command, typed in another folder than the sweep file's, which names components of its own."""
    (tmp_path / "my_parts.py").write_text(OWN)
    (tmp_path / "mine.yaml").write_text(
        "components: [my_parts]\ndata: {faces: 300}\nmodels: [{name: lenet, trials: 2}]\n"
        "train: {epochs: 2, schedule: halving, augment: [negative]}\n"
        "search: {scheduler: {name: asha, grace_epochs: 1}}\nfinalize: {keep: 1}\n"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [sys.executable, "-m", "emoray.cli", *arguments]
    return subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=False)


def test_a_sheet_of_an_own_augmentation_is_drawn_from_another_folder(tmp_path: Path) -> None:
    done = emoray(tmp_path, "augment", "../mine.yaml")
    assert done.returncode == 0, done.stderr
    assert "negative" in done.stdout
    assert (tmp_path / "elsewhere" / "sheet.png").is_file()


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_an_own_schedule_is_known_to_what_judges_trials(tmp_path: Path) -> None:
    """Which asks it, in the process that was started, when its rate is at its height."""
    done = emoray(tmp_path, "sweep", "../mine.yaml", "--plain")
    assert done.returncode == 0, done.stdout + done.stderr
    settings = (tmp_path / "elsewhere" / "runs" / "mine" / "trials" / "lenet-001" / "settings.json").read_text()
    assert "my_parts.halving" in settings
    assert "my_parts.negative" in settings


def test_a_sheet_of_the_augmentation_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    sheet = tmp_path / "sheet.png"
    assert main(["augment", "sweeps/quickstart.yaml", "--out", str(sheet)]) == 0
    assert "flip" in capsys.readouterr().out
    with Image.open(sheet) as image:
        pixels = np.asarray(image)
    assert min(pixels.shape[:2]) > 400
    assert pixels.std() > 20


def test_a_sheet_tells_which_study_it_is_of_and_a_row_which_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    (tmp_path / "sweep.yaml").write_text(
        "data: {faces: 400}\n"
        "models:\n"
        "  - {name: lenet, augment: [{name: rotate, degrees: {choice: [5.0, 20.0]}}]}\n"
        "  - {name: simple_cnn, study: narrow, augment: [{name: erase, probability: 1}]}\n"
        "  - {name: simple_cnn, study: wide, augment: [{name: erase, probability: 1}]}\n"
    )
    assert main(["augment", str(tmp_path / "sweep.yaml"), "--out", str(tmp_path / "sheet.png")]) == 0
    told = capsys.readouterr().out.splitlines()
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        *("sheet-lenet-1.png", "sheet-lenet-2.png", "sheet-narrow.png"),
    ]
    assert [line.partition(".png: ")[2].partition(" min_area")[0] for line in told] == [
        *("lenet: rotate degrees 20", "lenet: rotate degrees 5", "narrow, wide: erase probability 1"),
    ]
    with Image.open(tmp_path / "sheet-narrow.png") as image:
        pixels = np.asarray(image)
    first, background = 8 * 102 + 14, 255
    assert (pixels[-first:, :60] < background).any(axis=(1, 2)).sum() > 8 * 2 * 8, "two lines of text before each row"


def test_every_list_of_a_choice_can_be_drawn(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "models: [lenet]\n"
        "train: {augment: {choice: [[{name: flip}], [{name: rotate, degrees: {uniform: [1, 9]}}, mixup]]}}"
    )
    listed = [[component["name"] for component in one.components] for one in augmentations(config.load(file))]
    assert ["flip"] in listed
    assert ["rotate", "mixup"] in listed


def test_images_for_a_sheet_come_from_all_over_the_source(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 255, (60, 60), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a" / f"{number}.png")
    (tmp_path / "b" / "broken.png").write_bytes(b"no")
    seen = preview.images(config.DataSettings(path=str(tmp_path)), 0, 3)
    assert seen.images.shape == (3, 48, 48, 1)
    assert seen.names == ["a/0.png", "a/1.png", "a/2.png"]
    with pytest.raises(UserError, match="image"):
        preview.images(config.DataSettings(path=str(tmp_path / "b")), 0, 3)
