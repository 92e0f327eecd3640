"""Draws, components and their pipeline: what is random is reproducible, what is composed equals its parts."""

import inspect
import pickle
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from emoray import augment, pixels, registry
from emoray.data import draws
from emoray.data.augmentation import DRAWS, pipeline
from emoray.data.contact_sheet import component_sheet, contact_sheet
from emoray.errors import UserError
from emoray.warp import rotation, scaling, shearing, translation, warp

NAMES = sorted(registry.members("augment"))
SHAPES = [(48, 48, 1), (96, 96, 3)]
OFF: dict[str, dict[str, Any]] = {
    "flip": {"probability": 0.0},
    "rotate": {"degrees": 0.0},
    "shift": {"fraction": 0.0},
    "zoom": {"fraction": 0.0},
    "shear": {"degrees": 0.0},
    "crop": {"fraction": 0.0},
    "brightness": {"fraction": 0.0},
    "contrast": {"fraction": 0.0},
    "noise": {"std": 0.0},
    "blur": {"sigma": 0.0},
    "erase": {"probability": 0.0},
    "mixup": {"probability": 0.0},
    "cutmix": {"probability": 0.0},
}
"""The settings at which a component leaves every pixel alone; rand_augment has none."""
FAR: dict[str, dict[str, Any]] = {
    "flip": {"probability": 1.0},
    "rotate": {"degrees": 180.0},
    "shift": {"fraction": 0.99},
    "zoom": {"fraction": 0.99},
    "shear": {"degrees": 89.0},
    "crop": {"fraction": 0.99},
    "brightness": {"fraction": 0.99},
    "contrast": {"fraction": 0.99},
    "noise": {"std": 300.0},
    "blur": {"sigma": 30.0},
    "erase": {"probability": 1.0, "min_area": 0.9, "max_area": 0.99},
    "rand_augment": {"count": 4, "magnitude": 40.0},
    "mixup": {"alpha": 1e-3},
    "cutmix": {"alpha": 100.0, "probability": 1.0},
}


