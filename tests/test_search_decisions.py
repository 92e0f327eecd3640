"""What comes next and what is stopped: schedulers and studies, without Ray."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from emoray import config, overview, schedulers, space, trial_state, trials
from emoray.run_folder import RunFolder
from emoray.studies import Studies
from emoray.trials import TrialTable

SWEEP = """
models:
  - {name: lenet, trials: 3}
  - {name: simple_cnn, trials: SIX, dropout: {uniform: [0.1, 0.5]}}
train: {epochs: 9, batch_size: {choice: [16, 32, 64]}}
search: {algorithm: ALGORITHM, scheduler: {name: asha, grace_epochs: 1}, metric: accuracy}
"""


Lost = tuple[int, float]


def test_asha_keeps_the_best_third_at_each_rung() -> None:
    curves = {str(i): [i / 10] for i in range(9)}
    stopped = [name for name in curves if schedulers.asha(curves, name, grace_epochs=1, reduction_factor=3)]
    assert stopped == [str(i) for i in range(6)]
    assert not schedulers.asha({"a": [0.1, 0.2], "b": [0.9, 0.9]}, "a", grace_epochs=1), "2 is no rung"


def test_asha_judges_a_trial_by_its_best_epoch() -> None:
    curves = {"spiky": [0.9, 0.1, 0.1], "steady": [0.5, 0.5, 0.5], "low": [0.2, 0.2, 0.2]}
    assert not schedulers.asha(curves, "spiky", grace_epochs=3)
    assert schedulers.asha(curves, "steady", grace_epochs=3)


def test_the_median_rule_waits_for_enough_trials() -> None:
    curves = {name: [score] * 3 for name, score in [("a", 0.1), ("b", 0.5), ("c", 0.6), ("d", 0.7)]}
    assert not schedulers.median(curves, "a", min_trials=4)
    assert schedulers.median(curves, "a", min_trials=3)
    assert not schedulers.median(curves, "d", min_trials=3)


def sweep_of(tmp_path: Path, algorithm: str, six: int = 6, text: str = SWEEP) -> config.Sweep:
    file = tmp_path / "sweep.yaml"
    file.write_text(text.replace("ALGORITHM", algorithm).replace("SIX", str(six)))
    return config.load(file)


def score_of(settings: dict[str, Any], epoch: int) -> float:
    return round(settings["model"].get("dropout", 0.3) + settings["batch_size"] / 100 + epoch / 1000, 6)


def play(studies: Studies, slots: int, results: int | None = None, lost: Mapping[str, Lost] = {}) -> None:
    """Trains pretended epochs round about, until all is done or so many results have come in.

    The trials in `lost` lose their loss, in that epoch and with that score.
    """
    running: list[Any] = []
    while results is None or results > 0:
        while len(running) < slots and (trial := studies.next()) is not None:
            running.append(trial)
        if not running:
            return
        trial = running.pop(0)
        epoch = len(trial.history) + 1
        lost_in, lost_with = lost.get(trial.id, (None, math.nan))
        failed = epoch == lost_in
        score = lost_with if failed else score_of(trial.settings, epoch)
        row = {"epoch": epoch, "score": score, "seconds": 1.0, "images_per_second": 10.0}
        trials.write_history(studies.table.folder.trial(trial.id), [*trial.history, row])
        done = epoch == trial.settings["epochs"]
        told = {"trial": trial.id, "row": list(row.items())} | ({"status": "finished", "reason": ""} if done else {})
        if failed:
            told |= {"status": "failed", "reason": "the loss was lost", "failure": trial_state.NOT_FINITE}
        if not studies.record(told):
            running.append(trial)
        if results is not None:
            results -= 1


def picture(table: TrialTable) -> list[Any]:
    """What is known of the trials; figures as text, in which what is no number equals itself."""
    shown = {t.id: str([{key: float(value) for key, value in row.items()} for row in t.history]) for t in table}
    return [(t.id, t.status, t.reason, t.told, t.settings, shown[t.id]) for t in sorted(table, key=lambda t: t.id)]


def test_studies_are_interleaved_and_unique(tmp_path: Path) -> None:
    studies = Studies(sweep_of(tmp_path, "random"), TrialTable(RunFolder(tmp_path / "run")))
    play(studies, slots=2)
    order = [trial.study for trial in studies.table]
    assert order[:3] == ["lenet", "simple_cnn", "simple_cnn"], "each study by its share of trials"
    assert (order.count("lenet"), order.count("simple_cnn")) == (3, 6)
    assert len({trial.signature for trial in studies.table}) == 9
    assert studies.complete


def test_the_same_trials_whether_one_or_several_run_at_once(tmp_path: Path) -> None:
    given = []
    for slots in (1, 4):
        studies = Studies(sweep_of(tmp_path, "random"), TrialTable(RunFolder(tmp_path / f"run{slots}")))
        play(studies, slots)
        given.append([(t.id, t.settings) for t in sorted(studies.table, key=lambda t: t.id)])
    assert given[0] == given[1]


def test_a_grid_is_searched_whole(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "random")
    search = dataclasses.replace(sweep.search, algorithm={"name": "grid"})
    studies = Studies(
        dataclasses.replace(sweep, studies=sweep.studies[:1], search=search), TrialTable(RunFolder(tmp_path / "run"))
    )
    play(studies, slots=2)
    assert sorted(trial.settings["batch_size"] for trial in studies.table) == [16, 32, 64]


def test_a_space_that_is_used_up_ends_its_study(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "random")
    whole = dataclasses.replace(sweep, studies=(dataclasses.replace(sweep.studies[0], trials=50),))
    studies = Studies(whole, TrialTable(RunFolder(tmp_path / "run")))
    play(studies, slots=1)
    assert len(studies.table.trials) == 3, "lenet's space holds three batch sizes"
    assert studies.complete
    assert studies.total == 3
    assert studies.notices == ["lenet: all 3 settings of its space have been given out"]
    one = dataclasses.replace(whole.studies[0], space=space.draw(whole.studies[0].space, lambda *_: "16"))
    alone = Studies(dataclasses.replace(whole, studies=(one,)), TrialTable(RunFolder(tmp_path / "alone")))
    play(alone, slots=1)
    assert alone.notices == ["lenet: the only setting of its space has been given out"]


def test_a_searcher_that_has_settled_does_not_end_its_study(tmp_path: Path) -> None:
    """The best option has one setting only: TPE draws it again and again, and there is no end to the other's."""
    text = (
        "models: [{name: lenet, trials: 24}]\nsearch: {algorithm: optuna, metric: accuracy}\n"
        "train: {epochs: 1, loss: {choice: [cross_entropy, {name: focal, gamma: {uniform: [1.0, 3.0]}}]}}\n"
    )
    studies = Studies(sweep_of(tmp_path, "", text=text), TrialTable(RunFolder(tmp_path / "run")))
    while (trial := studies.next()) is not None:
        score = 0.9 if trial.settings["loss"]["name"] == "cross_entropy" else 0.1
        row = {"epoch": 1.0, "score": score, "seconds": 1.0, "images_per_second": 1.0}
        studies.record({"trial": trial.id, "row": row, "status": "finished", "reason": ""})
    assert len({trial.signature for trial in studies.table}) == 24
    assert studies.notices == []


