"""Backbones that are held or moved slower, and averaged weights."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from emoray.trial.data import TrialData
from tests.training import IMAGES, data, player, weights

__all__ = ["data"]  # the fixture
pytestmark = pytest.mark.keras


def test_averaged_weights_are_validated_and_training_goes_on_from_the_live_ones(data: TrialData) -> None:
    plain = player(data, optimizer={"name": "adam", "learning_rate": 0.002})
    averaged = player(data, optimizer={"name": "adam", "learning_rate": 0.002, "ema": 0.5})
    plain.play(), averaged.play()
    for a, b in zip(weights(plain), weights(averaged), strict=True):
        assert np.array_equal(a, b)
    best = averaged.best.arrays["model"]
    assert any(not np.array_equal(a, b) for a, b in zip(best, weights(averaged), strict=True))


def test_a_held_backbone_stays_and_then_moves_slower(data: TrialData) -> None:
    model = {"name": "simple_cnn", "width": 4, "depth": 2}
    played = player(data, model=model, epochs=3, schedule={"name": "constant"})
    from emoray.models.fine_tuning import FineTuning

    backbone = [v for v in played.program.model.trainable_variables if not v.path.startswith("logits")]
    paths = tuple(v.path for v in backbone)
    played.program._fine_tuning = FineTuning(frozen_epochs=1, backbone_rate=0.1, backbone=paths)
    start = [v.numpy() for v in backbone]
    head = [v.numpy() for v in played.program.model.trainable_variables if v.path.startswith("logits")]
    played.play()
    assert all(np.array_equal(a, v.numpy()) for a, v in zip(start, backbone, strict=True))
    assert not np.array_equal(head[0], played.program.model.get_layer("logits").kernel.numpy())
    played.play()
    assert all(not np.array_equal(a, v.numpy()) for a, v in zip(start, backbone, strict=True) if a.ndim > 1)


def fine_tuned(data: TrialData, rate: float, **changes: Any) -> tuple[Any, list[Any]]:
    """A player of one step an epoch that holds its backbone at `rate` after the first epoch, and the backbone."""
    from emoray.models.fine_tuning import FineTuning

    model = {"name": "simple_cnn", "width": 4, "depth": 2, "dropout": 0.0}
    played = player(data, model=model, batch_size=IMAGES, schedule={"name": "constant"}, **changes)
    backbone = [v for v in played.program.model.trainable_variables if not v.path.startswith("logits")]
    played.program._fine_tuning = FineTuning(1, rate, tuple(v.path for v in backbone))
    return played, backbone


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_backbone_takes_its_rate_of_the_full_update(data: TrialData, optimizer: str) -> None:
    """Weight decay and whatever the optimizer makes of a gradient included; the head takes all of it."""
    after = {}
    for rate in (1.0, 0.1):
        given = {"name": optimizer, "learning_rate": 0.01, "weight_decay": 0.1}
        played, backbone = fine_tuned(data, rate, optimizer=given)
        played.play()
        start = [v.numpy() for v in backbone]
        played.play()
        head = played.program.model.get_layer("logits").kernel.numpy()
        after[rate] = start, [v.numpy() for v in backbone], head
    (start, full, head), (same, slow, head_of_slow) = after[1.0], after[0.1]
    assert np.array_equal(head, head_of_slow)
    for before, again, moved, held in zip(start, same, full, slow, strict=True):
        assert np.array_equal(before, again)
        np.testing.assert_allclose(held - before, 0.1 * (moved - before), atol=2e-7)
        assert before.ndim == 1 or np.abs(moved - before).max() > 1e-4


def test_the_average_of_a_held_backbone_is_that_of_the_weights_it_had(data: TrialData) -> None:
    played, backbone = fine_tuned(data, 0.1, optimizer={"name": "adam", "learning_rate": 0.01, "ema": 0.5})
    expected: list[np.ndarray] = []
    for epoch in range(4):
        played.play()
        now = [v.numpy() for v in backbone]
        expected = [0.5 * a + 0.5 * v for a, v in zip(expected, now, strict=True)] if epoch else now
    played._use_average()
    for average, variable in zip(expected, backbone, strict=True):
        np.testing.assert_allclose(variable.numpy(), average, atol=1e-6)


def test_a_backbone_that_was_never_frozen_is_averaged_from_its_first_step(data: TrialData) -> None:
    played, backbone = fine_tuned(data, 0.1, optimizer={"name": "adam", "learning_rate": 0.01, "ema": 0.5})
    played.program._fine_tuning = dataclasses.replace(played.program._fine_tuning, frozen_epochs=0)
    played.play()
    moved = [v.numpy() for v in backbone]
    played._use_average()
    for average, variable in zip(moved, backbone, strict=True):
        np.testing.assert_allclose(variable.numpy(), average, atol=1e-6)
