"""The ends of what a component's settings allow, read from their annotations: what contract tests try out."""

import itertools
import types
import typing
from collections.abc import Iterator
from typing import Any

from emoray.registry import Component

MODEST = 3
"""The upper end of what has none, such as a width or a weight decay."""
STEP = 1e-3
"""How far inside an open end (above 0, below 1) a value is tried."""


def of_type(wanted: Any) -> list[Any]:
    """The values at the ends of a type: both of a range, all of a Literal; none where there is no end."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return list(itertools.chain.from_iterable(of_type(one) for one in arguments))
    if origin is typing.Literal:
        return list(arguments)
    if wanted is bool:
        return [False, True]
    if wanted is type(None):
        return [None]
    limits = [limit for field in getattr(wanted, "__metadata__", ()) for limit in field.metadata]
    ends = [getattr(limit, name) for limit in limits for name in ("ge", "le") if hasattr(limit, name)]
    ends += [limit.gt + STEP for limit in limits if hasattr(limit, "gt")]
    ends += [limit.lt - STEP for limit in limits if hasattr(limit, "lt")]
    if len(ends) == 1:  # nothing bounds it above: beyond the defaults of most, and cheap in layers, filters and epochs
        ends.append(MODEST)
    return [arguments[0](end) for end in ends]


def one_by_one(component: Component) -> Iterator[dict[str, Any]]:
    """The defaults, and then each end of each setting with the defaults of the others."""
    yield {}
    for setting in component.settings.values():
        yield from ({setting.name: end} for end in of_type(setting.type) if end != setting.default)


def together(component: Component) -> Iterator[dict[str, Any]]:
    """As few settings as can be in which every end of every setting occurs: the first of each, the second of each..."""
    ends = {setting.name: of_type(setting.type) for setting in component.settings.values()}
    for column in range(max(map(len, ends.values()), default=0)):
        yield {name: values[column % len(values)] for name, values in ends.items() if values}
