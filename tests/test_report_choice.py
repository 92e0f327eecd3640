"""What page and card say of the choice: what to use, why, and what it gains."""

import json
from pathlib import Path

import pytest

from emoray import report
from emoray.report.answer import answer
from emoray.report.run import read
from tests.page import Page, changed, folder, fresh
from tests.run_folder import build

__all__ = ["folder", "fresh"]  # the fixtures


@pytest.mark.parametrize(
    ("gain", "told"),
    [(0.021, "which excludes zero"), (0.005, "which includes zero"), (-0.03, "did not hold on test")],
)
def test_gain_on_test_is_told_honestly(tmp_path: Path, gain: float, told: str) -> None:
    folder = build(tmp_path / "run", trials=6, epochs=4, gain=gain)
    assert told in answer(read(folder)).sentences[-1]


def test_ensemble_whose_gain_may_be_chance_is_not_recommended(fresh: Path) -> None:
    path = fresh / "ensemble.json"
    ensemble = json.loads(path.read_text())
    ensemble |= {"recommended": "best_single", "candidates": ensemble["members"], "members": ensemble["members"][:1]}
    ensemble["methods"]["log_loss"]["gain_over_single"] = {"estimate": 0.004, "low": -0.003, "high": 0.011}
    path.write_text(json.dumps(ensemble))
    told = answer(read(fresh))
    assert told.headline.startswith(f"Use {ensemble['members'][0]['trial']} alone")
    assert "0.671 on test" in told.headline, "the score of what is recommended, not the ensemble's 0.692"
    assert "The log_loss ensemble of 4 models is not recommended" in told.sentences[1]
    assert "−0.003 to +0.011, which includes zero" in told.sentences[1]


def test_leaderboard_shows_selection_beside_validation(fresh: Path) -> None:
    """The best single model is the soup of the second trial by validation."""

    def soup(ensemble: dict) -> None:
        for number, one in enumerate(ensemble["candidates"]):
            one["selection"] = 0.51 + number / 100
        second = ensemble["candidates"][1]
        ensemble["candidates"].append({**second, "name": f"{second['name']}-soup", "selection": 0.777})
        ensemble["test"]["best_single"]["trial"] = f"{second['name']}-soup"

    run = read(changed(fresh, soup))
    first, second = (trial.name for trial in sorted(run.trials, key=lambda trial: trial.rank or 99)[:2])
    source = report.write(fresh).read_text()
    table = source.partition('<section id="trials"')[2]
    rows = {name: table.partition(f'<th scope="row">{name}')[2].partition("</tr>")[0] for name in (first, second)}
    assert "best single model (its soup)" in rows[second]
    assert "0.520<small> 0.777</small>" in rows[second]
    assert "best single" not in rows[first]
    assert ">0.510<" in rows[first]
    text = Page(fresh / "report.html").text
    assert "The best single model is chosen by it, since validation has chosen settings and epochs too" in text


def test_one_model_is_not_compared_with_itself(fresh: Path) -> None:
    def lone(ensemble: dict) -> None:
        ensemble["candidates"] = ensemble["members"] = ensemble["candidates"][:1]
        ensemble["comparison"] = {"listed": ensemble["comparison"]["listed"][:1], "agreement": [[1.0]]}
        ensemble |= {"recommended": "best_single", "method": "auto", "finalize": {"keep": 1}, "seed": 0}

    told = answer(read(changed(fresh, lone)))
    assert "is used alone: it is the only candidate, as finalize.keep is 1" in " ".join(told.sentences)
    assert not any("gain" in fact.name for fact in told.facts)
    text = Page(report.write(fresh)).text
    ensemble = text.partition("it is the only candidate")[2]
    assert "gain over" not in ensemble
    card = report.model_card.write(fresh).read_text()
    assert "| metric | recommended |\n" in card
    assert "gain" not in card


def test_a_surely_better_method_is_named_with_its_setting(fresh: Path) -> None:
    gain = {"estimate": 0.05, "low": 0.03, "high": 0.07}
    changed(fresh, lambda ensemble: ensemble.update(better={"method": "stacking", "gain": gain}))
    (told,) = (one for one in answer(read(fresh)).sentences if "surely" in one)
    assert told.startswith("stacking is surely better")
    assert "+0.050 over what is used, with an interval of +0.030 to +0.070" in told
    assert "finalize.ensemble=stacking" in told


def test_what_was_left_out_stands_at_the_top(folder: Path) -> None:
    text = Page(report.write(folder)).text
    assert "Left out: vgg-007. trials/vgg-007/checkpoint/best.npz is damaged" in text
    assert text.index("Left out: vgg-007") < text.index("Use it")


def test_single_model_is_not_called_an_ensemble(fresh: Path) -> None:
    path = fresh / "ensemble.json"
    ensemble = json.loads(path.read_text())
    ensemble["members"] = ensemble["members"][:1]
    path.write_text(json.dumps(ensemble))
    told = answer(read(fresh))
    assert told.headline.startswith(f"Use {ensemble['members'][0]['trial']} alone")
    assert "ensemble" not in " ".join((told.headline, *told.sentences))


def test_run_that_was_not_finalized_claims_no_test_score(tmp_path: Path) -> None:
    told = answer(read(build(tmp_path / "run", trials=5, ensemble=False)))
    assert told.headline.startswith("The best trial so far")
    assert not any(fact.name.startswith("test") for fact in told.facts)


def test_metric_that_test_was_not_scored_by(fresh: Path) -> None:
    path = fresh / "ensemble.json"
    ensemble = json.loads(path.read_text())
    path.write_text(json.dumps(ensemble | {"metric": "recall_fear"}))
    assert "macro\u2011F1 0.692 on test" in answer(read(fresh)).headline
    assert "recall fear on validation" in report.write(fresh).read_text()


def test_an_ensemble_that_is_not_recommended_is_called_so(fresh: Path) -> None:
    path = fresh / "ensemble.json"
    told = {"method": "auto", "picked": "uniform", "recommended": "best_single"}
    path.write_text(json.dumps(json.loads(path.read_text()) | told))
    text = Page(report.write(fresh)).text
    assert "Weight is the trial's part in the fitted auto (uniform) ensemble (not recommended)." in text


def test_test_that_was_scored_again_is_not_called_unseen(fresh: Path) -> None:
    path = fresh / "ensemble.json"
    ensemble = json.loads(path.read_text())
    once = {"time": "2026-01-01", "finalize": {"keep": 8}, "checkpoints": ["a"]}
    path.write_text(json.dumps(ensemble | {"test_reads": [once]}))
    assert "Measured once on" in Page(report.write(fresh)).text
    path.write_text(json.dumps(ensemble | {"test_reads": [once, once | {"finalize": {"keep": 9}}]}))
    for text in (Page(report.write(fresh)).text, report.model_card.write(fresh).read_text()):
        assert "Test has been scored under 2 different settings" in text
        assert "Measured once" not in text
        assert "read once" not in text
        assert "images that nothing was chosen on" not in text


def test_how_it_was_finalized_stands_on_page_and_card(fresh: Path) -> None:
    path = fresh / "ensemble.json"
    settings = {"keep": 5, "ensemble": {"name": "log_loss", "pull": 12.5}}
    told = {"finalize": settings, "seed": 77, "versions": {"emoray": "0.1", "keras": "3.99"}, "notes": ["Mind this."]}
    path.write_text(json.dumps(json.loads(path.read_text()) | told))
    for text in (Page(report.write(fresh)).text, report.model_card.write(fresh).read_text()):
        assert "keras 3.99" in text
        assert "seed 77" in text
        assert '"pull": 12.5' in text
        assert "Mind this." in text
