"""Draws: random numbers of (seed, epoch, row) alone, and permutations; the same on every machine."""

import numpy as np
import pytest

from emoray.data import draws


def test_draws_are_a_function_of_their_row_alone():
    rows = np.array([7, 0, 2**40, 3])
    table = draws.uniform(1, 2, "flip", rows, 8)
    assert table.dtype == np.float32
    assert table.shape == (4, 8)
    assert np.array_equal(table[[2, 0]], draws.uniform(1, 2, "flip", rows[[2, 0]], 8))
    assert np.array_equal(table[:, :3], draws.uniform(1, 2, "flip", rows, 3))


def test_draws_are_the_same_in_every_process_and_version():
    """Written down: a change of the generator changes every augmented pixel and must be meant."""
    assert (draws.uniform(0, 0, "flip", np.arange(2), 2) * 2**24).tolist() == [[11217951, 13223424], [767598, 4975983]]


def test_draws_are_uniform():
    values = draws.uniform(0, 0, "flip", np.arange(50_000), 8)
    assert 0 <= values.min() < 1e-4
    assert 1 - 1e-4 < values.max() < 1
    counts = np.histogram(values, 100, (0, 1))[0]
    chi_squared = ((counts - 4000) ** 2 / 4000).sum()
    assert 50 < chi_squared < 160  # 99 degrees of freedom: beyond either end with a chance of about 1e-4


@pytest.mark.parametrize("other", ["row", "draw", "epoch", "seed", "stream", "seed and epoch swapped"])
def test_neighbouring_draws_are_independent(other: str):
    rows = np.arange(200_000)
    values = draws.uniform(4, 5, "flip", rows, 2)
    beside = {
        "row": lambda: np.roll(values[:, 0], 1),
        "draw": lambda: values[:, 1],
        "epoch": lambda: draws.uniform(4, 6, "flip", rows, 1)[:, 0],
        "seed": lambda: draws.uniform(5, 5, "flip", rows, 1)[:, 0],
        "stream": lambda: draws.uniform(4, 5, "flop", rows, 1)[:, 0],
        "seed and epoch swapped": lambda: draws.uniform(5, 4, "flip", rows, 1)[:, 0],
    }[other]()
    # Four standard errors of a correlation, and of the share of an 8 x 8 table's cells.
    assert abs(np.corrcoef(values[:, 0], beside)[0, 1]) < 4 / np.sqrt(len(rows))
    table = np.histogram2d(values[:, 0], beside, 8, [(0, 1), (0, 1)])[0] / len(rows)
    assert np.abs(table - 1 / 64).max() < 4.5 * np.sqrt(1 / 64 / len(rows))


def test_permutation_is_one_and_changes_with_seed_and_epoch():
    order = draws.permutation(0, 0, 1000)
    assert np.array_equal(np.sort(order), np.arange(1000))
    assert np.array_equal(order, draws.permutation(0, 0, 1000))
    assert (order == draws.permutation(0, 1, 1000)).mean() < 0.02
    assert (order == draws.permutation(1, 0, 1000)).mean() < 0.02
    assert draws.permutation(0, 0, 0).shape == (0,)
