"""Samplers and the spaces made of them: what they are, what they hold, and how one is drawn from.

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


def corners(tree: Tree) -> list[Any]:
    """Trees without samplers in which each option and end of every sampler occurs at least once."""
    ends: dict[str, list[Any]] = {}

    def note(place: str, sampler: Sampler) -> Any:
        if isinstance(sampler, Choice):
            ends[place] = list(sampler.labels())
        elif isinstance(sampler, Normal):
            ends[place] = [0.0, 1.0]
        else:
            ends[place] = [sampler.rounded(end) for end in (sampler.low, sampler.high)]
        return ends[place][0]

    corners = [draw(tree, note)]
    for place in list(ends):
        for end in ends[place][1:]:
            changed = lambda at, sampler, place=place, end=end: end if at == place else note(at, sampler)  # noqa: E731
            corners.append(draw(tree, changed))
    return corners


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
