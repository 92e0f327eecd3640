"""Names, sentences and tables that have to fit a line."""

import pytest

from emoray import text


@pytest.mark.parametrize("width", [12, 13, 20, 33])
@pytest.mark.parametrize("end", ["-004", "-1004-soup"])
def test_a_name_is_cut_in_its_middle_and_keeps_its_number(width: int, end: str) -> None:
    name = f"a_long_name_of_a_study_with_many_words{end}"
    cut = text.shortened(name, width)
    assert len(cut) == width
    assert cut.startswith("a")
    assert cut.endswith(end)
    assert text.shortened(name, len(name)) == name


def test_lines_break_at_spaces_and_keep_what_is_copied_whole() -> None:
    command = f"{text.CODE}emoray sweep 'a file.yaml' --storage /a/very/long/folder/of/somebody/else --resume"
    told = f"two words and /a/path/that-is-longer/than-the-line\n  an inset line with more words\n{command}"
    lines = text.wrapped(told, 20).split("\n")
    assert lines[-1] == command
    assert "/a/path/that-is-longer/than-the-line" in lines
    assert lines[2:4] == ["  an inset line with", "  more words"]
    assert " ".join(" ".join(lines).split()) == " ".join(told.split())
    assert text.wrapped(told, None) == told


def test_columns_shrink_at_the_names_alone() -> None:
    rows = [("rank", "model", "score"), ("1", "a_study_with_a_long_name-001", "0.5"), ("2", "short-002", "-0.25")]
    wide, narrow = (text.in_columns(rows, width, names=1, right=(2,)) for width in (None, 30))
    assert wide.splitlines()[1] == "1     a_study_with_a_long_name-001    0.5"
    assert max(map(len, narrow.splitlines())) == 30
    assert "a_stud…g_name-001    0.5" in narrow
    assert narrow.splitlines()[2].endswith("  -0.25")
    assert "…01" not in text.in_columns(rows, 5, names=1), "a number is seen however narrow it gets"
