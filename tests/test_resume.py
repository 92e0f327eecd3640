"""What a resumed search goes on with, what happens to trials that fail, and which checkpoints are kept."""

import dataclasses
import errno
from pathlib import Path
from typing import Any

import pytest

from emoray import config, overview, retention, trials
from emoray.run_folder import RunFolder
from emoray.studies import RESTARTS, Studies
from emoray.trial import failures
from emoray.trial_state import CRASH, DATA, DISK, ERROR, FAILED, MEMORY, NOT_FINITE, PLACE, Trial
from emoray.trials import TrialTable, write_history

SWEEP = """
models: [{name: lenet, trials: 4}]
train: {epochs: 3, batch_size: {choice: [16, 32, 64]}, optimizer: {name: adam, learning_rate: {uniform: [0.001, 0.1]}}}
search: {metric: accuracy}
finalize: {keep: 2}
"""


def sweep_of(tmp_path: Path, text: str = SWEEP) -> config.Sweep:
    (tmp_path / "sweep.yaml").write_text(text)
    return config.load(tmp_path / "sweep.yaml")


def begun(tmp_path: Path, text: str = SWEEP) -> Studies:
    return Studies(sweep_of(tmp_path, text), TrialTable(RunFolder(tmp_path / "run")))


def again(tmp_path: Path, sweep: config.Sweep, **more: Any) -> Studies:
    return Studies(sweep, trials.restore(RunFolder(tmp_path / "run")), **more)


def epoch(studies: Studies, trial: Trial, score: float = 0.5) -> bool:
    """An epoch as a trial's process leaves it on disk and reports it."""
    number = len(trial.history) + 1
    row = {"epoch": number, "score": score, "seconds": 1.0, "images_per_second": 1.0}
    folder = studies.table.folder.trial(trial.id)
    (folder / "checkpoint").mkdir(parents=True, exist_ok=True)
    for name in ("best", "last"):
        (folder / "checkpoint" / f"{name}.npz").write_text("weights")
    trials.write_history(folder, [*trial.history, row])
    done = number == trial.settings["epochs"]
    ended = {"status": "finished", "reason": ""} if done else {}
    return studies.record({"trial": trial.id, "row": list(row.items()), **ended})


def train(studies: Studies, scores: dict[str, float] | None = None) -> None:
    while (trial := studies.next()) is not None:
        while not epoch(studies, trial, (scores or {}).get(trial.id, 0.5)):
            pass


def fails(studies: Studies, trial: Trial, failure: str, reason: str = "it broke") -> bool:
    told = {
        "done": True,
        "status": "failed",
        "reason": reason,
        "failure": failure,
        "error": "Traceback\n  one\n  two\nX",
    }
    return studies.record({"trial": trial.id, **told})


def files(studies: Studies) -> set[str]:
    found = studies.table.folder.path.glob("trials/*/checkpoint/*.npz")
    return {f"{file.parents[1].name} {file.stem}" for file in found}


def test_more_epochs_go_to_what_was_cut_off_by_the_limit(tmp_path: Path) -> None:
    first = begun(tmp_path)
    one, two = first.next(), first.next()
    assert one is not None
    assert two is not None
    for _ in range(3):
        epoch(first, one)
    epoch(first, two)
    first.record({"trial": two.id, "status": "stopped", "reason": "patience"})
    resumed = again(tmp_path, sweep_of(tmp_path, SWEEP.replace("epochs: 3", "epochs: 5")))
    going = resumed.next()
    assert going is not None
    assert (going.id, len(going.history), going.settings["epochs"]) == (one.id, 3, 5)
    assert going.changes[0].why == "epochs 3 -> 5"
    assert resumed.table.trials[two.id].ended, "what was stopped stays stopped"
    resumed.waiting.append(going)
    train(resumed)
    assert resumed.complete
    assert [len(t.history) for t in resumed.table] == [5, 1, 5, 5]
    assert one.signature == resumed.table.trials[one.id].signature, "the same trial, trained longer"


def test_fewer_epochs_change_nothing_that_was_trained(tmp_path: Path) -> None:
    train(begun(tmp_path))
    resumed = again(tmp_path, sweep_of(tmp_path, SWEEP.replace("epochs: 3", "epochs: 2")))
    assert resumed.complete


