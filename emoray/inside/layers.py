"""What every layer of a model gives while the model runs, whatever the model is made of.

Layers are watched by wrapping their `call`, so functional, subclassed and nested models are all the same; nothing is
rebuilt and no layer has to be named.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

_CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.Conv2DTranspose,
)
_AFTER = (
    *(keras.layers.BatchNormalization, keras.layers.LayerNormalization, keras.layers.GroupNormalization),
    *(keras.layers.Activation, keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.PReLU, keras.layers.ELU),
)
"""What may follow a convolution and keep its channels apart."""
_NO_STAGE = (keras.layers.ZeroPadding2D, keras.layers.Cropping2D)


@dataclass(frozen=True)
class Seen:
    """One call of a layer without parts: its path in the model and its output, a tensor (n, h, w, channels)."""

    path: str
    layer: keras.Layer
    output: Any

    @property
    def size(self) -> tuple[int, int]:
        return int(self.output.shape[1]), int(self.output.shape[2])

    @property
    def channels(self) -> int:
        return int(self.output.shape[3])


@contextmanager
def watched(model: keras.Model, also: Callable[[Any], None] = lambda output: None) -> Iterator[list[Seen]]:
    """While this is open, every call of a layer of `model` that gives maps is listed, and `also` is told its output."""
    seen: list[Seen] = []
    wrapped = []
    for path, layer in leaves(model):
        layer.__dict__["call"] = _recording(layer, path, seen, also)
        wrapped.append(layer)
    try:
        yield seen
    finally:
        for layer in wrapped:
            del layer.__dict__["call"]


def _recording(layer: keras.Layer, path: str, seen: list[Seen], also: Callable[[Any], None]) -> Callable[..., Any]:
    call = layer.call

    def record(*arguments: Any, **keywords: Any) -> Any:
        output = call(*arguments, **keywords)
        if len(getattr(output, "shape", ())) == 4:
            also(output)
            seen.append(Seen(path, layer, output))
        return output

    return record


def leaves(model: keras.Layer, path: str = "") -> Iterator[tuple[str, keras.Layer]]:
    """The layers of `model` that have no layers in them, each once, with their paths."""
    known: set[int] = set()
    yield from _leaves(model, path, known)


def _leaves(layer: keras.Layer, path: str, known: set[int]) -> Iterator[tuple[str, keras.Layer]]:
    if id(layer) in known:
        return
    known.add(id(layer))
    parts = _parts(layer)
    if not parts:
        yield path or layer.name, layer
    for part in parts:
        yield from _leaves(part, f"{path}/{part.name}" if path else part.name, known)


def _parts(layer: keras.Layer) -> list[keras.Layer]:
    """The layers directly in a layer: those of a model, else those among its attributes and in lists there."""
    if isinstance(layer, keras.Model):
        return list(layer.layers)
    found: dict[int, keras.Layer] = {}
    for value in vars(layer).values():
        held = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else (value,)
        found |= {id(one): one for one in held if isinstance(one, keras.Layer)}
    return list(found.values())


def stages(seen: list[Seen]) -> list[Seen]:
    """The last output at each size of the maps, from the finest to the coarsest: what each stage of a network hands on.

    What comes before the first convolution is pixels still, however they are scaled; in a model without one, what has
    at most their three channels.
    """
    first = next((place for place, one in enumerate(seen) if isinstance(one.layer, _CONVOLUTIONS)), None)
    started = [one for one in seen if one.channels > 3] if first is None else seen[first:]
    maps = [one for one in started if min(one.size) > 1 and not isinstance(one.layer, _NO_STAGE)]
    last = {one.size: one for one in maps}
    return sorted(last.values(), key=lambda one: -one.size[0] * one.size[1])


def first_filters(model: keras.Model) -> NDArray[np.float32] | None:
    """The kernels (height, width, inputs, filters) of the first convolution; None where there is none."""
    for _, layer in leaves(model):
        if isinstance(layer, keras.layers.Conv2D):
            return np.asarray(layer.kernel)
    return None


@dataclass(frozen=True)
class Convolution:
    """How many of a convolution's channels give the same number everywhere, after its norm and activation."""

    path: str
    filters: int
    dead: int


def dead_filters(model: keras.Model, images: NDArray[np.uint8], batch: int = 64) -> list[Convolution]:
    """Every convolution with its dead filters: those that `images` (n, h, w, c) do not move at all."""
    lowest: dict[str, NDArray] = {}
    highest: dict[str, NDArray] = {}
    for start in range(0, len(images), batch):
        with watched(model) as seen:
            model(images[start : start + batch], training=False)
        for path, output in _activations(seen):
            values = np.asarray(output, np.float32)
            low, high = values.min(axis=(0, 1, 2)), values.max(axis=(0, 1, 2))
            lowest[path] = np.minimum(lowest.get(path, low), low)
            highest[path] = np.maximum(highest.get(path, high), high)
    return [
        Convolution(path, len(low), int((highest[path] - low <= 1e-6 * np.maximum(1, abs(low))).sum()))
        for path, low in lowest.items()
    ]


def _activations(seen: list[Seen]) -> Iterator[tuple[str, Any]]:
    """Each convolution's path with what leaves its norm and activation, as far as they follow it directly."""
    for place, one in enumerate(seen):
        if not isinstance(one.layer, _CONVOLUTIONS):
            continue
        last = one
        for following in seen[place + 1 :]:
            if not isinstance(following.layer, _AFTER) or following.output.shape != one.output.shape:
                break
            last = following
        yield one.path, last.output
