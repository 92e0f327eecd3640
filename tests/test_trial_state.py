"""A trial as the driver knows it."""

import json

from emoray.trial_state import Change, Trial


def test_a_score_is_told_with_the_settings_that_earned_it() -> None:
    """Those of a population change on the way, and a resume may let it train longer."""
    model = {"model": {"name": "lenet"}}
    trial = Trial("a-001", "a", 1, {**model, "rate": 0.3, "epochs": 7}, {"rate": 0.3})
    for epoch, rate in ((2, 0.1), (4, 0.2)):
        trial.changes.append(Change(epoch, "explored", {**model, "rate": rate, "epochs": 3}, {"rate": rate}))
    assert trial.at_best == (trial.settings, trial.drawn), "nothing has been trained"
    for best, rate in ((1, 0.1), (2, 0.1), (3, 0.2), (4, 0.2), (5, 0.3)):
        more = {"seconds": 1.0, "images_per_second": 1.0}
        trial.history = [{"epoch": e, "score": 0.9 if e == best else 0.1, **more} for e in range(1, 6)]
        assert trial.at_best == ({**model, "rate": rate, "epochs": 7}, {"rate": rate})
        assert json.loads(trial.row()["settings"]) == trial.at_best[0]
