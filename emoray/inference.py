"""Trained weights, applied to images: one model or the mean of a trial's epochs, with or without several views.

Test-time augmentation gives the mean of the probabilities over views of each image: `flip` the image and its mirror
image, `ten_crop` the four corners and the centre at 7/8 of the size, each also mirrored (Krizhevsky, Sutskever & Hinton
2012, "ImageNet classification with deep convolutional neural networks"), resized to what the model takes.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from emoray import quiet
from emoray.errors import UserError
from emoray.s3 import RemoteError
from emoray.storage import AnyPath
from emoray.trial import checkpoint

if TYPE_CHECKING:
    import keras

BATCH = 256
CROP = 7 / 8
VIEWS = {"none": 1, "flip": 2, "ten_crop": 10}


def load(trial: AnyPath, files: Sequence[AnyPath], image_shape: tuple[int, int, int], classes: int) -> "keras.Model":
    """The model of a trial's folder with the weights in `files`: of several, their mean.

    Raises UserError where a file is missing, damaged or of another model.
    """
    with quiet.importing_tensorflow():
        import keras  # noqa: F401
    try:
        model = checkpoint.load_model(trial, image_shape, classes)
        if len(files) > 1:
            checkpoint.assign(model.variables, soup(files))
    except RemoteError:
        raise
    except (ValueError, KeyError, OSError) as error:
        raise UserError(
            f"{trial} does not hold a model for {image_shape} images of {classes} classes: {error}"
        ) from None
    return model


def soup(files: Sequence[AnyPath]) -> list[np.ndarray]:
    """The mean of the weights in several checkpoints of one training run, one file in memory at a time.

    Wortsman et al. 2022, "Model soups", after Izmailov et al. 2018, "Averaging weights leads to wider optima". The
    moving averages of batch norm are averaged like weights, which holds for epochs of one run and the same data.
    """
    means = [np.array(array, np.float64) for array in checkpoint.read(files[0]).arrays["model"]]
    for count, file in enumerate(files[1:], start=2):
        arrays = checkpoint.read(file).arrays["model"]
        if [a.shape for a in arrays] != [m.shape for m in means]:
            raise UserError(f"{file} holds the weights of another model than {files[0]}")
        for mean, array in zip(means, arrays, strict=True):
            mean += (array - mean) / count
    return [mean.astype(np.float32) for mean in means]


class Predictor:
    """A model, compiled: images uint8 (n, h, w, c) to probabilities float32 (n, classes)."""

    def __init__(self, model: Any, image_shape: tuple[int, int, int], tta: str = "none") -> None:
        import tensorflow as tf

        self.batch = max(1, BATCH // VIEWS[tta])
        signature = [tf.TensorSpec([None, *image_shape], tf.uint8)]
        self._compiled = tf.function(
            partial(_probabilities, model, tta), input_signature=signature, autograph=False, reduce_retracing=True
        )

    def __call__(self, images: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        parts = [
            self._compiled(tf.constant(images[start : start + self.batch])).numpy()
            for start in range(0, len(images), self.batch)
        ]
        return np.concatenate(parts)


def _probabilities(model: Any, tta: str, images: Any) -> Any:
    import tensorflow as tf

    views = _views(images, tta)
    logits = model(tf.concat(views, 0) if len(views) > 1 else images, training=False)
    shares = tf.nn.softmax(tf.cast(logits, tf.float32))
    return tf.reduce_mean(tf.reshape(shares, [len(views), -1, shares.shape[-1]]), 0)


def _views(images: Any, tta: str) -> list[Any]:
    import tensorflow as tf

    if tta == "none":
        return [images]
    if tta == "flip":
        return [images, tf.reverse(images, [2])]
    height, width = images.shape[1:3]
    tall, wide = round(CROP * height), round(CROP * width)
    bottom, right = height - tall, width - wide
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    crops = [images[:, top : top + tall, left : left + wide] for top, left in corners]
    resized = [tf.cast(tf.round(tf.image.resize(crop, [height, width])), tf.uint8) for crop in crops]
    return [*resized, *(tf.reverse(crop, [2]) for crop in resized)]
