"""Contact sheets: what an `augment` list does to images, as one picture to look at before a sweep is started."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from emoray.data.augmentation import Pipeline, pipeline
from emoray.text import shortened

_TILE = 96
"""Images are enlarged by the whole factor that brings their side closest to this many pixels."""
_GAP = 6
_TEXT = 14
_LETTER = 8
"""About the width of a letter."""
_LONGEST = 24
"""Letters of an image's name."""
_PAPER, _INK = (255, 255, 255), (40, 40, 40)


def contact_sheet(
    images: np.ndarray,
    components: Sequence[Mapping[str, Any]],
    *,
    seed: int = 0,
    epochs: int = 8,
    names: Sequence[str] = (),
    title: str = "",
) -> np.ndarray:
    """A row for each image: as it is, then as the list makes it in epochs 0, 1, ...: uint8 RGB (height, width, 3).

    `images` are uint8 (n, h, w, c), `components` as in a sweep file. Row i is the image with id i; mixing takes it
    together with its neighbour i^1. `names` stand before the rows, `title` above all.
    """
    augment = pipeline(components)
    columns = [images, *(_augmented(augment, images, seed, epoch) for epoch in range(epochs))]
    heads = ["original", *(f"epoch {epoch}" for epoch in range(epochs))]
    labels = ["\n".join(shortened(line, _LONGEST) for line in name.split("\n")) for name in names]
    return _sheet(np.stack(columns, axis=1), heads, labels or [""] * len(images), title)


def component_sheet(
    images: np.ndarray,
    components: Sequence[Mapping[str, Any]],
    *,
    seed: int = 0,
    names: Sequence[str] = (),
    title: str = "",
) -> np.ndarray:
    """A row for each component, acting alone on all images, under a row of the originals: uint8 RGB (height, width, 3).

    Arguments as for `contact_sheet`, but for `names`, which stand over the columns; each component draws as if it stood
    first in its list.
    """
    rows = [images, *(_augmented(pipeline([component]), images, seed, 0) for component in components)]
    heads = [shortened(name.split("/")[-1].split("\n")[-1], _TILE // _LETTER) for name in names]
    return _sheet(np.stack(rows), heads or [""] * len(images), ["original", *map(_label, components)], title)


def _augmented(augment: Pipeline, images: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    unlabelled = np.zeros((len(images), 1), np.float32)
    return augment(images, unlabelled, np.arange(len(images)), seed=seed, epoch=epoch)[0]


def _label(component: Mapping[str, Any]) -> str:
    """The component's name, and under it each setting that differs from its default."""
    return "\n".join(str(value) if key == "name" else f"{key}: {value}" for key, value in component.items())


def _sheet(grid: np.ndarray, heads: Sequence[str], labels: Sequence[str], title: str = "") -> np.ndarray:
    """Images (rows, columns, h, w, c) on paper, with a title, heads over the columns and labels before the rows."""
    rows, columns, height, width, channels = grid.shape
    factor = max(1, round(_TILE / width))
    font = ImageFont.load_default(_TEXT)
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    left = _GAP + max(round(draw.multiline_textbbox((0, 0), label, font)[2]) for label in labels)
    left += _GAP if any(labels) else 0
    wide, high = width * factor + _GAP, height * factor + _GAP
    titles = textwrap.wrap(title, (left + columns * wide) // _LETTER)
    above = len(titles) * (_TEXT + _GAP)
    top = above + (_TEXT + 2 * _GAP if any(heads) else _GAP)

    paper = Image.new("RGB", (left + columns * wide, top + rows * high), _PAPER)
    draw = ImageDraw.Draw(paper)
    for line, text in enumerate(titles):
        draw.text((_GAP, _GAP + line * (_TEXT + _GAP)), text, _INK, font)
    for column, head in enumerate(heads):
        draw.text((left + column * wide, above + _GAP), head, _INK, font)
    for row, label in enumerate(labels):
        draw.multiline_text((_GAP, top + row * high + _GAP), label, _INK, font)
        for column in range(columns):
            tile = grid[row, column] if channels == 3 else np.repeat(grid[row, column], 3, axis=-1)
            # Whole factors and no smoothing: what is seen are the pixels that the network gets.
            enlarged = tile.repeat(factor, axis=0).repeat(factor, axis=1)
            paper.paste(Image.fromarray(enlarged), (left + column * wide, top + row * high))
    return np.asarray(paper)
