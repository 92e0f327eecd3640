"""Line and point charts as plain values: paths in a square of 1000 x 1000 and ticks in percent.

The template draws a chart as one stretched SVG with HTML labels around it, so that it fits every width, follows the
page's colours and prints; page.js only adds what the pointer is over. The one rule to know: y grows upwards in the data
and downwards in a path.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from matplotlib.ticker import MaxNLocator

from emoray.report.run import Run, Trial

SIDE = 1000
MOST_POINTS = 60_000
"""Points in all the curves of one chart; beyond it every k-th epoch is drawn, or 2,000 trials would not open."""

CURVES = ("accuracy", "macro_f1", "balanced_accuracy", "log_loss", "train_loss", "train_accuracy")
TITLES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "log_loss": "log-loss",
    "train_loss": "training loss",
    "train_accuracy": "training accuracy",
}


class Tick(NamedTuple):
    """A label `at` percent from the left or from the bottom."""

    at: float
    text: str


class Series(NamedTuple):
    """A line or a point: `study` chooses its colour, None for none; `label` is what the pointer shows, if anything."""

    trial: str
    study: int | None
    label: str
    path: str
    role: str = "line"


@dataclass(frozen=True)
class Scale:
    """The range of an axis; `whole` for counts, which have no ticks between them."""

    low: float
    high: float
    whole: bool = False

    def at(self, value: float) -> float:
        """0 at the low end, 1 at the high end."""
        return (value - self.low) / (self.high - self.low)

    def ticks(self, count: int = 5) -> list[Tick]:
        inside = [
            value
            for value in MaxNLocator(count, steps=[1, 2, 2.5, 5, 10], integer=self.whole).tick_values(
                self.low, self.high
            )
            if 0 <= self.at(value) <= 1
        ]
        return [Tick(round(100 * self.at(value), 2), number(value)) for value in inside]


@dataclass(frozen=True)
class Chart:
    """What the template needs to draw one chart; `name` is also the label of its tab."""

    name: str
    x_title: str
    y_title: str
    x: Scale
    y: Scale
    series: tuple[Series, ...]
    summary: str
    note: str = ""
    points: bool = False

    @property
    def grid(self) -> str:
        return "".join(f"M0,{SIDE - 10 * tick.at:g}H{SIDE}" for tick in self.y.ticks())


def title(metric: str) -> str:
    """A metric's name for people."""
    return TITLES.get(metric, metric.replace("_", " "))


def score_title(run: Run) -> str:
    """The name of the trials' score, which is always higher for better and so negates log-loss."""
    return f"negated {title(run.metric)}" if run.metric == "log_loss" else title(run.metric)


def number(value: float) -> str:
    """A short number for an axis: 0.25, 12, 3e-05."""
    return f"{0 if abs(value) < 1e-12 else value:.4g}".replace("e-0", "e-")


def path(points: Sequence[tuple[float, float | None]], x: Scale, y: Scale) -> str:
    """An SVG path through `points`, broken where y is None; a lone point becomes a dot (its line's round cap)."""
    parts, open_ = [], False
    for at, value in points:
        if value is None:
            open_ = False
            continue
        parts.append(f"{'L' if open_ else 'M'}{_place(x.at(at))},{_place(1 - y.at(value))}")
        open_ = True
    return parts[0] + "h0" if len(parts) == 1 else "".join(parts)


def learning_curves(run: Run) -> list[Chart]:
    """One chart for each metric of the histories, the sweep's own first; a curve for every trial that has one."""
    names = dict.fromkeys([run.metric, *CURVES])
    return [_curves(run, name) for name in names if any(_drawn(trial.history.get(name)) for trial in run.trials)]


def _curves(run: Run, metric: str) -> Chart:
    trials = [trial for trial in run.trials if _drawn(trial.history.get(metric))]
    values = sorted(value for trial in trials for value in trial.history[metric] if value is not None)
    y, cut = _robust(values)
    longest = max(len(trial.history[metric]) for trial in trials)
    x = Scale(1, longest, whole=True) if longest > 1 else Scale(0, 2, whole=True)
    step = 1 + len(values) // MOST_POINTS
    best = run.best.name if run.best else ""
    series = []
    # The best trial is drawn last, over the others.
    for trial in sorted(trials, key=lambda trial: trial.name == best):
        points = list(enumerate(trial.history[metric], start=1))
        line = path(points[::step] + points[-1:] * (step > 1), x, y)
        role = "line best" if trial.name == best else "line"
        series.append(Series(trial.name, run.studies.index(trial.study), _label(trial), line, role))
    side = "training" if metric.startswith("train_") else "validation"
    notes = ["The best trial is drawn bold."] if any(s.role == "line best" for s in series) else []
    notes += ["Values outside the range of nearly all epochs are cut off."] if cut else []
    notes += [f"Every {step}th epoch is drawn."] if step > 1 else []
    return Chart(
        name=title(metric),
        x_title="epoch",
        y_title=f"{title(metric)} on {side}",
        x=x,
        y=y,
        series=tuple(series),
        summary=f"{title(metric)} by epoch of {len(trials)} trials, from {number(values[0])} to {number(values[-1])}",
        note=" ".join(notes),
    )


