"""The charts of the page, but for those of settings, which stand in settings.py and importance.py."""

import math
from collections.abc import Collection, Sequence
from typing import Any

from emoray.report.figure import (
    EPOCHS,
    SCORES,
    Chart,
    axis,
    clipped,
    colour,
    dash,
    label,
    layout,
    margined,
    plain,
    robust,
    rounded,
    symbol,
    whole,
)
from emoray.report.run import Run, Trial
from emoray.report.scores import LOWER, direction, natural, number, score_title, title
from emoray.report.tables import Method

MOST_POINTS = 60_000
"""Points in all the curves of one chart; beyond it every k-th epoch is drawn."""
MOST_CURVES = 300
"""Curves in one chart, those of the best trials; beyond it nobody can tell them apart, and the page becomes slow."""

CROWD = 20
"""Curves that can still be told apart; beyond it only those of the `LEADERS` stand out."""
LEADERS = 10

CURVES = ("accuracy", "macro_f1", "balanced_accuracy", "log_loss", "train_loss", "train_accuracy")


def learning_curves(run: Run) -> list[Chart]:
    """One chart for each metric of the histories, the sweep's own first; a curve for every trial that has one."""
    names = dict.fromkeys([run.metric, *CURVES])
    return [_curves(run, name) for name in names if any(_drawn(trial.history.get(name)) for trial in run.trials)]


def _curves(run: Run, metric: str) -> Chart:
    found = [trial for trial in run.trials if _drawn(trial.history.get(metric))]
    # The best trial is drawn last, over the others.
    trials = sorted(found, key=lambda trial: -math.inf if trial.score is None else trial.score)[-MOST_CURVES:]
    values = [value for trial in trials for value in trial.history[metric] if value is not None]
    ends, step = robust(values, EPOCHS), 1 + len(values) // MOST_POINTS
    longest = max(len(trial.history[metric]) for trial in trials)
    best = run.best.name if run.best else ""
    leading = _leaders(trials) if len(trials) > CROWD else set()
    traces = [_curve(run, trial, metric, step, _line(trial, best, leading)) for trial in trials]
    side = "training" if metric.startswith("train_") else "validation"
    notes = [f"The {len(trials)} best of {len(found)} trials are drawn."] if len(found) > len(trials) else []
    notes += [_bold(run)] if any(trial.name == best for trial in trials) else []
    notes += [f"The {LEADERS} best and the best of each study stand out from the others."] if leading else []
    notes += ["Values far from nearly all others are cut off; a double click shows them."] if ends.cut else []
    notes += [f"Every {step}th epoch is drawn."] if step > 1 else []
    x = axis("epoch", range=[1, longest] if longest > 1 else [0, 2], showgrid=False, showline=True, **whole(longest))
    y = axis(f"{title(metric)} on {side}{direction(metric)}", range=margined(ends))
    summary = f"{title(metric)} by epoch of {len(trials)} trials, from {number(min(values))} to {number(max(values))}"
    return Chart(title(metric), {"data": traces, "layout": layout(x, y)}, summary, " ".join(notes))


def _bold(run: Run) -> str:
    """What the bold curve is, and that another trial is used, where selection images preferred one."""
    members = run.ensemble.get("members") or []
    told = f"The best trial on validation{', ' + run.best.name + ',' if run.best else ''} is drawn bold."
    if len(members) != 1 or run.best is None or members[0].get("trial") == run.best.name:
        return told
    return f"{told} The recommended model is of {members[0].get('trial')}, which was chosen on selection images."


def _leaders(trials: Sequence[Trial]) -> set[str]:
    """Of trials in the order of their scores, the best last: those whose curves stand out of a crowd."""
    best_of_each = {trial.study: trial.name for trial in trials}
    return {*best_of_each.values(), *(trial.name for trial in trials[-LEADERS:])}


