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
    assert "| metric | ensemble (recommended) | best single model | gain of the ensemble |" in card
    assert "| macro-F1 | 0.692 (0.677 to 0.707) | 0.671 (0.656 to 0.686) | +0.021 (+0.009 to +0.033) |" in card


def test_what_was_left_out_stands_on_the_card(card: str) -> None:
    assert "\n- vgg-007: trials/vgg-007/checkpoint/best.npz is damaged or cut off\n" in card


def test_ensemble_and_single_model_stand_beside_each_other_whichever_is_recommended(tmp_path: Path) -> None:
    """Log-loss is better where it is lower, and the gain that is told has the sign of better."""
    folder = build(tmp_path / "run", trials=9, epochs=4)
    path = folder / "ensemble.json"
    ensemble = json.loads(path.read_text())
    ensemble |= {"recommended": "best_single", "members": ensemble["members"][:1]}
    for key, estimate in (("ensemble", 0.854), ("best_single", 0.885), ("gain", 0.031)):
        ensemble["test"][key]["log_loss"] = {"estimate": estimate, "low": estimate - 0.04, "high": estimate + 0.04}
    path.write_text(json.dumps(ensemble))
    text = report.model_card.write(folder).read_text()
    assert "| metric | ensemble | best single model (recommended) | gain of the ensemble |" in text
    assert "| log-loss | 0.854 (0.814 to 0.894) | 0.885 (0.845 to 0.925) | +0.031 (−0.009 to +0.071) |\n" in text
    assert "A gain above zero is for the better in every metric: log-loss is lower by it" in text


def test_card_of_a_copied_run_has_the_name_of_its_sweep(tmp_path: Path) -> None:
    folder = build(tmp_path / "copy", trials=3, epochs=2)
    assert report.model_card.write(folder).read_text().startswith("# Model card: synthetic\n")
    (folder / "sweep.yaml").unlink()
    assert report.model_card.write(folder).read_text().startswith("# Model card: copy\n")


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
