"""Samplers: parsing, drawing, counting, and writing back."""

import math

import pytest

from emoray import notation, space
from emoray.algorithms import study_space
from emoray.space import Choice, Normal, Range

NESTED = {
    "optimizer": Choice(
        (
            {"name": "sgd", "learning_rate": Range(0.01, 0.1, log=True)},
            {"name": "adam", "learning_rate": Range(1e-4, 1e-2, log=True), "decay": Choice((0.0, 0.1))},
        )
    ),
    "width": Range(1, 3, integer=True),
}


@pytest.mark.parametrize(
    ("written", "sampler"),
    [
        ({"choice": [1, 2]}, Choice((1, 2))),
        ({"uniform": [0, 1.5]}, Range(0, 1.5)),
        ({"loguniform": [1e-4, 1e-1]}, Range(1e-4, 1e-1, log=True)),
        ({"quniform": [0, 1, 0.25]}, Range(0, 1, step=0.25)),
        ({"randint": [2, 8]}, Range(2, 8, integer=True)),
        ({"lograndint": [1, 64]}, Range(1, 64, integer=True, log=True)),
        ({"qrandint": [16, 64, 16]}, Range(16, 64, integer=True, step=16)),
        ({"normal": [0.5, 0.1]}, Normal(0.5, 0.1)),
    ],
)
def test_a_sampler_is_read_and_written_back(written: dict, sampler: space.Sampler) -> None:
    assert notation.sampler(written) == sampler
    assert notation.written(sampler) == written


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ({"uniform": [1, 0]}, "below the high end"),
        ({"uniform": [1]}, "uniform takes"),
        ({"uniform": 3}, "not a list"),
        ({"uniform": [0, "1"]}, "uniform takes"),
        ({"loguniform": [0, 1]}, "begin above 0"),
        ({"randint": [1, 2.5]}, "whole numbers"),
        ({"quniform": [0, 1, 2]}, "step"),
        ({"choice": []}, "at least one"),
        ({"normal": [0, 0]}, "deviation"),
        ({"uniform": [True, 2]}, "uniform takes"),
    ],
)
def test_a_wrong_sampler_says_what_is_allowed(written: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        notation.sampler(written)


def test_only_what_was_reached_is_asked_for() -> None:
    asked = []

    def suggest(name: str, sampler: space.Sampler) -> object:
        asked.append(name)
        return "sgd" if isinstance(sampler, Choice) else sampler.low

    settings = space.draw(NESTED, suggest)
    assert settings == {"optimizer": {"name": "sgd", "learning_rate": 0.01}, "width": 1}
    assert asked == ["optimizer", "optimizer[sgd].learning_rate", "width"]


def test_equal_labels_are_told_apart() -> None:
    labels = Choice(({"name": "sgd", "momentum": 0.0}, {"name": "sgd", "momentum": 0.9}, None)).labels()
    assert len(set(labels)) == 3


def test_a_grid_holds_every_combination_once() -> None:
    finite = {"a": Choice((1, {"b": Range(0, 1, step=0.5)})), "c": Range(1, 2, integer=True)}
    points = [space.draw(finite, lambda name, _, drawn=drawn: drawn[name]) for drawn in study_space.points(finite)]
    assert len(points) == space.size(finite) == 8
    assert {"a": {"b": 0.5}, "c": 2} in points


def test_continuous_places_are_named() -> None:
    assert math.isinf(space.size(NESTED))
    assert space.continuous(NESTED) == ["optimizer[sgd].learning_rate", "optimizer[adam].learning_rate"]


def test_a_normal_stays_within_its_ends() -> None:
    normal = Normal(1.0, 0.2)
    assert normal.quantile(0.0) == pytest.approx(normal.low)
    assert normal.quantile(0.5) == pytest.approx(1.0)
    assert normal.quantile(1.0) == pytest.approx(normal.high)
