"""Temperatures on simulated logits."""

import numpy as np
import pytest

from emoray import calibration, metrics
from emoray.blend import softmax


def test_temperature_recovers_what_was_done_to_the_logits():
    rng = np.random.default_rng(0)
    logits = rng.normal(0.0, 2.0, (20_000, 7))
    shares = softmax(logits)
    labels = (shares.cumsum(1) < rng.random((20_000, 1))).sum(1).clip(max=6)
    for factor in (0.2, 1.0, 6.0):
        found = calibration.temperature(factor * logits, labels)
        assert found == pytest.approx(factor, rel=0.03)
        logs = calibration.log_probabilities(softmax(factor * logits))
        grid = [metrics.log_loss(labels, calibration.apply(logs, found * x)) for x in (0.9, 1.0, 1.1)]
        assert grid[1] == min(grid)
    sharp = softmax(6.0 * logits)
    assert metrics.ece(labels, calibration.apply(np.log(sharp), 6.0)) < 0.02 < metrics.ece(labels, sharp)


def test_temperature_is_bounded_where_there_is_no_best_one():
    perfect = np.eye(3)[[0, 1, 2]] * 5
    assert calibration.temperature(perfect, np.array([0, 1, 2])) == pytest.approx(calibration.COLDEST, rel=0.01)
    assert calibration.temperature(perfect, np.array([1, 2, 0])) == pytest.approx(calibration.HOTTEST, rel=0.01)
    assert (
        calibration.COLDEST <= calibration.temperature(np.zeros((4, 3)), np.array([0, 1, 2, 0])) <= calibration.HOTTEST
    )
