"""The model card: what it must say of every run, and what a run cannot make of it."""

import json
from pathlib import Path

import pytest

from emoray import report
from tests.run_folder import build


@pytest.fixture
def card(tmp_path: Path) -> str:
    folder = build(tmp_path / "run", trials=9, epochs=4)
    (folder / "versions.json").write_text(json.dumps({"format": 1, "emoray": "0.1.0", "keras": "3.15.1"}))
    path = report.model_card.write(folder)
    assert path == folder / "model_card.md"
    return path.read_text()


def test_card_says_what_a_reader_must_know(card: str) -> None:
    for heading in ("Model", "Intended use and limits", "Data", "Scores on test", "Settings", "Versions", "Licences"):
        assert f"\n## {heading}\n" in card
    assert "no claim of fairness is made" in card
    assert "without demographic metadata" in card
    assert "Use the ensemble of 4 models" in card
    assert "keras 3.15.1" in card
    assert "Apache-2.0" in card
    assert "fingerprint `5f1c`" in card
    assert "| macro-F1 | 0.692 (0.677 to 0.707) |" in card


def test_tables_are_tables(card: str) -> None:
    """Every row of a table has as many cells as its head, and a line of dashes follows the head at once."""
    lines = card.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("|"):
            assert line.endswith("|"), line
            before = lines[number - 1]
            if before.startswith("|"):
                assert line.count("|") == before.count("|"), line
            else:
                assert set(lines[number + 1]) <= set("|-"), line
    assert sum(line.startswith("| angry |") for line in lines) == 2, "counts by split, and scores by class"


def test_names_are_text(tmp_path: Path) -> None:
    folder = build(tmp_path / "run", trials=9, epochs=4, classes=("a|b", "<script>", "`x`*"))
    text = report.model_card.write(folder).read_text()
    assert "<script>" not in text
    assert "| a\\|b |" in text


def test_run_that_was_not_finalized_has_a_card_without_scores(tmp_path: Path) -> None:
    text = report.model_card.write(build(tmp_path / "run", trials=5, epochs=3, ensemble=False)).read_text()
    assert "No classifier has been chosen" in text
    assert "None are recorded." in text
    assert "Not recorded." in text