def test_all_is_said_of_a_whole_space_alone(tmp_path: Path) -> None:
    """A range so narrow that it holds a few numbers only, though it is continuous."""
    text = (
        "models: [{name: simple_cnn, trials: 9, dropout: {uniform: [0.1, 0.100000000002]}}]\n"
        "train: {epochs: 1}\nsearch: {algorithm: random, metric: accuracy}\n"
    )
    studies = Studies(sweep_of(tmp_path, "", text=text), TrialTable(RunFolder(tmp_path / "run")))
    play(studies, slots=1)
    given = len(studies.table.trials)
    assert 1 < given < 9
    told = f"simple_cnn: nothing that was not tried is drawn from its space any more, so it ends with {given} trials"
    assert studies.notices == [told]


def test_the_better_studies_trials_are_counted_once(tmp_path: Path) -> None:
    """Of 12 trials the better of two equal studies gets more than its 6, and the other fewer."""
    text = (
        "models: [{name: lenet, trials: 6}, {name: simple_cnn, trials: 6, dropout: {uniform: [0.8, 0.9]}}]\n"
        "train: {epochs: 1, optimizer: {name: adam, learning_rate: {loguniform: [1e-4, 1e-2]}}}\n"
        "search: {metric: accuracy, share: best}\n"
    )
    sweep, table = sweep_of(tmp_path, "", text=text), TrialTable(RunFolder(tmp_path / "run"))
    studies = Studies(sweep, table)
    totals = {studies.total}
    for _ in range(12):
        play(studies, slots=1, results=1)
        totals.add(studies.total)
    assert studies.complete
    assert (len(table.of("lenet")), len(table.of("simple_cnn"))) == (3, 9)
    assert totals == {12}
    assert (
        overview.standing(Studies(sweep, trials.restore(table.folder)))
        == "12 ended, 0 go on, 0 new: at most 0 epochs more"
    )


def test_shared_trials_that_a_space_cannot_take_are_not_counted(tmp_path: Path) -> None:
    text = (
        "models: [{name: lenet, trials: 6}, {name: simple_cnn, trials: 6, dropout: {choice: [0.8, 0.9]}}]\n"
        "train: {epochs: 1}\nsearch: {metric: accuracy, share: best}\n"
    )
    table = TrialTable(RunFolder(tmp_path / "run"))
    studies = Studies(sweep_of(tmp_path, "", text=text), table)
    assert overview.standing(studies) == "0 ended, 0 go on, 3 new: at most 3 epochs more"
    play(studies, slots=1)
    assert studies.complete
    assert studies.total == len(table.trials) == 3


