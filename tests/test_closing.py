"""How a sweep ends on the terminal: what stands there, at which width."""

from pathlib import Path

import pytest

from emoray import advice, crossfit, ensemble, verdict
from emoray.closing import closing
from emoray.data import Split
from emoray.run_folder import RunFolder
from emoray.text import CODE
from emoray.trial_state import Trial
from tests.test_verdict import CLASSES, pool

STUDY = "a_narrow_simple_cnn_with_a_drawn_dropout_and_flips_of_grey_faces"
METHODS = {name: getattr(ensemble, name) for name in ("single", "uniform", "log_loss", "stacking", "auto")}
FOLDER = RunFolder(Path("/home/some body/with a long name/and/a/folder/of/many/runs/quickstart"))


def finalized(method: str = "log_loss", use: str = "auto", members: int = 4, swapped: bool = False) -> dict:
    """ensemble.json of trials of which the second has a soup; classes may be `swapped`."""
    probabilities, split = pool(members, 1600, 1.0)
    if swapped:  # every member confuses two classes: no weights mend that
        probabilities = probabilities[:, :, [1, 0, 2]]
    fitted = crossfit.evaluate(probabilities[:, :800], split.labels[:800], METHODS, "accuracy")
    trials = [f"{STUDY}-{number:03d}" for number in (1, 2, 2, 3, 4)][:members]
    identities = [
        {"name": f"{trial}-soup" if m == 2 else trial, "trial": trial, "files": ["a", "b", "c"][: 1 + 2 * (m == 2)]}
        for m, trial in enumerate(trials)
    ]
    told = verdict.ensemble(fitted, method, use, identities, "accuracy")
    seen = Split(*(part[800:] for part in (split.images, split.labels, split.rows, split.files)), None)
    test = verdict.test(fitted, told, probabilities[:, 800:], seen, CLASSES, seed=0)
    return {**told, "test": test, "test_reads": [], "finalize": {"keep": members}}


def ended(told: dict, width: int | None) -> str:
    ids = dict.fromkeys(one["trial"] for one in told["candidates"])
    trials = [
        Trial(name, STUDY, i, {"epochs": 2}, {}, "finished", history=[{"score": 0.5 - i / 9}, {"score": 0.4}])
        for i, name in enumerate(ids)
    ]
    return closing(trials, told, FOLDER, width)


@pytest.mark.parametrize("width", [80, 120])
def test_no_word_is_broken_and_no_number_is_lost(width: int) -> None:
    told = finalized(swapped=True)
    lines = ended(told, width).splitlines()
    assert all(len(line) <= width or line.startswith(CODE) for line in lines), lines
    words = {word for word in ended(told, None).split() if not word.startswith(STUDY[:9])}
    assert words <= {word for line in lines for word in line.split()}
    ends = ("faces-001 ", "faces-002 ", "faces-002-soup ", "faces-003 ")
    assert [end for line in lines[3:7] for end in ends if end in line] == list(ends)
    assert lines[-1] == f"{CODE}{FOLDER.report}"
    quoted = f"{CODE}emoray finalize '{FOLDER.path}' --set finalize.ensemble=stacking"
    assert quoted in lines, "what is to be copied stands on a line of its own"


def test_the_leaderboard_tells_what_was_chosen_by_what() -> None:
    told = finalized()
    single = told["test"]["best_single"]["trial"]
    text = ended(told, None)
    (marked,) = (line for line in text.splitlines() if "*  " in line)
    assert f" {single} " in marked
    scores = {one["name"]: one["selection"] for one in told["candidates"]}
    assert scores[single] == max(scores.values())
    for name, score in scores.items():
        assert any(f" {name} " in line and f"{score:.4f}" in line for line in text.splitlines()), name
    assert "* chosen as the best single model, on the selection images: validation" in text
    assert "soup: the mean of the weights" in text


def test_one_model_is_not_compared_with_itself() -> None:
    for method in ("auto", "log_loss"):
        text = ended(finalized(method, members=1), None)
        assert "is used alone: it is the only candidate, as finalize.keep is 1" in text
        assert "gain" not in text
        assert "ensemble" not in text
    told = finalized()
    alone = told["methods"]["single"]["blend"]
    told |= {"method": "auto", "picked": "uniform", "recommended": "best_single", "blend": alone}
    told["methods"]["auto"]["blend"] = alone
    told["members"] = [{"name": told["test"]["best_single"]["trial"]}]
    text = ended(told, None)
    assert "auto (uniform), the method that was fitted, gives all its weight to it, the best of 4 candidates" in text
    assert "gain" not in text


def test_a_surely_better_method_is_named_with_its_setting() -> None:
    told = finalized(swapped=True)
    assert told["better"]["method"] == "stacking"
    assert told["better"]["gain"]["low"] > 0.2
    assert "stacking is surely better: on selection images that neither was fitted to, it gains +0.3" in ended(
        told, None
    )
    assert finalized("stacking", swapped=True)["better"] is None, "it is in use"
    assert finalized("log_loss", "single", swapped=True)["better"] is None, "one model was asked for"
    assert finalized(members=1, swapped=True)["better"] is None, "a stack of one model is not recommended"
    plain = finalized()
    assert plain["better"] is None
    assert advice.better(plain, str) == ""
    assert "surely" not in ended(plain, None)
