"""YAML as plain data, and refusals of everything else."""

import time

import pytest

from emoray import strict_yaml
from emoray.errors import UserError


def load(text: str) -> object:
    return strict_yaml.load(text, "file.yaml")[0]


def test_numbers_and_words_are_what_they_look_like() -> None:
    tree = load("{a: 1e-4, b: 1E3, c: -.5, d: 007, e: no, f: on, g: true, h: null, i: '1e-4', j: 1_000, k: 2024-01-01}")
    assert tree == {
        **{"a": 1e-4, "b": 1000.0, "c": -0.5, "d": 7, "e": "no", "f": "on"},
        **{"g": True, "h": None, "i": "1e-4", "j": 1000, "k": "2024-01-01"},
    }


def test_places_know_their_lines() -> None:
    _, lines = strict_yaml.load("a:\n  b:\n    - 1\n    - c: 2\n", "file.yaml")
    assert lines["a.b[1].c"] == 4


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands here twice"),
        ("a: !!python/object/apply:os.system ['true']", "tag"),
        ("a: !custom 1", "tag"),
        ("a: {<<: {b: 1}}", "merge keys"),
        ("a: [1, 2", "line 1 is not valid YAML"),
        ("a: 1e999", "too large"),
        ("? [1, 2]\n: 3", "plain word"),
        ("a: &x [*x]", "deeply|itself|values"),
        ("[" * 5000, "deeply|values"),
    ],
)
def test_what_is_not_plain_data_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        load(text)


def test_an_alias_bomb_goes_off_in_no_time() -> None:
    levels = ["a0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
    levels += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    began = time.monotonic()
    with pytest.raises(UserError, match="aliases"):
        load("\n".join(levels))
    assert time.monotonic() - began < 30  # expanded, it would hold 10^12 values