def images_of(count: int, shape: tuple[int, int, int] = (48, 48, 1)) -> np.ndarray:
    """Smooth random pictures that may not be written to, as they lie in Ray's object store."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, 6, 6, shape[2]), dtype=np.uint8)
    images = np.stack([cv2.resize(image, shape[:2], interpolation=cv2.INTER_CUBIC) for image in coarse])
    images = images.reshape(count, *shape)
    images.flags.writeable = False
    return images


def labels_of(count: int, classes: int = 7) -> np.ndarray:
    labels = np.eye(classes, dtype=np.float32)[np.arange(count) % classes]
    labels.flags.writeable = False
    return labels


def run(components: list[dict[str, Any]], count: int = 32, shape: tuple[int, int, int] = (48, 48, 1), epoch: int = 3):
    return pipeline(components)(images_of(count, shape), labels_of(count), np.arange(count), seed=5, epoch=epoch)


# --- every component --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_component_gives_images_and_never_writes_to_what_it_got(name: str, shape: tuple[int, int, int]):
    for settings in ({}, FAR[name], OFF.get(name, {})):
        before = images_of(9, shape).copy()
        images, labels = run([{"name": name, **settings}], 9, shape)
        assert images.dtype == np.uint8
        assert images.shape == (9, *shape)
        assert labels.dtype == np.float32
        assert labels.sum(axis=1) == pytest.approx(np.ones(9))
        assert np.array_equal(images_of(9, shape), before)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_component_changes_images_by_its_defaults_and_more_when_set_far(name: str, shape: tuple[int, int, int]):
    original = images_of(64, shape).astype(float)
    usual = np.abs(run([{"name": name}], 64, shape)[0] - original).mean()
    far = np.abs(run([{"name": name, **FAR[name]}], 64, shape)[0] - original).mean()
    assert usual > 0.1
    if name not in ("mixup", "cutmix"):
        assert far > 1.5 * usual


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", sorted(OFF))
def test_component_that_is_off_keeps_every_pixel_and_label(name: str, shape: tuple[int, int, int]):
    images, labels = run([{"name": name, **OFF[name]}], 9, shape)
    assert np.array_equal(images, images_of(9, shape))
    assert np.array_equal(labels, labels_of(9))


@pytest.mark.parametrize("name", NAMES)
def test_component_draws_by_epoch_and_place_in_the_list(name: str):
    once, _ = run([{"name": name}], epoch=3)
    assert np.array_equal(once, run([{"name": name}], epoch=3)[0])
    assert not np.array_equal(once, run([{"name": name}], epoch=4)[0])
    still = {"name": "rotate", "degrees": 0.0}
    assert not np.array_equal(once, run([still, {"name": name}], epoch=3)[0])


@pytest.mark.parametrize("name", NAMES)
def test_component_draws_the_same_pixels_in_any_batch(name: str):
    """Single images come out alike in any order and company; mixed ones as long as their pair stays together."""
    images, labels, rows = images_of(20), labels_of(20), np.arange(100, 120)
    run = pipeline([{"name": name, **({} if name in ("mixup", "cutmix") else FAR[name])}])
    whole, whole_labels = run(images, labels, rows, seed=1, epoch=2)
    mixing = name in ("mixup", "cutmix")
    picked = np.array([4, 5, 16, 17, 2, 3] if mixing else [4, 19, 7])
    part, part_labels = run(images[picked], labels[picked], rows[picked], seed=1, epoch=2)
    assert np.array_equal(part, whole[picked])
    assert np.array_equal(part_labels, whole_labels[picked])


# --- geometry ---------------------------------------------------------------------------------------------------------


def test_flip_is_exact_with_and_without_a_warp():
    images = images_of(5)
    mirrors = scaling(np.full(5, -1.0), np.ones(5))
    assert np.array_equal(warp(images, mirrors), images[:, :, ::-1])
    nearly = mirrors.copy()
    nearly[:, 0, 2] = 1e-6  # enough to leave the short cut
    assert np.array_equal(warp(images, nearly), images[:, :, ::-1])


def test_warp_moves_points_where_the_matrix_says():
    """A dot right of and above the centre: 10 pixels out, 4 up."""
    image = np.zeros((1, 49, 49, 1), np.uint8)
    image[0, 24 - 4, 24 + 10] = 255
    one = np.ones(1)

    def dot(matrix: np.ndarray) -> list[int]:
        moved = warp(image, matrix)[0, :, :, 0]
        row, column = np.unravel_index(moved.argmax(), moved.shape)
        return [int(column) - 24, int(row) - 24]

    assert dot(translation(3 * one, -2 * one)) == [13, -6]
    assert dot(rotation(np.pi / 2 * one)) == [4, 10]  # clockwise
    assert dot(scaling(2 * one, 2 * one)) == [20, -8]
    assert dot(shearing(one, 0 * one)) == [6, -4]


def test_composed_geometry_is_the_product_of_its_matrices_and_looks_like_warps_in_turn():
    names = ["rotate", "shear", "shift", "zoom", "flip"]
    images, rows = images_of(16, (96, 96, 1)), np.arange(16)
    composed, _ = run([{"name": name} for name in names], 16, (96, 96, 1))

    product, in_turn = np.broadcast_to(np.eye(3, dtype=np.float32), (16, 3, 3)), images
    for place, name in enumerate(names):
        drawn = draws.uniform(5, 3, f"augment {place} {name}", rows, DRAWS)
        matrices = getattr(augment, name)(drawn, (96, 96, 1))
        product = matrices @ product
        in_turn = warp(in_turn, matrices)
    assert np.array_equal(composed, warp(images, product.astype(np.float32)))
    # The border is pulled in differently; in the middle only the repeated interpolation differs.
    middle = np.s_[:, 32:64, 32:64]
    gap = np.abs(composed[middle].astype(int) - in_turn[middle])
    assert gap.mean() < 1
    assert np.abs(composed[middle].astype(int) - images[middle]).mean() > 20


def test_crop_stays_inside_the_image():
    drawn = np.random.default_rng(0).random((100, 8)).astype(np.float32)
    matrices = np.linalg.inv(augment.crop(drawn, (48, 96, 1), fraction=0.25).astype(float))
    corners = matrices @ np.array([[-48, 48, 48, -48], [-24, -24, 24, 24], [1, 1, 1, 1]])
    assert np.abs(corners[:, 0]).max() <= 48 + 1e-4
    assert np.abs(corners[:, 1]).max() <= 24 + 1e-4
    assert np.abs(corners[:, 0]).max() > 47


@pytest.mark.parametrize("name", ["rotate", "shift", "zoom", "shear"])
def test_moves_are_even_either_way(name: str):
    drawn = draws.uniform(0, 0, name, np.arange(4000), DRAWS)
    moved = getattr(augment, name)(drawn, (48, 48, 1)).mean(axis=0)
    assert moved == pytest.approx(np.eye(3), abs=0.12)


# --- pixels -----------------------------------------------------------------------------------------------------------


def test_brightness_and_contrast_stay_within_their_fraction():
    grey = np.tile(np.array([50, 150], np.uint8), (500, 4, 2))[..., None]
    drawn = draws.uniform(0, 0, "x", np.arange(500), DRAWS)
    bright = augment.brightness(grey, drawn, fraction=0.2)
    assert (bright.min(), bright[:, :, 1].max()) == (40, 180)
    far = augment.contrast(grey, drawn, fraction=0.2)
    assert (far[:, :, 0].min(), far[:, :, 0].max()) == (40, 60)
    assert far.mean() == pytest.approx(100, abs=0.6)


def test_noise_has_the_std_that_is_asked_for_and_differs_by_image():
    flat = np.full((50, 48, 48, 3), 128, np.uint8)
    drawn = draws.uniform(0, 0, "x", np.arange(50), DRAWS)
    noisy = augment.noise(flat, drawn, std=12.0).astype(float) - 128
    assert noisy.std() == pytest.approx(12, rel=0.02)
    assert noisy.mean() == pytest.approx(0, abs=0.2)
    assert abs(np.corrcoef(noisy.reshape(50, -1))[np.triu_indices(50, 1)]).max() < 0.1


@pytest.mark.parametrize("fill", ["noise", "mean"])
def test_erase_covers_one_rectangle_of_an_area_within_bounds(fill: str):
    images = np.full((300, 48, 48, 1), 7, np.uint8)
    images[:, ::2] = 9
    drawn = draws.uniform(0, 0, "x", np.arange(300), DRAWS)
    erased = augment.erase(images, drawn, probability=0.4, min_area=0.05, max_area=0.2, fill=fill)
    changed = (erased != images).any(axis=(1, 2, 3))
    assert 0.3 < changed.mean() < 0.5
    for before, after in zip(images[changed, ..., 0], erased[changed, ..., 0], strict=True):
        rows, columns = np.flatnonzero((before != after).any(1)), np.flatnonzero((before != after).any(0))
        area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1) / 48**2
        assert 0.03 < area < 0.22
        if fill == "mean":
            assert (after[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 8).all()


def test_operations_of_rand_augment_do_what_pillow_does():
    from PIL import Image, ImageEnhance, ImageOps

    images = images_of(3, (48, 48, 3))
    factors = np.array([0.4, 1.0, 1.7])

    def enhanced(enhancer: Callable[[Image.Image], Any]) -> np.ndarray:
        pairs = zip(images, factors, strict=True)
        return np.stack([np.asarray(enhancer(Image.fromarray(image)).enhance(factor)) for image, factor in pairs])

    def done(operation: Callable[[Image.Image], Image.Image]) -> np.ndarray:
        return np.stack([np.asarray(operation(Image.fromarray(image))) for image in images])

    def close(ours: np.ndarray, theirs: np.ndarray, levels: int) -> bool:
        return int(np.abs(ours.astype(int) - theirs).max()) <= levels

    assert close(pixels.scaled(images, factors), enhanced(ImageEnhance.Brightness), 1)
    assert close(pixels.saturated(images, factors), enhanced(ImageEnhance.Color), 2)  # two roundings each
    inside = np.s_[:, 1:-1, 1:-1]  # Pillow leaves the outermost pixels alone
    assert close(pixels.sharpened(images, factors)[inside], enhanced(ImageEnhance.Sharpness)[inside], 1)
    assert close(pixels.stretched(images), done(ImageOps.autocontrast), 1)
    assert close(pixels.solarized(images, 100), done(lambda image: ImageOps.solarize(image, 100)), 0)
    assert close(pixels.posterized(images, 3), done(lambda image: ImageOps.posterize(image, 3)), 0)

    dark = np.random.default_rng(0).beta(1, 3, (3, 96, 96, 3))
    images = (250 * dark).astype(np.uint8)
    assert close(pixels.equalized(images), done(ImageOps.equalize), 4)  # OpenCV's formula counts the darkest pixels out
    assert np.abs(pixels.equalized(images).astype(int) - images).max() > 50


def test_rand_augment_picks_every_operation():
    """With one operation each, the identity's share stays as it was and all others change the image."""
    images = np.repeat(images_of(1, (48, 48, 3)), 2000, axis=0)
    drawn = draws.uniform(0, 0, "x", np.arange(2000), DRAWS)
    changed = augment.rand_augment(images, drawn, count=1, magnitude=5.0)
    same = (changed == images).all(axis=(1, 2, 3)).mean()
    assert 0.04 < same < 0.11  # 1 of 14, auto-contrast on a full range aside
    assert len({image.tobytes() for image in changed}) == 23  # 9 operations with two directions and 5 with one


