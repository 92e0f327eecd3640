"""Known-good settings as draws: where written values lie in a space, so that a search can begin with them."""

from collections.abc import Iterator, Mapping
from statistics import NormalDist
from typing import Any

from emoray import notation, registry
from emoray.space import Choice, Normal, Range, Tree


def pinned(tree: Tree, written: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """The draws (name, value) that give what is `written` for a part of a space; samplers not named stay free.

    Raises ValueError, with the place, for what the space cannot give.
    """
    match tree:
        case Choice():
            yield from _of_choice(tree, written, place)
        case Range():
            yield place, _of_range(tree, written, place)
        case Normal():
            _number(written, place, tree.low, tree.high)
            normal = NormalDist(tree.mean, tree.sd)
            cut = normal.cdf(tree.low)
            yield place, min(max((normal.cdf(written) - cut) / (1 - 2 * cut), 0.0), 1.0)
        case Mapping() if isinstance(written, Mapping):
            for key, value in written.items():
                at = f"{place}.{key}" if place else key
                if key not in tree:
                    raise ValueError(f"{at}: there is no key '{key}': {registry.suggestion(key, list(tree))}")
                yield from pinned(tree[key], value, at)
        case Mapping() if written is not None and _is_called(tree, written):
            return
        case list() | tuple() if isinstance(written, list) and len(written) == len(tree):
            for i, value in enumerate(written):
                yield from pinned(tree[i], value, f"{place}[{i}]")
        case _:
            if written != tree:
                raise ValueError(f"{place}: the file fixes {_told(tree)}, so it cannot be {notation.shown(written)}")


def _of_choice(tree: Choice, written: Any, place: str) -> list[tuple[str, Any]]:
    reasons = []
    for label, option in zip(tree.labels(), tree.options, strict=True):
        if isinstance(option, Mapping) and not _is_called(option, written):
            continue
        try:
            inner = pinned(option, written, f"{place}[{label}]") if written != label else iter(())
            return [(place, label), *inner]
        except ValueError as error:
            reasons.append(str(error))
    components = [option for option in tree.options if isinstance(option, Mapping | Choice)]
    if reasons and components:
        raise ValueError(reasons[0])
    raise ValueError(
        f"{place}: {notation.shown(written)} is not among the choices; allowed: {', '.join(tree.labels())}"
    )


def _of_range(tree: Range, written: Any, place: str) -> float:
    number = _number(written, place, tree.low, tree.high)
    values = tree.values()
    if values is not None and not _is(number, values[values.nearest(number)]):
        raise ValueError(f"{place}: {notation.shown(written)} is not in steps of {tree.step or 1:g} from {tree.low:g}")
    return number


def _is(number: float, value: float) -> bool:
    return abs(number - value) < 1e-9 * max(1.0, abs(value))


def _number(written: Any, place: str, low: float, high: float) -> float:
    if isinstance(written, bool) or not isinstance(written, int | float) or not low <= written <= high:
        raise ValueError(f"{place}: {notation.shown(written)} is not in the range from {low:g} to {high:g}")
    return written


def _is_called(option: Mapping[str, Any], written: Any) -> bool:
    name = written.get("name") if isinstance(written, Mapping) else "none" if written is None else written
    return option.get("name") == name


def _told(tree: Tree) -> str:
    return notation.shown(notation.written(tree))
