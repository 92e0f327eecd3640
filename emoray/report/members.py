"""The candidates of an ensemble as points: how good each is alone, by how much it differs from the others."""

from collections.abc import Sequence

from emoray.report.figure import Chart, Range, axis, clipped, colour, layout, lines, margined, rounded, symbol
from emoray.report.run import Run
from emoray.report.scores import direction, title

ROOM = 0.14
"""Of the chart, at each side: for the names."""

Box = tuple[float, float, float, float]
"""Left, right, bottom, top."""

PLACES = {
    f"{row} {side}": (aside, above)
    for above, row in ((1, "top"), (-1, "bottom"), (0, "middle"))
    for aside, side in ((0, "center"), (1, "right"), (-1, "left"))
    if (aside, above) != (0, 0)
}
"""Where Plotly may put a text beside its point, the best first: how far to the right and above."""


def chart(run: Run) -> Chart | None:
    """Each candidate's score on selection by how often the others predict another class."""
    listed = (run.ensemble.get("comparison") or {}).get("listed") or []
    name = metric(run)
    spots = [(one, one.get("disagreement"), one.get(name)) for one in listed]
    placed = [(one, x, y) for one, x, y in spots if x is not None and y is not None]
    if len(placed) < 2:
        return None
    across, up = ([spot[i] for spot in placed] for i in (1, 2))
    names = [clipped(str(one.get("name"))) for one, _, _ in placed]
    studies = [run.studies.index(one["study"]) if one.get("study") in run.studies else 0 for one, _, _ in placed]
    trace = {
        "type": "scatter",
        "mode": "markers+text",
        "x": rounded(across),
        "y": rounded(up),
        "text": names,
        "textposition": _beside(across, up, names),
        "textfont": {"color": "var(--ink)", "size": 12},
        "marker": {"color": [colour(study) for study in studies], "symbol": [symbol(s) for s in studies], "size": 10},
        "hovertext": [
            lines(str(one.get("name")), f"{title(name)} {y:.3f}, differs from the others on {x:.0%}")
            for one, x, y in placed
        ],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "cliponaxis": False,
    }
    x_axis = axis("images on which the others differ", tickformat=".1~%", range=_range(across))
    y_axis = axis(f"{title(name)} on selection{direction(name)}", range=_range(up))
    summary = f"{title(name)} and disagreement of {len(placed)} candidates on the selection images"
    return Chart("members", {"data": [trace], "layout": layout(x_axis, y_axis)}, summary)


def metric(run: Run) -> str:
    """What the members are compared by: the sweep's metric where it is recorded of them."""
    listed = (run.ensemble.get("comparison") or {}).get("listed") or []
    return run.metric if listed and run.metric in listed[0] else "accuracy"


def _beside(across: Sequence[float], up: Sequence[float], names: Sequence[str]) -> list[str]:
    """Where each point's name stands, one after the other where it covers the least, on a chart of a phone's size."""
    width, height, letter, line = 300.0, 220.0, 7.0, 15.0
    spots = list(zip(_pixels(across, width), _pixels(up, height), strict=True))
    taken = [(x - 6, x + 6, y - 6, y + 6) for x, y in spots]
    found = []
    for (x, y), name in zip(spots, names, strict=True):
        long = letter * len(name)
        boxes = {}
        for place, (aside, above) in PLACES.items():
            left, bottom = x + aside * (8 + long / 2) - long / 2, y + above * (6 + line / 2) - line / 2
            boxes[place] = (left, left + long, bottom, bottom + line)
        best = min(boxes, key=lambda place: _covered(boxes[place], taken, width, height))
        taken.append(boxes[best])
        found.append(best)
    return found


def _range(values: Sequence[float]) -> list[float]:
    return margined(Range(min(values), max(values), cut=False), ROOM)


def _pixels(values: Sequence[float], length: float) -> list[float]:
    low, high = _range(values)
    return [length * (value - low) / (high - low) for value in values]


def _covered(box: Box, others: Sequence[Box], width: float, height: float) -> float:
    """The area that a box shares with others, or that lies outside."""

    def shared(one: Box, other: Box) -> float:
        across, up = min(one[1], other[1]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[2], other[2])
        return max(0.0, across) * max(0.0, up)

    inside = shared(box, (0.0, width, 0.0, height))
    return sum(shared(box, other) for other in others) + (box[1] - box[0]) * (box[3] - box[2]) - inside
