"""A few images of a source, read here and now without Ray: to look at before a sweep is started."""

from itertools import islice

import numpy as np

from emoray.config import DataSettings
from emoray.data import decode, sources
from emoray.data.plan import Sample, UnusableImage
from emoray.errors import UserError

_TRIED = 50
"""Images of one item that are read before it counts as holding none that can be used."""


def images(settings: DataSettings, seed: int, count: int) -> np.ndarray:
    """Up to `count` usable images from all over the source: uint8 (n, h, w, c) as a sweep would use them.

    Raises UserError where the source is missing or holds none.
    """
    source = sources.find(settings, seed)
    channels = 3 if settings.channels == "rgb" else 1
    if not source.items:
        raise UserError(f"data.path: {source.name} holds no images")
    places = np.linspace(0, len(source.items) - 1, count).astype(int)
    found = []
    for place in np.unique(places):
        samples = islice(source.samples(source.items[place]), _TRIED * count)
        usable = (pixels for s in samples if (pixels := _pixels(s, channels, settings.image_size)) is not None)
        found += list(islice(usable, int((places == place).sum())))
    if not found:
        raise UserError(f"data.path: {source.name} holds no image that can be used")
    return np.stack(found)


def _pixels(sample: Sample, channels: int, size: int) -> np.ndarray | None:
    try:
        pixels = decode.of_sample(sample.image, channels)
    except UnusableImage:
        return None
    return decode.resize(pixels, size).reshape(size, size, channels)
