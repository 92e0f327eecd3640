"""The arithmetic behind the report's charts and tables."""

import json
from dataclasses import replace
from pathlib import Path

import plotly.graph_objects as go
import pytest
from sklearn.metrics import precision_recall_fscore_support

from emoray.report import charts, figure, importance, members, parallel, settings, tables
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


def everything(run: Run) -> list[figure.Chart]:
    """All the charts of the page."""
    bins = run.ensemble["test"]["calibration"]["bins"]
    single = [charts.reliability(bins), members.chart(run), charts.gains(tables.methods(run), run.metric)]
    single += [importance.chart(study) for study in importance.importances(run)]
    return [
        *charts.learning_curves(run),
        *charts.progress(run),
        *parallel.charts(run),
        *(one for one in single if one is not None),
    ]


def named(drawn: figure.Chart) -> dict[str, dict]:
    """The traces of single trials, by trial."""
    return {trace["meta"]["trial"]: trace for trace in drawn.figure["data"] if "trial" in trace.get("meta", {})}


def test_plotly_knows_every_key_and_value(tmp_path: Path) -> None:
    run = read(build(tmp_path / "run", studies=2, trials=30, epochs=4))
    found = everything(run)
    assert len(found) == 6 + 2 + 2 + 3 + 2
    for one in found:
        drawn = go.Figure(one.figure)  # raises ValueError on a key or a value that Plotly does not know
        assert len(drawn.data) == len(one.figure["data"]) > 0
        assert json.loads(json.dumps(one.figure, allow_nan=False)) == one.figure
        assert one.summary


def test_curve_goes_through_its_values(run: Run) -> None:
    first = run.trials[0]
    history = dict(first.history) | {"accuracy": [0.1, None, 0.3]}
    changed = replace(run, trials=(replace(first, history=history), *run.trials[1:]))
    curve = named(next(c for c in charts.learning_curves(changed) if c.name == "accuracy"))[first.name]
    assert (curve["x"], curve["y"], curve["mode"]) == ([1, 2, 3], [0.1, None, 0.3], "lines")
    lone = replace(run, trials=(replace(first, history={"accuracy": [0.1]}),))
    assert named(charts.learning_curves(lone)[0])[first.name]["mode"] == "markers", "one epoch makes no line"


def test_more_curves_than_can_be_told_apart(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "MOST_CURVES", 5)
    drawn = charts.learning_curves(run)[0]
    assert "The 5 best of 24 trials are drawn." in drawn.note
    best = sorted(run.scored, key=lambda trial: trial.score or 0)[-5:]
    assert list(named(drawn)) == [trial.name for trial in best], "the best is drawn last, over the others"


def test_long_curves_are_thinned_and_keep_their_ends(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "MOST_POINTS", 100)
    drawn = charts.learning_curves(run)[0]
    assert "th epoch is drawn." in drawn.note
    for trial in run.trials:
        curve = named(drawn)[trial.name]
        assert (curve["x"][0], curve["x"][-1]) == (1, trial.epochs)
        assert len(set(curve["x"])) == len(curve["x"])


def test_diverged_trial_does_not_flatten_the_others(run: Run) -> None:
    first = run.trials[0]
    history = dict(first.history) | {"log_loss": [*first.history["log_loss"][:-1], 1e9]}
    damaged = replace(run, trials=(replace(first, history=history), *run.trials[1:]))
    chart = next(chart for chart in charts.learning_curves(damaged) if chart.name == "log-loss")
    assert chart.figure["layout"]["yaxis"]["range"][1] < 10
    assert "cut off" in chart.note
    assert 1e9 in named(chart)[first.name]["y"], "it is there for those who zoom out"


@pytest.mark.parametrize(("metric", "sign"), [("macro_f1", 1), ("log_loss", -1)])
def test_best_score_so_far_only_improves(run: Run, metric: str, sign: int) -> None:
    trials = tuple(replace(t, score=t.score and sign * t.score) for t in run.trials)
    drawn = charts.progress(replace(run, metric=metric, trials=trials))[0]
    heights = drawn.figure["data"][0]["y"]
    assert min(heights) > 0, "log-loss is shown as it is"
    assert heights == sorted(heights, reverse=metric == "log_loss")
    scores = [abs(trial.score) for trial in run.trials if trial.score]
    assert heights[-1] == pytest.approx(min(scores) if metric == "log_loss" else max(scores), rel=1e-4)


@pytest.mark.parametrize("count", [1, 2, 24])
def test_trials_are_counted_from_one(run: Run, count: int) -> None:
    by_trial, by_time = charts.progress(replace(run, trials=tuple(run.scored[:count])))
    low, high = by_trial.figure["layout"]["xaxis"]["range"]
    assert 0 < low < 1
    assert high > len(run.scored[:count])
    assert by_time.figure["layout"]["xaxis"]["range"][0] == 0


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


def heights(trace: dict, place: int) -> float:
    return trace["y"][trace["x"].index(place)]


def test_setting_that_a_trial_does_not_have_is_not_set(run: Run) -> None:
    study = next(p for p in parallel.charts(run) if p.name == "simple_cnn")
    place = study.figure["layout"]["xaxis"]["ticktext"].index("weight_decay")
    missing = {t.name for t in run.trials if "weight_decay" not in t.settings["optimizer"]}
    found = named(study)
    assert missing & set(found)
    assert set(found) - missing
    for name, trace in found.items():
        assert (heights(trace, place) == 0) == (name in missing)
        assert ("optimizer.weight_decay not set" in trace["meta"]["label"]) == (name in missing)
    ticks = next(trace for trace in study.figure["data"] if trace["mode"] == "text")
    spots = zip(ticks["x"], ticks["y"], ticks["text"], strict=True)
    assert [text.strip() for x, y, text in spots if (x, y) == (place, 0)] == ["not set"]


