"""Failed trials: which are run again, what a searcher is told of them, what is kept of them within a limit."""

import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from emoray import metrics, overview, retention
from emoray.studies import Studies
from emoray.trial_state import CRASH, ERROR, FAILED, FINISHED, MEMORY, NOT_FINITE, Trial
from tests.test_resume import SWEEP, again, begun, epoch, fails, files, sweep_of, train

POPULATION = """
models: [{name: lenet, trials: 4}]
train: {epochs: 4, optimizer: {name: adam, learning_rate: {uniform: [0.001, 0.1]}}}
search: {scheduler: {name: pbt, interval_epochs: 2}, metric: accuracy}
"""


def given_out(studies: Studies) -> Trial:
    trial = studies.next()
    assert trial is not None
    return trial


def ended(studies: Studies, trial: Trial) -> None:
    while not epoch(studies, trial):
        pass


def test_a_retried_trial_is_taken_up_again_when_it_breaks_once_more(tmp_path: Path) -> None:
    studies = begun(tmp_path)
    for failure in (ERROR, CRASH):
        fails(studies, given_out(studies), failure)
    retried = again(tmp_path, studies.sweep, retry_failed=True)
    one, two = given_out(retried), given_out(retried)
    assert retried.next() is None
    assert not retried.complete, "both still train"
    assert fails(retried, one, MEMORY)
    retried.died(two.id, "ActorDiedError")
    assert [given_out(retried), given_out(retried)] == [one, two]
    ended(retried, one)
    assert not retried.complete
    ended(retried, two)
    assert retried.complete


def test_what_rests_beside_a_retry_is_not_shown_as_running(tmp_path: Path) -> None:
    studies = begun(tmp_path)
    fails(studies, given_out(studies), ERROR)
    resting = given_out(studies)
    epoch(studies, resting)
    retried = again(tmp_path, studies.sweep, retry_failed=True)
    one = given_out(retried)
    assert retried.next() is None
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(overview.overview(retried, 1.0, 80))
    shown = console.export_text()
    assert "1 running · 1 unfinished" in shown
    assert f"\n{one.id} " in shown
    assert f"\n{resting.id} " not in shown
    assert overview.at_work(retried) == [one]


def test_a_retried_trial_of_a_population_does_not_wait_for_those_that_rest(tmp_path: Path) -> None:
    studies = begun(tmp_path, POPULATION)
    one, two, three, _ = (given_out(studies) for _ in range(4))
    epoch(studies, one)
    fails(studies, one, ERROR)
    epoch(studies, two)
    for _ in range(2):
        epoch(studies, three)
    retried = again(tmp_path, studies.sweep, retry_failed=True)
    assert given_out(retried).id == one.id
    trial = retried.table.trials[one.id]
    assert epoch(retried, trial), "its round is over"
    assert not retried.complete
    assert retried.next() is trial
    ended(retried, trial)
    assert retried.complete
    assert trial.status == FINISHED
    assert [len(other.history) for other in retried.table] == [4, 1, 2, 0], "the others are left as they were"


def test_it_is_told_where_no_trial_has_failed(tmp_path: Path) -> None:
    studies = begun(tmp_path)
    epoch(studies, given_out(studies))
    retried = again(tmp_path, studies.sweep, retry_failed=True)
    assert retried.notices == ["no trial has failed, so there is none to run again"]
    assert retried.next() is None
    assert retried.complete
    assert begun(tmp_path).notices == []


def told(studies: Studies, trial: Trial) -> float | None:
    """What the searcher was told, as the folder has it."""
    value = json.loads((studies.table.folder.trial(trial.id) / "end.json").read_text())["told"]
    assert again(studies.table.folder.path.parent, studies.sweep).table.trials[trial.id].told == value
    return value


@pytest.mark.parametrize(
    ("metric", "worst"), [("accuracy", 0.0), ("macro_f1", 0.0), ("log_loss", math.log(metrics.FLOOR))]
)
@pytest.mark.parametrize("failure", [MEMORY, NOT_FINITE])
def test_the_first_trial_that_fails_is_as_bad_as_can_be(
    tmp_path: Path, metric: str, worst: float, failure: str
) -> None:
    studies = begun(tmp_path, SWEEP.replace("metric: accuracy", f"metric: {metric}"))
    trial = given_out(studies)
    fails(studies, trial, failure)
    if failure == MEMORY:
        fails(studies, given_out(studies), failure)
    assert trial.status == FAILED
    assert told(studies, trial) == pytest.approx(worst)


def test_what_lost_its_loss_or_its_memory_is_as_bad_as_the_worst(tmp_path: Path) -> None:
    studies = begun(tmp_path)
    trials = [given_out(studies) for _ in range(4)]
    for trial, score in zip(trials[:2], (0.4, 0.6), strict=True):
        ended_with = [score - 0.3, score, math.nan]
        for value in ended_with:
            epoch(studies, trial, value)
        assert told(studies, trial) == score, "its best epoch, whatever the others were"
    epoch(studies, trials[2], math.nan)
    fails(studies, trials[2], NOT_FINITE)
    assert told(studies, trials[2]) == 0.4
    epoch(studies, trials[3], 0.1)
    fails(studies, trials[3], NOT_FINITE)
    assert told(studies, trials[3]) == 0.1, "its own epochs count"
    assert told(studies, trials[2]) == 0.4, "what was told stands"


@pytest.mark.parametrize("failure", [ERROR, CRASH])
def test_a_failure_that_settings_are_not_to_blame_for_teaches_nothing(tmp_path: Path, failure: str) -> None:
    studies = begun(tmp_path)
    trial = given_out(studies)
    epoch(studies, trial, 0.5)
    fails(studies, trial, failure)
    assert told(studies, trial) is None


def test_the_limit_takes_all_of_failed_trials_and_is_told_once(tmp_path: Path) -> None:
    """Each file is 7 bytes: the best of two trials are 14, and must stay."""
    studies = begun(tmp_path, SWEEP.replace("metric: accuracy", "metric: accuracy, storage_limit: 13 B"))
    one, two, three, four = (given_out(studies) for _ in range(4))
    epoch(studies, one, 0.9)
    fails(studies, one, ERROR)
    for trial in (two, three, four):
        for _ in range(3):
            epoch(studies, trial, 0.5)
    assert files(studies) == {f"{two.id} best", f"{three.id} best"}
    assert retention.used(studies.table.folder.path) == 14
    assert len([notice for notice in studies.notices if "over storage_limit" in notice]) == 1
    retried = again(tmp_path, studies.sweep, retry_failed=True)
    assert given_out(retried).id == one.id
    assert retried.table.trials[one.id].history == [], "it begins anew"


def test_settings_that_were_added_to_those_that_go_first_are_tried(tmp_path: Path) -> None:
    first = "metric: accuracy, first: [{study: lenet, batch_size: 64}"
    studies = begun(tmp_path, SWEEP.replace("metric: accuracy", f"{first}]"))
    train(studies)
    known = "{study: lenet, batch_size: 32, optimizer: {name: adam, learning_rate: 0.025}}"
    text = SWEEP.replace("metric: accuracy", f"{first}, {known}]").replace("trials: 4", "trials: 6")
    more = again(tmp_path, sweep_of(tmp_path, text))
    trial = given_out(more)
    assert trial.index == 5
    assert (trial.settings["batch_size"], trial.settings["optimizer"]["learning_rate"]) == (32, 0.025)
    assert given_out(more).settings["optimizer"]["learning_rate"] != 0.025, "once"
