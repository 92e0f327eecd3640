"""Architectures are those of their papers; backbones load real ImageNet files and train as they are asked to."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from emoray import registry
from emoray.errors import UserError
from emoray.models.imagenet import efficientnet_b0, mobilenet, mobilenet_v2
from emoray.models.inception import inception
from emoray.models.layers import ImageNetPixels
from emoray.models.lenet import lenet
from emoray.models.resnet34 import resnet34
from emoray.models.vgg10 import vgg10

pytestmark = pytest.mark.keras

V1 = "mobilenet_7_5_224_tf_no_top.h5"
V2 = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"


@pytest.fixture
def faces():
    return np.random.default_rng(0).integers(0, 256, (4, 48, 48, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def v1(shared_data):
    return str(shared_data / "weights" / V1)


@pytest.fixture(scope="module")
def v2(shared_data):
    return str(shared_data / "weights" / V2)


def weighted_layers(model):
    """Convolutions and dense layers, wherever they are nested."""
    kinds = (keras.layers.Conv2D, keras.layers.Dense)
    return [layer for layer in model._flatten_layers() if isinstance(layer, kinds)]


def test_lenet_has_the_published_size():
    """61,706: LeCun's 60,000 with every map of C3 seeing every map of S2, and no trained subsampling."""
    assert lenet((32, 32, 1), 10).count_params() == 61_706


def test_resnet34_has_34_layers_and_subclasses_model():
    model = resnet34((48, 48, 1), 7, width=8)
    main = [layer for layer in weighted_layers(model) if layer.name != "projection"]
    assert len(main) == 34
    assert isinstance(model, keras.Model)
    assert type(model).__mro__[1] is keras.Model
    assert model.blocks[-1](np.zeros((1, 12, 12, 64), np.float32)).shape == (1, 12, 12, 64)


def test_resnet34_keeps_small_faces_large(faces):
    """No pooling before the third stage's end: 48, 24, 12 and 6 pixels by stage."""
    model = resnet34((48, 48, 1), 7, width=4)
    x, sizes = model.stem(model.pixels(faces)), []
    for block in model.blocks:
        x = block(x)
        sizes.append(x.shape[1])
    assert sizes == [48] * 3 + [24] * 4 + [12] * 6 + [6] * 3


def test_vgg10_has_10_layers():
    assert len(weighted_layers(vgg10((48, 48, 1), 7))) == 10


def test_inception_has_16_layers_on_its_way():
    """A stem, seven modules of two convolutions in a row, and the logits."""
    model = inception((48, 48, 1), 7, width=8)
    longest = {layer.name for layer in model.layers if "3x3" in layer.name} | {"stem", "logits"}
    assert len(longest) == 16
    assert model.get_layer("module7").output.shape[1:3] == (6, 6)


@pytest.mark.parametrize(
    ("scaling", "application"),
    [
        ("tf", keras.applications.mobilenet_v2),
        ("caffe", keras.applications.resnet50),
        ("raw", keras.applications.efficientnet),
    ],
)
def test_pixels_are_scaled_as_keras_scales_them(scaling, application):
    colours = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    expected = application.preprocess_input(colours.astype(np.float32))
    np.testing.assert_allclose(ImageNetPixels(64, scaling)(colours), expected, atol=1e-4)


@pytest.mark.parametrize("size", [32, 48, 96])
def test_pixels_are_resized_and_grey_becomes_rgb(faces, size):
    pixels = ImageNetPixels(size, "raw")(faces).numpy()
    assert pixels.shape == (4, size, size, 3)
    assert pixels.mean() == pytest.approx(faces.mean(), abs=1.0)
    assert (pixels == pixels[..., :1]).all()