def test_score_axis_and_colours_go_with_the_score(run: Run) -> None:
    for study in parallel.charts(run):
        trials = {t.name: t for t in run.scored if t.study == study.name}
        bar = study.figure["data"][-1]["marker"]
        for name, trace in named(study).items():
            low, high = bar["cmin"], bar["cmax"]
            tone = min(1, max(0, (trials[name].score - low) / (high - low)))
            assert trace["meta"]["tone"] == pytest.approx(tone, abs=1e-3)
        best = max(trials.values(), key=lambda trial: trial.score or 0)
        assert list(named(study))[-1] == best.name, "the best lies on top"
        assert heights(named(study)[best.name], 0) == 1


def test_least_log_loss_has_the_colour_of_the_best(run: Run) -> None:
    trials = tuple(replace(t, score=t.score and -t.score) for t in run.trials)
    study = parallel.charts(replace(run, metric="log_loss", trials=trials))[0]
    best = list(named(study).values())[-1]
    assert best["meta"]["tone"] == 1
    assert heights(best, 0) == 0, "the axis itself is of log-loss as it is"
    assert study.figure["data"][-1]["marker"]["colorscale"][0] == [0, "var(--strong)"]


def test_one_score_far_below_keeps_its_place_and_colour(run: Run) -> None:
    study = [t for t in run.scored if t.study == "simple_cnn"]
    odd = tuple(replace(t, score=-50.0) if t is study[0] else t for t in run.trials)
    drawn = next(p for p in parallel.charts(replace(run, trials=odd)) if p.name == "simple_cnn")
    tones = [trace["meta"]["tone"] for trace in named(drawn).values()]
    assert tones[0] == 0
    assert len(set(tones)) > 3, "the others still differ"
    assert "that end's colour" in drawn.note


def test_names_are_no_markup_to_plotly(run: Run) -> None:
    evil = "<a href='https://example.org'>x</a> & <b>y</b>"
    trials = tuple(replace(trial, study=evil, model=evil) for trial in run.trials)
    changed = replace(run, trials=trials)
    for one in [*charts.learning_curves(changed), *charts.progress(changed), *parallel.charts(changed)]:
        kept = json.loads(json.dumps(one.figure))
        for trace in kept["data"]:
            trace.get("meta", {}).pop("trial", None)
        assert "<a" not in json.dumps(kept)
    assert "&lt;a href" in named(charts.learning_curves(changed)[0])[run.trials[0].name]["meta"]["label"]


def test_labels_of_members_keep_clear_of_each_other(run: Run) -> None:
    close = [{"name": f"member-{i}", "accuracy": 0.6 + i / 1000, "disagreement": 0.2 + i / 1000} for i in range(2)]
    close.append({"name": "far", "accuracy": 0.9, "disagreement": 0.4})
    drawn = members.chart(replace(run, ensemble={"comparison": {"listed": close}}))
    assert drawn is not None
    (trace,) = drawn.figure["data"]
    assert trace["text"] == ["member-0", "member-1", "far"]
    assert trace["textposition"][0] != trace["textposition"][1]


def test_few_curves_stand_out_of_a_crowd(run: Run, tmp_path: Path) -> None:
    few = named(charts.learning_curves(read(build(tmp_path / "run", trials=12, epochs=4)))[0])
    assert {trace["opacity"] for trace in few.values()} == {1, 0.65}
    drawn = charts.learning_curves(run)[0]
    curves = named(drawn)
    assert len(curves) > charts.CROWD
    scores = {trial.name: trial.score for trial in run.scored}
    best = sorted(scores, key=lambda name: -scores[name])
    firsts = {next(name for name in best if name.startswith(study)) for study in run.studies}
    strong = {name for name, trace in curves.items() if trace["opacity"] > 0.5}
    assert strong == {*best[: charts.LEADERS], *firsts}
    assert "stand out" in drawn.note


def test_gain_of_each_method_has_its_interval(run: Run) -> None:
    methods = tables.methods(run)
    drawn = charts.gains(methods, "accuracy")
    assert drawn is not None
    fitted, in_sample = drawn.figure["data"]
    assert drawn.figure["layout"]["yaxis"]["ticktext"] == [method.name for method in methods]
    for i, method in enumerate(methods):
        assert method.over_single is not None
        ends = (fitted["x"][i] - fitted["error_x"]["arrayminus"][i], fitted["x"][i] + fitted["error_x"]["array"][i])
        assert ends == pytest.approx(method.over_single[1:])
        assert in_sample["x"][i] == method.in_sample_gain


def test_classes_with_a_name_each_split(run: Run) -> None:
    splits, rows = tables.class_counts(run.manifest)
    assert splits == ["train", "validation", "selection", "test"]
    assert [row.name for row in rows] == list(EMOTIONS)
    assert sum(row.share for row in rows) == pytest.approx(100)


def test_counts_have_no_ticks_between_them(run: Run) -> None:
    short = tuple(replace(t, history={"accuracy": t.history["accuracy"][:3]}) for t in run.trials)
    drawn = charts.learning_curves(replace(run, trials=short))[0]
    assert drawn.figure["layout"]["xaxis"]["dtick"] == 1


def test_trial_that_also_stands_as_a_soup_has_both_weights(tmp_path: Path) -> None:
    folder = build(tmp_path / "run", trials=6, epochs=3)
    path = folder / "leaderboard.csv"
    head, first, *rest = path.read_text().splitlines()
    again = first.replace("1,", "9,", 1)
    path.write_text("\n".join([head, first, *rest, again]) + "\n")
    best = next(trial for trial in read(folder).trials if trial.rank == 1)
    assert best.weight == pytest.approx(2 * 0.41)
