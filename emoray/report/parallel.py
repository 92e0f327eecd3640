"""Parallel coordinates: the settings and scores of a study's trials as lines across one axis for each setting.

Plotly's own trace for this (parcoords) draws with WebGL and compiles code at run time, which the page's security
policy forbids, and it has no place for a setting that only some trials have. So the lines are ordinary ones, over
heights from 0 to 1, and the axes are text. The one rule to know: the axes stand at x = 0, 1, 2 and so on, and there
page.js reads the heights of the lines.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

from emoray.report.figure import SCORES, Chart, Range, clipped, layout, lines, robust
from emoray.report.run import Run, Trial
from emoray.report.scores import LOWER, natural, number, score_title
from emoray.report.settings import flatten, searched, short, text

MOST_AXES = 12
NOT_SET = 0.0
"""Height of a setting that a trial does not have; the values of those that do begin at `FLOOR`."""
FLOOR = 0.12
STEPS = 6
"""Points of a line from one axis to the next, so that the pointer meets it between them too."""


class Tick(NamedTuple):
    """A label at a height from 0 to 1."""

    at: float
    text: str


class Column(NamedTuple):
    """A setting: each trial's height from 0 to 1, and the ticks of its axis."""

    name: str
    heights: list[float]
    ticks: list[Tick]


def charts(run: Run) -> list[Chart]:
    """One for each study that has at least two scored trials with different settings; an axis for each of those."""
    studies = [[trial for trial in run.scored if trial.study == study] for study in run.studies]
    return [_chart(run, trials) for trials in studies if len(trials) > 1 and searched(run, trials)]


def _chart(run: Run, trials: list[Trial]) -> Chart:
    # The best lie on top.
    trials = sorted(trials, key=lambda trial: trial.score or 0.0)
    names, flats = searched(run, trials), [flatten(trial.settings) for trial in trials]
    scores = [score for trial in trials if (score := natural(run, trial.score)) is not None]
    shown, ends = names[:MOST_AXES], robust(scores, SCORES)
    # The score comes first: on a narrow screen it is the one that must not lie outside.
    columns = [Column(score_title(run), *_numeric(scores))]
    columns += [Column(name, *_column([flat.get(name) for flat in flats])) for name in shown]
    traces = []
    for i, (trial, flat) in enumerate(zip(trials, flats, strict=True)):
        told = [f"{name} {text(flat[name])}" if name in flat else f"{name} not set" for name in shown]
        label = lines(f"{trial.name}: {score_title(run)} {scores[i]:.3f}", *told)
        heights = [column.heights[i] for column in columns]
        traces.append(_line(heights, {"trial": trial.name, "label": label, "tone": _tone(run, scores[i], ends)}))
    study = trials[0].study
    notes = [f"Scores beyond {number(ends.low)} to {number(ends.high)} have that end's colour."] if ends.cut else []
    notes += [f"Not drawn: {', '.join(names[MOST_AXES:])}."] if names[MOST_AXES:] else []
    figure = {"data": [*traces, _ticks(columns), _colours(run, ends)], "layout": _layout(columns)}
    return Chart(study, figure, f"settings and scores of {len(trials)} trials of {study}", " ".join(notes))


def _line(heights: Sequence[float], meta: dict[str, Any]) -> dict[str, Any]:
    x = np.linspace(0, len(heights) - 1, STEPS * (len(heights) - 1) + 1)
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [round(float(at), 3) for at in x],
        "y": [round(float(y), 4) for y in np.interp(x, np.arange(len(heights)), heights)],
        "line": {"width": 1.7},
        "opacity": 0.9,
        "meta": meta,
        "hovertemplate": "%{meta.label}<extra></extra>",
    }


def _tone(run: Run, score: float, ends: Range) -> float:
    """0 for the poorest score within `ends`, 1 for the best."""
    part = (score - ends.low) / (ends.high - ends.low) if ends.high > ends.low else 1.0
    part = min(1.0, max(0.0, part))
    return round(1 - part if run.metric in LOWER else part, 3)


def _ticks(columns: Sequence[Column]) -> dict[str, Any]:
    spots = [(i, tick) for i, column in enumerate(columns) for tick in column.ticks]
    return {
        "type": "scatter",
        "mode": "text",
        "x": [i for i, _ in spots],
        "y": [tick.at for _, tick in spots],
        "text": ["\u2002" + clipped(tick.text) for _, tick in spots],
        "textposition": "middle right",
        "textfont": {
            "color": "var(--ink)",
            "size": 12,
            # Lines run under the labels.
            "shadow": ", ".join(["0 0 3px var(--paper)"] * 4),
        },
        # Plotly would pale what lies outside the boxes of a filter; page.js does so with lines, and only with them.
        "unselected": {"textfont": {"color": "var(--ink)"}},
        "cliponaxis": False,
        "hoverinfo": "skip",
    }


