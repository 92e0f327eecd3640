"""YAML as plain data, and refusals of everything else."""

import os
import time
import tracemalloc
from pathlib import Path

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
        ("[" * 60 + "]" * 60, "line 1: this is nested too deeply, below more than 40 levels"),
        (f"? {'a' * 300_000}\n: [{'1,' * 4_000}]", "below more than keys of 1,000 characters"),
        ("a: 1\nb: \x07", r"line 2 is not valid YAML: the character '\\x07' may not stand in it$"),
    ],
)
def test_what_is_not_plain_data_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        load(text)


@pytest.mark.parametrize("word", ["1_", "1__0", "_1", "1_.5", "1._5", "1.5_", "1_e3", "._5"])
def test_underscores_stand_between_digits_only(word: str) -> None:
    assert load(f"a: {word}") == {"a": word}
    assert load("a: [1_0, 1_0.5_0, .5_0, 2.]") == {"a": [10, 10.5, 0.5, 2.0]}


def test_long_keys_cost_no_memory() -> None:
    """Places are kept for every value, so their sum is what has to be small."""
    inner = f"[{'1,' * 40_000}]"
    for level in range(45):
        inner = f"{{{'k' * 190}{level}: {inner}}}"
    tracemalloc.start()
    with pytest.raises(UserError, match="too deeply"):
        load(inner)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 300 << 20


def test_no_more_of_a_file_is_read_than_may_be_in_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has more than 1,000,000 bytes"):
        strict_yaml.read(Path("/dev/zero"))
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        strict_yaml.read(tmp_path / "latin.yaml")


def test_an_alias_bomb_goes_off_in_no_time() -> None:
    levels = ["a0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
    levels += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    began = time.monotonic()
    with pytest.raises(UserError, match="aliases"):
        load("\n".join(levels))
    assert time.monotonic() - began < 30  # expanded, it would hold 10^12 values


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "sweep.yaml")
    with pytest.raises(UserError, match=r"sweep\.yaml is a pipe, not a file"):
        strict_yaml.read(tmp_path / "sweep.yaml")
