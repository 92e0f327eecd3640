"""The arithmetic behind the report's charts and tables."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from sklearn.metrics import precision_recall_fscore_support

from emoray.report import charts, settings, tables
from emoray.report.run import Run, read
from tests.run_folder import EMOTIONS, build


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read(build(tmp_path_factory.mktemp("runs") / "all_models"))


def test_class_scores_are_those_of_scikit_learn() -> None:
    labels, predicted = [0, 0, 0, 1, 1, 2, 2, 2], [0, 0, 1, 1, 1, 0, 2, 2]
    counts = [[2, 1, 0], [0, 2, 0], [1, 0, 2]]
    found = tables.confusion({"confusion": counts}, ("a", "b", "c"))
    assert found is not None
    expected = precision_recall_fscore_support(labels, predicted)
    for row, precision, recall, f1, images in zip(found.scores, *expected, strict=True):
        assert (row.precision, row.recall, row.f1, row.images) == pytest.approx((precision, recall, f1, images))
    assert found.worst[0][:2] in {("a", "b"), ("c", "a")}
    assert found.rows[0][1].share == pytest.approx(1 / 3)


def test_class_that_is_never_predicted_has_no_precision() -> None:
    found = tables.confusion({"confusion": [[3, 0], [2, 0]]}, ("a", "b"))
    assert found is not None
    assert found.scores[1].precision is None
    assert found.scores[1].recall == 0


def test_savings_count_only_trials_that_were_stopped(run: Run) -> None:
    rows = tables.savings(run)
    stopped = [trial for trial in run.trials if trial.status == "stopped"]
    assert sum(row.saved for row in rows) == sum(30 - trial.epochs for trial in stopped) > 0
    assert sum(row.planned for row in rows) == 30 * sum(trial.status != "failed" for trial in run.trials)


def test_curve_goes_through_its_values() -> None:
    x, y = charts.Scale(1, 5), charts.Scale(0, 1)
    assert charts.path([(1, 0.0), (3, 0.5), (5, 1.0)], x, y) == "M0,1000L500,500L1000,0"
    assert charts.path([(1, 0.0), (3, None), (5, 1.0)], x, y) == "M0,1000M1000,0"
    assert charts.path([(3, 0.5)], x, y) == "M500,500h0"


def test_diverged_trial_does_not_flatten_the_others(run: Run) -> None:
    first = run.trials[0]
    history = dict(first.history) | {"log_loss": [*first.history["log_loss"][:-1], 1e9]}
    damaged = replace(run, trials=(replace(first, history=history), *run.trials[1:]))
    chart = next(chart for chart in charts.learning_curves(damaged) if chart.name == "log-loss")
    assert chart.y.high < 10
    assert "cut off" in chart.note


def test_best_score_so_far_only_rises(run: Run) -> None:
    stairs = [s.path for s in charts.progress(run)[0].series if s.role == "stairs"]
    heights = [float(y) for y in re.findall(r",([-\d.]+)", stairs[0])]
    assert heights == sorted(heights, reverse=True)


def test_settings_of_components_stand_under_their_place() -> None:
    flat = settings.flatten(
        {
            "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True},
            "augment": [{"name": "flip"}, {"name": "rotate", "degrees": 10}],
            "batch_size": 64,
            "early_stopping": None,
            "seed": 3,
        }
    )
    assert flat == {
        "optimizer": "sgd",
        "optimizer.momentum": 0.9,
        "optimizer.nesterov": "true",
        "augment": "flip + rotate",
        "augment.rotate.degrees": 10,
        "batch_size": 64,
        "early_stopping": "none",
    }


def test_setting_that_a_trial_does_not_use_lies_at_the_bottom(run: Run) -> None:
    study = next(p for p in settings.parallel(run) if p.study == "simple_cnn")
    place = [axis.name for axis in study.axes].index("optimizer.weight_decay")
    unused = {t.name for t in run.trials if "weight_decay" not in t.settings["optimizer"]}
    for line, _ in study.lines:
        height = 1 - float(re.findall(r",([\d.]+)", line.path)[place]) / 1000
        assert (height == 0) == (line.trial in unused)
    assert study.axes[place].ticks[0] == (0, "unused")


def test_best_line_is_the_strongest_and_the_last(run: Run) -> None:
    for study in settings.parallel(run):
        best = max((t for t in run.scored if t.study == study.study), key=lambda t: t.score or 0)
        line, tone = study.lines[-1]
        assert (line.trial, tone) == (best.name, 100)


def test_classes_with_a_name_each_split(run: Run) -> None:
    splits, rows = tables.class_counts(run.manifest)
    assert splits == ["train", "validation", "selection", "test"]
    assert [row.name for row in rows] == list(EMOTIONS)
    assert sum(row.share for row in rows) == pytest.approx(100)


def test_counts_have_no_ticks_between_them() -> None:
    assert [tick.text for tick in charts.Scale(1, 3, whole=True).ticks(7)] == ["1", "2", "3"]


def test_trial_that_also_stands_as_a_soup_has_both_weights(tmp_path: Path) -> None:
    folder = build(tmp_path / "run", trials=6, epochs=3)
    path = folder / "leaderboard.csv"
    head, first, *rest = path.read_text().splitlines()
    again = first.replace("1,", "9,", 1)
    path.write_text("\n".join([head, first, *rest, again]) + "\n")
    best = next(trial for trial in read(folder).trials if trial.rank == 1)
    assert best.weight == pytest.approx(2 * 0.41)
