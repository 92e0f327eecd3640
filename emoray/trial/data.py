"""What every trial of a sweep shares: the images it trains on and those it is judged by."""

from dataclasses import dataclass

import numpy as np

from emoray.data import Prepared
from emoray.data.batches import Images


@dataclass(frozen=True)
class TrialData:
    """Arrays may be read-only views into the object store; `images` that do not fit there stay on disk.

    `images` are uint8 (n, h, w, c), `targets` soft labels float32 (n, classes), `rows` int64 (n,) the images' ids,
    `counts` the images of each class; `labels` int64 (n,) are the validation split's classes.
    """

    mode: str
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    images: Images
    targets: np.ndarray
    rows: np.ndarray
    validation_images: Images
    validation_labels: np.ndarray

    @property
    def image_shape(self) -> tuple[int, int, int]:
        height, width, channels = self.images.shape[1:]
        return height, width, channels


def load(prepared: Prepared, mode: str) -> TrialData:
    """The train and validation splits of prepared data: in "memory", or to "stream" them from disk."""
    read = prepared.mapped if mode == "stream" else prepared.load
    train, validation = read("train"), read("validation")
    classes = tuple(prepared.manifest["classes"])
    targets = train.votes if train.votes is not None else np.eye(len(classes), dtype=np.float32)[train.labels]
    counts = np.bincount(train.labels, minlength=len(classes))
    return TrialData(
        mode,
        classes,
        tuple(int(count) for count in counts),
        train.images,
        targets,
        train.rows,
        validation.images,
        validation.labels,
    )
