"""Looking inside: every architecture there is, and small models of which the answer is known."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from emoray import pictures, registry
from emoray.data import Split
from emoray.held_out import HeldOut
from emoray.inside import attention, layers
from emoray.inside.examine import examine
from emoray.models.layers import Pixels
from emoray.trial import checkpoint

pytestmark = pytest.mark.keras
SMALL = {
    "mobilenet": {"alpha": 0.25},
    "mobilenet_v2": {"alpha": 0.35},
    "inception_v3": {"image_size": 75},
    "simple_cnn": {"width": 8},
    "resnet34": {"width": 8},
    "vgg10": {"width": 8},
    "inception": {"width": 8},
}
HUGE = ("vgg16", "resnet50", "inception_v3", "efficientnet_b0")
"""One such backbone of keras.applications is as another here; they take seconds each."""
MODELS = [name for name in registry.members("models") if name not in HUGE[1:]]
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 1), dtype=np.uint8)


def built(name: str) -> keras.Model:
    component = registry.members("models")[name]
    settings = {"name": name, **SMALL.get(name, {})}
    if "weights" in component.settings:
        settings |= {"weights": None, "image_size": settings.get("image_size", 48)}
    return registry.build("models", settings, (48, 48, 1), 4)


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_can_be_looked_into(name: str) -> None:
    model = built(name)
    before = model(IMAGES, training=False).numpy()
    with layers.watched(model) as seen:
        model(IMAGES, training=False)
    found = layers.stages(seen)
    assert len(found) >= 2
    sizes = [stage.size for stage in found]
    assert sizes == sorted(set(sizes), reverse=True), "from fine to coarse, each size once"
    assert all(stage.channels > 3 for stage in found)
    heat = attention.class_maps(model, IMAGES, np.array([0, 1, 2]))
    assert heat.shape == (3, 48, 48)
    assert np.isfinite(heat).all()
    assert heat.min() >= 0
    assert set(np.round(heat.max(axis=(1, 2)), 5)) <= {0.0, 1.0}
    kernels = layers.first_filters(model)
    assert kernels is not None
    assert kernels.shape[2] in (1, 3)
    dead = layers.dead_filters(model, IMAGES)
    assert len(dead) >= 2
    assert all(0 <= one.dead <= one.filters for one in dead)
    assert len({one.path for one in dead}) == len(dead)
    np.testing.assert_array_equal(model(IMAGES, training=False).numpy(), before, "watching leaves no trace")
    assert not any("call" in vars(layer) for _, layer in layers.leaves(model))


def test_a_nested_backbone_is_seen() -> None:
    inner = keras.Sequential(
        [keras.Input((48, 48, 1)), keras.layers.Conv2D(5, 3, strides=2, activation="relu", name="deep")], name="inner"
    )
    inputs = keras.Input((48, 48, 1), dtype="uint8")
    x = keras.layers.GlobalAveragePooling2D()(inner(Pixels()(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(4, dtype="float32")(x))
    with layers.watched(model) as seen:
        model(IMAGES, training=False)
    assert [stage.path for stage in layers.stages(seen)] == ["inner/deep"]
    assert [one.path for one in layers.dead_filters(model, IMAGES)] == ["inner/deep"]


class Blocks(keras.Model):
    """A subclassed model with layers in a list and in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.pixels = Pixels()
        self.first = [keras.layers.Conv2D(6, 3, name="listed"), keras.layers.ReLU(name="after")]
        self.named = {"only": keras.layers.Conv2D(4, 3, strides=2, name="named")}
        self.pool = keras.layers.GlobalAveragePooling2D()
        self.logits = keras.layers.Dense(4, dtype="float32")

    def call(self, inputs, training=None):
        x = self.pixels(inputs)
        for layer in self.first:
            x = layer(x)
        return self.logits(self.pool(self.named["only"](x)))


def test_layers_in_lists_and_dictionaries_are_seen() -> None:
    model = Blocks()
    model(IMAGES)
    names = [path for path, _ in layers.leaves(model)]
    assert {"listed", "after", "named"} <= {name.rpartition("/")[2] for name in names}
    assert len(layers.dead_filters(model, IMAGES)) == 2


def test_dead_filters_are_counted() -> None:
    """Of 8 filters behind ReLU three can never be positive, and one of those by a bias below all that it sees."""
    inputs = keras.Input((48, 48, 1), dtype="uint8")
    conv = keras.layers.Conv2D(8, 1, name="conv")
    x = keras.layers.ReLU()(conv(Pixels()(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x)))
    kernel = np.ones((1, 1, 1, 8), np.float32)
    kernel[..., 3:5] = 0
    bias = np.array([0, 0, 0, -1, 0, 0, 0, -9], np.float32)
    conv.set_weights([kernel, bias])
    (found,) = layers.dead_filters(model, IMAGES)
    assert (found.filters, found.dead) == (8, 3)


