"""How many trials each study gets where those that earn them get more."""

import pytest

from emoray import shares


@pytest.mark.parametrize(
    "wanted", [(1, 2, 3), (1, 1, 1, 1, 1), (1, 9), (1, 1, 30), (4,), (3, 3), (1,) * 9 + (40,)], ids=str
)
def test_no_study_loses_before_it_was_tried(wanted: tuple[int, ...]) -> None:
    asked = {f"s{number}": trials for number, trials in enumerate(wanted)}
    rounds = shares.rounds(asked)
    assert sum(trials for trials, _ in rounds) == sum(wanted)
    assert min(trials for trials, _ in rounds) >= 0
    first = shares.best(asked, {study: [] for study in asked})
    assert min(first.values()) >= 1
    assert sum(first.values()) == rounds[0][0]


def test_all_trials_are_given_and_the_better_studies_get_more() -> None:
    asked = {"a": 1, "b": 2, "c": 9}
    scores = {"a": [0.9] * 12, "b": [0.5] * 12, "c": [0.1] * 12}
    given = shares.best(asked, scores)
    assert sum(given.values()) == 12
    assert given["a"] > given["b"] >= 1, "what the file asks for counts in the first round alone"
