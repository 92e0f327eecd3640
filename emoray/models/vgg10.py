"""VGG for small faces: pairs of 3x3 convolutions between poolings, and dense layers."""

import keras

from emoray.models.layers import ConvNormRelu, Logits, Pixels
from emoray.settings import Count, Fraction

STAGES = 4


def vgg10(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    width: Count = 32,
    units: Count = 256,
    dense_layers: Count = 1,
    dropout: Fraction = 0.5,
) -> keras.Model:
    """VGG: four stages of two 3x3 convolutions and max pooling, then dense layers.

    Simonyan & Zisserman 2015, "Very deep convolutional networks", for 48x48 faces with batch norm and 10 layers,
    the logits included, as used on FER2013 by Pramerdorfer & Kampel 2016. The stages have `width`, 2, 4 and 8 times
    `width` filters; `dense_layers` of `units` each follow, with dropout. `width: 64, units: 4096, dense_layers: 2,
    dropout: 0.2` is the network of Khaireddin & Chen 2021, "Facial emotion recognition: state of the art performance on
    FER2013".
    """
    x = inputs = keras.Input(image_shape, dtype="uint8", name="images")
    x = Pixels()(x)
    for stage in range(STAGES):
        for conv in (1, 2):
            x = ConvNormRelu(width * 2**stage, name=f"stage{stage + 1}_conv{conv}")(x)
        x = keras.layers.MaxPooling2D(2, name=f"stage{stage + 1}_pool")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    for layer in range(1, dense_layers + 1):
        x = keras.layers.Dense(units, "relu", kernel_initializer="he_normal", name=f"dense{layer}")(x)
        x = keras.layers.Dropout(dropout, name=f"dropout{layer}")(x)
    return keras.Model(inputs, Logits(classes)(x), name="vgg10")
