"""Types for the keyword-only arguments of components: what a sweep file may set.

A component annotates its settings with these, with plain `int`, `float`, `bool`, `str`, `list[...]`, `dict[...]`,
`Literal[...]` and `| None`. The registry reads them from the source without importing the component's module, so an
annotation must be written with these names directly, never through an alias of the module's own.
"""

from typing import Annotated

from pydantic import Field

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
"""From 0 up to, but not including, 1: rates of dropout, momentum, smoothing."""
Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Half = Annotated[float, Field(ge=0, le=0.5)]
"""A share of which there are two that may not overlap: the worst and the best."""
Factor = Annotated[int, Field(ge=2, le=100)]
"""By which a number is cut down, again and again."""
Few = Annotated[int, Field(ge=1, le=100)]
"""A count that stands in an exponent or a loop, where a slip of the hand would cost hours."""
NonNegativeCount = Annotated[int, Field(ge=0)]
Degrees = Annotated[float, Field(ge=0, le=180)]
Lean = Annotated[float, Field(ge=0, lt=90)]
"""Degrees by which an image may be sheared: at 90 it has no width."""
ImageSize = Annotated[int, Field(ge=32, le=1024)]
