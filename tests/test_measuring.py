"""`--measure`: what a few real steps tell of an epoch and of checkpoints, and what cannot be trained."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from emoray.trial import checkpoint, measure
from tests.test_stream import on_disk
from tests.training import faces_of, player, settings

ROOT = Path(__file__).parents[1]
SWEEP = """
name: measured
data: {faces: 400}
models:
  - {name: lenet, trials: 2}
  - {name: simple_cnn, trials: 1, width: {choice: [2, 4]}}
train: {epochs: 3, optimizer: {name: adam, learning_rate: {loguniform: [1e-4, 1e-2]}}}
search: {price_per_hour: 2.5}
"""
OWN = """
import keras


def broken(image_shape, classes, *, dropout: float = 0.0):
    "Cannot be built."
    raise ERROR
"""


@pytest.mark.keras
@pytest.mark.parametrize("mode", ["memory", "stream"])
def test_a_cost_is_that_of_a_real_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr(measure, "SECONDS", 0.1)
    data = faces_of(203)
    if mode == "stream":
        mapped, _ = on_disk(tmp_path, files=2, each=150, shape=data.image_shape)
        n = len(mapped)
        shown = {"images": mapped, "targets": np.resize(data.targets, (n, 7)), "rows": np.arange(n)}
        data = dataclasses.replace(data, mode=mode, **shown)
    measured = measure.cost(settings(), "accuracy", data)
    trained = player(data)
    assert measured.parameters == trained.parameters
    checkpoint.write(tmp_path / "last.npz", trained.state())
    with np.load(tmp_path / "last.npz") as file:
        sizes = {name: file[name].nbytes for name in file.files if name != "meta"}
    assert measured.best_bytes == sum(size for name, size in sizes.items() if name.startswith("model/"))
    assert measured.last_bytes == sum(sizes.values()) > 2 * measured.best_bytes
    assert measured.epoch_seconds > len(data.images) / measured.images_per_second > 0


def measured_sweep(tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "sweep.yaml"
    file.write_text(text)
    arguments = [str(file), "--storage", str(tmp_path / "runs"), "--dry-run", "--measure"]
    command = [sys.executable, "-m", "emoray.sweep", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.ray
@pytest.mark.timeout(400)
def test_a_plan_is_measured_and_nothing_is_trained(tmp_path: Path) -> None:
    done = measured_sweep(tmp_path, SWEEP)
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "measured   lenet: ",
        "measured   simple_cnn: ",
        " s an epoch, ",
        "disk       ",
        "time       about ",
        "money      about ",
    ):
        assert words in done.stdout, done.stdout
    assert not (tmp_path / "runs" / "measured").exists()


@pytest.mark.ray
@pytest.mark.timeout(400)
def test_what_cannot_be_trained_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN.replace("ERROR", "ValueError('no such layer')"))
    (tmp_path / "large.py").write_text(OWN.replace("ERROR", "MemoryError").replace("broken", "large"))
    for module, name, why in (("mine", "broken", "ValueError: no such layer"), ("large", "large", "out of memory")):
        done = measured_sweep(tmp_path, f"components: [{module}]\ndata: {{faces: 400}}\nmodels: [{name}]\n")
        assert done.returncode == 2, done.stdout + done.stderr
        assert f"models.{name}: a trial with the settings from the middle of its space cannot be trained" in done.stderr
        assert why in done.stderr
        assert "Traceback" not in done.stderr
