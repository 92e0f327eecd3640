"""What the report says of the importance of settings."""

from dataclasses import replace
from pathlib import Path

import pytest

from emoray.report import importance
from emoray.report.run import Run, read
from tests.run_folder import build


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One study of 24 trials whose scores follow the learning rate, and a little chance."""
    return read(build(tmp_path_factory.mktemp("runs") / "one", studies=1, trials=24, epochs=20))


def test_the_setting_that_decides_comes_first(run: Run) -> None:
    (found,) = importance.importances(run)
    assert found.study == "simple_cnn"
    first, second = found.settings[:2]
    assert first.setting == "optimizer.learning_rate"
    assert first.share > 2 * second.share
    assert sum(one.share for one in found.settings) == pytest.approx(1)
    for one in found.settings:
        assert 0 <= one.low <= one.share <= one.high <= 1
    names = [one.setting for one in found.settings]
    assert "optimizer.weight_decay" in names, "a setting of some trials only"
    assert "optimizer.momentum" not in names, "it has one value wherever it exists"


def test_few_trials_tell_nothing(run: Run) -> None:
    (found,) = importance.importances(replace(run, trials=run.trials[:9]))
    assert found.settings == ()
    assert found.trials < importance.FEWEST


def test_equal_scores_break_nothing(run: Run) -> None:
    equal = replace(run, trials=tuple(replace(trial, score=0.5) for trial in run.trials))
    (found,) = importance.importances(equal)
    assert all(0 <= one.share <= 1 for one in found.settings)


def test_studies_without_different_settings_are_not_listed(tmp_path: Path) -> None:
    run = read(build(tmp_path / "run", studies=1, trials=12, epochs=2))
    same = replace(run, trials=tuple(replace(trial, settings=run.trials[0].settings) for trial in run.trials))
    assert importance.importances(same) == []
