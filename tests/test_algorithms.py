"""What search algorithms draw, by themselves: every kind of space, the same each time, and better than chance."""

import json
import math
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from emoray import registry, space
from emoray.algorithms.study_space import StudySpace

SPACE = {
    "optimizer": space.Choice(
        (
            {"name": "sgd", "rate": space.Range(0.01, 1.0, log=True), "nested": space.Choice((1, [2]))},
            {"name": "adam", "beta": space.Normal(0.9, 0.01)},
        )
    ),
    "width": space.Range(8, 64, integer=True, step=8),
    "depth": space.Range(1, 100, integer=True, log=True),
}
FINITE = {
    "optimizer": space.Choice(({"name": "sgd", "momentum": space.Choice((0.0, 0.9))}, {"name": "adam"})),
    "width": space.Range(1, 3, integer=True),
}
NUMBERS = {
    "rate": space.Range(0.01, 1.0, log=True),
    "width": space.Range(8, 64, integer=True, step=8),
    "depth": space.Range(1, 100, integer=True, log=True),
    "beta": space.Normal(0.9, 0.01),
}
OPTUNA = [
    {"name": "optuna"},
    {"name": "optuna", "multivariate": False},
    {"name": "optuna", "sampler": "cmaes"},
    {"name": "optuna", "sampler": "gp"},
]


def holds_sampler(tree: Any) -> bool:
    if isinstance(tree, space.SAMPLERS):
        return True
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return any(holds_sampler(child) for child in inner)


def searcher_of(algorithm: dict[str, Any], searched: dict[str, Any], seed: int) -> Any:
    if algorithm.get("sampler") == "gp":
        pytest.importorskip("torch")
    return registry.build("algorithms", algorithm, StudySpace("study", searched, seed))


@pytest.mark.parametrize("algorithm", [{"name": "random"}, *OPTUNA[:2]], ids=str)
def test_every_algorithm_draws_nested_spaces(algorithm: dict[str, Any]) -> None:
    searcher = searcher_of(algorithm, SPACE, 1)
    seen = set()
    for index in range(1, 13):
        drawn = searcher.ask(index, 0)
        settings = space.draw(SPACE, lambda name, sampler, drawn=drawn: drawn[name])
        assert not holds_sampler(settings)
        assert 8 <= settings["width"] <= 64
        assert settings["width"] % 8 == 0
        assert 1 <= settings["depth"] <= 100
        option = settings["optimizer"]
        if option["name"] == "sgd":
            assert 0.01 <= option["rate"] <= 1.0
            assert option["nested"] in (1, [2])
        else:
            assert 0.87 <= option["beta"] <= 0.93
        assert ("optimizer[sgd].rate" in drawn) == (option["name"] == "sgd")
        seen.add(option["name"])
        searcher.tell(index, index / 12)
    assert seen == {"sgd", "adam"}


@pytest.mark.parametrize("algorithm", OPTUNA[2:], ids=str)
def test_samplers_without_nesting_draw_every_kind_of_number(algorithm: dict[str, Any]) -> None:
    searcher = searcher_of(algorithm, NUMBERS, 1)
    seen = set()
    for index in range(1, 17):
        drawn = searcher.ask(index, 0)
        settings = space.draw(NUMBERS, lambda name, sampler, drawn=drawn: drawn[name])
        assert 0.01 <= settings["rate"] <= 1.0
        assert settings["width"] in range(8, 65, 8)
        assert settings["depth"] in range(1, 101)
        assert 0.87 <= settings["beta"] <= 0.93
        seen.add(settings["rate"])
        searcher.tell(index, index / 16)
    assert len(seen) > 8, "also those after the first eight, which are drawn at random"


