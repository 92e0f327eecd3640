"""Stopping rules stop when nothing has got better for long enough, and not before."""

import pytest

from emoray import registry, stopping
from tests import ends

RULES = registry.members("stopping")


@pytest.mark.parametrize("name", RULES)
def test_no_rule_stops_a_trial_without_scores_or_one_that_improves(name):
    for settings in ends.one_by_one(RULES[name]):
        for scores in ([], [0.1], [epoch / 100 for epoch in range(50)]):
            assert registry.build("stopping", {"name": name, **settings}, scores) is False


@pytest.mark.parametrize("name", RULES)
def test_rules_keep_nothing_and_change_nothing(name):
    scores = [0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
    answers = {registry.build("stopping", {"name": name}, scores) for _ in range(3)}
    assert len(answers) == 1
    assert scores == [0.5, 0.4, 0.3, 0.2, 0.1, 0.0]


def test_none_never_stops():
    assert stopping.none([0.9] + [0.0] * 1000) is False


@pytest.mark.parametrize(
    ("scores", "settings", "stops"),
    [
        ([0.5, 0.4, 0.4], {}, False),
        ([0.5, 0.4, 0.4, 0.4], {}, True),
        ([0.5, 0.5, 0.5, 0.5], {}, True),  # as good is not better
        ([0.5, 0.4, 0.4, 0.6, 0.5, 0.5], {}, False),  # a better score starts the count anew
        ([0.1, 0.1, 0.1, 0.1, 0.2], {}, False),
        ([0.5, 0.51, 0.52, 0.53], {"min_delta": 0.1}, True),
        ([0.5, 0.51, 0.52, 0.62], {"min_delta": 0.1}, False),  # slow gains add up against the best that counted
        ([0.5, 0.4, 0.4, 0.4], {"warmup_epochs": 2}, False),
        ([0.5, 0.4, 0.4, 0.4, 0.4], {"warmup_epochs": 2}, True),
        ([float("nan")] * 3, {}, True),
        ([0.5, float("nan"), 0.6, float("nan")], {}, False),
        ([-0.5, -0.4, -0.3, -0.2], {}, False),  # a loss with its sign turned
        ([-0.5, -0.6, -0.7, -0.8], {}, True),
    ],
)
def test_patience_counts_epochs_in_a_row(scores, settings, stops):
    assert stopping.patience(scores, epochs=3, **settings) is stops
