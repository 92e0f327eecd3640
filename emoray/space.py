"""Samplers in a sweep file: what they are, what is wrong with one, and how a space of them is drawn from.

A space is a tree of dicts, lists and plain values in which a sampler may stand anywhere. `draw` walks it and asks for
a value of each sampler that it meets, so a sampler inside an option of a choice exists only when that option is drawn;
every search algorithm goes through it.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, TypeAlias, overload

Tree: TypeAlias = Any
"""Dicts, lists, strings, numbers, booleans, None and, in a space, samplers."""


@dataclass(frozen=True)
class Choice:
    """One of several options, each a tree of its own."""

    options: tuple[Tree, ...]

    def labels(self) -> tuple[str, ...]:
        """A short name for each option, unique and stable: what search algorithms and reports see."""
        names = [_label(option) for option in self.options]
        return tuple(f"{name}#{i}" if names.count(name) > 1 else name for i, name in enumerate(names))


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; `step` quantises, counted from `low`."""

    low: float
    high: float
    log: bool = False
    integer: bool = False
    step: float | None = None

    def values(self) -> "Steps | None":
        """All values, where they can be counted."""
        return Steps(self) if self.integer or self.step is not None else None

    def rounded(self, value: float) -> float:
        return int(value) if self.integer else float(f"{value:.12g}")


@dataclass(frozen=True)
class Steps(Sequence[float]):
    """The values of a range that goes in steps, each made when it is asked for: a file may write 10^12 of them."""

    range: Range

    def __len__(self) -> int:
        return math.floor((self.range.high - self.range.low) / (self.range.step or 1) + 1e-9) + 1

    @overload
    def __getitem__(self, at: int) -> float: ...
    @overload
    def __getitem__(self, at: slice) -> list[float]: ...
    def __getitem__(self, at: int | slice) -> float | list[float]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        return self.range.rounded(self.range.low + (at % len(self)) * (self.range.step or 1))

    def nearest(self, value: float) -> int:
        """The place of the value that is closest."""
        return min(max(round((value - self.range.low) / (self.range.step or 1)), 0), len(self) - 1)


@dataclass(frozen=True)
class Normal:
    """The normal distribution cut off at three standard deviations, so that both of its ends can be checked."""

    mean: float
    sd: float

    @property
    def low(self) -> float:
        return self.mean - 3 * self.sd

    @property
    def high(self) -> float:
        return self.mean + 3 * self.sd

    def rounded(self, value: float) -> float:
        return float(value)

    def quantile(self, u: float) -> float:
        """The value below which a share `u` (0 to 1) of the draws lies."""
        normal = NormalDist(self.mean, self.sd)
        cut = normal.cdf(self.low)
        return normal.inv_cdf(cut + u * (1 - 2 * cut))


Sampler: TypeAlias = Choice | Range | Normal
SAMPLERS = (Choice, Range, Normal)

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


def draw(space: Tree, suggest: Callable[[str, Sampler], Any], place: str = "") -> Tree:
    """The settings that `suggest` draws from `space`.

    `suggest(name, sampler)` is asked for each sampler that is reached, with a name unique within the space: a label of
    `Choice.labels()` for a choice, a value for a range, the share (0 to 1) of a `Normal` that lies below. The answer
    holds no sampler.
    """
    match space:
        case Choice():
            labels = space.labels()
            label = suggest(place, space)
            return draw(space.options[labels.index(label)], suggest, f"{place}[{label}]")
        case Range():
            return suggest(place, space)
        case Normal():
            return space.quantile(suggest(place, space))
        case Mapping():
            return {key: draw(value, suggest, f"{place}.{key}" if place else key) for key, value in space.items()}
        case list() | tuple():
            return [draw(value, suggest, f"{place}[{i}]") for i, value in enumerate(space)]
    return space


