"""Augmentation of a batch: the components that a sweep file lists, composed into one pass over the images.

The rule to know: an image's pixels are a function of (seed, epoch, row id) and of nothing else, so they do not change
with the size, order or place of the batch. Mixing adds the neighbour in the batch. What a component is, and the kinds
there are, stands in `emoray.augment`.
"""

import functools
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np

from emoray import registry
from emoray.data import draws
from emoray.errors import UserError
from emoray.warp import warp

Kind = Literal["geometry", "pixels", "mixing"]

DRAWS = 8
"""Draws that a component gets for each image: more than any needs, and cheap."""
_KINDS: dict[tuple[str, ...], Kind] = {
    ("draws", "image_shape"): "geometry",
    ("images", "draws"): "pixels",
    ("images", "labels", "draws"): "mixing",
}


@dataclass(frozen=True)
class Step:
    """A component with its settings bound. `stream` names its random numbers: its place in the list and its name."""

    kind: Kind
    stream: str
    function: Callable[..., Any]


@dataclass(frozen=True)
class Pipeline:
    """Steps in the order in which they act: those on single images as listed, then mixing. Can be pickled."""

    steps: tuple[Step, ...]

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, rows: np.ndarray, *, seed: int, epoch: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Augment a batch for an epoch.

        `images` are uint8 (n, h, w, c), `labels` soft, float32 (n, classes), `rows` the images' ids, integers (n,).
        None of them is written to, and what no step touches is handed back as it came.
        """

        def drawn(step: Step) -> np.ndarray:
            return draws.uniform(seed, epoch, step.stream, rows, DRAWS)

        if len(images) == 0:  # a worker's share of the last batch of an epoch; components need not know of it
            return images, labels
        # A trial owns its CPUs: OpenCV's pool would take those of its neighbours. The setting is one of the process.
        cv2.setNumThreads(0)
        for kind, steps in itertools.groupby(self.steps, key=lambda step: step.kind):
            if kind == "geometry":
                images = warp(images, _product([step.function(drawn(step), images.shape[1:]) for step in steps]))
                continue
            for step in steps:
                if kind == "pixels":
                    images = step.function(_read_only(images), drawn(step))
                else:
                    images, labels = step.function(_read_only(images), _read_only(labels), drawn(step))
        return images, labels


def pipeline(components: Sequence[Mapping[str, Any]]) -> Pipeline:
    """The pipeline of a sweep file's `augment` list: `[{"name": "flip"}, {"name": "rotate", "degrees": 10}, ...]`.

    Raises `UserError` for a component whose positional arguments make it none of the three kinds.
    """
    steps = []
    for place, component in enumerate(components):
        settings = dict(component)
        name = settings.pop("name")
        function = registry.function("augment", name)
        steps.append(Step(_kind(name, function), f"augment {place} {name}", functools.partial(function, **settings)))
    # Stable: the listed order holds within each group.
    return Pipeline(tuple(sorted(steps, key=lambda step: step.kind == "mixing")))


def _kind(name: str, function: Callable[..., Any]) -> Kind:
    """What a component works on, by the names of its positional arguments."""
    parameters = inspect.signature(function).parameters.values()
    positional = tuple(parameter.name for parameter in parameters if parameter.kind != parameter.KEYWORD_ONLY)
    if positional not in _KINDS:
        allowed = "; ".join(f"({', '.join(names)}) for {kind}" for names, kind in _KINDS.items())
        raise UserError(f"augment component {name} takes ({', '.join(positional)}); allowed are {allowed}")
    return _KINDS[positional]


def _product(matrices: Sequence[np.ndarray]) -> np.ndarray:
    """One matrix an image, float32 (n, 3, 3), that does what `matrices` do one after the other."""
    return functools.reduce(lambda done, following: following @ done, matrices)


def _read_only(array: np.ndarray) -> np.ndarray:
    """A view that cannot be written to: a component that works in place fails instead of changing the data set."""
    view = array.view()
    view.flags.writeable = False
    return view
