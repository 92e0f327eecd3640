"""Class weights: scale, order, empty classes."""

import inspect

import numpy as np
import pytest

from emoray import class_weights
from emoray.errors import UserError

FER2013 = np.array([3995, 436, 4097, 7215, 4830, 3171, 4965])
MEMBERS = [
    function
    for name, function in inspect.getmembers(class_weights, inspect.isfunction)
    if function.__module__ == class_weights.__name__ and not name.startswith("_")
]


@pytest.mark.parametrize("weigh", MEMBERS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("counts", [FER2013, [5, 0, 1], [0, 0, 9], [1, 10**7, 3], [4]], ids=str)
def test_mean_over_images_is_one_and_empty_classes_weigh_nothing(weigh, counts):
    with np.errstate(all="raise"):
        weights = weigh(counts)
    assert weights.dtype == np.float64
    assert np.average(weights, weights=counts) == pytest.approx(1.0)
    assert ((weights == 0) == (np.asarray(counts) == 0)).all()


def test_ratios_follow_their_definitions():
    assert class_weights.none(FER2013) == pytest.approx(np.ones(7))
    assert class_weights.sqrt([100, 4]) @ [1, -0.2] == pytest.approx(0.0)
    balanced = class_weights.balanced(FER2013)
    assert balanced == pytest.approx(FER2013.sum() / (7 * FER2013))  # scikit-learn's formula
    weights = class_weights.effective_number([2, 1], beta=0.5)
    assert weights[1] / weights[0] == pytest.approx(1.5)  # E(1) = 1, E(2) = 1.5


def test_effective_number_runs_from_none_to_balanced():
    assert class_weights.effective_number(FER2013, beta=0.0) == pytest.approx(np.ones(7))
    almost = class_weights.effective_number(FER2013, beta=1 - 1e-10)
    assert almost == pytest.approx(class_weights.balanced(FER2013), rel=1e-4)


def test_no_images_at_all_is_the_users_error():
    with pytest.raises(UserError, match="no images"):
        class_weights.sqrt([0, 0])
