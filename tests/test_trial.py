"""Training one trial in this process: the loop, what a state brings back, how it ends."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emoray.data.augmentation import pipeline
from emoray.data.batches import Batches, Epochs
from emoray.study_settings import Resources
from emoray.trial import checkpoint
from emoray.trial.data import TrialData
from emoray.trial.notice import Within
from emoray.trial.trainable import TrialRunner
from tests.training import IMAGES, data, faces_of, player, settings, timeless, weights

__all__ = ["data"]  # the fixture
pytestmark = pytest.mark.keras


@pytest.mark.parametrize("batch_size", [1, 7, 32, 500])
def test_an_epoch_holds_every_image_once(data: TrialData, batch_size: int) -> None:
    ids = np.arange(IMAGES, dtype=np.uint32).view(np.uint8).reshape(IMAGES, 1, 4, 1)
    epochs = Epochs(ids, data.targets, data.rows, batch_size=batch_size, pipeline=pipeline([]), seed=1)
    batches = Batches(epochs)
    orders = []
    for epoch in range(2):
        chunks = list(batches.epoch(epoch))
        assert sum(chunk.steps for chunk in chunks) == epochs.steps == -(-IMAGES // min(batch_size, IMAGES))
        seen = [
            int(i)
            for c in chunks
            for i in np.ascontiguousarray(c.images).view(np.uint8).reshape(-1, 4).view(np.uint32)[:, 0]
        ]
        orders.append(seen)
        labels = np.concatenate([chunk.labels.reshape(-1, 7) for chunk in chunks])
        assert np.array_equal(labels, data.targets[orders[-1]])
        assert sorted(orders[-1]) == list(range(IMAGES))
    assert orders[0] != orders[1]
    batches.close()


@pytest.mark.parametrize("sampler", ["sqrt", "balanced"])
def test_a_sampler_evens_out_the_classes(data: TrialData, sampler: str) -> None:
    played = player(data, sampler={"name": sampler}, class_weight={"name": "none"}, augment=[{"name": "noise"}])
    counts = np.asarray(data.counts)
    wanted = np.sqrt(counts) if sampler == "sqrt" else np.ones(7)
    wanted = wanted / wanted.sum() * IMAGES
    chunks = list(played.feed.epoch(0))
    labels = np.concatenate([chunk.labels.reshape(-1, 7) for chunk in chunks])
    assert len(labels) == IMAGES
    assert np.all(np.abs(labels.sum(0) - wanted) <= 1.01)
    images = np.concatenate([chunk.images.reshape(-1, 48 * 48) for chunk in chunks])
    assert len(np.unique(images, axis=0)) == IMAGES, "copies of an image are augmented apart"


def test_training_learns_and_is_reproducible(data: TrialData) -> None:
    first, second = player(data), player(data)
    for _ in range(3):
        first.play(), second.play()
    assert first.history[-1]["train_loss"] < first.history[0]["train_loss"]
    assert timeless(first.history) == timeless(second.history)
    for a, b in zip(weights(first), weights(second), strict=True):
        assert np.array_equal(a, b)


def test_an_epoch_takes_one_step_of_plain_gradient_descent(data: TrialData) -> None:
    """With one batch and SGD, the loop's step is the gradient of the weighted mean loss, as NumPy and Keras give it."""
    import keras
    import tensorflow as tf

    plain = {"name": "sgd", "learning_rate": 0.1, "momentum": 0.0, "nesterov": False}
    changes = {"batch_size": 300, "optimizer": plain, "augment": [], "schedule": {"name": "constant"}}
    model = {"name": "simple_cnn", "width": 4, "units": 16, "dropout": 0.0}
    played = player(data, model=model, **changes)
    network = played.program.model
    before = [tf.identity(v) for v in network.trainable_variables]
    with tf.GradientTape() as tape:
        labels = data.targets * 0.95 + 0.05 / 7
        losses = keras.losses.categorical_crossentropy(labels, network(data.images, training=True), from_logits=True)
        frequency = np.asarray(data.counts) / IMAGES
        by_class = 1 / np.sqrt(np.maximum(frequency, 1e-9))
        weight = data.targets @ by_class
        loss = tf.reduce_sum(losses * weight) / weight.sum()
    gradients = tape.gradient(loss, network.trainable_variables)
    played.play()
    for old, gradient, new in zip(before, gradients, network.trainable_variables, strict=True):
        assert np.allclose(old - 0.1 * gradient, new.numpy(), atol=2e-6)
    assert played.history[0]["train_loss"] == pytest.approx(float(loss), rel=1e-4)


