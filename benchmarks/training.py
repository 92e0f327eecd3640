"""How fast does one trial train beside `keras.Model.fit`, in the same run, on the same threads and data?

    python benchmarks/training.py            about 4 minutes on one core

The contenders train the same architecture from emoray on the same embedded faces, batches of 64, Adam:

- emoray: a trial's player, its augmentation in a thread, its steps in a compiled loop
- Keras: `Model.fit` over a `tf.data` pipeline (shuffle, batch, prefetch), with Keras's augmentation layers mapped in it

They take turns epoch by epoch, so that what else the machine does falls on both; the first epoch of each, which
compiles, does not count. The table has medians of images a second and the median of the rounds' ratios.
"""

# ruff: noqa: E402

import argparse
import os
import statistics
import time
from typing import Any

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--cores", type=int, default=1, help="default: 1")
parser.add_argument("--images", type=int, default=6000, help="training images; default: 6000")
parser.add_argument("--epochs", type=int, default=5, help="measured epochs; default: 5")
arguments = parser.parse_args()
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}

import keras
import numpy as np
import plain_trial
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from emoray import registry
from emoray.trial.data import TrialData
from emoray.trial.player import Player

tf.config.threading.set_intra_op_parallelism_threads(arguments.cores)
tf.config.threading.set_inter_op_parallelism_threads(1)
BATCH, CLASSES, SHAPE = plain_trial.BATCH, plain_trial.CLASSES, (48, 48, 1)
AUGMENT = [{"name": "flip"}, {"name": "rotate", "degrees": 10}, {"name": "shift", "fraction": 0.1}, {"name": "zoom"}]


def emoray(model: str, data: TrialData, augment: bool) -> Any:
    """A function that trains one epoch."""
    settings = plain_trial.settings(model, arguments.epochs + 1, AUGMENT if augment else [])
    return Player(settings, "accuracy", data).play


def keras_fit(model: str, data: TrialData, augment: bool) -> Any:
    """A function that trains one epoch, validation on as many images included."""
    network = registry.build("models", {"name": model}, SHAPE, CLASSES)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    layers = keras.Sequential(
        [
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomRotation(10 / 360),
            keras.layers.RandomTranslation(0.1, 0.1),
            keras.layers.RandomZoom(0.1),
        ]
    )
    images = tf.data.Dataset.from_tensor_slices((data.images, data.targets)).shuffle(arguments.images).batch(BATCH)
    if augment:
        images = images.map(lambda x, y: (layers(x, training=True), y), num_parallel_calls=arguments.cores)
    images = images.prefetch(2)
    judged = tf.data.Dataset.from_tensor_slices(
        (data.validation_images, np.eye(CLASSES, dtype=np.float32)[data.validation_labels])
    ).batch(256)
    return lambda: network.fit(images, validation_data=judged, epochs=1, verbose=0)


def main() -> None:
    data = plain_trial.faces_to_train_on(arguments.images, 64)
    table = Table(title=f"images a second on {arguments.cores} core(s), medians of {arguments.epochs} epochs")
    for column in ("model", "augmentation", "emoray", "Keras fit", "ratio"):
        table.add_column(column, justify="right" if column not in ("model", "augmentation") else "left")
    for model in ("lenet", "simple_cnn"):
        for augment in (True, False):
            contenders = [make(model, data, augment) for make in (emoray, keras_fit)]
            seconds: list[list[float]] = [[], []]
            for number in range(arguments.epochs + 1):
                for train, taken in zip(contenders, seconds, strict=True):
                    began = time.perf_counter()
                    train()
                    if number:
                        taken.append(time.perf_counter() - began)
            rates = [arguments.images / statistics.median(taken) for taken in seconds]
            ratio = statistics.median(theirs / ours for ours, theirs in zip(*seconds, strict=True))
            shown = "flip, rotate, shift, zoom" if augment else "none"
            table.add_row(model, shown, f"{rates[0]:,.0f}", f"{rates[1]:,.0f}", f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