def progress(run: Run) -> list[Chart]:
    """The score of every trial and the best so far: by the order of the trials, and by the time that they trained."""
    trials = run.scored
    if not trials:
        return []
    hours, spent = [], 0.0
    scored = {trial.name for trial in trials}
    for trial in run.trials:
        spent += trial.seconds
        if trial.name in scored:
            hours.append(spent)
    divisor, unit = (3600, "hours") if spent > 2 * 3600 else (60, "minutes")
    order = [float(i) for i, trial in enumerate(run.trials, start=1) if trial.name in scored]
    by_trial = _progress(run, trials, order, len(run.trials), "trial", "trials")
    by_time = _progress(
        run, trials, [h / divisor for h in hours], spent / divisor, "time", f"{unit} of training, added up"
    )
    return [by_trial, replace(by_time, note="The time of trials that ran side by side is added up.")]


def _progress(run: Run, trials: list[Trial], places: list[float], end: float, name: str, x_title: str) -> Chart:
    scores = [trial.score for trial in trials if trial.score is not None]
    x, (y, cut) = Scale(0, end * 1.02 or 1, whole=name == "trial"), _robust(sorted(scores))
    stairs: list[tuple[float, float | None]] = []
    best = -math.inf
    for place, score in zip(places, scores, strict=True):
        if score > best:
            stairs += [(place, best)] if stairs else []
            stairs.append((place, best := score))
    stairs.append((end, best))
    series = [Series("", None, "", path(stairs, x, y), "stairs")]
    for trial, place, score in zip(trials, places, scores, strict=True):
        study = run.studies.index(trial.study)
        series.append(Series(trial.name, study, _label(trial), path([(place, score)], x, y), "point"))
    summary = f"score of {len(trials)} trials by {x_title}; the best is {number(best)}"
    note = "Scores far below the others are cut off." if cut else ""
    return Chart(name, x_title, f"{score_title(run)} on validation", x, y, tuple(series), summary, note, points=True)


def reliability(bins: Sequence[Sequence[float]]) -> Chart | None:
    """Accuracy by confidence from [mean confidence, accuracy, images] of each bin."""
    filled = [row for row in bins if len(row) == 3 and row[2]]
    if not filled:
        return None
    unit = Scale(0, 1)
    line = path([(row[0], row[1]) for row in filled], unit, unit)
    dots = [
        Series(
            "",
            0,
            f"confidence {row[0]:.2f}, accuracy {row[1]:.2f}\n{row[2]:,.0f} images",
            path([(row[0], row[1])], unit, unit),
            "point",
        )
        for row in filled
    ]
    series = (Series("", None, "", f"M0,{SIDE}L{SIDE},0", "diagonal"), Series("", 0, "", line), *dots)
    summary = f"accuracy by confidence in {len(filled)} bins; the diagonal is perfect calibration"
    return Chart("reliability", "confidence", "accuracy", unit, unit, series, summary, points=True)


def members(run: Run) -> Chart | None:
    """Each candidate's score on selection by how often the others predict another class."""
    listed = (run.ensemble.get("comparison") or {}).get("listed") or []
    metric = run.metric if listed and run.metric in listed[0] else "accuracy"
    spots = [(one, one.get("disagreement"), one.get(metric)) for one in listed]
    placed = [(one, x, y) for one, x, y in spots if x is not None and y is not None]
    if len(placed) < 2:
        return None
    (x, _), (y, _) = (_robust(sorted(spot[i] for spot in placed)) for i in (1, 2))
    series = []
    for one, across, up in placed:
        study = run.studies.index(one["study"]) if one.get("study") in run.studies else 0
        label = f"{one.get('name')}\n{title(metric)} {up:.3f}, differs from the others on {across:.0%}"
        series.append(
            Series(str(one.get("trial") or one.get("name")), study, label, path([(across, up)], x, y), "point")
        )
    summary = f"{title(metric)} and disagreement of {len(placed)} candidates on the selection images"
    x_title = "disagreement with the others, mean share of images"
    return Chart("members", x_title, f"{title(metric)} on selection", x, y, tuple(series), summary, points=True)


def _label(trial: Trial) -> str:
    score = "no score" if trial.score is None else f"best {trial.score:.3f}"
    kind = trial.study if trial.study == trial.model else f"{trial.study} ({trial.model})"
    return f"{trial.name}\n{kind}, {trial.status}, {score}"


def _robust(ordered: Sequence[float]) -> tuple[Scale, bool]:
    """A scale for sorted values and whether it cuts some off: one diverged trial must not flatten all the others."""
    low, high = ordered[0], ordered[-1]
    near, far = ordered[len(ordered) // 20], ordered[-1 - len(ordered) // 20]
    reach = 2 * (far - near)
    if reach > 0:
        low, high = max(low, near - reach), min(high, far + reach)
    margin = 0.04 * (high - low) or max(0.01, abs(high) * 0.1)
    return Scale(low - margin, high + margin), low > ordered[0] or high < ordered[-1]


def _drawn(values: Sequence[float | None] | None) -> bool:
    return any(value is not None for value in values or ())


def _place(share: float) -> str:
    return f"{SIDE * share:.1f}".removesuffix(".0")
