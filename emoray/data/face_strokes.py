"""Brush strokes for many faces at once: part of a canvas, and soft masks on it.

Arrays are (h, w, n) with the batch last, because then numpy's inner loops are long even in the small window of an eye.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]  # float32 when run; numpy's own stubs lose the precision beside a Python number
Values = dict[str, Array]
"""Numbers of a batch by name, each float32 (n,); action units are "au1", "au12" ..., 0 absent, 1 full."""


class Window(NamedTuple):
    """A part of the canvas: a view to paint on, and where its pixels lie."""

    image: Array  # (h, w, n), a view
    x: Array  # (1, w, 1)
    y: Array  # (h, 1, 1)
    scale: float  # pixels in a unit


def window(canvas: Window, left: float, right: float, top: float, bottom: float) -> Window:
    """The part of a canvas between two x and two y, in units."""
    x, y = canvas.x[0, :, 0], canvas.y[:, 0, 0]
    columns = slice(int(np.searchsorted(x, left)), int(np.searchsorted(x, right)))
    rows = slice(int(np.searchsorted(y, top)), int(np.searchsorted(y, bottom)))
    return Window(canvas.image[rows, columns], canvas.x[:, columns], canvas.y[rows], canvas.scale)


def paint(image: Array, mask: Array, tone: Array | float) -> None:
    """Lay `tone` over the image where `mask` says, 0 not at all to 1 opaque."""
    change = tone - image
    change *= mask
    image += change


def darken(image: Array, mask: Array) -> None:
    """A shadow: takes the share `mask` of the light away."""
    image *= 1 - mask


def inside(distance: Array, scale: float) -> Array:
    """Coverage of a pixel whose middle lies `distance` units inside an edge."""
    cover = distance * np.float32(scale)
    cover += np.float32(0.5)
    return np.clip(cover, 0, 1, out=cover)


def bump(square: Array) -> Array:
    """A soft hill: 1 in the middle, 0 from squared distance 1 on."""
    rest = 1 - square
    np.maximum(rest, 0, out=rest)
    rest *= rest
    return rest


def line(distance: Array, width: Array | float) -> Array:
    """A soft line where `distance` is 0, gone at `width`."""
    scaled = distance / width
    scaled *= scaled
    return bump(scaled)


def half(hand: float, c: Window, inner: float, outer: float, top: float, bottom: float) -> Window:
    """A window at the same place of either half; `hand` is -1 for the left of the picture, 1 for the right."""
    return window(c, *((-outer, -inner) if hand < 0 else (inner, outer)), top, bottom)
