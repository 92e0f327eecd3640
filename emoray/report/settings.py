"""The settings of trials: flattened, and compared within a study.

A setting's name is its path in the sweep file (`optimizer.learning_rate`); a component stands under its own key
(`optimizer` is "sgd"), and a setting of an optimizer that a trial does not use is missing from that trial.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from emoray.report.run import Run, Trial
from emoray.report.scores import number


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
