"""Layers that the architectures share. A module of classes only: the registry lists the package's public functions.

The one rule: what a network does to raw pixels is a layer of that network, so an exported model needs nothing else.
"""

from typing import Literal

import keras

Scaling = Literal["tf", "caffe", "raw"]

BATCH_NORM_MOMENTUM = 0.9
"""Keras's own 0.99 needs hundreds of steps before inference sees the right averages; a short trial has too few."""


class ConvNormRelu(keras.layers.Layer):
    """Convolution without bias, batch norm, ReLU: (batch, h, w, c) -> (batch, h / stride, w / stride, filters)."""

    def __init__(self, filters: int, kernel_size: int = 3, strides: int = 1, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.conv = keras.layers.Conv2D(
            filters,
            kernel_size,
            strides=strides,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name="conv",
        )
        self.norm = keras.layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name="norm")
        self.relu = keras.layers.ReLU(name="relu")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.conv.build(input_shape)
        self.norm.build(self.conv.compute_output_shape(input_shape))

    def call(self, inputs: keras.KerasTensor, training: bool | None = None) -> keras.KerasTensor:
        return self.relu(self.norm(self.conv(inputs), training=training))


class Logits(keras.layers.Dense):
    """The last layer: one float32 logit a class, also where the rest of the network computes in 16 bits."""

    def __init__(self, classes: int, **kwargs: object) -> None:
        super().__init__(classes, dtype="float32", name="logits", **kwargs)


class Pixels(keras.layers.Rescaling):
    """Raw 0-255 pixels to -1..1, in which a face's grey values have a mean near 0."""

    def __init__(self) -> None:
        super().__init__(1 / 127.5, offset=-1.0, name="pixels")


class ImageNetPixels(keras.layers.Layer):
    """Raw pixels (batch, h, w, 1 or 3) as a network of keras.applications wants them: (batch, size, size, 3) float32.

    `scaling` has the names of Keras: "tf" is -1..1, "caffe" is BGR without ImageNet's mean, "raw" is 0-255.
    """

    def __init__(self, image_size: int, scaling: Scaling) -> None:
        super().__init__(name="pixels", dtype="float32")
        self.image_size = image_size
        self.scaling = scaling

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        x = keras.ops.cast(inputs, "float32")
        size = (self.image_size, self.image_size)
        if tuple(x.shape[1:3]) != size:
            shrinks = x.shape[1] > self.image_size or x.shape[2] > self.image_size
            x = keras.ops.image.resize(x, size, interpolation="bilinear", antialias=shrinks)
        if x.shape[-1] == 1:
            x = keras.ops.repeat(x, 3, axis=-1)
        if self.scaling == "tf":
            return x / 127.5 - 1.0
        if self.scaling == "caffe":
            return keras.ops.flip(x, axis=-1) - keras.ops.convert_to_tensor([103.939, 116.779, 123.68])
        return x

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], self.image_size, self.image_size, 3)
