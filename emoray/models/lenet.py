"""LeNet-5, the smallest network here."""

from typing import Literal

import keras

from emoray.models.layers import BATCH_NORM_MOMENTUM, Logits, Pixels


def lenet(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    activation: Literal["tanh", "relu"] = "tanh",
    batch_norm: bool = False,
) -> keras.Model:
    """LeNet-5: two convolutions with average pooling and two dense layers; the quickest baseline.

    LeCun, Bottou, Bengio & Haffner 1998, "Gradient-based learning applied to document recognition": 6 and 16 maps of
    5x5 kernels, then 120 and 84 units. Adapted: plain average pooling (its trained coefficients are left out), every
    map of the second convolution sees every map of the first, logits in place of the radial basis output, and C5 sees
    the whole of S4 at any image size, as it does at the published 32x32.
    """
    initializer = "he_normal" if activation == "relu" else "glorot_uniform"
    x = inputs = keras.Input(image_shape, dtype="uint8", name="images")
    x = Pixels()(x)
    for stage, filters in enumerate((6, 16), 1):
        x = keras.layers.Conv2D(filters, 5, kernel_initializer=initializer, name=f"conv{stage}")(x)
        if batch_norm:
            x = keras.layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"norm{stage}")(x)
        x = keras.layers.Activation(activation, name=f"conv{stage}_{activation}")(x)
        x = keras.layers.AveragePooling2D(2, name=f"pool{stage}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    for stage, units in enumerate((120, 84), 1):
        x = keras.layers.Dense(units, activation, kernel_initializer=initializer, name=f"dense{stage}")(x)
    return keras.Model(inputs, Logits(classes)(x), name="lenet")
