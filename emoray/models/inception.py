"""A small Inception network for faces of about 48x48."""

import keras

from emoray.models.layers import ConvNormRelu, Logits, Pixels
from emoray.settings import Count, Fraction

MODULES = (1, 2, 2, 2)
"""Inception modules before each of the four poolings."""


def inception(
    image_shape: tuple[int, int, int], classes: int, *, width: Count = 32, dropout: Fraction = 0.3
) -> keras.Model:
    """Inception of 16 layers: a convolution, seven modules of four branches between poolings, and the logits.

    Pramerdorfer & Kampel 2016, "Facial expression recognition using convolutional neural networks: state of the art"
    (CIPIIPIIPIIPF), after Szegedy et al. 2015, "Going deeper with convolutions", with batch norm. The first module has
    `width` 3x3 filters and each further one `width` more. The first convolution's 2 * `width` filters are ours.
    """
    x = inputs = keras.Input(image_shape, dtype="uint8", name="images")
    x = ConvNormRelu(2 * width, name="stem")(Pixels()(x))
    module = 0
    for stage, count in enumerate(MODULES, 1):
        for _ in range(count):
            module += 1
            x = _module(x, width * module, f"module{module}")
        x = keras.layers.MaxPooling2D(2, name=f"pool{stage}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(inputs, Logits(classes)(x), name="inception")


def _module(x: keras.KerasTensor, filters: int, name: str) -> keras.KerasTensor:
    """1x1, 3x3, 5x5 and pooling branches side by side, in the paper's proportions to the number of 3x3 filters."""

    def branch(x: keras.KerasTensor, share: float, kernel_size: int, part: str) -> keras.KerasTensor:
        return ConvNormRelu(max(round(filters * share), 1), kernel_size, name=f"{name}_{part}")(x)

    pooled = keras.layers.MaxPooling2D(3, strides=1, padding="same", name=f"{name}_pool")(x)
    branches = [
        branch(x, 3 / 4, 1, "1x1"),
        branch(branch(x, 1 / 2, 1, "3x3_reduce"), 1, 3, "3x3"),
        branch(branch(x, 1 / 8, 1, "5x5_reduce"), 1 / 4, 5, "5x5"),
        branch(pooled, 1 / 4, 1, "pool_project"),
    ]
    return keras.layers.Concatenate(name=name)(branches)
