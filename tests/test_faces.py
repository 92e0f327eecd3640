"""The embedded faces: the same wherever drawn, varied, in FER2013's proportions, and neither trivial nor hopeless."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from emoray.data import faces


def _digest(seed: int, count: int) -> str:
    images, labels = faces.draw(seed, np.arange(count))
    return hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()


def test_shapes_types_and_values() -> None:
    images, labels = faces.draw(0, np.arange(300))
    assert (images.shape, images.dtype) == ((300, 48, 48), np.uint8)
    assert (labels.shape, labels.dtype) == ((300,), np.int64)
    assert labels.min() >= 0
    assert labels.max() < len(faces.CLASSES)
    assert images.std(axis=(1, 2)).min() > 5, "no image may be flat"
    assert 80 < images.mean() < 170


def test_no_ids_give_no_images() -> None:
    images, labels = faces.draw(0, np.arange(0))
    assert images.shape == (0, 48, 48)
    assert labels.shape == (0,)


def test_an_image_does_not_depend_on_its_batch() -> None:
    ids = np.arange(333)
    images, labels = faces.draw(7, ids)
    order = np.random.default_rng(1).permutation(333)
    for block in np.split(order, [1, 8, 140]):
        part, part_labels = faces.draw(7, ids[block])
        np.testing.assert_array_equal(part, images[block])
        np.testing.assert_array_equal(part_labels, labels[block])


def test_the_type_of_the_ids_does_not_matter() -> None:
    expected, _ = faces.draw(3, np.array([5, 70_000]))
    for kind in (np.int32, np.uint32, np.uint64):
        np.testing.assert_array_equal(faces.draw(3, np.array([5, 70_000], kind))[0], expected)


def test_another_process_draws_the_same() -> None:
    code = "import sys; sys.path.insert(0, 'tests'); from test_faces import _digest; print(_digest(11, 150))"
    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True).stdout
    assert out.strip() == _digest(11, 150)


def test_seeds_differ() -> None:
    one, one_labels = faces.draw(0, np.arange(200))
    other, other_labels = faces.draw(1, np.arange(200))
    assert (one != other).any(axis=(1, 2)).all()
    assert (one_labels != other_labels).any()


def test_no_two_faces_are_alike() -> None:
    images, _ = faces.draw(0, np.arange(3000))
    assert len({image.tobytes() for image in images}) == 3000
    small = np.stack([cv2.resize(image, (12, 12), interpolation=cv2.INTER_AREA) for image in images[:600]])
    flat = small.reshape(600, -1).astype(np.float64)
    squares = (flat**2).sum(1)
    gaps = (squares[:, None] + squares - 2 * flat @ flat.T) / flat.shape[1] + 1e6 * np.eye(600)
    assert gaps.min() > 4**2, "near duplicates: less than 4 grey levels apart, root mean square"


@pytest.mark.parametrize("size", [64, 96])
def test_other_sizes_show_the_same_people(size: int) -> None:
    images, labels = faces.draw(2, np.arange(40))
    larger, same_labels = faces.draw(2, np.arange(40), size=size)
    assert larger.shape == (40, size, size)
    np.testing.assert_array_equal(labels, same_labels)
    for image, large in zip(images, larger, strict=True):
        pair = [cv2.resize(face, (24, 24), interpolation=cv2.INTER_AREA).ravel() for face in (image, large)]
        assert np.corrcoef(pair)[0, 1] > 0.95


def test_classes_come_in_the_proportions_of_fer2013() -> None:
    keys = faces._keys(0, np.arange(60_000))
    _, labels = faces._expression(keys, faces._person(keys))
    shares = np.bincount(labels, minlength=7) / len(labels)
    expected = np.array(faces.COUNTS) / sum(faces.COUNTS)
    # Four standard errors of a share.
    assert (np.abs(shares - expected) < 4 * np.sqrt(expected * (1 - expected) / len(labels))).all()


def test_drawing_leaves_the_threads_of_opencv_alone() -> None:
    before = cv2.getNumThreads()
    faces.draw(0, np.arange(5))
    assert cv2.getNumThreads() == before


def test_the_contact_sheet_has_every_class() -> None:
    sheet = faces.contact_sheet(0, columns=4)
    assert sheet.dtype == np.uint8
    rows = np.split(sheet, len(faces.CLASSES))
    assert all((row[:, 110:] < 128).any() and (row[:, :110] < 128).any() for row in rows)


@pytest.mark.keras
def test_a_small_network_sees_what_a_linear_model_cannot() -> None:
    import keras

    train, labels = faces.draw(1, np.arange(3000))
    test, truth = faces.draw(1, np.arange(1_000_000, 1_001_000))
    mean, spread = train.mean(axis=0), train.std(axis=0)
    flat, flat_test = (((part - mean) / spread).reshape(len(part), -1) for part in (train, test))
    # The better of two strengths on the test faces themselves: a flattered linear model.
    linear = max(RidgeClassifier(alpha=alpha).fit(flat, labels).score(flat_test, truth) for alpha in (1e4, 3e4))

    keras.utils.set_random_seed(0)
    layers = keras.layers
    network = keras.Sequential([layers.Input((48, 48, 1)), layers.Rescaling(1 / 127.5, offset=-1)])
    for width in (16, 32, 64):
        network.add(layers.Conv2D(width, 3, activation="relu", kernel_initializer="he_normal"))
        network.add(layers.MaxPooling2D())
    network.add(layers.Flatten())
    network.add(layers.Dense(128, activation="relu", kernel_initializer="he_normal"))
    network.add(layers.Dense(7))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    network.fit(train[..., None], labels, batch_size=32, epochs=5, verbose=0)
    accuracy = network.evaluate(test[..., None], truth, verbose=0)[1]
    assert 0.3 < linear < 0.52
    assert linear + 0.08 < accuracy < 0.95
