"""Pictures: small ones as data URIs for the page, full-size ones as PNG files with their captions.

Arrays in, images out; what the pictures show is decided elsewhere.
"""

import base64
import io
import math
from collections.abc import Sequence

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from emoray import storage
from emoray.storage import AnyPath

Pixels = NDArray[np.uint8]
GAP = 2
"""White pixels between the tiles of a strip."""


def rgb(image: Pixels) -> Pixels:
    """(h, w, 1 or 3) to (h, w, 3)."""
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def enlarged(image: NDArray, side: int, smooth: bool = False) -> NDArray:
    """`image` (h, w) or (h, w, c) with its longer edge at `side` pixels; pixels stay sharp unless `smooth`."""
    scale = side / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    method = cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST if scale >= 1 else cv2.INTER_AREA
    resized = cv2.resize(np.ascontiguousarray(image), size, interpolation=method)
    return resized if resized.ndim == image.ndim else resized[..., None]


def coloured(values: NDArray, name: str = "viridis") -> Pixels:
    """(h, w) numbers, from their lowest to their highest, in a colour map: (h, w, 3)."""
    low, high = float(values.min()), float(values.max())
    shares = (values - low) / (high - low) if high > low else np.zeros_like(values, np.float64)
    return (colormaps[name](shares)[..., :3] * 255).round().astype(np.uint8)


def overlaid(image: Pixels, heat: NDArray) -> Pixels:
    """`heat` (h, w) in 0-1 laid over an image of the same size, stronger where it is hot."""
    hot = colormaps["inferno"](heat)[..., :3] * 255
    part = (0.25 + 0.5 * heat)[..., None]
    return ((1 - part) * rgb(image) + part * hot).round().astype(np.uint8)


def framed(tile: Pixels, width: int = 2) -> Pixels:
    """A tile (h, w, 3) with a grey frame around it."""
    return np.pad(tile, ((width, width), (width, width), (0, 0)), constant_values=128)


def strip(tiles: Sequence[Pixels], gap: int = GAP) -> Pixels:
    """Tiles (h, w, 3) of one height side by side, with gaps."""
    white = np.full((tiles[0].shape[0], gap, 3), 255, np.uint8)
    parts = [part for tile in tiles for part in (tile, white)]
    return np.concatenate(parts[:-1], axis=1)


def grid(tiles: Sequence[Pixels], columns: int, gap: int = GAP) -> Pixels:
    """Tiles of one size in rows of `columns`; what is left of the last row is white."""
    blank = np.full_like(tiles[0], 255)
    rows = [list(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    rows[-1] += [blank] * (columns - len(rows[-1])) if len(rows) > 1 else []
    strips = [strip(row, gap) for row in rows]
    white = np.full((gap, strips[0].shape[1], 3), 255, np.uint8)
    parts = [part for one in strips for part in (one, white)]
    return np.concatenate(parts[:-1], axis=0)


def uri(image: Pixels, quality: int = 82) -> str:
    """An image (h, w, 1 or 3) as a data URI: grey ones as PNG, coloured ones as WebP of `quality`."""
    buffer = io.BytesIO()
    if image.ndim == 3 and image.shape[2] == 1:
        Image.fromarray(image[..., 0]).save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        Image.fromarray(image).save(buffer, "WEBP", quality=quality, method=4)
        kind = "webp"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def sheet(path: AnyPath, images: Sequence[Pixels], captions: Sequence[str], title: str, columns: int = 6) -> None:
    """A PNG of captioned images in rows of `columns`."""
    columns = min(columns, max(1, len(images)))
    rows = math.ceil(len(images) / columns)
    width, height, head, image_side = 1.9, 2.3, 0.5, 1.7  # inches
    figure = Figure(figsize=(width * columns, height * rows + head), dpi=120)
    # One pair of axes for all: a pair for each image costs 40 ms.
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        middle = width * (number % columns + 0.5)
        bottom = head + height * (number // columns + 1) - 0.1
        extent = (middle - image_side / 2, middle + image_side / 2, bottom, bottom - image_side)
        axes.imshow(rgb(image), interpolation="nearest", extent=extent, aspect="auto")
        axes.text(middle, bottom - image_side - 0.05, _plain(caption), fontsize=7, ha="center", va="bottom")
    axes.set(xlim=(0, width * columns), ylim=(height * rows + head, 0))  # every imshow moves them
    axes.text(width * columns / 2, 0.25, _plain(title), fontsize=10, ha="center", va="center")
    _save(figure, path)


def rows(path: AnyPath, pictures: Sequence[Pixels], captions: Sequence[str], title: str) -> None:
    """A PNG of pictures below each other, each with its caption above it."""
    heights = [picture.shape[0] / picture.shape[1] for picture in pictures]
    figure = Figure(figsize=(9, 9 * sum(heights) + 0.42 * len(pictures) + 0.6), dpi=120)
    axes = figure.subplots(len(pictures), 1, squeeze=False, gridspec_kw={"height_ratios": heights}).ravel()
    for axis, picture, caption in zip(axes, pictures, captions, strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set_anchor("W")
        axis.set_title(_plain(caption), fontsize=8, loc="left")
        axis.axis("off")
    figure.suptitle(_plain(title), fontsize=10)
    figure.tight_layout()
    _save(figure, path)


def _plain(text: str) -> str:
    """A caption as it is: matplotlib would read what stands between two dollars as mathematics."""
    return text.replace("$", r"\$")


def _save(figure: Figure, path: AnyPath) -> None:
    with storage.appearing(path) as file:
        FigureCanvasAgg(figure).print_png(file)
