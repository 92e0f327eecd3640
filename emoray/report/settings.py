"""The settings of trials: flattened, and compared within a study.

A setting's name is its path in the sweep file (`optimizer.learning_rate`); a component stands under its own key
(`optimizer` is "sgd"), and a setting of an optimizer that a trial does not use is missing from that trial.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from emoray import notation
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
    """The settings with several values among those `trials` that have them, in the order of the sweep file.

    What all trials of one optimizer have alike (its momentum) says no more than the optimizer's name does.
    """
    return _varying([flatten(trial.settings) for trial in trials])


def _varying(flats: Sequence[Mapping[str, str | float]]) -> list[str]:
    names = dict.fromkeys(name for flat in flats for name in flat)
    return [name for name in names if len({flat[name] for flat in flats if name in flat}) > 1]


def searched(run: Run, trials: Sequence[Trial]) -> list[str]:
    """Those of `varying` that the sweep file leaves to the search; all of them where it does not tell of the study.

    Two optimizers with other defaults differ in settings that nobody asked for.
    """
    drawn = _spaces(run.sweep).get(trials[0].study)
    return [name for name in varying(trials) if drawn is None or name.removeprefix("model.") in drawn]


@functools.lru_cache(maxsize=1)
def _spaces(sweep: str) -> dict[str, frozenset[str]]:
    """The settings that a sweep.yaml leaves to the search, by study."""
    models = (yaml.safe_load(sweep) or {}).get("models") or []
    return {
        str(model["study"]): frozenset(_drawn(model))
        for model in models
        if isinstance(model, Mapping) and "study" in model
    }


def _drawn(tree: Any, place: str = "") -> Iterator[str]:
    """The settings that a piece of sweep.yaml leaves to the search, by the names that `flatten` gives them."""
    if notation.is_sampler(tree):
        yield place
        yield from _chosen(tree.get("choice") or [], place)
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _drawn(value, f"{place}.{key}" if place else key)
    elif isinstance(tree, list):
        for item in tree:
            if isinstance(item, Mapping):
                yield from _drawn(item, f"{place}.{item.get('name')}")


def _chosen(options: Sequence[Any], place: str) -> Iterator[str]:
    """What is drawn within the options of a choice, and what tells options of one name apart, as two rotations."""
    flats = [flatten({place: option}) for option in options]
    for option, flat in zip(options, flats, strict=True):
        yield from _drawn(option, place)
        yield from _varying([other for other in flats if other.get(place) == flat.get(place)])


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