def _line(trial: Trial, best: str, leading: Collection[str]) -> tuple[float, float]:
    """The width and the opacity of a trial's curve."""
    if trial.name == best:
        return 3.2, 1
    if not leading:
        return 1.4, 0.65
    return (1.7, 0.85) if trial.name in leading else (1, 0.25)


def _curve(run: Run, trial: Trial, metric: str, step: int, line: tuple[float, float]) -> dict[str, Any]:
    points = list(enumerate(trial.history[metric], start=1))
    points = points[::step] + points[-1:] * (step > 1 and len(points) % step != 1)
    study = run.studies.index(trial.study)
    width, opacity = line
    return {
        "type": "scatter",
        # A lone epoch has no line.
        "mode": "lines" if sum(value is not None for _, value in points) > 1 else "markers",
        "x": [epoch for epoch, _ in points],
        "y": rounded([value for _, value in points]),
        "line": {"color": colour(study), "dash": dash(study), "width": width},
        "marker": {"color": colour(study), "symbol": symbol(study), "size": 9 if width > 3 else 7},
        "opacity": opacity,
        "meta": {"trial": trial.name, "study": study, "label": label(run, trial)},
        "hovertemplate": "%{meta.label}<br>epoch %{x}: %{y:.4g}<extra></extra>",
    }


def progress(run: Run) -> list[Chart]:
    """The score of every trial and the best so far: by the order of the trials, and by the time that they trained."""
    scored = {trial.name for trial in run.scored}
    if not scored:
        return []
    hours, spent = [], 0.0
    for trial in run.trials:
        spent += trial.seconds
        if trial.name in scored:
            hours.append(spent)
    divisor, unit = (3600, "hours") if spent > 2 * 3600 else (60, "minutes")
    order = [float(i) for i, trial in enumerate(run.trials, start=1) if trial.name in scored]
    by_time = [h / divisor for h in hours]
    note = "The time of trials that ran side by side is added up."
    return [
        _progress(run, order, len(run.trials), "trial", axis("trials", **whole(len(run.trials)))),
        _progress(run, by_time, spent / divisor, "time", axis(f"{unit} of training, added up"), note),
    ]


def _progress(run: Run, places: list[float], end: float, name: str, x: dict[str, Any], note: str = "") -> Chart:
    trials = run.scored
    scores = [score for trial in trials if (score := natural(run, trial.score)) is not None]
    ends, better = robust(scores, SCORES), min if run.metric in LOWER else max
    stairs = [better(scores[: i + 1]) for i in range(len(scores))]
    best_so_far = {
        "type": "scatter",
        "mode": "lines",
        "x": rounded([*places, end]),
        "y": rounded([*stairs, stairs[-1]]),
        "line": {"color": colour(None), "width": 1.5, "shape": "hv"},
        "name": "best so far",
        "hoverinfo": "skip",
    }
    points = [
        _points(run, study, [(place, score, trial) for place, score, trial in zip(places, scores, trials, strict=True)])
        for study in range(len(run.studies))
    ]
    # Trials are counted from 1, so a tick at 0 would be of none; time starts at 0.
    ends_of_x = [0.5, end + max(0.5, 0.03 * end)] if name == "trial" else [0, end * 1.03 or 1]
    x |= {"range": ends_of_x, "showgrid": False, "showline": True}
    y = axis(f"{score_title(run)} on validation{direction(run.metric)}", range=margined(ends))
    summary = f"score of {len(trials)} trials by {name}; the best is {number(stairs[-1])}"
    notes = [note] if note else []
    notes += ["Scores far from the others are cut off; a double click shows them."] if ends.cut else []
    figure = {"data": [best_so_far, *(trace for trace in points if trace["x"])], "layout": layout(x, y)}
    return Chart(name, figure, summary, " ".join(notes))


