"""The pieces that charts are made of, as plain values of Plotly's JSON; page.js draws them.

Colours are written as `var(--c0)` and read from the page's style when a figure is drawn, so that it follows the theme.
A trace says in its `meta` what page.js needs: its `trial`, the number of its `study`, the `label` for the pointer. The
one rule to know: Plotly takes texts for markup, so whatever a user named passes through `plain` first.
"""

import html
from collections.abc import Sequence
from typing import Any, NamedTuple

from emoray.report.run import Run, Trial
from emoray.report.scores import natural
from emoray.text import shortened

COLOURS = 8
"""Studies beyond this many get the same colours again, with dotted lines and open points."""
SCORES = 0.25
"""The tail of `robust` for the scores of trials, of which there may be few."""
EPOCHS = 0.05
"""And for the values of all epochs, of which the first ones lie far from the rest in every good trial."""
LONGEST = 28
"""Characters of a name within a chart; the rest would push the chart aside."""


class Chart(NamedTuple):
    """A figure with its label on a tab, its content in a sentence for those who do not see it, and a note below."""

    name: str
    figure: dict[str, Any]
    summary: str
    note: str = ""


class Range(NamedTuple):
    """The ends of an axis, and whether it cuts values off."""

    low: float
    high: float
    cut: bool


def layout(x: dict[str, Any], y: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What all figures share; they have no ground of their own and take their size from the page."""
    return {
        "xaxis": x,
        "yaxis": y,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "var(--soft)", "size": 12.5, "family": "inherit"},
        "hoverlabel": {
            "bgcolor": "var(--ink)",
            "bordercolor": "var(--ink)",
            "font": {"color": "var(--paper)", "size": 13, "family": "inherit"},
            "align": "left",
            "namelength": -1,
        },
        "hovermode": "closest",
        "hoverdistance": 24,
        "showlegend": False,
        "margin": {"l": 8, "r": 12, "t": 30, "b": 8},  # at the top for the buttons
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "var(--soft)", "activecolor": "var(--ink)"},
        "uirevision": "kept",  # a figure that is drawn again in other colours stays zoomed
    } | more


def axis(title: str, **more: Any) -> dict[str, Any]:
    return {
        "title": {"text": plain(title), "standoff": 10},
        "gridcolor": "var(--grid)",
        "linecolor": "var(--soft)",
        "zeroline": False,
        "automargin": True,
    } | more


def whole(count: int) -> dict[str, Any]:
    """Ticks of an axis of counts: none between 1 and 2."""
    return {"dtick": 1} if count <= 10 else {}


def colour(study: int | None) -> str:
    return "var(--soft)" if study is None else f"var(--c{study % COLOURS})"


def dash(study: int) -> str:
    return "dot" if study >= COLOURS else "solid"


def symbol(study: int) -> str:
    return "circle-open" if study >= COLOURS else "circle"


def label(run: Run, trial: Trial) -> str:
    """What the pointer shows of a trial."""
    score = natural(run, trial.score)
    told = "no score" if score is None else f"best {score:.3f}"
    kind = trial.study if trial.study == trial.model else f"{trial.study} ({trial.model})"
    return lines(trial.name, f"{kind}, {trial.status}, {told}")


def lines(*texts: str) -> str:
    return "<br>".join(plain(text) for text in texts)


def plain(text: str) -> str:
    """A text that Plotly shows as it is."""
    return html.escape(text, quote=False)


def clipped(text: str) -> str:
    """A name that fits into a chart, as Plotly shows it."""
    return plain(shortened(text, LONGEST))


def robust(values: Sequence[float], tail: float) -> Range:
    """The ends of an axis for `values`: one diverged trial must not flatten all the others.

    A value is cut off if it lies farther from the middle ones than three times their width; the middle ones are those
    without the `tail` at each side.
    """
    ordered = sorted(values)
    low, high, aside = ordered[0], ordered[-1], int(tail * len(ordered))
    near, far = ordered[aside], ordered[-1 - aside]
    reach = 3 * (far - near)
    if reach > 0:
        low, high = max(low, near - reach), min(high, far + reach)
    return Range(low, high, low > ordered[0] or high < ordered[-1])


def margined(ends: Range, part: float = 0.04) -> list[float]:
    """The range of an axis with some room at both ends."""
    margin = part * (ends.high - ends.low) or max(0.01, abs(ends.high) * 0.1)
    return [ends.low - margin, ends.high + margin]


def rounded(values: Sequence[float | None]) -> list[float | None]:
    """Values to five digits: more would only make the page longer."""
    return [None if value is None else float(f"{value:.5g}") for value in values]