def test_efficientnet_normalizes_as_imagenet(faces):
    """Keras's layer ignores its own variables when weights are set, so the statistics must be there from the start."""
    model = efficientnet_b0((48, 48, 3), 7, weights=None, image_size=48)
    normalized = keras.Model(model.inputs, model.get_layer(index=3).output)
    colours = np.repeat(faces, 3, axis=-1)
    expected = (colours / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(normalized(colours), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("build", "file", "alpha"), [(mobilenet, V1, 0.75), (mobilenet_v2, V2, 0.35)])
def test_real_weights_give_the_features_of_keras_applications(build, file, alpha, shared_data, faces):
    path = str(shared_data / "weights" / file)
    model = build((48, 48, 1), 7, weights=path, alpha=alpha)
    features = keras.Model(model.inputs, model.get_layer("pool").input)
    application = {mobilenet: keras.applications.MobileNet, mobilenet_v2: keras.applications.MobileNetV2}[build]
    reference = application(alpha=alpha, include_top=False, weights=path, input_shape=(96, 96, 3))
    pixels = tf.image.resize(np.repeat(faces, 3, axis=-1).astype(np.float32), (96, 96)) / 127.5 - 1.0
    np.testing.assert_allclose(features(faces), reference(pixels), atol=1e-4)


def test_imagenet_finds_the_file_in_keras_home(v2, tmp_path, monkeypatch, faces):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / V2).symlink_to(v2)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    found = mobilenet_v2((48, 48, 1), 7, weights="imagenet", alpha=0.35, image_size=224)
    named = mobilenet_v2((48, 48, 1), 7, weights=v2, alpha=0.35, image_size=224)
    for one, other in zip(found.weights[:-2], named.weights[:-2], strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.parametrize("settings", [{"name": "mobilenet", "alpha": 0.35}, {"name": "mobilenet_v2", "alpha": 1.0}])
def test_a_file_of_another_network_is_refused_by_name(v2, settings):
    with pytest.raises(UserError, match=f"{settings['name']}.weights: .*{V2} does not hold the weights"):
        registry.build("models", {**settings, "weights": v2}, (48, 48, 1), 7)


def test_a_file_that_holds_no_weights_is_refused_by_name(tmp_path):
    broken = tmp_path / "broken.h5"
    broken.write_text("not HDF5")
    with pytest.raises(UserError, match=r"broken\.h5 does not hold the weights"):
        mobilenet((48, 48, 1), 7, weights=str(broken))


def test_a_pretrained_model_is_rebuilt_without_its_file(v2, faces):
    trained = mobilenet_v2((48, 48, 1), 7, weights=v2, alpha=0.35, unfreeze_layers=2)
    rebuilt = mobilenet_v2((48, 48, 1), 7, weights=None, alpha=0.35, unfreeze_layers=2)
    rebuilt.set_weights(trained.get_weights())
    np.testing.assert_allclose(rebuilt(faces), trained(faces), atol=1e-6)


def test_batch_norm_of_loaded_weights_stays_in_inference_mode(v2, faces):
    model = mobilenet_v2((48, 48, 1), 7, weights=v2, alpha=0.35, dropout=0.0)
    statistics = [v.numpy() for v in model.non_trainable_variables if "moving" in v.path]
    np.testing.assert_allclose(model(faces, training=True), model(faces, training=False), atol=1e-6)
    for before, variable in zip(
        statistics, [v for v in model.non_trainable_variables if "moving" in v.path], strict=True
    ):
        np.testing.assert_array_equal(before, variable.numpy())


def test_batch_norm_from_scratch_learns(faces):
    model = mobilenet_v2((48, 48, 1), 7, weights=None, alpha=0.35, dropout=0.0)
    moving = next(v for v in model.non_trainable_variables if "moving_mean" in v.path)
    before = moving.numpy()
    model(faces, training=True)
    assert not np.array_equal(before, moving.numpy())


def test_only_the_last_layers_are_unfrozen(v2):
    model = mobilenet_v2((48, 48, 1), 7, weights=v2, alpha=0.35, unfreeze_layers=2)
    assert model.fine_tuning.backbone == ("block_16_project/kernel", "Conv_1/kernel")
    assert [v.path for v in model.trainable_variables] == [*model.fine_tuning.backbone, "logits/kernel", "logits/bias"]


def train(model, optimizer, faces, epochs):
    """What the training loop must do with `fine_tuning`: one step an epoch, with the backbone held back."""
    labels = np.eye(7, dtype=np.float32)[[0, 1, 2, 3]]
    tuning = model.fine_tuning
    for epoch in range(epochs):
        rate = tuning.rate(epoch)
        backbone = [v for v in model.trainable_variables if v.path in tuning.backbone]
        trained = [v for v in model.trainable_variables if rate > 0 or v.path not in tuning.backbone]
        with tf.GradientTape() as tape:
            loss = registry.build("losses", {"name": "cross_entropy"}, labels, model(faces, training=True))
        gradients = tape.gradient(loss, trained)
        old = [tf.identity(v) for v in backbone] if 0 < rate != 1 else []
        optimizer.apply(gradients, trained)
        for variable, value in zip(backbone if old else [], old, strict=True):
            variable.assign(value + rate * (variable - value))


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_backbone_is_frozen_and_then_trained_at_its_rate(name, v2, faces):
    """Frozen epochs leave every backbone weight as it is; after them, each moves by the rate of its full update."""
    settings = {"alpha": 0.35, "dropout": 0.0, "unfreeze_layers": 3, "weights": v2}
    moved = {}
    for rate in (1.0, 0.1):
        keras.utils.set_random_seed(0)
        model = mobilenet_v2((48, 48, 1), 7, frozen_epochs=2, backbone_rate=rate, **settings)
        variables = model.trainable_variables
        held = [v for v in variables if v.path in model.fine_tuning.backbone]
        optimizer = registry.build("optimizers", {"name": name, "weight_decay": 0.1}, variables)
        start, head = [v.numpy() for v in held], variables[-2].numpy()
        train(model, optimizer, faces, epochs=2)
        assert all(np.array_equal(b, v.numpy()) for b, v in zip(start, held, strict=True))
        assert not np.array_equal(head, variables[-2].numpy())
        model.fine_tuning = dataclasses.replace(model.fine_tuning, frozen_epochs=0)
        train(model, optimizer, faces, epochs=1)
        moved[rate] = [v.numpy() - b for b, v in zip(start, held, strict=True)]
    for full, part in zip(moved[1.0], moved[0.1], strict=True):
        assert np.abs(full).max() > 0
        np.testing.assert_allclose(part, 0.1 * full, atol=1e-6)