@pytest.mark.parametrize("change", [{"accumulate_steps": 5}, {"jit": True, "accumulate_steps": 3}])
def test_parts_of_a_batch_and_xla_take_the_same_steps(data: TrialData, change: dict[str, Any]) -> None:
    plain = {"model": {"name": "lenet"}, "optimizer": {"name": "sgd", "learning_rate": 0.05, "clip_norm": 1.0}}
    whole, changed = player(data, **plain), player(data, **plain, **change)
    whole.play(), changed.play()
    for a, b in zip(weights(whole), weights(changed), strict=True):
        assert np.allclose(a, b, atol=1e-5)
    assert changed.history[0]["train_loss"] == pytest.approx(whole.history[0]["train_loss"], rel=1e-4)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_learns_and_a_state_brings_it_back(data: TrialData, precision: str) -> None:
    import keras

    first, again = player(data, precision=precision), player(data, precision=precision)
    layer = next(layer for layer in first.program.model.layers if "conv" in layer.name)
    assert (layer.compute_dtype, layer.variable_dtype) == (precision.removeprefix("mixed_"), "float32")
    assert keras.config.dtype_policy().name == "float32"
    first.play()
    again.load(first.state(), first.best)
    first.play(), again.play()
    assert first.history[-1]["train_loss"] < first.history[0]["train_loss"]
    for a, b in zip(weights(first), weights(again), strict=True):
        assert np.array_equal(a, b)


