"""What every model, loss and optimizer must do, whichever there are: a new one is tested here without a word."""

import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from emoray import registry
from emoray.errors import UserError
from emoray.losses import Classes
from emoray.trial import checkpoint
from emoray.trial.checkpoint import State
from tests import ends

pytestmark = pytest.mark.keras

CLASSES = Classes(("angry", "disgust", "happy", "neutral"), (400, 5, 700, 500))
MODELS = registry.members("models")
LOSSES = registry.members("losses")
OPTIMIZERS = registry.members("optimizers")


def is_large(name):
    """Backbones of seconds to build: their ends are tried together, and built without being run."""
    return "weights" in MODELS[name].settings


def build_model(name, size=48, channels=1, **settings):
    """A model from random weights: no test but those of real files may need a download."""
    settings = {"name": name, **settings} | ({"weights": None} if is_large(name) else {})
    return registry.build("models", settings, (size, size, channels), len(CLASSES.names))


@pytest.fixture(scope="module", params=MODELS)
def model_name(request):
    return request.param


@pytest.fixture(scope="module")
def model(model_name):
    """Built once for all the tests of a name, which leave it able to predict, whatever its weights."""
    return build_model(model_name)


def images(size=48, channels=1, n=4):
    return np.random.default_rng(0).integers(0, 256, (n, size, size, channels), dtype=np.uint8)


def soft_labels(n=4):
    return np.random.default_rng(1).dirichlet(np.ones(len(CLASSES.names)), n).astype(np.float32)


def assert_logits(logits, n):
    assert logits.shape == (n, len(CLASSES.names))
    assert logits.dtype == tf.float32
    assert np.isfinite(logits.numpy()).all()


def test_model_gives_float32_logits_from_raw_pixels(model):
    assert_logits(model(images()), 4)
    assert_logits(model(images(n=1)), 1)
    assert len({variable.path for variable in model.variables}) == len(model.variables)


@pytest.mark.timeout(300)  # to trace a step of the deepest ones takes half a minute on a busy machine
def test_model_takes_a_training_step(model):
    """One compiled step on soft labels gives a finite loss and moves every trainable variable."""
    optimizer = registry.build("optimizers", {"name": "sgd", "learning_rate": 0.01}, model.trainable_variables)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(registry.build("losses", {"name": "cross_entropy"}, y, model(x, training=True)))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss, [tf.math.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients]

    before = [variable.numpy() for variable in model.trainable_variables]
    loss, finite = step(images(), soft_labels())
    assert np.isfinite(float(loss))
    assert all(finite)
    changed = [not np.array_equal(b, v.numpy()) for b, v in zip(before, model.trainable_variables, strict=True)]
    assert np.mean(changed) > 0.9, "most weights should move; a bias of a dead unit may not"


def test_model_is_restored_from_its_checkpoint(model, model_name, tmp_path):
    """Built anew from what a trial leaves on disk it gives the same answers: nothing is kept outside of that."""
    settings = {"name": model_name} | ({"weights": "imagenet"} if is_large(model_name) else {})
    (tmp_path / "settings.json").write_text(json.dumps({"settings": {"model": settings}}))
    checkpoint.write(tmp_path / "checkpoint" / "best.npz", State({"model": [v.numpy() for v in model.variables]}))
    other = checkpoint.load_model(tmp_path, (48, 48, 1), len(CLASSES.names))
    assert [v.path.rpartition("/")[2] for v in other.weights] == [v.path.rpartition("/")[2] for v in model.weights]
    np.testing.assert_allclose(other(images()).numpy(), model(images()).numpy(), rtol=1e-5, atol=1e-5)


def test_model_trains_on_colour_at_another_size_in_mixed_precision(model_name):
    """Three channels, another size, 16 bits inside: and still float32 logits, and a step that moves float32 weights."""
    narrow = {"width": 8} if "width" in MODELS[model_name].settings else {}
    keras.config.set_dtype_policy("mixed_bfloat16")  # some CPUs crawl in float16
    try:
        model = build_model(model_name, size=96, channels=3, **narrow)
        variables = model.trainable_variables
        with tf.GradientTape() as tape:
            logits = model(images(96, 3, n=2), training=True)  # batch norm makes nothing of one
            losses = registry.build("losses", {"name": "cross_entropy"}, soft_labels(2), logits)
        assert_logits(logits, 2)
        assert {variable.dtype for variable in variables} == {"float32"}
        before = variables[-2].numpy()  # of the logits, which see what came through in 16 bits
        optimizer = registry.build("optimizers", {"name": "sgd", "learning_rate": 0.01}, variables)
        optimizer.apply(tape.gradient(losses, variables), variables)
        assert np.isfinite(losses.numpy()).all()
        assert np.isfinite(variables[-2].numpy()).all()
        assert not np.array_equal(before, variables[-2].numpy())
    finally:
        keras.config.set_dtype_policy("float32")


def test_model_at_the_ends_of_its_settings(model_name):
    for settings in (ends.together if is_large(model_name) else ends.one_by_one)(MODELS[model_name]):
        model = build_or_refused(model_name, settings)
        if is_large(model_name):
            assert model.output_shape == (None, len(CLASSES.names))
        else:
            assert_logits(model(images(n=2)), 2)