def planted(side: int) -> keras.Model:
    """Class 1 is the light in a map of `side` pixels, class 0 the dark."""
    inputs = keras.Input((48, 48, 1), dtype="uint8")
    x = keras.layers.AveragePooling2D(48 // side)(Pixels()(inputs))
    conv = keras.layers.Conv2D(4, 1, activation="relu", name="light")
    x = keras.layers.GlobalAveragePooling2D()(conv(x))
    dense = keras.layers.Dense(2)
    model = keras.Model(inputs, dense(x))
    conv.set_weights([np.array([1, 1, -1, -1], np.float32).reshape(1, 1, 1, 4), np.zeros(4, np.float32)])
    dense.set_weights([np.array([[0, 1], [0, 1], [1, 0], [1, 0]], np.float32), np.zeros(2, np.float32)])
    return model


@pytest.mark.parametrize(("side", "method"), [(8, "LayerCAM"), (24, "Grad-CAM")])
def test_class_maps_point_at_what_decides(side: int, method: str) -> None:
    model = planted(side)
    images = np.full((2, 48, 48, 1), 20, np.uint8)
    images[:, 6:18, 24:42] = 240
    with layers.watched(model) as seen:
        model(images[:1], training=False)
    assert attention.method_for(attention.stage_for(seen)) == method
    light, dark = attention.class_maps(model, images, np.array([1, 0]))
    lit = np.zeros((48, 48), bool)
    lit[6:18, 24:42] = True
    assert light[lit].mean() > 0.6 > 0.2 > light[~lit].mean()
    assert dark[~lit].mean() > 0.6 > 0.2 > dark[lit].mean()


def test_a_model_without_maps_says_so() -> None:
    inputs = keras.Input((48, 48, 1), dtype="uint8")
    x = keras.layers.Flatten()(Pixels()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(4)(x))
    with pytest.raises(ValueError, match="has no maps"):
        attention.class_maps(model, IMAGES, np.array([0, 1, 2]))


def test_all_pictures_of_a_trial_are_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names, shape = ["joy $x$", "no <b>"], (48, 48, 1)
    labels = np.array([0, 1] * 6)
    images = rng.integers(0, 256, (12, *shape), dtype=np.uint8)
    split = Split(images, labels, np.arange(12), np.array(["a.png"] * 12), None)
    data = HeldOut(tmp_path / "data", {"classes": names, "image_shape": list(shape), "fingerprint": "f"})
    arrays = {name: [getattr(split, name)] for name in ("images", "labels", "rows", "files")}
    checkpoint.write(data.folder / "selection.npz", checkpoint.State(arrays, {"fingerprint": "f"}))
    settings = {"name": "simple_cnn", "width": 4}
    model = registry.build("models", settings, shape, 2)
    trial = tmp_path / "trials" / "t"
    state = checkpoint.State({"model": [v.numpy() for v in model.variables]})
    checkpoint.write(trial / "checkpoint" / "best.npz", state)
    (trial / "settings.json").write_text(json.dumps({"settings": {"model": settings}}))
    shares = np.tile(np.array([[0.9, 0.1]], np.float32), (12, 1))  # always the first class
    told = {"key": "k", "study": "s", "name": "t", "model": "simple_cnn"}
    into = tmp_path / "report" / "s"
    examine(trial, [trial / "checkpoint" / "best.npz"], data, shares, into, told, 1)
    inside = json.loads((into / "inside.json").read_text())
    first, second = inside["classes"]
    assert {"right", "average"} <= first.keys()
    assert "wrong" not in first
    assert "right" not in second
    assert second["wrong"]["predicted"] == "joy $x$"
    assert [stage["size"] for stage in first["stages"]] == [[48, 48], [24, 24], [12, 12], [6, 6]]
    for uri in (first["image"], first["stages"][0]["strip"], first["right"]["picture"], inside["filters"]["picture"]):
        assert uri.startswith("data:image/")
    written = {path.name for path in into.glob("*.png")}
    assert written == {"class_maps.png", "filters.png", "feature_maps_0.png", "feature_maps_1.png"}
    assert all((into / name).stat().st_size > 2000 for name in written)


def test_pictures_keep_their_pixels() -> None:
    image = np.arange(48 * 48, dtype=np.uint8).reshape(48, 48, 1)
    assert pictures.enlarged(image, 96).shape == (96, 96, 1)
    assert (pictures.enlarged(image, 96)[::2, ::2] == image).all()
    assert pictures.strip([pictures.rgb(image)] * 3).shape == (48, 48 * 3 + 2 * pictures.GAP, 3)
    assert pictures.grid([pictures.rgb(image)] * 5, 2).shape == (48 * 3 + 2 * pictures.GAP, 98, 3)
    grid = pictures.grid([pictures.framed(pictures.rgb(image))] * 2, 2, gap=10)
    assert grid.shape == (52, 52 * 2 + 10, 3)
    assert (grid[:, 52:62] == 255).all()
    assert (grid[:, [50, 51, 62, 63]] == 128).all()
    flat = pictures.coloured(np.full((4, 4), 3.0))
    assert (flat == flat[0, 0]).all()
    assert pictures.uri(image).startswith("data:image/png;base64,")
