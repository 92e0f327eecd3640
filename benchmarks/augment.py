"""How fast is augmentation beside what one would use instead, in the same run, on one core?

    pip install "emoray[benchmark]"
    python benchmarks/augment.py            about 2 minutes

Flip, rotate 10 degrees, shift 10 %, zoom 10 % and brightness 20 % of 48x48 grey images, with linear interpolation:

- emoray: `emoray.data.augmentation.pipeline`, batches of 256
- albumentations, five transforms: one for each of the five
- albumentations, one Affine: its fastest way, flip, one fused warp and brightness
- Keras: five layers in one `tf.function`, batches of 256

The contenders take turns in every round, on one core and one thread each, so that what else the machine does falls on
all alike; the table has medians, and the median of the rounds' ratios. `--shape 96 96 3` measures another size.
"""

# ruff: noqa: E402

import argparse
import os
import statistics
import time
from collections.abc import Callable

# Before OpenCV, TensorFlow and albumentations are imported: one core, one thread, no messages, no network.
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.environ |= {
    "OMP_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
}

import albumentations
import cv2
import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from emoray.data.augmentation import pipeline

Contender = Callable[[np.ndarray, int], object]
BATCH = 256


def emoray() -> Contender:
    augment = pipeline([{"name": name} for name in ("flip", "rotate", "shift", "zoom", "brightness")])

    def run(images: np.ndarray, epoch: int) -> None:
        labels, rows = np.zeros((BATCH, 7), np.float32), np.arange(len(images))
        for start in range(0, len(images), BATCH):
            batch = slice(start, start + BATCH)
            augment(images[batch], labels, rows[batch], seed=0, epoch=epoch)

    return run


def albumentations_with(*geometry: albumentations.BasicTransform) -> Contender:
    bright = albumentations.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0, p=1)
    compose = albumentations.Compose([albumentations.HorizontalFlip(p=0.5), *geometry, bright], seed=0)

    def run(images: np.ndarray, epoch: int) -> None:
        for image in images:
            compose(image=image)["image"]

    return run


def affine(**settings: object) -> albumentations.Affine:
    return albumentations.Affine(interpolation=cv2.INTER_LINEAR, border_mode=cv2.BORDER_REFLECT_101, p=1, **settings)


def keras_layers() -> Contender:
    layers = [
        keras.layers.RandomFlip("horizontal"),
        keras.layers.RandomRotation(10 / 360),
        keras.layers.RandomTranslation(0.1, 0.1),
        keras.layers.RandomZoom(0.1),
        keras.layers.RandomBrightness(0.2),
    ]

    @tf.function
    def augment(images: tf.Tensor) -> tf.Tensor:
        images = tf.cast(images, tf.float32)
        for layer in layers:
            images = layer(images, training=True)
        return images

    def run(images: np.ndarray, epoch: int) -> None:
        for start in range(0, len(images), BATCH):
            augment(tf.constant(images[start : start + BATCH])).numpy()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description="Augmented images a second on one core, beside other libraries.")
    parser.add_argument("--images", type=int, default=2048, help="images a round; a multiple of 256")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--shape", type=int, nargs=3, default=(48, 48, 1), metavar=("H", "W", "C"))
    arguments = parser.parse_args()
    cv2.setNumThreads(0)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)

    shift = dict.fromkeys(("x", "y"), (-0.1, 0.1))
    contenders: dict[str, Contender] = {
        "emoray": emoray(),
        f"albumentations {albumentations.__version__}, five transforms": albumentations_with(
            affine(rotate=(-10, 10)), affine(translate_percent=shift), affine(scale=(0.9, 1.1), keep_ratio=True)
        ),
        f"albumentations {albumentations.__version__}, one Affine": albumentations_with(
            affine(rotate=(-10, 10), translate_percent=shift, scale=(0.9, 1.1), keep_ratio=True)
        ),
        f"Keras {keras.__version__}, five layers in tf.function": keras_layers(),
    }
    images = np.random.default_rng(0).integers(0, 256, (arguments.images, *arguments.shape), dtype=np.uint8)
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for contender in contenders.values():
        contender(images[:BATCH], 0)
    for epoch in range(arguments.rounds):
        for name, contender in contenders.items():
            started = time.perf_counter()
            contender(images, epoch)
            rates[name].append(len(images) / (time.perf_counter() - started))

    shape = "x".join(map(str, arguments.shape))
    table = Table(title=f"Augmentation of {shape} images, one core, {arguments.rounds} rounds of {len(images):,}")
    for head in ("way", "images/s (median)", "slowest to fastest round", "emoray is faster by"):
        table.add_column(head, justify="left" if head == "way" else "right")
    for name, rate in rates.items():
        ratio = statistics.median(ours / theirs for ours, theirs in zip(rates["emoray"], rate, strict=True))
        table.add_row(
            name, f"{statistics.median(rate):,.0f}", f"{min(rate):,.0f} to {max(rate):,.0f}", f"{ratio:.1f} times"
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
