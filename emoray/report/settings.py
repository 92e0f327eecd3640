"""The settings of trials: flattened, compared within a study, and laid out as parallel coordinates.

A setting's name is its path in the sweep file (`optimizer.learning_rate`); a component stands under its own key
(`optimizer` is "sgd"), and a setting of an optimizer that a trial does not use is missing from that trial.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emoray.report.charts import SIDE, Scale, Series, Tick, number, score_title
from emoray.report.run import Run, Trial

MOST_AXES = 12
UNUSED = 0.0
"""Height of a setting that a trial does not use; the axes of settings in use begin at `FLOOR`."""
FLOOR = 0.12


@dataclass(frozen=True)
class Axis:
    """A setting at `at` percent from the left, with ticks in percent from the bottom."""

    name: str
    short: str
    at: float
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Parallel:
    """The trials of one study as lines over the settings that differ; `tones` are 0 (poor) to 100 (best) a line."""

    study: str
    axes: tuple[Axis, ...]
    lines: tuple[tuple[Series, int], ...]
    left_out: tuple[str, ...]


def flatten(settings: Mapping[str, Any]) -> dict[str, str | float]:
    """Nested settings as {path: text or number}; the seed, which nobody chooses, is left out."""
    flat: dict[str, str | float] = {}
    for key, value in settings.items():
        if key == "seed":
            continue
        if isinstance(value, Mapping):
            flat |= _component(key, value)
        elif isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
            flat[key] = " + ".join(str(item.get("name")) for item in value) or "none"
            for item in value:
                flat |= {k: v for k, v in _component(f"{key}.{item.get('name')}", item).items() if k.count(".") > 1}
        else:
            flat[key] = _plain(value)
    return flat


def _component(key: str, value: Mapping[str, Any]) -> dict[str, str | float]:
    inner = {f"{key}.{name}": part for name, part in flatten(value).items() if name != "name"}
    return ({key: str(value["name"])} if "name" in value else {}) | inner


def _plain(value: object) -> str | float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def varying(trials: Sequence[Trial]) -> list[str]:
    """The settings that are not the same in all `trials`, in the order of the sweep file."""
    flats = [flatten(trial.settings) for trial in trials]
    names = dict.fromkeys(name for flat in flats for name in flat)
    return [name for name in names if len({flat.get(name) for flat in flats}) > 1]


def compact(run: Run) -> dict[str, list[tuple[str, str]]]:
    """What sets each trial apart in its study, by trial: (short name, value)."""
    chips: dict[str, list[tuple[str, str]]] = {}
    for study in run.studies:
        trials = [trial for trial in run.trials if trial.study == study]
        names = varying(trials)
        for trial in trials:
            flat = flatten(trial.settings)
            chips[trial.name] = [(short(name, names), text(flat[name])) for name in names if name in flat]
    return chips


def short(name: str, names: Sequence[str]) -> str:
    """The last part of `name` where that is clear among `names`, else the whole."""
    last = name.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in names) == 1 else name


def text(value: str | float) -> str:
    return number(value) if isinstance(value, int | float) else value


def parallel(run: Run) -> list[Parallel]:
    """Parallel coordinates of each study that has at least two scored trials with different settings."""
    studies = [[trial for trial in run.scored if trial.study == study] for study in run.studies]
    return [_parallel(run, trials) for trials in studies if len(trials) > 1 and varying(trials)]


def _parallel(run: Run, trials: list[Trial]) -> Parallel:
    names = varying(trials)
    shown = names[:MOST_AXES]
    flats = [flatten(trial.settings) for trial in trials]
    scores = [trial.score or 0.0 for trial in trials]
    columns = [_column([flat.get(name) for flat in flats]) for name in shown]
    # The score comes first: on a narrow screen it is the one that must not lie outside.
    columns, titles = [_numeric(scores), *columns], [score_title(run), *shown]
    spots = [i / (len(columns) - 1) for i in range(len(columns))]
    axes = tuple(
        Axis(name, short(name, titles), round(100 * spot, 2), tuple(ticks))
        for name, spot, (_, ticks) in zip(titles, spots, columns, strict=True)
    )
    ranked = sorted(range(len(trials)), key=lambda i: scores[i])
    lines = []
    for place, i in enumerate(ranked):
        points = [
            f"{SIDE * spot:.1f},{SIDE * (1 - heights[i]):.1f}"
            for spot, (heights, _) in zip(spots, columns, strict=True)
        ]
        flat = flats[i]
        label = [f"{trials[i].name}: {scores[i]:.3f}", *(f"{n} {text(flat[n])}" for n in shown if n in flat)]
        lines.append(
            (Series(trials[i].name, None, "\n".join(label), "M" + "L".join(points)), _tone(place, len(ranked)))
        )
    return Parallel(trials[0].study, axes, tuple(lines), tuple(names[MOST_AXES:]))


def _tone(place: int, count: int) -> int:
    """By rank, not by score: one failed trial far below must not give all the others the same colour."""
    return round(100 * place / max(1, count - 1))


def _column(values: Sequence[str | float | None]) -> tuple[list[float], list[Tick]]:
    """Heights in 0-1 and ticks of one setting; values that are missing lie at the bottom, under a tick of their own."""
    used = [value for value in values if value is not None]
    numbers = [value for value in used if isinstance(value, int | float)]
    few = len(set(used)) <= 5 and len(used) >= 2 * len(set(used))
    if len(numbers) == len(used) and not few:
        inner, ticks = _numeric(numbers)
    else:
        inner, ticks = _categorical(used)
    if len(used) == len(values):
        return inner, ticks
    raised = iter(FLOOR + (1 - FLOOR) * height for height in inner)
    heights = [UNUSED if value is None else next(raised) for value in values]
    return heights, [Tick(0, "unused"), *(Tick(round(100 * FLOOR + (1 - FLOOR) * at, 2), label) for at, label in ticks)]


def _categorical(values: Sequence[str | float]) -> tuple[list[float], list[Tick]]:
    kinds = sorted(set(values), key=lambda value: (isinstance(value, str), value))
    place = {kind: i / (len(kinds) - 1) if len(kinds) > 1 else 0.5 for i, kind in enumerate(kinds)}
    return [place[value] for value in values], [Tick(round(100 * at, 2), text(kind)) for kind, at in place.items()]


def _numeric(values: Sequence[float]) -> tuple[list[float], list[Tick]]:
    """A linear axis, or one by powers of ten where the values span a factor of more than 20."""
    low, high = min(values), max(values)
    if low == high:
        return [0.5] * len(values), [Tick(50, number(low))]
    if low > 0 and high / low > 20:
        scale = Scale(math.log10(low), math.log10(high))
        return [scale.at(math.log10(value)) for value in values], _powers(scale)
    scale = Scale(low, high)
    return [scale.at(value) for value in values], scale.ticks(6)


def _powers(scale: Scale) -> list[Tick]:
    """Ticks of an axis of logarithms: powers of ten, with 2 and 5 between them where those alone would be too few."""
    decades = range(math.floor(scale.low), math.ceil(scale.high) + 1)
    ticks: list[Tick] = []
    for steps in ((1,), (1, 3), (1, 2, 5)):
        values = [step * 10.0**decade for decade in decades for step in steps]
        places = [(scale.at(math.log10(value)), value) for value in values]
        ticks = [Tick(round(100 * at, 2), number(value)) for at, value in places if 0 <= at <= 1]
        if len(ticks) >= 3:
            break
    return ticks