def test_fewer_epochs_end_those_that_were_running(tmp_path: Path) -> None:
    """At the new limit, or where they are beyond it; more epochs later let all of them go on."""
    first = begun(tmp_path, SWEEP.replace("epochs: 3", "epochs: 9"))
    for count in (1, 4, 9):
        trial = first.next()
        assert trial is not None
        for _ in range(count):
            epoch(first, trial)
    resumed = again(tmp_path, sweep_of(tmp_path, SWEEP.replace("epochs: 3", "epochs: 2")))
    assert overview.standing(resumed) == (
        "1 ended, 2 go on, 1 new: at most 3 epochs more; "
        "1 of those that go on has all epochs of the present limit, or more, and ends where it is"
    )
    short, beyond = resumed.next(), resumed.next()
    assert short is not None
    assert beyond is not None
    assert [trial.settings["epochs"] for trial in resumed.table] == [2, 4, 9]
    assert [[change.why for change in trial.changes] for trial in resumed.table] == [
        ["epochs 9 -> 2"],
        ["epochs 9 -> 4"],
        [],
    ]
    assert epoch(resumed, short), "its last one"
    row = beyond.history[-1]
    assert resumed.record({"trial": beyond.id, "row": list(row.items()), "status": "finished", "reason": ""})
    assert [(trial.status, len(trial.history)) for trial in resumed.table] == [
        ("finished", 2),
        ("finished", 4),
        ("finished", 9),
    ]
    longer = again(tmp_path, sweep_of(tmp_path, SWEEP.replace("epochs: 3", "epochs: 6")))
    assert [(trial.id, trial.settings["epochs"]) for trial in longer.waiting] == [(short.id, 6), (beyond.id, 6)]


def test_a_dead_worker_is_told_and_the_trial_goes_on(tmp_path: Path) -> None:
    """The step that tells of it is no epoch: nothing is judged, and no round is over."""
    studies = begun(tmp_path, SWEEP.replace("metric: accuracy", "metric: accuracy, scheduler: {name: pbt}"))
    trial = studies.next()
    assert trial is not None
    epoch(studies, trial)
    assert not studies.record({"trial": trial.id, "lost": "the process of its worker 1 died", "done": False})
    assert studies.notices == [f"{trial.id}: the process of its worker 1 died; it goes on from epoch 1"]
    assert not trial.ended
    assert len(trial.history) == 1


def test_a_wider_space_and_another_model_extend_a_run(tmp_path: Path) -> None:
    train(begun(tmp_path))
    text = SWEEP.replace("[16, 32, 64]", "[16, 32, 64, 128]").replace("trials: 4}", "trials: 6}, simple_cnn")
    resumed = again(tmp_path, sweep_of(tmp_path, text))
    train(resumed)
    assert len(resumed.table.of("lenet")) == 6
    assert len(resumed.table.of("simple_cnn")) == 8
    signatures = [trial.signature for trial in resumed.table]
    assert len(set(signatures)) == len(signatures)


def test_no_settings_are_run_twice_in_a_small_space(tmp_path: Path) -> None:
    text = "models: [{name: lenet, trials: 12}]\ntrain: {batch_size: {randint: [1, 12]}, epochs: 1}\n"
    for algorithm in ("random", "optuna", "grid"):
        folder = tmp_path / algorithm
        folder.mkdir()
        studies = begun(folder, f"{text}search: {{algorithm: {algorithm}}}")
        train(studies)
        assert sorted(t.settings["batch_size"] for t in studies.table) == list(range(1, 13)), algorithm


def test_a_grid_that_grew_is_searched_whole(tmp_path: Path) -> None:
    text = "models: [{name: lenet, trials: 99}]\ntrain: {batch_size: {choice: [8, 64]}, epochs: 1}\n"
    text += "search: {algorithm: grid}\n"
    train(begun(tmp_path, text))
    resumed = again(tmp_path, sweep_of(tmp_path, text.replace("[8, 64]", "[8, 16, 32, 64]")))
    train(resumed)
    assert sorted(t.settings["batch_size"] for t in resumed.table) == [8, 16, 32, 64]


