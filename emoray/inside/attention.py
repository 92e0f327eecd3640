"""What of an image a decision came from: class activation maps.

Grad-CAM weighs a stage's maps by their mean gradients (Selvaraju et al. 2017, "Grad-CAM: visual explanations from deep
networks"). On maps of a few pixels those means blur what is left, and LayerCAM weighs each pixel by its own positive
gradient (Jiang et al. 2021, "LayerCAM: exploring hierarchical class activation maps").
"""

import cv2
import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from emoray.inside.layers import Seen, stages, watched

SMALL = 14
"""Maps below this many pixels a side are explained by LayerCAM."""
SMALLEST = 6
"""The coarsest stage with at least this many pixels a side is looked at; coarser ones give a blob on a face."""


def stage_for(seen: list[Seen]) -> Seen:
    """The stage to explain: the coarsest of at least `SMALLEST` pixels a side, or the finest there is.

    Raises ValueError for a model without maps.
    """
    found = stages(seen)
    if not found:
        raise ValueError("the model has no maps of more than one pixel, so there is nothing to show")
    fine = [one for one in found if min(one.size) >= SMALLEST]
    return fine[-1] if fine else found[0]


def method_for(stage: Seen) -> str:
    return "LayerCAM" if min(stage.size) < SMALL else "Grad-CAM"


def class_maps(
    model: keras.Model, images: NDArray[np.uint8], classes: NDArray[np.integer], batch: int = 16
) -> NDArray[np.float32]:
    """How much each pixel of `images` (n, h, w, c) spoke for the class in `classes` (n,): (n, h, w) in 0-1.

    Each map reaches 1 at its highest; one without any evidence for its class is 0 throughout.
    """
    parts = [
        _class_maps(model, images[start : start + batch], classes[start : start + batch])
        for start in range(0, len(images), batch)
    ]
    return np.concatenate(parts)


def _class_maps(model: keras.Model, images: NDArray[np.uint8], classes: NDArray[np.integer]) -> NDArray[np.float32]:
    with tf.GradientTape() as tape, watched(model, tape.watch) as seen:
        logits = model(images, training=False)
        picked = tf.reduce_sum(tf.gather(logits, classes, batch_dims=1))
    stage = stage_for(seen)
    gradients = tf.cast(tape.gradient(picked, stage.output), tf.float32)
    maps = tf.cast(stage.output, tf.float32)
    if method_for(stage) == "LayerCAM":
        weighted = tf.nn.relu(gradients) * maps
    else:
        weighted = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True) * maps
    heat = tf.nn.relu(tf.reduce_sum(weighted, axis=-1)).numpy()
    height, width = images.shape[1:3]
    grown = np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in heat])
    grown = np.maximum(grown, 0)
    highest = grown.max(axis=(1, 2), keepdims=True)
    return np.divide(grown, highest, out=np.zeros_like(grown), where=highest > 0).astype(np.float32)
