"""Populations, shares of trials and known-good first settings: what they decide, without Ray."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emoray import config, pins, population, schedulers, shares, space, trials
from emoray.errors import UserError
from emoray.run_folder import RunFolder
from emoray.studies import Studies
from emoray.trials import TrialTable
from tests.test_search_decisions import picture

SPACE = {
    "optimizer": space.Choice(({"name": "sgd", "rate": space.Range(0.01, 1.0, log=True)}, {"name": "adam"})),
    "batch_size": space.Choice((16, 32, 64)),
    "depth": space.Range(1, 9, integer=True),
    "decay": space.Choice((0.0, 0.1)),
    "smooth": space.Normal(0.1, 0.02),
}
SWEEP = """
models: [{name: lenet, trials: 8}]
train:
  epochs: 12
  optimizer: {name: sgd, learning_rate: {loguniform: [0.001, 1.0]}}
search: {scheduler: {name: pbt, interval_epochs: 3}, metric: accuracy}
"""


def sweep_of(tmp_path: Path, text: str = SWEEP) -> config.Sweep:
    (tmp_path / "sweep.yaml").write_text(text)
    return config.load(tmp_path / "sweep.yaml")


def play(studies: Studies, slots: int, results: int | None = None) -> None:
    """Trains pretended epochs whose score grows with the learning rate, as trial processes would leave them on disk."""
    running: list[Any] = []
    while results is None or results > 0:
        while len(running) < slots and (trial := studies.next()) is not None:
            running.append(trial)
        if not running:
            return
        trial = running.pop(0)
        folder = studies.table.folder.trial(trial.id)
        last = folder / "checkpoint" / "last.npz"
        taken = trial.takes_over is not None
        base = float((last.with_name("taken.npz") if taken else last).read_text() if taken or last.exists() else 0.0)
        score = round(base + trial.settings["optimizer"]["learning_rate"], 9)
        row = {"epoch": len(trial.history) + 1, "score": score, "seconds": 1.0, "images_per_second": 1.0}
        last.parent.mkdir(parents=True, exist_ok=True)
        last.with_name("new").write_text(str(score))
        last.with_name("new").replace(last)
        trials.write_history(folder, [*trial.history, row])
        done = row["epoch"] == trial.settings["epochs"]
        told = {"trial": trial.id, "row": list(row.items())} | ({"status": "finished", "reason": ""} if done else {})
        if not studies.record(told):
            running.append(trial)
        results = None if results is None else results - 1


def changes(table: TrialTable) -> list[Any]:
    return [(t.id, [(c.epoch, c.donor) for c in t.changes]) for t in sorted(table, key=lambda t: t.id)]


def test_the_worst_take_over_the_best_and_all_train_to_the_end(tmp_path: Path) -> None:
    studies = Studies(sweep_of(tmp_path), TrialTable(RunFolder(tmp_path / "run")))
    play(studies, slots=3)
    taken = [f"{t.id} goes on with the weights of {c.donor}" for t in studies.table for c in t.changes if c.donor]
    assert taken
    assert sorted(studies.notices) == sorted(taken), "a log tells of each"
    assert studies.complete
    assert [len(trial.history) for trial in studies.table] == [12] * 8
    taken = [change for trial in studies.table for change in trial.changes]
    assert {change.epoch for change in taken} <= {3, 6, 9}
    assert len([change for change in taken if change.epoch == 3]) == 2, "a quarter of eight"
    receiver = next(trial for trial in studies.table if trial.changes and trial.changes[0].epoch == 3)
    donor = studies.table.trials[receiver.changes[0].donor or ""]
    assert receiver.curve[3] > donor.curve[2], "it goes on from the donor's weights"
    assert receiver.settings["optimizer"] != donor.settings["optimizer"], "with settings of its own"


def test_a_population_does_not_depend_on_how_many_train_at_once(tmp_path: Path) -> None:
    pictures = []
    for slots in (1, 3, 8):
        studies = Studies(sweep_of(tmp_path), TrialTable(RunFolder(tmp_path / f"run{slots}")))
        play(studies, slots)
        pictures.append((picture(studies.table), changes(studies.table)))
    assert pictures[0] == pictures[1] == pictures[2]


@pytest.mark.parametrize("results", [5, 23, 24, 25, 26, 47, 48, 70])
def test_a_killed_population_goes_on_as_if_unbroken(tmp_path: Path, results: int) -> None:
    sweep = sweep_of(tmp_path)
    unbroken = Studies(sweep, TrialTable(RunFolder(tmp_path / "unbroken")))
    play(unbroken, slots=2)
    folder = RunFolder(tmp_path / "broken")
    play(Studies(sweep, TrialTable(folder)), slots=2, results=results)
    resumed = Studies(sweep, trials.restore(folder))
    play(resumed, slots=2)
    assert picture(resumed.table) == picture(unbroken.table)
    assert changes(resumed.table) == changes(unbroken.table)


def test_a_population_judges_the_last_round_alone() -> None:
    curves = {"fallen": [0.9, 0.9, 0.1, 0.1], "a": [0.1, 0.1, 0.5, 0.5], "b": [0.1, 0.1, 0.6, 0.6], "c": [0.2] * 4}
    assert schedulers.pbt(curves, "fallen", interval_epochs=2) == ["b"]
    assert schedulers.pbt(curves, "a", interval_epochs=2) == []
    assert schedulers.pbt({name: curve[:3] for name, curve in curves.items()}, "fallen", interval_epochs=2) == []


def test_what_is_taken_over_keeps_its_kinds() -> None:
    drawn = {
        "optimizer": "sgd",
        "optimizer[sgd].rate": 0.1,
        "batch_size": "32",
        "depth": 5,
        "decay": "0.0",
        "smooth": 0.5,
    }
    seen = set()
    for seed in range(200):
        new = population.explored(SPACE, drawn, np.random.default_rng(seed), resample=0.25)
        settings = space.draw(SPACE, lambda name, _, new=new: new[name])
        assert settings["optimizer"]["name"] == "sgd"
        assert 0.01 <= settings["optimizer"]["rate"] <= 1.0
        assert settings["batch_size"] in (16, 32, 64)
        assert 1 <= settings["depth"] <= 9
        seen.add(settings["batch_size"])
    assert seen == {16, 32, 64}
    fixed = population.explored(SPACE, drawn, np.random.default_rng(1), resample=0.0)
    assert fixed["optimizer[sgd].rate"] in (0.08, 0.12)
    assert fixed["depth"] in (4, 6)


def test_a_population_needs_equal_models(tmp_path: Path) -> None:
    text = SWEEP.replace("name: lenet", "name: simple_cnn, dropout: {uniform: [0.1, 0.5]}")
    with pytest.raises(UserError, match=r"pbt cannot take the space of simple_cnn: model.dropout is drawn"):
        sweep_of(tmp_path, text)


def test_hyperband_gives_every_bracket_its_part() -> None:
    places = schedulers.bracket(17, 3, 3)
    assert [places.count(s) for s in range(3)] == [10, 4, 3], "in proportion to 3, 1.5 and 1"
    curves = {str(i): [i / 20] * 9 for i in range(17)}
    early = {name: curve[:3] for name, curve in curves.items()}
    stopped = [name for name in early if schedulers.hyperband(early, name)]
    assert stopped
    assert all(places[int(name)] == 0 for name in stopped), "only the first bracket judges at epoch 3"
    later = [name for name in curves if schedulers.hyperband(curves, name)]
    assert {places[int(name)] for name in later} == {0, 1}


def test_better_architectures_earn_more_trials() -> None:
    wanted = {"a": 6, "b": 6, "c": 6, "d": 6}
    assert shares.best(wanted, {study: [] for study in wanted}) == dict.fromkeys(wanted, 2)
    first = {"a": [0.1, 0.2], "b": [0.9, 0.1], "c": [0.3, 0.3], "d": [0.5, -math.inf]}
    second = shares.best(wanted, first)
    assert second == {"a": 2, "b": 6, "c": 2, "d": 6}
    waiting = shares.best(wanted, first | {"b": [0.9, 0.1, 0.1, None], "d": [0.5, 0.1, 0.1, 0.1]})
    assert waiting == second, "a round begins when the one before has ended"
    last = shares.best(wanted, first | {"b": [0.9, 0.1, 0.1, 0.1, 0.1, 0.1], "d": [0.5, 0.1, 0.1, 0.1, 0.1, 0.1]})
    assert sum(last.values()) == 24
    assert max(last, key=lambda study: last[study]) == "b"


def test_shared_trials_are_all_given_out(tmp_path: Path) -> None:
    text = (
        "models: [lenet, {name: lenet, study: other, optimizer: {name: sgd, learning_rate: {uniform: [0.6, 0.9]}}}]\n"
        "train: {epochs: 2, optimizer: {name: sgd, learning_rate: {uniform: [0.1, 0.5]}}}\n"
        "search: {trials: 6, share: best, metric: accuracy}\n"
    )
    studies = Studies(sweep_of(tmp_path, text), TrialTable(RunFolder(tmp_path / "run")))
    play(studies, slots=2)
    assert studies.complete
    given = {name: len(studies.table.of(name)) for name in ("lenet", "other")}
    assert given == {"lenet": 3, "other": 9}


@pytest.mark.parametrize(
    ("written", "drawn"),
    [
        ({"batch_size": 32}, {"batch_size": "32"}),
        ({"optimizer": "adam"}, {"optimizer": "adam"}),
        ({"optimizer": {"name": "sgd", "rate": 0.5}}, {"optimizer": "sgd", "optimizer[sgd].rate": 0.5}),
        ({"depth": 3, "smooth": 0.1}, {"depth": 3, "smooth": pytest.approx(0.5)}),
    ],
)
def test_known_good_settings_are_found_in_a_space(written: dict, drawn: dict) -> None:
    assert dict(pins.pinned(SPACE, written)) == drawn


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ({"batch_size": 48}, "batch_size: 48 is not among the choices; allowed: 16, 32, 64"),
        ({"optimizer": {"name": "sgd", "rate": 2}}, r"optimizer\[sgd\].rate: 2 is not in the range from 0.01 to 1"),
        ({"depth": 2.5}, "depth: 2.5 is not in steps of 1 from 1"),
        ({"dept": 2}, "did you mean 'depth'"),
    ],
)
def test_what_a_space_cannot_give_is_refused(written: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        dict(pins.pinned(SPACE, written))


@pytest.mark.parametrize("algorithm", ["random", "grid", "optuna"])
def test_known_good_settings_go_first(tmp_path: Path, algorithm: str) -> None:
    text = (
        "models: [lenet, {name: simple_cnn, width: {choice: [16, 32]}}]\n"
        "train: {epochs: 2, batch_size: {choice: [16, 32, 64]}}\n"
        f"search: {{algorithm: {algorithm}, trials: 3, metric: accuracy,\n"
        "  first: [{study: lenet, batch_size: 64}, {study: simple_cnn, width: 32, batch_size: 16}]}\n"
    )
    sweep = sweep_of(tmp_path, text)
    again = tmp_path / "again.yaml"
    again.write_text(config.dump(sweep))
    assert config.load(again).studies == sweep.studies
    studies = Studies(sweep, TrialTable(RunFolder(tmp_path / "run")))
    given: dict[str, list[Any]] = {"lenet": [], "simple_cnn": []}
    while (trial := studies.next()) is not None:
        given[trial.study].append((trial.settings["batch_size"], trial.settings["model"].get("width")))
    assert given["lenet"][0] == (64, None)
    assert given["simple_cnn"][0] == (16, 32)
    assert all(len(set(settings)) == 3 for settings in given.values()), "nothing is given out twice"
    with pytest.raises(UserError, match=r"search.first\[0\]: name the study"):
        sweep_of(tmp_path, text.replace("study: lenet, ", ""))
    with pytest.raises(UserError, match=r"search.first: 2 settings are for lenet, which has 1 trial:"):
        sweep_of(tmp_path, text.replace("simple_cnn, width: 32", "lenet").replace("trials: 3", "trials: 1"))