def test_out_of_memory_goes_on_once_with_half_the_batch(tmp_path: Path) -> None:
    studies = begun(tmp_path)
    trial = studies.next()
    assert trial is not None
    first = trial.settings
    epoch(studies, trial)
    assert fails(studies, trial, MEMORY, "out of memory: ResourceExhaustedError"), "its process is free"
    assert fails(studies, trial, MEMORY), "the same result told twice changes nothing"
    assert studies.next() is trial
    assert trial.settings == {**first, "accumulate_steps": 2}, "the batch is what was drawn, taken in two parts"
    assert len(trial.history) == 1, "what was trained is kept"
    fails(studies, trial, MEMORY)
    assert (trial.status, trial.failure) == (FAILED, MEMORY)
    told = again(tmp_path, studies.sweep).table.trials[trial.id]
    assert told.changes[0].why == "out of memory: accumulate_steps 1 -> 2"
    assert told.first[0] == first, "the search knows what it had drawn"
    row = told.row()
    assert row["failure"] == MEMORY
    assert row["error"] == "one | two | X"
    assert row["changes"].startswith("after epoch 1: out of memory")


def test_a_dead_process_is_restarted_a_few_times(tmp_path: Path) -> None:
    studies = begun(tmp_path)
    trial = studies.next()
    assert trial is not None
    epoch(studies, trial)
    for _ in range(RESTARTS):
        studies.died(trial.id, "ActorDiedError")
        assert studies.next() is trial
    assert studies.notices[0] == f"{trial.id}: its process died; it goes on from epoch 1"
    studies.died(trial.id, "ActorDiedError")
    assert (trial.status, trial.failure) == (FAILED, CRASH)


def test_deaths_in_different_epochs_and_machines_that_are_taken_away_do_not_add_up(tmp_path: Path) -> None:
    studies = begun(tmp_path)
    trial = studies.next()
    assert trial is not None
    for _ in range(2):
        epoch(studies, trial)
        for _ in range(RESTARTS - 1):
            studies.died(trial.id, "ActorDiedError")
            assert studies.next() is trial
    for _ in range(2 * RESTARTS):
        studies.died(trial.id, "The actor died.\n\tthe actor's node was preempted: spot notice")
        assert studies.next() is trial
    assert studies.notices[-1] == f"{trial.id}: its machine was taken away; it goes on in epoch 3"


def test_a_trial_whose_workers_find_no_place_waits_for_those_that_hold_it(tmp_path: Path) -> None:
    studies = begun(tmp_path)
    one, two = studies.next(), studies.next()
    assert one is not None
    assert two is not None
    assert fails(studies, one, PLACE, "2 workers could not be placed")
    assert studies.notices == [f"{one.id}: 2 workers could not be placed; it waits for other trials"]
    assert studies.next() is one
    while not epoch(studies, two):
        pass
    assert fails(studies, one, PLACE)
    assert (one.status, one.failure) == (FAILED, PLACE), "nobody is left to wait for"


def test_a_process_that_the_system_killed_for_its_memory_gets_half_the_batch(tmp_path: Path) -> None:
    studies = begun(tmp_path)
    trial = studies.next()
    assert trial is not None
    studies.died(trial.id, "ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.")
    assert studies.next() is trial
    assert trial.settings["accumulate_steps"] == 2


def test_a_full_disk_ends_the_sweep_at_the_first(tmp_path: Path) -> None:
    studies = begun(tmp_path)
    one, two = studies.next(), studies.next()
    assert one is not None
    assert two is not None
    assert fails(studies, one, DISK, "last.npz: No space left on device")
    assert fails(studies, two, DISK, "other.npz: No space left on device")
    assert studies.broken == "last.npz: No space left on device; make room and go on with --resume"
    assert studies.next() is None
    assert not one.ended, "it goes on when there is room"
    assert {trial.id for trial in again(tmp_path, studies.sweep).waiting} == {one.id, two.id}