# --- mixing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [8, 9])
def test_mixup_blends_pairs_in_the_shares_of_their_labels(count: int):
    images, labels = images_of(count), np.eye(count, dtype=np.float32)
    mixed, shares = pipeline([{"name": "mixup", "alpha": 1.0}])(images, labels, np.arange(count), seed=0, epoch=0)
    for index in range(count):
        partner = min(index ^ 1, count - 1)
        blend = images[index] * float(shares[index, index]) + images[partner] * float(1 - shares[index, index])
        assert np.abs(mixed[index] - blend).max() <= 0.51
        assert set(np.flatnonzero(shares[index])) <= {index, partner}
    assert len(np.unique(shares.diagonal())) > 5


@pytest.mark.parametrize("count", [32, 33])
def test_cutmix_labels_go_by_area(count: int):
    values = (np.arange(count) * 3).astype(np.uint8)
    images = np.broadcast_to(values[:, None, None, None], (count, 48, 48, 3))
    mixing = pipeline([{"name": "cutmix", "probability": 1.0}])
    mixed, shares = mixing(images, np.eye(count, dtype=np.float32), np.arange(count), seed=0, epoch=0)
    for index in range(count):
        partner = min(index ^ 1, count - 1)
        assert (mixed[index] == values[index]).mean() == pytest.approx(shares[index, index], abs=1e-6)
        assert (np.isin(mixed[index], values[[index, partner]])).all()
    assert (shares.diagonal() < 1).sum() > 20


