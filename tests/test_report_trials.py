"""The report's table of trials and its charts of settings: what stands first, what is marked, what was searched."""

import csv
import json
import re
from pathlib import Path

import pytest
import yaml

from emoray import report
from emoray.report import parallel, settings, tables
from emoray.report.importance import importances
from emoray.report.run import Run, read
from tests.run_folder import build


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build(tmp_path / "run", studies=2, trials=24, epochs=4)


def rows_of_trials(folder: Path) -> dict[str, str]:
    """The rows of the table as they are written, in its order, by trial."""
    section = report.write(folder).read_text().partition('id="trials"')[2].partition("</section>")[0]
    bodies = re.findall(r"<tbody>(.*?)</tbody>", section, re.DOTALL)
    return {re.findall(r'<th scope="row"[^>]*>(.*?)<', body)[0].strip(): body for body in bodies}


def test_trials_stand_by_score_whatever_their_rank(folder: Path) -> None:
    """The leaderboard ranks candidates only; the table is of all trials."""
    path = folder / "leaderboard.csv"
    rows = list(csv.DictReader(path.open(newline="")))
    for row, rank in zip(rows, reversed(range(1, len(rows) + 1)), strict=True):
        row["rank"] = str(rank)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    run = read(folder)
    scores = [trial.score for trial in tables.ranked(run)]
    told = [score for score in scores if score is not None]
    assert told == sorted(told, reverse=True)
    assert scores[len(told) :] == [None] * (len(scores) - len(told)), "those without a score stand at the end"
    assert list(rows_of_trials(folder)) == [trial.name for trial in tables.ranked(run)]


def test_what_was_left_out_is_marked_in_its_row(folder: Path) -> None:
    path = folder / "ensemble.json"
    ensemble = json.loads(path.read_text())
    first, second, *_ = (trial.name for trial in tables.ranked(read(folder)))
    file = folder / "trials" / first / "checkpoint" / "best.npz"
    ensemble["left_out"] = [
        {"name": first, "reason": f"{file} is damaged or cut off"},
        {"name": f"{second}-soup", "reason": "epoch-0002.npz is missing"},
    ]
    path.write_text(json.dumps(ensemble))
    rows = rows_of_trials(folder)
    marked = {name for name, row in rows.items() if "left out" in row}
    assert marked == {first, second}
    assert f"trials/{first}/checkpoint/best.npz is damaged or cut off" in rows[first]
    assert str(folder) not in rows[first], "the place within the run says enough"
    assert f"{second}-soup: epoch-0002.npz is missing" in rows[second]


def searched(run: Run, study: str) -> list[str]:
    return settings.searched(run, [trial for trial in run.scored if trial.study == study])


def space(**over: object) -> str:
    """A sweep.yaml of the kind of the runs of `build`, with every setting written out as a run has it."""
    sgd = {"name": "sgd", "learning_rate": {"loguniform": [1e-4, 0.1]}, "momentum": 0.9, "nesterov": True}
    adamw = {"name": "adamw", "learning_rate": {"loguniform": [1e-4, 0.1]}, "weight_decay": {"uniform": [0.0, 0.1]}}
    model = {"study": "simple_cnn", "name": "simple_cnn", "width": {"choice": [32, 48, 64]}, "dropout": 0.2}
    model |= {"batch_size": 64, "optimizer": {"choice": [sgd, adamw]}, "augment": [{"name": "flip"}]}
    return yaml.safe_dump({"name": "run", "models": [model | over]})


def test_axes_are_of_what_was_searched(folder: Path) -> None:
    every = searched(read(folder), "simple_cnn")
    assert {"model.dropout", "batch_size", "loss.label_smoothing"} <= set(every), "an older run's file may not tell"
    (folder / "sweep.yaml").write_text(space())
    run = read(folder)
    expected = {"model.width", "optimizer", "optimizer.learning_rate", "optimizer.weight_decay"}
    assert set(searched(run, "simple_cnn")) == expected & set(every)
    drawn = next(one for one in parallel.charts(run) if one.name == "simple_cnn")
    assert len(drawn.figure["layout"]["xaxis"]["ticktext"]) == 1 + len(searched(run, "simple_cnn"))
    found = next(one for one in importances(run) if one.study == "simple_cnn")
    assert {one.setting for one in found.settings} <= expected


def test_what_one_optimizer_has_alike_in_all_its_trials_is_no_axis(tmp_path: Path) -> None:
    run = read(build(tmp_path / "run", studies=1, trials=20, epochs=3))
    assert {t.settings["optimizer"].get("momentum") for t in run.trials} == {None, 0.9}
    assert "optimizer" in settings.varying(run.trials)
    assert "optimizer.momentum" not in settings.varying(run.trials)
    assert not any(name == "momentum" for chips in settings.compact(run).values() for name, _ in chips)


def test_options_of_one_name_are_told_apart_by_what_differs(folder: Path) -> None:
    """Two schedules called cosine: the choice is between their settings."""
    (folder / "sweep.yaml").write_text(
        space(schedule={"choice": [{"name": "cosine", "warmup_epochs": 3}, {"name": "cosine", "warmup_epochs": 0}]})
    )
    for number, path in enumerate(sorted(folder.glob("trials/simple_cnn-*/settings.json"))):
        told = json.loads(path.read_text())
        told["settings"]["schedule"] = {"name": "cosine", "warmup_epochs": 3 * (number % 2)}
        path.write_text(json.dumps(told))
    with (folder / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "trials.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(row | {"settings": ""} for row in rows)
    found = searched(read(folder), "simple_cnn")
    assert "schedule.warmup_epochs" in found
    assert "schedule" not in found


def test_few_whole_numbers_are_ticks_of_their_own() -> None:
    _, ticks = parallel._column([32, 64, 64])
    assert [tick.text for tick in ticks] == ["32", "64"]
    _, ticks = parallel._column([0.11, 0.2, 0.35])
    assert "0.11" not in [tick.text for tick in ticks]