def test_a_step_that_overflows_is_left_out_and_halves_the_loss_scale() -> None:
    import tensorflow as tf

    from emoray.trial.precision import GROWTH_STEPS, LossScale

    scale, taken = LossScale("mixed_float16"), []
    before = float(scale.scale)
    scale.apply([tf.constant([1.0, np.inf])], taken.append)
    assert not taken
    assert float(scale.scale) == before / 2
    scale.apply([tf.constant([before, before])], taken.append)
    assert np.allclose(taken[0][0], [2.0, 2.0])
    scale.good_steps.assign(GROWTH_STEPS - 1)
    scale.apply([tf.constant([1.0])], taken.append)
    assert float(scale.scale) == before


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_state_brings_everything_back(data: TrialData, tmp_path: Path, optimizer: str) -> None:
    changes = {"optimizer": {"name": optimizer, "learning_rate": 0.01, "ema": 0.9, "clip_norm": 1.0}}
    unbroken = player(data, **changes)
    for _ in range(2):
        unbroken.play()
    checkpoint.write(tmp_path / "last.npz", unbroken.state())
    checkpoint.write(tmp_path / "best.npz", unbroken.best)
    unbroken.play()
    resumed = player(data, **changes)
    resumed.load(checkpoint.read(tmp_path / "last.npz"), checkpoint.read(tmp_path / "best.npz"))
    resumed.play()
    assert timeless(resumed.history) == timeless(unbroken.history)
    for a, b in zip(weights(resumed), weights(unbroken), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_a_state_in_the_middle_of_an_epoch_brings_back_the_bits(data: TrialData, tmp_path: Path, chunks: int) -> None:
    """After any chunk, the last included, with dropout, batch norm and averaged weights."""
    changes = {"optimizer": {"name": "adam", "learning_rate": 0.002, "ema": 0.9}, "epochs": 3}
    unbroken, resumed, seen = player(data, **changes), player(data, **changes), []
    unbroken.play()
    unbroken.play(Within(lambda: seen.append(1) or len(seen) == chunks, partial(checkpoint.write, tmp_path / "within")))
    assert len(seen) == 3
    resumed.load(checkpoint.read(tmp_path / "within"), None)
    assert resumed.progress.chunks == chunks
    resumed.play()
    assert timeless(resumed.history) == timeless(unbroken.history)
    resumed.play(), unbroken.play()
    assert timeless(resumed.history) == timeless(unbroken.history)
    for a, b in zip(weights(resumed), weights(unbroken), strict=True):
        assert np.array_equal(a, b)


def test_a_trial_goes_on_in_the_middle_of_an_epoch_with_the_settings_it_had(data: TrialData, tmp_path: Path) -> None:
    def begun(**changes: Any) -> Any:
        given = {"settings": settings(epochs=2, **changes), "metric": "accuracy", "mode": "memory"}
        runner = TrialRunner.__new__(TrialRunner)
        runner.data = data
        runner._begin({"trial": "a", "folder": str(tmp_path), "resources": Resources(), **given})
        runner.player = runner._player()
        return runner

    first = begun()
    assert first.step()["row"][0] == ("epoch", 1)
    first.player.play(Within(lambda: True, first._save_within))
    assert begun().player.progress.chunks == 3
    assert begun(accumulate_steps=2).player.progress.chunks == 0, "its settings have changed since"
    assert begun().step()["status"] == "finished"
    assert not (tmp_path / "checkpoint" / "within.npz").exists()
    played = begun().player.history
    told = begun(early_stopping={"name": "patience", "epochs": 1}).step()
    assert (told["status"], dict(told["row"])) == ("finished", played[-1]), (
        "at its limit, it is told to end where it is"
    )


def test_the_best_epoch_is_kept_and_loaded(data: TrialData, tmp_path: Path) -> None:
    from emoray.inference import Predictor

    played = player(data, augment=[])
    for _ in range(4):
        played.play()
    best = int(np.argmax(played.scores))
    assert played.best.meta == {"epoch": best + 1, "score": max(played.scores)}
    checkpoint.write(tmp_path / "checkpoint" / "best.npz", played.best)
    (tmp_path / "settings.json").write_text(json.dumps({"settings": played.settings}))
    model = checkpoint.load_model(tmp_path, (48, 48, 1), 7)
    accuracy = (Predictor(model, data.image_shape)(data.validation_images).argmax(1) == data.validation_labels).mean()
    assert accuracy == pytest.approx(played.history[best]["accuracy"])


def test_patience_ends_a_trial_and_a_lost_loss_too(data: TrialData) -> None:
    played = player(data, early_stopping={"name": "patience", "epochs": 2}, schedule={"name": "constant"})
    played.play()
    best = played.history[0]
    played.history += [best | {"score": best["score"] - 0.1}] * 2
    assert played.stop_reason() == "patience: no better since epoch 1"
    broken = player(data, optimizer={"name": "sgd", "learning_rate": 1e30})
    broken.play()
    assert "not finite" in broken.stop_reason()


def test_trials_in_one_process_hardly_grow_its_memory(tmp_path: Path) -> None:
    """TensorFlow keeps something of every compiled function; at most 5 MB a trial in a process that is reused.

    In a process of its own: what other tests have left in this one would count too.
    """
    told = subprocess.run([sys.executable, "-m", "tests.test_trial", tmp_path], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    sizes = json.loads(told.stdout.splitlines()[-1])[4:]  # the first trials fill TensorFlow's own caches
    growth, _ = np.polyfit(np.arange(len(sizes)), sizes, 1)
    assert growth <= 5, sizes


def sizes_after_trials(folder: Path, trials: int = 16) -> list[float]:
    """What this process holds, in MB, after each of some trials in one runner."""

    def told(number: int) -> dict[str, Any]:
        given = {"settings": settings(epochs=1, seed=number), "metric": "accuracy", "mode": "memory"}
        return {"trial": str(number), "folder": str(folder / str(number)), "resources": Resources(), **given}

    runner = TrialRunner.__new__(TrialRunner)
    runner.data = faces_of(IMAGES)
    runner._begin(told(0))
    sizes = []
    for number in range(1, trials + 1):
        assert runner.step()["status"] == "finished"
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        sizes.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
        runner.reset_config(told(number))
    return sizes


if __name__ == "__main__":
    print(json.dumps(sizes_after_trials(Path(sys.argv[1]))))