def at(sampler: Sampler, u: float) -> Any:
    """What `draw` wants to be told of a sampler, at the share `u` (0 up to 1) of its distribution."""
    if isinstance(sampler, Choice):
        labels = sampler.labels()
        return labels[int(u * len(labels))]
    if isinstance(sampler, Normal):
        return u
    if sampler.log:
        low, high = math.log(sampler.low - 0.5 * sampler.integer), math.log(sampler.high + 0.5 * sampler.integer)
        value = math.exp(low + u * (high - low))
        return int(min(max(round(value), sampler.low), sampler.high)) if sampler.integer else sampler.rounded(value)
    values = sampler.values()
    if values is not None:
        return values[int(u * len(values))]
    return sampler.rounded(sampler.low + u * (sampler.high - sampler.low))


def ends(space: Tree) -> list[float]:
    """The numbers that a setting may be, or of a range its two ends; what is no number is left out."""
    match space:
        case Choice():
            return [number for option in space.options for number in ends(option)]
        case Range() | Normal():
            return [space.rounded(space.low), space.rounded(space.high)]
        case bool():
            return []
        case int() | float():
            return [space]
    return []


def share(sampler: Range | Normal, value: float) -> float:
    """Where a drawn value lies in its sampler's distribution, 0 to 1: the inverse of `at`."""
    if isinstance(sampler, Normal):
        return value
    if sampler.log:
        low, high = math.log(sampler.low - 0.5 * sampler.integer), math.log(sampler.high + 0.5 * sampler.integer)
        return (math.log(value) - low) / (high - low)
    values = sampler.values()
    if values is not None:
        step = sampler.step or 1
        return (round((value - sampler.low) / step) + 0.5) / len(values)
    return (value - sampler.low) / (sampler.high - sampler.low)


def size(space: Tree) -> float:
    """How many different settings a space holds; infinite where it holds a continuous range."""
    match space:
        case Choice():
            return sum(size(option) for option in space.options)
        case Range():
            values = space.values()
            return math.inf if values is None else len(values)
        case Normal():
            return math.inf
        case Mapping():
            return math.prod(size(value) for value in space.values())
        case list() | tuple():
            return math.prod(size(value) for value in space)
    return 1


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


def samplers(space: Tree, place: str = "") -> Iterator[tuple[str, Sampler]]:
    """Every sampler with its place, those inside the options of choices too."""
    match space:
        case Choice():
            yield place, space
            for label, option in zip(space.labels(), space.options, strict=True):
                yield from samplers(option, f"{place}[{label}]")
        case Range() | Normal():
            yield place, space
        case Mapping():
            for key, value in space.items():
                yield from samplers(value, f"{place}.{key}" if place else key)
        case list() | tuple():
            for i, value in enumerate(space):
                yield from samplers(value, f"{place}[{i}]")


def continuous(space: Tree) -> list[str]:
    """The places of the samplers that have no grid."""
    found = dict(samplers(space))
    return [at for at, s in found.items() if isinstance(s, Normal) or (isinstance(s, Range) and s.values() is None)]


def choices(space: Tree) -> list[str]:
    """The places of choices."""
    return [at for at, sampler in dict(samplers(space)).items() if isinstance(sampler, Choice)]


def nested(space: Tree) -> list[str]:
    """The places of samplers that exist only when an option of a choice is drawn."""
    return [at for at, _ in samplers(space) if any(at.startswith(f"{choice}[") for choice in choices(space))]


def _label(option: Tree) -> str:
    if isinstance(option, Mapping) and isinstance(option.get("name"), str):
        return option["name"]
    if isinstance(option, list) and all(isinstance(o, Mapping) and isinstance(o.get("name"), str) for o in option):
        return "+".join(o["name"] for o in option) or "[]"
    try:
        return option if isinstance(option, str) else json.dumps(option)
    except TypeError:
        return type(option).__name__.lower()


def _usage(name: str) -> str:
    if name == "choice":
        return "choice takes a list of options"
    if name == "normal":
        return "normal takes [mean, standard deviation]"
    return f"{name} takes [low, high{', step' if _RANGES[name].get('step') else ''}]"