def test_the_count_of_trials_stands_from_the_start(tmp_path: Path) -> None:
    """Of 9 trials each, the spaces hold 4 and 2; a space that grew holds those of the earlier one besides."""
    text = (
        "models:\n  - {name: lenet, batch_size: {choice: [8, 16, 32, 64]}}\n"
        "  - {name: simple_cnn, width: {choice: [16, 32]}}\n"
        "train: {epochs: 1}\nsearch: {algorithm: grid, trials: 9, metric: accuracy}\n"
    )
    table = TrialTable(RunFolder(tmp_path / "run"))
    studies = Studies(sweep_of(tmp_path, "", text=text), table)
    totals = {studies.total}
    while not studies.complete:
        play(studies, slots=1, results=1)
        totals.add(studies.total)
    assert totals == {6}
    assert len(table.trials) == 6
    restored = trials.restore(table.folder)
    assert Studies(studies.sweep, restored, retry_failed=True).total == 6
    others = sweep_of(tmp_path, "", text=text.replace("[8, 16, 32, 64]", "[64, 128, 256]"))
    grown = Studies(others, trials.restore(table.folder))
    assert overview.standing(grown) == "6 ended, 0 go on, 2 new: at most 2 epochs more"
    play(grown, slots=1)
    assert grown.complete
    assert grown.total == len(grown.table.trials) == 8


RESUMED = [
    ("random", 6),
    ("{name: optuna, startup_trials: 2}", 6),
    ("{name: optuna, startup_trials: 2, multivariate: false}", 6),
    ("{name: optuna, startup_trials: 2, sampler: gp}", 6),
    ("{name: optuna, sampler: cmaes}", 14),
]


@pytest.mark.parametrize(("algorithm", "trials_wanted"), RESUMED)
@pytest.mark.parametrize("results", [1, 5, 11, 20, 31])
def test_a_killed_search_goes_on_as_if_unbroken(
    tmp_path: Path, algorithm: str, trials_wanted: int, results: int
) -> None:
    """Also where trials lost their loss: what a searcher was told of them depends on what was known at that time."""
    text = SWEEP
    if "cmaes" in algorithm:
        numbers = "{qrandint: [16, 64, 4]}, optimizer: {name: adam, learning_rate: {loguniform: [0.001, 0.1]}}"
        text = SWEEP.replace("{choice: [16, 32, 64]}", numbers)
    if "gp" in algorithm:
        pytest.importorskip("torch")
    sweep = sweep_of(tmp_path, algorithm, trials_wanted, text)
    lost = {"lenet-001": (1, math.nan), "simple_cnn-001": (2, 1.5), "simple_cnn-003": (1, math.nan)}
    unbroken = Studies(sweep, TrialTable(RunFolder(tmp_path / "unbroken")))
    play(unbroken, slots=1, lost=lost)
    assert {id: unbroken.table.trials[id].status for id in lost} == dict.fromkeys(lost, trial_state.FAILED)
    folder = RunFolder(tmp_path / "broken")
    play(Studies(sweep, TrialTable(folder)), slots=1, results=results, lost=lost)
    resumed = Studies(sweep, trials.restore(folder))
    play(resumed, slots=1, lost=lost)
    assert picture(resumed.table) == picture(unbroken.table)
    assert picture(trials.restore(folder)) == picture(unbroken.table), "the folder tells the same"


def test_a_longer_list_of_trials_extends_a_search(tmp_path: Path) -> None:
    sweep, folder = sweep_of(tmp_path, "random"), RunFolder(tmp_path / "run")
    play(Studies(sweep, TrialTable(folder)), slots=1)
    before = picture(trials.restore(folder))
    more = dataclasses.replace(sweep, studies=(*sweep.studies[:1], dataclasses.replace(sweep.studies[1], trials=8)))
    studies = Studies(more, trials.restore(folder))
    assert not studies.complete
    play(studies, slots=1)
    assert len(studies.table.of("simple_cnn")) == 8
    assert [row for row in picture(studies.table) if row in before] == before


def test_nothing_is_stopped_before_the_rate_has_peaked(tmp_path: Path) -> None:
    assert trial_state.quiet_epochs({"name": "cosine", "warmup_epochs": 3}, 10) == 3
    assert trial_state.quiet_epochs({"name": "constant"}, 10) == 0
    file = tmp_path / "sweep.yaml"
    file.write_text(
        SWEEP.replace("ALGORITHM", "random")
        .replace("SIX", "6")
        .replace("epochs: 9,", "epochs: 9, schedule: {name: cosine, warmup_epochs: 4},")
    )
    studies = Studies(config.load(file), TrialTable(RunFolder(tmp_path / "run")))
    play(studies, slots=3)
    assert min(len(trial.history) for trial in studies.table) > 4
