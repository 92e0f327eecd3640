"""ResNet-34 for small faces, as a subclassed model of residual blocks."""

import keras

from emoray.models.layers import BATCH_NORM_MOMENTUM, ConvNormRelu, Logits, Pixels
from emoray.settings import Count, Fraction

BLOCKS = (3, 4, 6, 3)


class ResidualBlock(keras.layers.Layer):
    """relu(f(x) + shortcut(x)) with f of two 3x3 convolutions, the first of them with `strides`.

    (batch, h, w, c) -> (batch, h / strides, w / strides, filters). The shortcut is the identity, or a 1x1 convolution
    where the shape changes (option B of He et al. 2016).
    """

    def __init__(self, filters: int, strides: int = 1, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = strides
        self.first = ConvNormRelu(filters, strides=strides, name="first")
        self.second = keras.layers.Conv2D(
            filters, 3, padding="same", use_bias=False, kernel_initializer="he_normal", name="second"
        )
        self.norm = keras.layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name="norm")
        self.relu = keras.layers.ReLU(name="relu")
        self.projection: keras.layers.Layer | None = None
        self.projection_norm: keras.layers.Layer | None = None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.first.build(input_shape)
        shape = (*input_shape[:-1], self.filters)
        self.second.build(shape)
        self.norm.build(shape)
        if self.strides != 1 or input_shape[-1] != self.filters:
            self.projection = keras.layers.Conv2D(
                self.filters, 1, use_bias=False, kernel_initializer="he_normal", name="projection"
            )
            self.projection_norm = keras.layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name="projection_norm")
            self.projection.build(input_shape)
            self.projection_norm.build(shape)

    def call(self, inputs: keras.KerasTensor, training: bool | None = None) -> keras.KerasTensor:
        shortcut = inputs
        if self.projection is not None and self.projection_norm is not None:
            # The stride by slicing: of a narrow 1x1 convolution with one, on several threads and an odd batch, oneDNN's
            # gradient (TensorFlow 2.21, AVX-512) ends the process.
            sliced = inputs[:, :: self.strides, :: self.strides]
            shortcut = self.projection_norm(self.projection(sliced), training=training)
        x = self.first(inputs, training=training)
        x = self.norm(self.second(x), training=training)
        return self.relu(x + shortcut)


class ResNet34(keras.Model):
    """Raw pixels (batch, h, w, c) -> logits (batch, classes); feature maps of h, h / 2, h / 4 and h / 8 by stage."""

    def __init__(self, classes: int, width: int, dropout: float) -> None:
        super().__init__(name="resnet34")
        self.pixels = Pixels()
        self.stem = ConvNormRelu(width, name="stem")
        self.blocks = [
            ResidualBlock(
                width * 2**stage, strides=2 if stage and not block else 1, name=f"stage{stage + 1}_{block + 1}"
            )
            for stage, count in enumerate(BLOCKS)
            for block in range(count)
        ]
        self.pool = keras.layers.GlobalAveragePooling2D(name="pool")
        self.dropout = keras.layers.Dropout(dropout, name="dropout")
        self.logits = Logits(classes)

    def call(self, inputs: keras.KerasTensor, training: bool | None = None) -> keras.KerasTensor:
        x = self.stem(self.pixels(inputs), training=training)
        for block in self.blocks:
            x = block(x, training=training)
        return self.logits(self.dropout(self.pool(x), training=training))


def resnet34(
    image_shape: tuple[int, int, int], classes: int, *, width: Count = 64, dropout: Fraction = 0.0
) -> keras.Model:
    """ResNet-34 from scratch: 16 residual blocks in 4 stages of `width`, 2, 4 and 8 times `width` filters.

    He, Zhang, Ren & Sun 2016, "Deep residual learning for image recognition". For 48x48 faces the stem is 3x3 with
    stride 1 and there is no max pooling, so that the last feature maps are 6x6 and not 2x2. Dropout acts before the
    logits.
    """
    model = ResNet34(classes, width, dropout)
    model(keras.Input(image_shape, dtype="uint8", name="images"))  # a subclassed model has no weights before a call
    return model