@pytest.mark.parametrize("alpha", [1e-3, 0.2, 1.0, 8.0])
def test_mixup_shares_follow_their_beta_distribution(alpha: float):
    images, labels = np.zeros((20_000, 1, 1, 1), np.uint8), np.eye(2, dtype=np.float32)[np.arange(20_000) % 2]
    drawn = draws.uniform(0, 0, "x", np.arange(20_000), DRAWS)
    shares = augment.mixup(images, labels, drawn, alpha=alpha)[1]
    own = shares[np.arange(20_000), np.arange(20_000) % 2]
    assert own.mean() == pytest.approx(0.5, abs=0.02)
    assert own.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.04)


# --- the pipeline -----------------------------------------------------------------------------------------------------


def test_pipeline_survives_pickling_and_other_processes_get_equal_pixels():
    augmented = pipeline([{"name": "rotate"}, {"name": "noise"}, {"name": "mixup"}])
    arguments = images_of(6), labels_of(6), np.arange(6)
    here = augmented(*arguments, seed=0, epoch=1)
    there = pickle.loads(pickle.dumps(augmented))(*arguments, seed=0, epoch=1)
    assert all(np.array_equal(one, other) for one, other in zip(here, there, strict=True))


def test_pipeline_mixes_last_and_gives_equal_components_their_own_draws():
    steps = pipeline([{"name": "mixup"}, {"name": "erase"}, {"name": "erase"}, {"name": "flip"}]).steps
    assert [step.kind for step in steps] == ["pixels", "pixels", "geometry", "mixing"]
    assert len({step.stream for step in steps}) == 4
    covered = [{"name": "erase", "probability": 1.0, "fill": "mean"}]
    once, twice = run(covered)[0], run(covered * 2)[0]
    assert ((once != twice).any(axis=(1, 2, 3))).mean() > 0.9


def test_pipeline_of_nothing_and_of_no_images():
    images, labels = run([])
    assert np.array_equal(images, images_of(32))
    assert np.array_equal(labels, labels_of(32))
    images, labels = run([{"name": name} for name in NAMES], 32)
    nobody = pipeline([{"name": name} for name in NAMES])(images[:0], labels[:0], np.arange(0), seed=0, epoch=0)
    assert [len(array) for array in nobody] == [0, 0]


def test_pipeline_catches_a_component_that_works_in_place(tmp_path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "careless.py").write_text("def darken(images, draws):\n    images //= 2\n    return images\n")
    monkeypatch.syspath_prepend(tmp_path)
    images = np.full((2, 48, 48, 1), 100, np.uint8)
    with pytest.raises(ValueError, match="read-only"):
        pipeline([{"name": "careless.darken"}])(images, labels_of(2), np.arange(2), seed=0, epoch=0)
    assert (images == 100).all()


def test_pipeline_refuses_what_is_no_kind_of_component(tmp_path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "strange.py").write_text("def swirl(image):\n    return image\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"strange\.swirl takes \(image\)"):
        pipeline([{"name": "strange.swirl"}])


def test_no_component_needs_more_draws_than_it_gets():
    for name in NAMES:
        assert "draws" in inspect.signature(getattr(augment, name)).parameters
        run([{"name": name, **FAR[name]}])  # a ninth column would be an IndexError


def test_contact_sheets_show_every_image_and_component():
    images = images_of(3, (48, 48, 1))
    sheet = contact_sheet(images, [{"name": "flip", "probability": 1.0}], epochs=2)
    assert sheet.dtype == np.uint8
    assert sheet.shape[2] == 3
    tiles = [sheet[-102:-6, left : left + 96, 0] for left in (6, 108, 210)]
    assert np.array_equal(tiles[0][::2, ::2], images[2, :, :, 0])
    assert np.array_equal(tiles[1], tiles[0][:, ::-1])
    assert np.array_equal(tiles[1], tiles[2])
    each = component_sheet(images, [{"name": name} for name in NAMES])
    assert each.shape[0] == 6 + 102 * (1 + len(NAMES))
