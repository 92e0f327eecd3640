"""How samplers are written in a sweep file, as in `{uniform: [0.1, 0.5]}`: from text to sampler and back."""

import json
from collections.abc import Mapping
from typing import Any

from emoray.space import Choice, Normal, Range, Sampler, Tree

_RANGES: Mapping[str, dict[str, Any]] = {
    "uniform": {},
    "loguniform": {"log": True},
    "quniform": {"step": True},
    "randint": {"integer": True},
    "lograndint": {"integer": True, "log": True},
    "qrandint": {"integer": True, "step": True},
}
MOST_STEPS = 10**12
SHOWN = 80
"""Characters of a value in a sentence."""
NAMES = ("choice", *_RANGES, "normal")


def shown(tree: Tree) -> str:
    """A piece of a sweep file as the file may write it, for a sentence: long ones are cut off."""
    text = repr(tree) if isinstance(tree, str) else json.dumps(tree, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def is_sampler(tree: Tree) -> bool:
    """Whether a piece of a sweep file is written as a sampler: a mapping with one key, a sampler's name."""
    return isinstance(tree, Mapping) and len(tree) == 1 and next(iter(tree)) in NAMES


def sampler(tree: Mapping[str, Any]) -> Sampler:
    """The sampler that `{name: arguments}` writes. Raises ValueError with what is wrong and what is allowed."""
    ((name, arguments),) = tree.items()
    if not isinstance(arguments, list):
        raise ValueError(f"{shown(arguments)} is not a list: {_usage(name)}")
    if name == "choice":
        if not arguments:
            raise ValueError("a choice needs at least one option")
        return Choice(tuple(arguments))
    shape = dict(_RANGES.get(name, {}))
    wanted = 3 if shape.get("step") else 2
    if len(arguments) != wanted or any(isinstance(a, bool) or not isinstance(a, int | float) for a in arguments):
        raise ValueError(f"{shown(arguments)} is not what {name} takes: {_usage(name)}")
    if shape.get("integer") and not all(isinstance(a, int) for a in arguments):
        raise ValueError(f"{shown(arguments)} must be whole numbers: {_usage(name)}")
    low, high = arguments[:2]
    if name == "normal":
        if high <= 0:
            raise ValueError(f"{shown(arguments)}: the standard deviation must be above 0")
        return Normal(low, high)
    if low >= high:
        raise ValueError(f"{shown(arguments)}: the low end must be below the high end")
    if shape.get("log") and low <= 0:
        raise ValueError(f"{shown(arguments)}: a logarithmic range must begin above 0")
    if shape.get("step"):
        if not 0 < arguments[2] <= high - low:
            raise ValueError(f"{shown(arguments)}: the step must be above 0 and at most the range's width")
        if (high - low) / arguments[2] > MOST_STEPS:
            raise ValueError(f"{shown(arguments)}: the step is too small, it makes more than {MOST_STEPS:,} values")
        shape["step"] = arguments[2]
    return Range(low, high, **shape)


def written(space: Tree) -> Tree:
    """The space as a sweep file writes it: the inverse of `sampler`, at every depth."""
    match space:
        case Choice():
            return {"choice": [written(option) for option in space.options]}
        case Normal():
            return {"normal": [space.mean, space.sd]}
        case Range():
            shape = {"log": space.log, "integer": space.integer, "step": space.step is not None}
            shape = {key: True for key, on in shape.items() if on}
            name = next(name for name, wanted in _RANGES.items() if wanted == shape)
            return {name: [space.low, space.high, *([space.step] if space.step is not None else [])]}
        case Mapping():
            return {key: written(value) for key, value in space.items()}
        case list() | tuple():
            return [written(value) for value in space]
    return space


def _usage(name: str) -> str:
    if name == "choice":
        return "choice takes a list of options"
    if name == "normal":
        return "normal takes [mean, standard deviation]"
    return f"{name} takes [low, high{', step' if _RANGES[name].get('step') else ''}]"