def build_or_refused(name, settings):
    """The model, without those settings that are refused for what they are, by name."""
    try:
        return build_model(name, **settings)
    except UserError as error:
        kept = {key: value for key, value in settings.items() if f"{name}.{key}:" not in str(error)}
        if len(kept) != len(settings) - 1:
            raise
        return build_or_refused(name, kept)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_loss_at_the_ends_of_its_settings(name, dtype):
    """Finite, one an image, with finite gradients, also for soft labels and for logits as sure as they can be."""
    rng = np.random.default_rng(2)
    labels = np.concatenate([np.eye(4), rng.dirichlet(np.ones(4), 4), np.eye(4)]).astype(np.float32)
    sure = 1e4 * np.eye(4)[[0, 1, 3, 2]]
    logits = np.concatenate([rng.normal(size=(8, 4)), sure]).astype(dtype)
    for settings in ends.one_by_one(LOSSES[name]):
        variable = tf.Variable(logits)
        with tf.GradientTape() as tape:
            losses = loss_of(name, settings, labels, variable)
            total = tf.reduce_sum(losses)
        assert losses.shape == (12,)
        assert losses.dtype == tf.float32
        assert np.isfinite(losses.numpy()).all(), settings
        assert (losses.numpy() >= -1e-6).all(), settings
        assert np.isfinite(tape.gradient(total, variable).numpy()).all(), settings


@pytest.mark.parametrize("name", LOSSES)
def test_loss_of_an_image_is_its_own(name):
    """Neither the other images of a batch nor compilation change it, so a batch may be shared among workers."""
    labels, logits = soft_labels(6), np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32)
    whole = tf.function(functools.partial(loss_of, name, {}))(tf.constant(labels), tf.constant(logits))
    halves = [loss_of(name, {}, labels[half], logits[half]) for half in (slice(2), slice(2, 6))]
    np.testing.assert_allclose(whole, np.concatenate(halves), rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_falls_towards_the_right_answer(name):
    for answer in range(4):
        wrong, unsure, right = loss_of(
            name, {}, np.eye(4)[[answer] * 3], [4.0 * np.eye(4)[answer - 1], np.zeros(4), 4.0 * np.eye(4)[answer]]
        ).numpy()
        assert wrong > unsure > right


def loss_of(name, settings, labels, logits):
    return registry.build(
        "losses",
        {"name": name, **settings},
        tf.convert_to_tensor(labels, tf.float32),
        tf.convert_to_tensor(logits),
        CLASSES,
    )


def toy_variables():
    """A matrix, and a vector such as a bias or a norm's scale."""
    return [keras.Variable(np.full((3, 2), 2.0), name="kernel"), keras.Variable(np.full(2, 2.0), name="bias")]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_goes_downhill(name):
    """Twenty compiled steps on a quadratic lower it, with the learning rate as it is and as it is set."""
    variables = toy_variables()
    optimizer = registry.build("optimizers", {"name": name}, variables)
    default = OPTIMIZERS[name].settings["learning_rate"].default
    assert float(optimizer.learning_rate) == pytest.approx(default)

    @tf.function
    def descend(steps):
        for _ in tf.range(steps):
            optimizer.apply([variable * 1.0 for variable in variables], variables)

    descend(20)
    assert all((variable.numpy() < 2.0).all() for variable in variables)
    optimizer.learning_rate.assign(0.0)
    before = [variable.numpy() for variable in variables]
    descend(1)
    if not getattr(optimizer, "momentum", 0):  # a velocity has the rate of earlier steps in it
        for value, variable in zip(before, variables, strict=True):
            np.testing.assert_allclose(variable.numpy(), value)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_at_the_ends_of_its_settings(name):
    for settings in ends.one_by_one(OPTIMIZERS[name]):
        variables = toy_variables()
        optimizer = registry.build("optimizers", {"name": name, **settings}, variables)
        for _ in range(3):
            optimizer.apply([variable * 1.0 for variable in variables], variables)
        assert all(np.isfinite(variable.numpy()).all() for variable in variables), settings


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_is_decoupled_and_spares_biases_and_norms(name):
    variables = toy_variables()
    settings = {"name": name, "learning_rate": 0.1, "weight_decay": 0.5}
    optimizer = registry.build("optimizers", settings, variables)
    optimizer.apply([keras.ops.zeros_like(variable) for variable in variables], variables)
    np.testing.assert_allclose(variables[0].numpy(), 2.0 * (1 - 0.1 * 0.5), rtol=1e-6)
    np.testing.assert_allclose(variables[1].numpy(), 2.0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_clipping_bounds_all_gradients_together(name):
    """Only their common scale changes: as if the clipped gradients had been handed in."""
    huge = [np.full((3, 2), 300.0, np.float32), np.full(2, 400.0, np.float32)]
    norm = np.sqrt(sum(np.sum(gradient**2) for gradient in huge))
    clipped, expected = toy_variables(), toy_variables()
    registry.build("optimizers", {"name": name, "clip_norm": 0.5}, clipped).apply(tensors(huge), clipped)
    scaled = [gradient * 0.5 / norm for gradient in huge]
    registry.build("optimizers", {"name": name}, expected).apply(tensors(scaled), expected)
    for one, other in zip(clipped, expected, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ema_keeps_an_average_of_the_weights(name):
    variables = toy_variables()
    optimizer = registry.build("optimizers", {"name": name, "ema": 0.5, "learning_rate": 0.1}, variables)
    expected = None
    for _ in range(3):
        optimizer.apply([variable * 1.0 for variable in variables], variables)
        now = variables[0].numpy()
        expected = now if expected is None else 0.5 * expected + 0.5 * now
    optimizer.finalize_variable_values(variables)
    np.testing.assert_allclose(variables[0].numpy(), expected, rtol=1e-5)


def tensors(arrays):
    return [tf.constant(array) for array in arrays]
