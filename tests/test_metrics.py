"""Metrics agree with scikit-learn, and absent classes are handled as it does."""

import numpy as np
import pytest
from sklearn import metrics as reference

from emoray import metrics
from emoray.errors import UserError


def _case(seed, n=500, classes=7, absent=()):
    rng = np.random.default_rng(seed)
    labels = rng.choice([c for c in range(classes) if c not in absent], n)
    probabilities = rng.dirichlet(np.full(classes, 0.5), n).astype(np.float32)
    probabilities[np.arange(n), labels] += 0.2
    return labels, probabilities / probabilities.sum(1, keepdims=True)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("absent", [(), (1,), (0, 6)])
@pytest.mark.parametrize("n", [4, 500])
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_scores_agree_with_scikit_learn(seed, absent, n):
    labels, probabilities = _case(seed, n, absent=absent)
    predicted = probabilities.argmax(1)
    assert metrics.scores(labels, probabilities) == pytest.approx(
        {
            "accuracy": reference.accuracy_score(labels, predicted),
            "macro_f1": reference.f1_score(labels, predicted, average="macro"),
            "balanced_accuracy": reference.balanced_accuracy_score(labels, predicted),
            "log_loss": reference.log_loss(labels, probabilities, labels=range(7)),
        },
        rel=1e-5,
    )
    found = metrics.recall(labels, probabilities)
    expected = reference.recall_score(labels, predicted, labels=range(7), average=None, zero_division=np.nan)
    np.testing.assert_allclose(found, expected)
    assert metrics.brier(labels, probabilities) == pytest.approx(
        ((probabilities - np.eye(7)[labels]) ** 2).sum(1).mean(), rel=1e-5
    )


def test_confusion_has_labels_in_rows():
    labels, predicted = np.array([0, 0, 2, 1]), np.array([0, 1, 2, 2])
    np.testing.assert_array_equal(
        metrics.confusion(labels, predicted, 3), reference.confusion_matrix(labels, predicted)
    )
    assert metrics.confusion(labels.astype(np.uint8), predicted, 100).shape == (100, 100)  # no overflow of small types


def test_many_confusion_matrices_at_once_equal_one_at_a_time():
    many = np.random.default_rng(0).integers(0, 3, (20, 4, 4))
    many[0] = 0
    for name in ("accuracy", "macro_f1", "balanced_accuracy", "recall_2"):
        one_by_one = [float(metrics.from_confusion(name, counts)) for counts in many]
        np.testing.assert_array_equal(metrics.from_confusion(name, many), one_by_one)


def test_value_is_higher_for_better():
    labels, probabilities = _case(0)
    for name in (*metrics.METRICS, "recall_3"):
        assert metrics.value(name, labels, np.eye(7)[labels]) > metrics.value(name, labels, probabilities)
    assert metrics.value("log_loss", labels, probabilities) == -metrics.log_loss(labels, probabilities)


def test_recall_by_name_and_by_index():
    labels, probabilities = _case(0, classes=3)
    per_class = metrics.recall(labels, probabilities)
    assert metrics.value("recall_1", labels, probabilities) == per_class[1]
    assert metrics.value("recall_1", labels, probabilities, ["1", "0", "very_sad"]) == per_class[0]
    assert metrics.value("recall_very_sad", labels, probabilities, ["1", "0", "very_sad"]) == per_class[2]
    assert metrics.by_index("recall_very_sad", ["1", "0", "very_sad"]) == "recall_2"


@pytest.mark.parametrize("name", ["recall_joy", "recall_", "recall_3", "acuracy", "recall"])
def test_unknown_metric_names_what_is_allowed(name):
    labels, probabilities = _case(0, classes=3)
    with pytest.raises(UserError, match=f"there is no metric '{name}': .*macro_f1.*recall_sad"):
        metrics.value(name, labels, probabilities, ["happy", "sad", "neutral"])


def test_certain_mistake_costs_a_finite_loss():
    assert metrics.log_loss(np.array([1]), np.array([[1.0, 0.0]])) == pytest.approx(-np.log(metrics.FLOOR))


def test_ece_of_calibrated_and_overconfident_predictions():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(5), 40_000)
    labels = (probabilities.cumsum(1) < rng.random((40_000, 1))).sum(1)
    assert metrics.ece(labels, probabilities) < 0.015
    sharp = probabilities**3 / (probabilities**3).sum(1, keepdims=True)
    gap = sharp.max(1).mean() - (sharp.argmax(1) == labels).mean()
    assert metrics.ece(labels, sharp) == pytest.approx(gap, abs=0.02)


def test_ece_does_not_depend_on_the_order_of_images():
    labels = np.array([0] * 30 + [1] * 70)
    constant = np.tile([0.3, 0.7], (100, 1))
    assert metrics.ece(labels, constant) == pytest.approx(0.0, abs=1e-12)
    assert metrics.ece(labels[::-1], constant, bins=7) == pytest.approx(0.0, abs=1e-12)
    assert metrics.ece(labels[:3], constant[:3]) == pytest.approx(0.7)  # fewer images than bins


def test_a_metric_that_classes_or_splits_cannot_give_is_refused():
    images = {"validation": {"joy": 3, "disgust": 0}}
    for metric in (*metrics.METRICS, "recall_joy"):
        metrics.check(metric, ["joy", "disgust"], images)
    metrics.check("recall_disgust", ["joy", "disgust"])
    with pytest.raises(UserError, match=r"recall_disgust cannot be measured, .* in the validation split"):
        metrics.check("recall_disgust", ["joy", "disgust"], images)
    with pytest.raises(UserError, match=r"search.metric: there is no class 'digust': did you mean 'disgust'\?"):
        metrics.check("recall_digust", ["joy", "disgust"])


def test_nothing_scores_below_the_worst():
    labels, wrong = np.array([0, 1]), np.array([[0.0, 1.0], [1.0, 0.0]], np.float32)
    for metric in metrics.METRICS:
        assert metrics.value(metric, labels, wrong) == pytest.approx(metrics.worst(metric))
