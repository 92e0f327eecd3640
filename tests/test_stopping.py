"""Stopping rules stop when nothing has got better for long enough, and not before."""

import pytest

from emoray import registry, schedules, stopping
from emoray.trial.ending import comparable, stop_reason
from tests import ends

RULES = registry.members("stopping")


@pytest.mark.parametrize("name", RULES)
def test_no_rule_stops_a_trial_without_scores_or_one_that_improves(name):
    for settings in ends.one_by_one(RULES[name]):
        step = 0.01 + settings.get("min_delta", 0.0)
        for scores in ([], [0.1], [epoch * step for epoch in range(50)]):
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


def played(scores, schedule, epochs, patience=3):
    """The epoch after which a trial of these scores is stopped; None where it trains to its end."""
    settings = {"epochs": epochs, "schedule": schedule, "early_stopping": {"name": "patience", "epochs": patience}}
    rates = [registry.build("schedules", schedule, float(epoch), epochs, []) for epoch in range(epochs)]
    rows = [{"score": s, "learning_rate": r, "train_loss": 1.0} for s, r in zip(scores, rates, strict=True)]
    return next((n for n in range(1, epochs) if stop_reason(settings, rows[:n])), None)


def test_epochs_after_a_restart_are_not_counted_until_the_rate_is_down_again():
    restarts = {"name": "cosine", "restarts": 2}
    dips = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8] + [0.5] * 7 + [0.9] + [0.5] * 7 + [1.0]
    assert played(dips, restarts, 24) is None, "each cycle ends better than the one before"
    assert schedules.cosine(8.0, 24, restarts=2) == pytest.approx(1.0), "a cycle is of 8 epochs"
    stale = [0.1, 0.2, 0.3, 0.4, 0.5] + [0.4] * 19
    assert played(stale, restarts, 24) == 8, "epochs at a lower rate than the best one's count"
    assert played([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, *[0.4] * 18], restarts, 24) == 14, "in the next cycle too: 7, 8, 14"
    assert played(stale, {"name": "constant"}, 24) == 8
    assert played(stale, {"name": "cosine"}, 24) == 8


def test_scores_are_compared_at_rates_that_are_not_higher():
    rows = [(0.5, 1.0), (0.6, 0.5), (0.4, 1.0), (0.7, 1.0), (0.6, 1.0), (float("nan"), 0.1)]
    scores = comparable([{"score": score, "learning_rate": rate} for score, rate in rows])
    assert scores[:4] == [0.5, 0.6, 0.7, 0.6]
    assert len(scores) == 5