def test_a_range_that_its_step_does_not_divide_is_drawn_without_a_word() -> None:
    """Optuna would warn of it at each draw, in the middle of the display."""
    uneven = {"x": space.Range(0, 1, step=0.3), "n": space.Range(1, 10, integer=True, step=4)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        searcher = searcher_of({"name": "optuna", "startup_trials": 4}, uneven, 1)
        drawn = [searcher.ask(1, 0)]
        for index in range(2, 31):
            searcher.tell(index - 1, -drawn[-1]["x"])
            drawn.append(searcher.ask(index, 0))
        searcher_of({"name": "optuna"}, uneven, 1).restore(1, drawn[0])
    assert {one["x"] for one in drawn} == {0, 0.3, 0.6, 0.9}
    assert {one["n"] for one in drawn} == {1, 5, 9}


@pytest.mark.parametrize("algorithm", [*OPTUNA[:2], OPTUNA[3]], ids=str)
def test_a_resumed_searcher_knows_every_digit_that_the_unbroken_one_knows(algorithm: dict[str, Any]) -> None:
    """A number in the twelfth place would now and then be rounded to another draw."""
    unbroken, drawn = searcher_of(algorithm, NUMBERS, 1), []
    for index in range(1, 15):
        drawn.append(unbroken.ask(index, 0))
        unbroken.tell(index, index / 14)
    resumed = searcher_of(algorithm, NUMBERS, 1)
    for index, one in enumerate(json.loads(json.dumps(drawn)), 1):  # as a run folder keeps it
        resumed.restore(index, one)
        resumed.tell(index, index / 14)
    known = [
        [(trial.params, trial.value) for trial in each.study.trials if trial.value is not None]
        for each in (unbroken, resumed)
    ]
    assert len(known[0]) == 14
    assert known[0] == known[1]
    assert unbroken.ask(15, 0) == resumed.ask(15, 0)


def test_a_grid_is_every_point_once_and_then_ends() -> None:
    searcher = registry.build("algorithms", {"name": "grid"}, StudySpace("study", FINITE, 0))
    points = []
    while (drawn := searcher.ask(len(points) + 1, 0)) is not None:
        points.append(space.draw(FINITE, lambda name, sampler, drawn=drawn: drawn[name]))
    assert len(points) == 9
    assert len({str(point) for point in points}) == space.size(FINITE)


@pytest.mark.parametrize("algorithm", ["random", "optuna"])
def test_draws_do_not_depend_on_the_process(algorithm: str) -> None:
    script = (
        "import json\nfrom emoray import registry\nfrom emoray.algorithms.study_space import StudySpace\n"
        "from tests.test_algorithms import SPACE\n"
        f"s = registry.build('algorithms', {{'name': '{algorithm}'}}, StudySpace('study', SPACE, 7))\n"
        "for i in range(1, 12):\n    print(json.dumps(s.ask(i, 0)))\n    s.tell(i, (i * 7 % 5) / 5)\n"
    )
    root = Path(__file__).parents[1]
    told = []
    for hash_seed in ("1", "2"):
        variables = {"PYTHONHASHSEED": hash_seed, "PATH": ""}
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=root, env=variables, capture_output=True, text=True, check=True
        )
        told.append(done.stdout)
    assert told[0] == told[1]
    assert len(told[0].splitlines()) == 11


@pytest.mark.parametrize("algorithm", OPTUNA, ids=str)
def test_optuna_learns_where_random_search_does_not(algorithm: dict[str, Any]) -> None:
    """On a smooth function of two numbers, the last draws must lie nearer to the optimum."""
    plane = {"x": space.Range(0.0, 1.0), "y": space.Range(0.0, 1.0)}
    mean = []
    for named in (algorithm, {"name": "random"}):
        searcher = searcher_of(named, plane, 3)
        distances = []
        for index in range(1, 61):
            at = searcher.ask(index, 0)
            distances.append(math.dist((at["x"], at["y"]), (0.8, 0.3)))
            searcher.tell(index, -(distances[-1] ** 2))
        mean.append(sum(distances[40:]) / 20)
    assert mean[0] < mean[1] / 2
