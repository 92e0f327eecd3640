"""Losses agree with their formulas, written out in numpy, and become one another at the limits of their settings."""

import numpy as np
import pytest

from emoray import class_names, losses
from emoray.errors import UserError
from emoray.space import Choice, Range

pytestmark = pytest.mark.keras

NAMES = ("angry", "fear", "happy")
CLASSES = losses.Classes(NAMES, (100, 10, 1000))


@pytest.fixture
def labels():
    """Hard ones, soft ones and an even split."""
    soft = np.random.default_rng(0).dirichlet(np.ones(3), 4)
    return np.concatenate([np.eye(3), soft, [[0.5, 0.5, 0.0]]]).astype(np.float32)


@pytest.fixture
def logits():
    return np.random.default_rng(1).normal(size=(8, 3), scale=2.0).astype(np.float32)


@pytest.fixture
def p(logits):
    """The probabilities in float64."""
    powers = np.exp(logits.astype(np.float64))
    return powers / powers.sum(1, keepdims=True)


def close(loss, expected):
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-5, atol=1e-6)


def entropy(labels, p):
    return -(labels * np.log(p)).sum(1)


def test_cross_entropy(labels, logits, p):
    close(losses.cross_entropy(labels, logits), entropy(labels, p))
    close(losses.cross_entropy(labels, logits, label_smoothing=0.3), entropy(0.7 * labels + 0.1, p))


def test_cross_entropy_of_a_sure_mistake_is_its_logit():
    close(losses.cross_entropy(np.eye(3)[:1], np.array([[-1e5, 0.0, -1e5]], np.float32)), [1e5])


def test_focal(labels, logits, p):
    close(losses.focal(labels, logits, gamma=1.5), -(labels * (1 - p) ** 1.5 * np.log(p)).sum(1))
    close(losses.focal(labels, logits, gamma=0.0), entropy(labels, p))


def test_class_balanced(labels, logits, p):
    effective = (1 - 0.99 ** np.array(CLASSES.counts)) / (1 - 0.99)
    weights = 3 / effective / (1 / effective).sum()
    expected = -(weights * labels * (1 - p) ** 0.5 * np.log(p)).sum(1)
    close(losses.class_balanced(labels, logits, CLASSES, beta=0.99, gamma=0.5), expected)


def test_class_balanced_without_beta_is_focal(labels, logits):
    close(losses.class_balanced(labels, logits, CLASSES, beta=0.0), losses.cross_entropy(labels, logits).numpy())
    close(
        losses.class_balanced(labels, logits, CLASSES, beta=0.0, gamma=2.0),
        losses.focal(labels, logits, gamma=2.0).numpy(),
    )


def test_class_balanced_with_beta_next_to_one_weighs_by_inverse_frequency(labels, logits, p):
    inverse = 1 / np.array(CLASSES.counts)
    expected = -(3 * inverse / inverse.sum() * labels * np.log(p)).sum(1)
    close(losses.class_balanced(labels, logits, CLASSES, beta=1 - 1e-12), expected)


def test_class_balanced_takes_a_class_without_images(labels, logits):
    empty = losses.Classes(NAMES, (100, 0, 100))
    expected = losses.cross_entropy(labels * [1.0, 0.0, 1.0], logits)
    close(losses.class_balanced(labels, logits, empty), expected.numpy())


def test_cost_sensitive_without_costs_is_cross_entropy(labels, logits):
    close(losses.cost_sensitive(labels, logits, CLASSES), losses.cross_entropy(labels, logits).numpy())


def test_cost_sensitive_adds_the_expected_cost(labels, logits, p):
    costs = {"fear": {"happy": 2.0, "angry": 0.5}, "angry": {"happy": 1.0}}
    matrix = np.array([[0, 0, 1], [0.5, 0, 2], [0, 0, 0]])
    expected = entropy(labels, p) + ((labels @ matrix) * p).sum(1)
    close(losses.cost_sensitive(labels, logits, CLASSES, costs=costs), expected)


def test_cost_sensitive_counts_by_priority(labels, logits, p):
    expected = -(np.array([1, 3, 0]) * labels * np.log(p)).sum(1)
    close(losses.cost_sensitive(labels, logits, CLASSES, priority={"fear": 3.0, "happy": 0.0}), expected)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"priority": {"joy": 2.0}}, "loss.priority: there is no class 'joy': allowed: angry, fear, happy"),
        ({"costs": {"joy": {"fear": 1.0}}}, "loss.costs: there is no class 'joy'"),
        ({"costs": {"fear": {"joy": 1.0}}}, "loss.costs.fear: there is no class 'joy'"),
        ({"costs": {"fear": {"fear": 1.0}}}, "loss.costs.fear.fear"),
    ],
)
def test_cost_sensitive_names_what_is_no_class(labels, logits, settings, told):
    with pytest.raises(UserError, match=told):
        losses.cost_sensitive(labels, logits, CLASSES, **settings)


def test_generalized_cross_entropy(labels, logits, p):
    close(losses.generalized_cross_entropy(labels, logits, q=0.4), (labels * (1 - p**0.4) / 0.4).sum(1))


def test_generalized_cross_entropy_lies_between_cross_entropy_and_absolute_error(labels, logits, p):
    close(losses.generalized_cross_entropy(labels, logits, q=0.0), entropy(labels, p))
    close(losses.generalized_cross_entropy(labels, logits, q=1e-6), entropy(labels, p))
    hard, q = np.eye(3, dtype=np.float32), p[:3]
    close(losses.generalized_cross_entropy(hard, logits[:3], q=1.0), np.abs(hard - q).sum(1) / 2)


def test_symmetric_cross_entropy(labels, logits, p):
    with np.errstate(divide="ignore"):
        logarithms = np.maximum(np.log(labels.astype(np.float64)), -4.0)
    expected = 0.3 * entropy(labels, p) - 0.7 * (p * logarithms).sum(1)
    close(losses.symmetric_cross_entropy(labels, logits, alpha=0.3, beta=0.7), expected)
    close(losses.symmetric_cross_entropy(labels, logits, alpha=1.0, beta=0.0), entropy(labels, p))


def test_symmetric_cross_entropy_of_hard_labels_is_the_papers(logits, p):
    """There the reverse part is -A (1 - p) for the right class's p."""
    hard = np.eye(3, dtype=np.float32)
    expected = 4.0 * (1 - p[:3].diagonal())
    close(losses.symmetric_cross_entropy(hard, logits[:3], alpha=0.0, beta=1.0), expected)


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        ({"costs": {"fear": {"joy": 1.0}}}, "lenet: loss.costs.fear: there is no class 'joy'"),
        ({"costs": Choice((None, {"fear": {"happi": 1.0}}))}, "loss.costs.fear: .*'happi': did you mean 'happy'"),
        ({"costs": {"fear": Choice(({"happy": 1.0}, {"fear": 1.0}))}}, "loss.costs.fear.fear: .* is no confusion"),
        ({"priority": Choice(({"happy": 1.0}, {"sadd": Range(1.0, 2.0)}))}, "loss.priority: there is no class 'sadd'"),
    ],
)
def test_names_in_every_option_of_a_space_are_checked(loss, told):
    plain = {"name": "cost_sensitive", "costs": None, "priority": None, "label_smoothing": 0.0}
    tree = Choice(({"name": "focal"}, {**plain, **loss}))
    with pytest.raises(UserError, match=told):
        class_names.check({"lenet": tree}, CLASSES.names)
    class_names.check({"lenet": Choice(({"name": "focal"}, plain, {"name": "my.cost_sensitive"}))}, CLASSES.names)