def _points(run: Run, study: int, spots: list[tuple[float, float, Trial]]) -> dict[str, Any]:
    own = [spot for spot in spots if spot[2].study == run.studies[study]]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": rounded([place for place, _, _ in own]),
        "y": rounded([score for _, score, _ in own]),
        "marker": {"color": colour(study), "symbol": symbol(study), "size": 9, "opacity": 0.9},
        "name": plain(run.studies[study]),
        "hovertext": [label(run, trial) for _, _, trial in own],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "meta": {"study": study},
    }


def reliability(bins: Sequence[Sequence[float]]) -> Chart | None:
    """Accuracy by confidence from [mean confidence, accuracy, images] of each bin."""
    filled = [row for row in bins if len(row) == 3 and row[2]]
    if not filled:
        return None
    diagonal = {
        "type": "scatter",
        "mode": "lines",
        "x": [0, 1],
        "y": [0, 1],
        "line": {"color": "var(--soft)", "width": 1, "dash": "dash"},
        "hoverinfo": "skip",
    }
    groups = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": rounded([row[0] for row in filled]),
        "y": rounded([row[1] for row in filled]),
        "line": {"color": colour(0), "width": 1.6},
        "marker": {"color": colour(0), "size": 9},
        "customdata": [row[2] for row in filled],
        "hovertemplate": "confidence %{x:.2f}, accuracy %{y:.2f}<br>%{customdata:,} images<extra></extra>",
        "cliponaxis": False,
    }
    unit = {"range": [0, 1], "constrain": "domain", "showline": True}
    y = axis("accuracy", **unit, scaleanchor="x")
    summary = f"accuracy by confidence in {len(filled)} bins; the diagonal is perfect calibration"
    return Chart("reliability", {"data": [diagonal, groups], "layout": layout(axis("confidence", **unit), y)}, summary)


def gains(methods: Sequence[Method], metric: str) -> Chart | None:
    """The gain in `metric` of each ensemble method over the best single model, cross-fitted and in-sample."""
    known = [(method, method.over_single) for method in methods if method.over_single]
    if not known:
        return None
    rows = [(method.name, gain.estimate, gain.low, gain.high) for method, gain in known]
    # Short, as a phone shows no longer one; over what, the page says above the chart.
    x = axis(f"gain in {metric}", zeroline=True, zerolinecolor="var(--soft)")
    chart = intervals("gains", rows, x)
    chart.figure["data"].append(
        {
            "type": "scatter",
            "mode": "markers",
            "x": [method.in_sample_gain for method, _ in known],
            "y": list(range(len(known))),
            "hovertext": [plain(method.name) for method, _ in known],
            "marker": {"color": colour(1), "symbol": "circle-open", "size": 11, "line": {"width": 2}},
            "hovertemplate": "%{hovertext}: in-sample %{x:+.4f}<extra></extra>",
        }
    )
    return chart


def intervals(name: str, rows: Sequence[tuple[str, float, float, float]], x: dict[str, Any]) -> Chart:
    """A point with its interval for each (name, estimate, low, high), the first at the top."""
    estimates, places = [row[1] for row in rows], list(range(len(rows)))
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": estimates,
        "y": places,
        "marker": {"color": colour(0), "size": 10},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [high - estimate for _, estimate, _, high in rows],
            "arrayminus": [estimate - low for _, estimate, low, _ in rows],
            "color": colour(0),
            "thickness": 3,
            "width": 0,
        },
        "hovertext": [f"{plain(n)}: {number(e)}<br>{number(low)} to {number(high)}" for n, e, low, high in rows],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "cliponaxis": False,
    }
    names = [clipped(row[0]) for row in rows]
    y = axis("", tickvals=places, ticktext=names, range=[len(rows) - 0.4, -0.6], showgrid=False)
    told = "; ".join(f"{n} {number(e)}, {number(low)} to {number(high)}" for n, e, low, high in rows)
    return Chart(name, {"data": [trace], "layout": layout(x, y, height=80 + 32 * len(rows))}, told)


def _drawn(values: Sequence[float | None] | None) -> bool:
    return any(value is not None for value in values or ())