def _colours(run: Run, ends: Range) -> dict[str, Any]:
    """The bar that tells what the colours mean; its point itself is not seen."""
    low, high = ("strong", "pale") if run.metric in LOWER else ("pale", "strong")
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [None],
        "y": [None],
        "hoverinfo": "skip",
        "marker": {
            "color": [ends.low],
            "cmin": ends.low,
            "cmax": ends.high if ends.high > ends.low else ends.low + 1e-9,
            "colorscale": [[0, f"var(--{low})"], [0.5, "var(--middle)"], [1, f"var(--{high})"]],
            "showscale": True,
            "colorbar": {
                "title": {"text": clipped(score_title(run)), "side": "top"},
                "orientation": "h",
                "x": 0,
                "xanchor": "left",
                "y": -0.03,
                "yanchor": "top",
                "lenmode": "pixels",
                "len": 240,
                "thickness": 10,
                "ypad": 2,
                "outlinewidth": 0,
            },
        },
    }


def _layout(columns: Sequence[Column]) -> dict[str, Any]:
    titles = [column.name for column in columns]
    axes = [
        {"type": "line", "x0": i, "x1": i, "y0": 0, "y1": 1, "line": {"color": "var(--soft)", "width": 1}}
        for i in range(len(columns))
    ]
    x = {
        "side": "top",
        "tickvals": list(range(len(columns))),
        "ticktext": [clipped(short(title, titles)) for title in titles],
        "autotickangles": [0, -35],
        "tickfont": {"color": "var(--ink)", "size": 12},
        "range": [-0.3, len(columns) - 0.35],
        "ticklabeloverflow": "allow",
        "showgrid": False,
        "zeroline": False,
        "fixedrange": True,
        "automargin": True,
    }
    y = {"range": [-0.03, 1.03], "visible": False, "fixedrange": True}
    selection = {"line": {"color": "var(--accent)", "width": 1.5, "dash": "solid"}}
    return layout(x, y, shapes=axes, dragmode="select", newselection=selection, activeselection={"opacity": 0.15})


def _column(values: Sequence[str | float | None]) -> tuple[list[float], list[Tick]]:
    """Heights and ticks of one setting; values that are missing lie at the bottom, under a tick of their own."""
    used = [value for value in values if value is not None]
    numbers = [value for value in used if isinstance(value, int | float)]
    # Of few numbers each is a tick, unless they are single draws from a continuous range.
    counted = len(numbers) == len(used) and all(float(value).is_integer() for value in numbers)
    few = len(set(used)) <= 5 and (counted or len(used) >= 2 * len(set(used)))
    if len(numbers) == len(used) and not few:
        inner, ticks = _numeric(numbers)
    else:
        inner, ticks = _categorical(used)
    if len(used) == len(values):
        return inner, ticks
    raised = iter(FLOOR + (1 - FLOOR) * height for height in inner)
    heights = [NOT_SET if value is None else next(raised) for value in values]
    return heights, [Tick(NOT_SET, "not set"), *(Tick(FLOOR + (1 - FLOOR) * at, label) for at, label in ticks)]


def _categorical(values: Sequence[str | float]) -> tuple[list[float], list[Tick]]:
    kinds = sorted(set(values), key=lambda value: (isinstance(value, str), value))
    place = {kind: i / (len(kinds) - 1) if len(kinds) > 1 else 0.5 for i, kind in enumerate(kinds)}
    return [place[value] for value in values], [Tick(at, text(kind)) for kind, at in place.items()]


def _numeric(values: Sequence[float]) -> tuple[list[float], list[Tick]]:
    """A linear axis, or one by powers of ten where the values span a factor of more than 20."""
    low, high = min(values), max(values)
    if low == high:
        return [0.5] * len(values), [Tick(0.5, number(low))]
    if low > 0 and high / low > 20:
        low, width = math.log10(low), math.log10(high / low)
        return [(math.log10(value) - low) / width for value in values], _powers(low, width)
    found = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    places = [((value - low) / (high - low), value) for value in found]
    return [(value - low) / (high - low) for value in values], _within(places)


def _powers(low: float, width: float) -> list[Tick]:
    """Ticks of an axis of logarithms: powers of ten, with 2 and 5 between them where those alone would be too few."""
    decades = range(math.floor(low), math.ceil(low + width) + 1)
    ticks: list[Tick] = []
    for steps in ((1,), (1, 3), (1, 2, 5)):
        values = [step * 10.0**decade for decade in decades for step in steps]
        ticks = _within([((math.log10(value) - low) / width, value) for value in values])
        if len(ticks) >= 3:
            break
    return ticks


def _within(places: Sequence[tuple[float, float]]) -> list[Tick]:
    return [Tick(at, number(value)) for at, value in places if -1e-9 <= at <= 1 + 1e-9]
