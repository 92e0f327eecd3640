"""What a run recommends, and which labels it doubts, on simulated pools."""

import numpy as np
import pytest

from emoray import crossfit, ensemble, label_issues, metrics, verdict
from emoray.blend import softmax
from emoray.data import Split

CLASSES = ("a", "b", "c")
METHODS = {"single": ensemble.single, "uniform": ensemble.uniform, "log_loss": ensemble.log_loss}


def pool(members: int, n: int, own: float, seed: int = 0) -> tuple[np.ndarray, Split]:
    """Members that share part of their noise; with little of their own an ensemble has nothing to average."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    shared = rng.normal(0, 1.0, (n, 3))
    logits = shared + rng.normal(0, own, (members, n, 3))
    logits[:, np.arange(n), labels] += 1.5
    images = np.zeros((n, 2, 2, 1), np.uint8)
    split = Split(images, labels, np.arange(n), np.array([f"{i}.png" for i in range(n)], object), None)
    return softmax(logits.astype(np.float32)), split


def told(own: float, use: str = "auto", n: int = 1200) -> tuple[dict, np.ndarray, Split, crossfit.Report]:
    probabilities, split = pool(5, 2 * n, own)
    fitted = crossfit.evaluate(probabilities[:, :n], split.labels[:n], METHODS, "accuracy")
    identities = [{"name": f"m{m}", "trial": f"m{m}", "study": "s"} for m in range(5)]
    return verdict.ensemble(fitted, "log_loss", use, identities, "accuracy"), probabilities, split, fitted


def test_an_ensemble_is_recommended_only_where_its_gain_is_sure() -> None:
    clear, *_ = told(own=1.5)
    assert clear["recommended"] == "ensemble"
    assert clear["methods"]["log_loss"]["gain_over_single"]["low"] > 0
    assert len(clear["members"]) > 1
    chance, *_ = told(own=0.02)
    assert chance["methods"]["log_loss"]["gain_over_single"]["low"] <= 0
    assert chance["recommended"] == "best_single"
    assert [member["weight"] for member in chance["members"]] == [1.0]
    assert chance["blend"]["method"] == "single"
    assert sum(member["weight"] for member in chance["candidates"]) == pytest.approx(1), "the fit is told all the same"


def test_a_stack_has_no_weights() -> None:
    probabilities, split = pool(3, 300, 1.5)
    fitted = crossfit.evaluate(probabilities, split.labels, {**METHODS, "stacking": ensemble.stacking}, "accuracy")
    identities = [{"name": f"m{m}", "trial": f"m{m}", "study": "s"} for m in range(3)]
    stacked = verdict.ensemble(fitted, "stacking", "ensemble", identities, "accuracy")
    assert [member["weight"] for member in stacked["members"]] == [None] * 3
    assert [member["weight"] for member in stacked["candidates"]] == [None] * 3
    alone = verdict.ensemble(fitted, "stacking", "single", identities, "accuracy")
    assert [member["weight"] for member in alone["members"]] == [1.0]


def test_what_auto_picked_is_told() -> None:
    probabilities, split = pool(3, 300, 1.5)
    fitted = crossfit.evaluate(probabilities, split.labels, {**METHODS, "auto": ensemble.auto}, "accuracy")
    identities = [{"name": f"m{m}", "trial": f"m{m}", "study": "s"} for m in range(3)]
    found = verdict.ensemble(fitted, "auto", "auto", identities, "accuracy")
    assert found["method"] == "auto"
    assert found["picked"] == found["methods"]["auto"]["blend"]["method"] != "auto"


@pytest.mark.parametrize(("use", "expected"), [("ensemble", "ensemble"), ("single", "best_single")])
def test_what_is_asked_for_is_used(use: str, expected: str) -> None:
    for own in (1.5, 0.02):
        assert told(own, use)[0]["recommended"] == expected


def test_test_is_scored_for_what_is_recommended() -> None:
    for own in (1.5, 0.02):
        chosen, probabilities, split, fitted = told(own)
        found = verdict.test(fitted, chosen, probabilities, split, CLASSES, seed=0)
        counts = np.array(found["confusion"])
        share = np.trace(counts) / counts.sum()
        assert share == pytest.approx(found[chosen["recommended"]]["accuracy"]["estimate"])
        assert len(found["mistakes"]) == verdict.MOST_PICTURES
        confidences = [mistake["confidence"] for mistake in found["mistakes"]]
        assert confidences == sorted(confidences, reverse=True)
        for mistake in found["mistakes"]:
            assert mistake["label"] == CLASSES[split.labels[mistake["index"]]] != mistake["predicted"]


def test_members_beside_each_other() -> None:
    probabilities, split = pool(3, 900, own=1.0)
    probabilities = np.concatenate([probabilities, probabilities[:1] ** 3])
    probabilities /= probabilities.sum(axis=2, keepdims=True)
    identities = [{"name": f"m{m}", "study": "s"} for m in range(4)]
    found = verdict.members(probabilities, split.labels, identities, seed=0)
    agreement = np.array(found["agreement"])
    assert (np.diag(agreement) == 1).all()
    assert agreement[0, 3] == 1, "sharper probabilities change no prediction"
    assert found["listed"][0]["disagreement"] == pytest.approx(1 - agreement[0, 1:].mean())
    sharp = found["listed"][3]
    for score in ("log_loss", "ece", "brier"):
        assert sharp["after"][score] < sharp["before"][score], "a temperature mends what is too sure of itself"


def test_wrong_labels_are_found() -> None:
    """Of 2,000 images 200 get another label; the members that doubt them never saw the labels."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 2000)
    logits = rng.normal(0, 1, (2000, 3))
    logits[np.arange(2000), truth] += 4
    labels = truth.copy()
    wrong = rng.choice(2000, 200, replace=False)
    labels[wrong] = (labels[wrong] + rng.integers(1, 3, 200)) % 3
    found = label_issues.find(labels, softmax(logits.astype(np.float32)))
    images = [issue.image for issue in found.issues]
    hits = np.isin(images, wrong)
    assert hits.mean() > 0.8
    assert hits.sum() > 170
    assert hits[:100].all(), "the surest are right"
    assert found.share == pytest.approx(0.1, abs=0.03)
    suggested = np.array([issue.suggested for issue in found.issues])
    assert (suggested[hits] == truth[np.array(images)[hits]]).mean() > 0.95
    assert found.estimate.sum() == pytest.approx(1)


def test_labels_without_doubt_and_classes_without_images() -> None:
    labels = np.array([0, 0, 2, 2])
    sure = np.eye(3, dtype=np.float32)[labels] * 0.9 + 0.1 / 3
    found = label_issues.find(labels, sure)
    assert found.issues == ()
    assert found.share == pytest.approx(0)
    assert metrics.log_loss(labels, sure) < 0.2