def test_only_what_failed_is_run_again(tmp_path: Path) -> None:
    studies = begun(tmp_path)
    one, two, three = (studies.next() for _ in range(3))
    assert one is not None
    assert two is not None
    assert three is not None
    epoch(studies, one)
    fails(studies, one, ERROR)
    epoch(studies, two)
    fails(studies, two, NOT_FINITE)
    epoch(studies, three)
    retried = again(tmp_path, studies.sweep, retry_failed=True)
    assert not retried.complete
    given = [retried.next(), retried.next(), retried.next()]
    assert [t.id if t else None for t in given] == [one.id, two.id, None]
    assert len(retried.table.trials[one.id].history) == 1
    assert retried.table.trials[two.id].history == [], "weights that are no numbers are of no use"
    for trial in given[:2]:
        assert trial is not None
        while not epoch(retried, trial):
            pass
    assert retried.complete
    assert len(retried.table.trials) == 3


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (MemoryError(), MEMORY),
        (type("ResourceExhaustedError", (Exception,), {})("OOM when allocating tensor"), MEMORY),
        (OSError(errno.ENOSPC, "No space left on device", "last.npz"), DISK),
        (OSError(errno.EIO, "Input/output error"), DISK),
        (FileNotFoundError(errno.ENOENT, "No such file", "images.arrow"), DATA),
        (ValueError("shapes differ"), ERROR),
    ],
)
def test_failures_are_told_apart(error: Exception, failure: str) -> None:
    assert failures.told(error)["failure"] == failure
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = error
    assert failures.told(wrapped)["failure"] == failure


def test_only_checkpoints_that_can_still_matter_are_kept(tmp_path: Path) -> None:
    studies = begun(tmp_path)
    scores = {"lenet-001": 0.3, "lenet-002": 0.9, "lenet-003": 0.1, "lenet-004": 0.6}
    train(studies, scores)
    best = {"lenet-002 best", "lenet-004 best"}
    assert files(studies) == best | {f"{name} last" for name in scores}, "a finished trial may get more epochs"


def test_the_best_of_each_study_is_kept_too(tmp_path: Path) -> None:
    two = SWEEP.replace("[{name: lenet, trials: 4}]", "[{name: lenet, trials: 4}, {name: simple_cnn, trials: 3}]")
    studies = begun(tmp_path, two)
    scores = {f"lenet-{n:03}": 0.5 + n / 100 for n in range(1, 5)}
    scores |= {"simple_cnn-001": 0.1, "simple_cnn-002": 0.3, "simple_cnn-003": 0.2}
    train(studies, scores)
    best = {name.removesuffix(" best") for name in files(studies) if name.endswith("best")}
    assert best == {"lenet-003", "lenet-004", "simple_cnn-002"}
    assert retention.dropped(studies.table, studies.sweep.finalize) == scores.keys() - best


def test_what_is_stopped_needs_no_state(tmp_path: Path) -> None:
    studies = begun(tmp_path)
    one, two = studies.next(), studies.next()
    assert one is not None
    assert two is not None
    epoch(studies, one)
    epoch(studies, two)
    studies.record({"trial": one.id, "status": "stopped", "reason": "patience"})
    fails(studies, two, NOT_FINITE)
    assert files(studies) == {f"{one.id} best"}


def test_checkpoints_stay_within_a_limit(tmp_path: Path) -> None:
    studies = begun(tmp_path, SWEEP.replace("metric: accuracy", "metric: accuracy, storage_limit: 30 B"))
    train(studies, {"lenet-001": 0.3, "lenet-002": 0.9, "lenet-003": 0.1, "lenet-004": 0.6})
    assert retention.used(studies.table.folder.path) <= 30
    assert {"lenet-002 best", "lenet-004 best"} <= files(studies), "what finalize needs is never deleted"
    assert "lenet-002 last" in files(studies), "the worst go first"
    longer = dataclasses.replace(studies.sweep, studies=(dataclasses.replace(studies.sweep.studies[0], epochs=9),))
    assert [trial.id for trial in again(tmp_path, longer).waiting] == ["lenet-002", "lenet-004"]


def test_an_epoch_that_was_saved_and_not_told_is_not_lost(tmp_path: Path) -> None:
    """The process dies between the two: the next one goes on from what was saved, and so must what is known of it."""
    studies = begun(tmp_path)
    trial = studies.next()
    assert trial is not None
    rows = [{"epoch": float(n), "score": n / 10, "seconds": 1.0, "images_per_second": 1.0} for n in (1, 2, 3)]
    write_history(studies.table.folder.trial(trial.id), rows)
    studies.record({"trial": trial.id, "row": rows[2]})
    assert [row["epoch"] for row in trial.history] == [1, 2, 3]
    studies.record({"trial": trial.id, "row": rows[2]})
    assert trial.history == rows
