"""Schedules start, rise, fall and end where they should, and never leave 0..1."""

import inspect

import numpy as np
import pytest

from emoray import registry, schedules
from tests import ends

SCHEDULES = registry.members("schedules")
EPOCHS = 20


def factor(name, epoch, epochs=EPOCHS, scores=(), **settings):
    return registry.build("schedules", {"name": name, **settings}, epoch, epochs, scores)


def curve(name, epochs=EPOCHS, **settings):
    scores = np.random.default_rng(0).random(epochs).tolist()
    moments = np.linspace(0.0, epochs, 16 * epochs + 1)
    return np.array([factor(name, e, epochs, scores[: int(e)], **settings) for e in moments.tolist()])


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("epochs", [1, 2, EPOCHS])
def test_factor_is_between_0_and_1_at_the_ends_of_its_settings(name, epochs):
    for settings in ends.one_by_one(SCHEDULES[name]):
        factors = curve(name, epochs, **settings)
        assert np.isfinite(factors).all(), settings
        assert factors.min() >= 0.0, settings
        assert factors.max() <= 1.0 + 1e-12, settings


@pytest.mark.parametrize("name", [name for name, found in SCHEDULES.items() if "warmup_epochs" in found.settings])
def test_warm_up_rises_in_a_line_from_nothing(name):
    settings = {"every_epochs": EPOCHS} if "every_epochs" in SCHEDULES[name].settings else {}
    assert factor(name, 0.0, warmup_epochs=4, **settings) == 0.0
    assert factor(name, 1.0, warmup_epochs=4, **settings) == pytest.approx(0.25)
    assert factor(name, 4.0, warmup_epochs=4, **settings) == pytest.approx(1.0)
    assert (np.diff(curve(name, warmup_epochs=4, **settings)[: 4 * 16 + 1]) > 0).all()


@pytest.mark.parametrize("name", [name for name, found in SCHEDULES.items() if "warmup_epochs" in found.settings])
def test_warm_up_may_be_longer_than_the_training(name):
    assert factor(name, 3.0, 3, warmup_epochs=6, **({"factor": 1.0} if name == "step" else {})) == pytest.approx(0.5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_same_moment_same_factor(name):
    """In whatever order it is asked, since a resumed trial asks from the middle."""
    forwards = [factor(name, e / 2) for e in range(2 * EPOCHS)]
    backwards = [factor(name, e / 2) for e in reversed(range(2 * EPOCHS))]
    assert forwards == backwards[::-1]


def test_constant_stays():
    assert set(curve("constant")) == {1.0}


def test_step_falls_at_its_epochs():
    taken = [schedules.step(e, EPOCHS, factor=0.1, every_epochs=5) for e in (0.0, 4.99, 5.0, 9.99, 10.0, 15.0)]
    assert taken == pytest.approx([1.0, 1.0, 0.1, 0.1, 0.01, 0.001])


def test_exponential_falls_by_its_decay_each_epoch():
    assert schedules.exponential(7.0, EPOCHS, decay=0.9) == pytest.approx(0.9**7)
    assert schedules.exponential(7.0, EPOCHS, decay=0.9, warmup_epochs=3) == pytest.approx(0.9**4)


def test_cosine_falls_from_1_by_way_of_the_middle_to_its_floor():
    taken = [schedules.cosine(e, EPOCHS, floor=0.1) for e in (0.0, 10.0, 20.0, 25.0)]
    assert taken == pytest.approx([1.0, 0.55, 0.1, 0.1])
    assert schedules.cosine(12.0, EPOCHS, warmup_epochs=4) == pytest.approx(0.5)


def test_cosine_restarts_at_equal_distances_and_ends_low():
    taken = [schedules.cosine(e, EPOCHS, restarts=1) for e in (0.0, 5.0, 9.999, 10.0, 15.0, 20.0)]
    assert taken == pytest.approx([1.0, 0.5, 0.0, 1.0, 0.5, 0.0], abs=1e-6)


def test_polynomial():
    assert schedules.polynomial(5.0, EPOCHS) == pytest.approx(0.75)
    assert schedules.polynomial(5.0, EPOCHS, power=2.0, floor=0.2) == pytest.approx(0.2 + 0.8 * 0.75**2)
    assert schedules.polynomial(20.0, EPOCHS, floor=0.2) == pytest.approx(0.2)


def test_one_cycle_rises_to_its_peak_and_falls_to_its_floor():
    taken = [schedules.one_cycle(e, EPOCHS, rise=0.4, start=0.1, floor=0.01) for e in (0.0, 4.0, 8.0, 14.0, 20.0)]
    assert taken == pytest.approx([0.1, 0.55, 1.0, 0.505, 0.01])
    curve_of_it = curve("one_cycle", rise=0.4)
    assert (np.diff(curve_of_it[: 8 * 16 + 1]) > 0).all()
    assert (np.diff(curve_of_it[8 * 16 :]) < 0).all()


@pytest.mark.parametrize(
    ("scores", "settings", "expected"),
    [
        ([], {}, 1.0),
        ([0.1, 0.2, 0.3, 0.4], {}, 1.0),
        ([0.5, 0.5], {}, 1.0),
        ([0.5, 0.5, 0.4], {}, 0.5),
        ([0.5, 0.5, 0.4, 0.4], {}, 0.5),
        ([0.5, 0.5, 0.4, 0.4, 0.4], {}, 0.25),
        ([0.5, 0.5, 0.4, 0.6, 0.6], {}, 0.5),
        ([0.5, 0.5, 0.4, 0.4, 0.4], {"floor": 0.4}, 0.4),
        ([0.5, 0.55, 0.56], {"min_delta": 0.1}, 0.5),
        ([0.5, 0.4, 0.3], {"warmup_epochs": 2}, 1.0),
        ([0.5, float("nan"), float("nan")], {}, 0.5),
    ],
)
def test_plateau_falls_after_each_patience_without_a_better_score(scores, settings, expected):
    at = float(len(scores))
    taken = schedules.plateau(at, EPOCHS, scores, factor=0.5, patience=2, **settings)
    warm = min(at / settings["warmup_epochs"], 1.0) if "warmup_epochs" in settings else 1.0
    assert taken == pytest.approx(expected * warm)


def test_schedules_are_pure_python():
    imported = {
        line.split()[1] for line in inspect.getsource(schedules).splitlines() if line.startswith(("from", "imp"))
    }
    assert imported == {"math", "collections.abc", "emoray.settings"}
