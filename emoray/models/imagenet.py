"""Networks with backbones of keras.applications, which may start from ImageNet weights.

The one rule: the backbone is built on the model's own input, so nothing is nested and every layer of it can be looked
into. Batch norm of a backbone with loaded weights stays in inference mode, scales and offsets included: its statistics
are better than a small data set's. A further backbone is one function here and one address in `emoray.weights`.

All of them take the same settings. `weights` is "imagenet", the path of a file (local or s3://), or null for none.
ImageNet's files are looked for in `$KERAS_HOME/models` (`~/.keras/models` where that is not set), as Keras does, on
each machine that trains, and fetched into it; where there is no network, put them there. A missing one is told with its
address. Images are resized to `image_size`. The backbone is frozen for `frozen_epochs` epochs and then trained at
`backbone_rate` times the learning rate: all of it, or its last `unfreeze_layers` layers that can be trained. Dropout
acts before the logits.
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras

from emoray import weights as weight_files
from emoray.errors import UserError
from emoray.models.fine_tuning import FineTuning
from emoray.models.layers import BATCH_NORM_MOMENTUM, ImageNetPixels, Logits, Scaling
from emoray.settings import Count, Fraction, ImageSize, NonNegative, NonNegativeCount, Positive

_MEAN = (0.485, 0.456, 0.406)
_STANDARD_DEVIATION = (0.229, 0.224, 0.225)


def mobilenet(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    weights: str | None = "imagenet",
    image_size: ImageSize = 96,
    alpha: Positive = 1.0,
    dropout: Fraction = 0.2,
    frozen_epochs: NonNegativeCount = 0,
    unfreeze_layers: Count | None = None,
    backbone_rate: NonNegative = 1.0,
) -> keras.Model:
    """MobileNet with `alpha` times the filters; the cheapest backbone (Howard et al. 2017)."""
    start = _Start("mobilenet", weights, image_size, alpha)
    tuning = _Tuning(dropout, frozen_epochs, unfreeze_layers, backbone_rate)
    return _classifier(keras.applications.MobileNet, "tf", start, tuning, image_shape, classes)


def mobilenet_v2(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    weights: str | None = "imagenet",
    image_size: ImageSize = 96,
    alpha: Positive = 1.0,
    dropout: Fraction = 0.2,
    frozen_epochs: NonNegativeCount = 0,
    unfreeze_layers: Count | None = None,
    backbone_rate: NonNegative = 1.0,
) -> keras.Model:
    """MobileNetV2 with `alpha` times the filters: inverted residuals (Sandler et al. 2018)."""
    start = _Start("mobilenet_v2", weights, image_size, alpha)
    tuning = _Tuning(dropout, frozen_epochs, unfreeze_layers, backbone_rate)
    return _classifier(keras.applications.MobileNetV2, "tf", start, tuning, image_shape, classes)


def vgg16(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    weights: str | None = "imagenet",
    image_size: ImageSize = 96,
    dropout: Fraction = 0.2,
    frozen_epochs: NonNegativeCount = 0,
    unfreeze_layers: Count | None = None,
    backbone_rate: NonNegative = 1.0,
) -> keras.Model:
    """VGG-16, the largest and slowest for its depth, without batch norm (Simonyan & Zisserman 2015)."""
    start = _Start("vgg16", weights, image_size)
    tuning = _Tuning(dropout, frozen_epochs, unfreeze_layers, backbone_rate)
    return _classifier(keras.applications.VGG16, "caffe", start, tuning, image_shape, classes)


def resnet50(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    weights: str | None = "imagenet",
    image_size: ImageSize = 96,
    dropout: Fraction = 0.2,
    frozen_epochs: NonNegativeCount = 0,
    unfreeze_layers: Count | None = None,
    backbone_rate: NonNegative = 1.0,
) -> keras.Model:
    """ResNet-50 with bottleneck blocks (He et al. 2016)."""
    start = _Start("resnet50", weights, image_size)
    tuning = _Tuning(dropout, frozen_epochs, unfreeze_layers, backbone_rate)
    return _classifier(keras.applications.ResNet50, "caffe", start, tuning, image_shape, classes)


def efficientnet_b0(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    weights: str | None = "imagenet",
    image_size: ImageSize = 96,
    dropout: Fraction = 0.2,
    frozen_epochs: NonNegativeCount = 0,
    unfreeze_layers: Count | None = None,
    backbone_rate: NonNegative = 1.0,
) -> keras.Model:
    """EfficientNet-B0 with squeeze and excitation (Tan & Le 2019)."""
    start = _Start("efficientnet_b0", weights, image_size)
    tuning = _Tuning(dropout, frozen_epochs, unfreeze_layers, backbone_rate)
    return _classifier(keras.applications.EfficientNetB0, "raw", start, tuning, image_shape, classes)


def inception_v3(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    weights: str | None = "imagenet",
    image_size: ImageSize = 96,
    dropout: Fraction = 0.2,
    frozen_epochs: NonNegativeCount = 0,
    unfreeze_layers: Count | None = None,
    backbone_rate: NonNegative = 1.0,
) -> keras.Model:
    """Inception-v3, which takes an `image_size` of 75 or more (Szegedy et al. 2016)."""
    start = _Start("inception_v3", weights, image_size)
    tuning = _Tuning(dropout, frozen_epochs, unfreeze_layers, backbone_rate)
    return _classifier(keras.applications.InceptionV3, "tf", start, tuning, image_shape, classes)


@dataclass(frozen=True)
class _Start:
    """The architecture and the weights that it starts from."""

    name: str
    weights: str | None
    image_size: int
    alpha: float | None = None  # None where the architecture has one width only

    @property
    def width(self) -> float:
        return 1.0 if self.alpha is None else self.alpha


@dataclass(frozen=True)
class _Tuning:
    dropout: float
    frozen_epochs: int
    unfreeze_layers: int | None
    backbone_rate: float


def _classifier(
    application: Callable[..., keras.Model],
    scaling: Scaling,
    start: _Start,
    tuning: _Tuning,
    image_shape: tuple[int, int, int],
    classes: int,
) -> keras.Model:
    """Raw pixels, the backbone, global average pooling, dropout, logits; and how to train it as `fine_tuning`."""
    weight_files.check_architecture(start.name, start.image_size, start.width)
    inputs = keras.Input(image_shape, dtype="uint8", name="images")
    pixels = ImageNetPixels(start.image_size, scaling)(inputs)
    widths = {} if start.alpha is None else {"alpha": start.alpha}
    backbone = application(input_tensor=pixels, include_top=False, weights=None, **widths)
    _load(backbone, start)
    _normalize_as_imagenet(backbone)
    _hold_back(backbone, start.weights is not None, tuning.unfreeze_layers)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(backbone.output)
    x = keras.layers.Dropout(tuning.dropout, name="dropout")(x)
    model = keras.Model(inputs, Logits(classes)(x), name=start.name)
    trained = tuple(variable.path for variable in backbone.trainable_variables)
    model.fine_tuning = FineTuning(tuning.frozen_epochs, tuning.backbone_rate, trained)
    return model


def _load(backbone: keras.Model, start: _Start) -> None:
    if start.weights is None:
        return
    path = weight_files.locate(start.name, start.weights, start.image_size, start.width)
    try:
        backbone.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0]
        width = "" if start.alpha is None else f" with alpha {start.alpha}"
        raise UserError(
            f"models: {start.name}.weights: {path} does not hold the weights of a {start.name}{width} without its top: "
            f"{reason}"
        ) from error


def _normalize_as_imagenet(backbone: keras.Model) -> None:
    """Give a Normalization layer in the backbone (EfficientNet's) ImageNet's statistics, whatever was loaded.

    EfficientNet's file holds the standard deviation in the place of the variance, which Keras mends only for
    `weights="imagenet"`; and the layer ignores its own variables when a checkpoint is restored into them, so these must
    be the same in every build.
    """
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.adapt_mean.assign(_MEAN)
            layer.adapt_variance.assign([deviation**2 for deviation in _STANDARD_DEVIATION])
            layer.finalize_state()
            layer.trainable = False  # training moves them as little


def _hold_back(backbone: keras.Model, pretrained: bool, unfreeze_layers: int | None) -> None:
    """Decide what can be trained: batch norm only from scratch, and the last `unfreeze_layers` layers if given."""
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = not pretrained  # in Keras this is inference mode, too
            layer.momentum = BATCH_NORM_MOMENTUM
    if unfreeze_layers is not None:
        for layer in [layer for layer in backbone.layers if layer.trainable_weights][:-unfreeze_layers]:
            layer.trainable = False
