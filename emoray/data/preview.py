"""A few images of a source, read here and now without Ray: to look at before a sweep is started."""

from itertools import islice
from typing import NamedTuple

import numpy as np

from emoray.config import DataSettings
from emoray.data import decode, sources
from emoray.data.plan import Sample, UnusableImage
from emoray.errors import UserError

_TRIED = 50
"""Images of one item that are read before it counts as holding none that can be used."""


class Preview(NamedTuple):
    """Images uint8 (n, h, w, c) as a sweep would use them, and their labels and names as the source has them."""

    images: np.ndarray
    names: list[str]


def images(settings: DataSettings, seed: int, count: int) -> Preview:
    """Up to `count` usable images from all over the source.

    Raises UserError where the source is missing or holds none.
    """
    source = sources.find(settings, seed)
    channels = 3 if settings.channels == "rgb" else 1
    if not source.items:
        raise UserError(f"data.path: {source.name} holds no images")
    places = np.linspace(0, len(source.items) - 1, count).astype(int)
    found: list[tuple[np.ndarray, str]] = []
    for place in np.unique(places):
        samples = islice(source.samples(source.items[place]), _TRIED * count)
        usable = ((p, _name(s)) for s in samples if (p := _pixels(s, channels, settings.image_size)) is not None)
        found += list(islice(usable, int((places == place).sum())))
    if not found:
        raise UserError(f"data.path: {source.name} holds no image that can be used")
    return Preview(np.stack([pixels for pixels, _ in found]), [name for _, name in found])


def _name(sample: Sample) -> str:
    """Its label and below it its name, where the source tells them; folders have both in one."""
    inside = sample.label is not None and sample.name is not None and sample.label in sample.name.split("/")
    return "\n".join(told for told in (None if inside else sample.label, sample.name) if told)


def _pixels(sample: Sample, channels: int, size: int) -> np.ndarray | None:
    try:
        pixels = decode.of_sample(sample.image, channels)
    except UnusableImage:
        return None
    return decode.resize(pixels, size).reshape(size, size, channels)
