"""Augmentation: each public function here is a component that a sweep file names under `augment`.

The rule to know: a component has no randomness of its own. It gets `draws`, float32 (n, 8) uniform in [0, 1), one row
an image, a pure function of (seed, epoch, place in the list, row id): the same draws give the same pixels wherever they
run. What the positional arguments are called says what kind it is:

- `(draws, image_shape)`: geometry. Gives float32 (n, 3, 3) matrices about the image's centre (see `emoray.warp`);
  consecutive ones are multiplied and the pixels moved once.
- `(images, draws)`: pixels. uint8 (n, h, w, c) in, a new array of the same kind out.
- `(images, labels, draws)`: mixing. Image i gets something of its neighbour i^1 in the batch (the last one of an odd
  batch stays alone); gives new images and soft labels, float32 (n, classes).
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from scipy.special import betaincinv

from emoray import pixels
from emoray.settings import Degrees, Fraction, Lean, NonNegative, Positive, Probability
from emoray.warp import rotation, scaling, shearing, translation, warp

ImageShape = tuple[int, int, int]


def flip(draws: np.ndarray, image_shape: ImageShape, *, probability: Probability = 0.5) -> np.ndarray:
    """Mirror left and right.

    Krizhevsky, Sutskever & Hinton 2012, "ImageNet classification with deep convolutional neural networks".
    """
    return scaling(np.where(draws[:, 0] < probability, -1, 1), np.ones(len(draws)))


def rotate(draws: np.ndarray, image_shape: ImageShape, *, degrees: Degrees = 10.0) -> np.ndarray:
    """Turn about the centre by an angle up to `degrees`, either way.

    Simard, Steinkraus & Platt 2003, "Best practices for convolutional neural networks".
    """
    return rotation(np.deg2rad(degrees) * _either_way(draws[:, 0]))


def shift(draws: np.ndarray, image_shape: ImageShape, *, fraction: Fraction = 0.1) -> np.ndarray:
    """Move sideways and up or down, each by up to `fraction` of the image's side.

    Simard, Steinkraus & Platt 2003, "Best practices for convolutional neural networks".
    """
    height, width, _ = image_shape
    return translation(fraction * width * _either_way(draws[:, 0]), fraction * height * _either_way(draws[:, 1]))


def zoom(draws: np.ndarray, image_shape: ImageShape, *, fraction: Fraction = 0.1) -> np.ndarray:
    """Enlarge or shrink about the centre by a factor from 1 - `fraction` to 1 + `fraction`.

    LeCun, Bottou, Bengio & Haffner 1998, "Gradient-based learning applied to document recognition".
    """
    factors = 1 + fraction * _either_way(draws[:, 0])
    return scaling(factors, factors)


def shear(draws: np.ndarray, image_shape: ImageShape, *, degrees: Lean = 10.0) -> np.ndarray:
    """Lean to the side by an angle up to `degrees` (less than 90), either way; the centre row stays.

    LeCun, Bottou, Bengio & Haffner 1998, "Gradient-based learning applied to document recognition".
    """
    return shearing(np.tan(np.deg2rad(degrees) * _either_way(draws[:, 0])), np.zeros(len(draws)))


def crop(draws: np.ndarray, image_shape: ImageShape, *, fraction: Fraction = 0.125) -> np.ndarray:
    """Cut `fraction` off both sides, at a random place, and scale the rest back to the image's size.

    Krizhevsky, Sutskever & Hinton 2012, "ImageNet classification with deep convolutional neural networks". The random
    crop of 42 of 48 pixels that is usual on FER2013 is `fraction` 0.125.
    """
    height, width, _ = image_shape
    x, y = (fraction / 2 * side * _either_way(draws[:, axis]) for axis, side in enumerate((width, height)))
    factors = np.full(len(draws), 1 / (1 - fraction))
    return scaling(factors, factors) @ translation(x, y)


def brightness(images: np.ndarray, draws: np.ndarray, *, fraction: Fraction = 0.2) -> np.ndarray:
    """Multiply all pixels by a factor from 1 - `fraction` to 1 + `fraction`.

    Howard 2013, "Some improvements on deep convolutional neural network based image classification".
    """
    return pixels.scaled(images, 1 + fraction * _either_way(draws[:, 0]))


def contrast(images: np.ndarray, draws: np.ndarray, *, fraction: Fraction = 0.2) -> np.ndarray:
    """Multiply the distances from the image's mean by a factor from 1 - `fraction` to 1 + `fraction`.

    Howard 2013, "Some improvements on deep convolutional neural network based image classification".
    """
    return pixels.contrasted(images, 1 + fraction * _either_way(draws[:, 0]))


def noise(images: np.ndarray, draws: np.ndarray, *, std: NonNegative = 8.0) -> np.ndarray:
    """Add Gaussian noise of standard deviation `std`, in grey levels, to each pixel.

    Bishop 1995, "Training with noise is equivalent to Tikhonov regularization".
    """
    return pixels.noisy(images, std, draws[:, 0])


def blur(images: np.ndarray, draws: np.ndarray, *, sigma: NonNegative = 1.0) -> np.ndarray:
    """Gaussian blur with a standard deviation of up to `sigma` pixels.

    Shorten & Khoshgoftaar 2019, "A survey on image data augmentation for deep learning".
    """
    return pixels.blurred(images, sigma * draws[:, 0])


def erase(
    images: np.ndarray,
    draws: np.ndarray,
    *,
    probability: Probability = 0.5,
    min_area: Fraction = 0.02,
    max_area: Fraction = 0.33,
    fill: Literal["noise", "mean"] = "noise",
) -> np.ndarray:
    """Cover a random rectangle with random pixels, or with the image's mean.

    Zhong et al. 2020, "Random Erasing Data Augmentation": the area is a share of the image between `min_area` and
    `max_area`, the aspect ratio between 0.3 and 1/0.3. Two differences: ratios are drawn evenly on a logarithmic scale,
    and a rectangle too long for the image is cut to its side, where the paper draws again.
    """
    height, width = images.shape[1:3]
    areas = (min_area + (max_area - min_area) * draws[:, 1]) * height * width
    ratios = 0.3 ** _either_way(draws[:, 2])
    heights = np.clip(np.rint(np.sqrt(areas * ratios)), 0, height).astype(int)
    widths = np.clip(np.rint(np.sqrt(areas / ratios)), 0, width).astype(int)
    tops = (draws[:, 3] * (height - heights + 1)).astype(int)
    lefts = (draws[:, 4] * (width - widths + 1)).astype(int)

    erased = images.copy()
    for index in np.flatnonzero(draws[:, 0] < probability).tolist():
        high, wide, top, left = heights[index], widths[index], tops[index], lefts[index]
        if fill == "mean":
            cover = images[index].mean(axis=(0, 1)).round()
        else:
            cover = pixels.static(images.shape[1:], draws[index, 5])[:high, :wide]
        erased[index, top : top + high, left : left + wide] = cover
    return erased


def rand_augment(
    images: np.ndarray, draws: np.ndarray, *, count: Literal[1, 2, 3, 4] = 2, magnitude: NonNegative = 5.0
) -> np.ndarray:
    """Do `count` operations picked at random out of 14, each with the same `magnitude`.

    Cubuk et al. 2020, "RandAugment": the ranges are those of AutoAugment (Cubuk et al. 2019, table 6), which end at
    magnitude 10; a larger one goes on beyond. Operations with two directions take either. The moves among the picked
    come first, as one warp. The paper used 2 operations of magnitude 9 on ImageNet; faces of 48 pixels bear less.
    """
    level = magnitude / 10
    picked = (draws[:, 0 : 2 * count : 2] * (len(_MOVES) + len(_TOUCHES))).astype(int).T
    signed = np.where(draws[:, 1 : 2 * count : 2] < 0.5, -level, level).T

    matrices = scaling(np.ones(len(images)), np.ones(len(images)))
    for turn in range(count):
        for number, move in enumerate(_MOVES):
            at = np.flatnonzero(picked[turn] == number)
            matrices[at] = move(signed[turn, at], images.shape[2]) @ matrices[at]
    result = warp(images, matrices)
    for turn in range(count):
        for number, touch in enumerate(_TOUCHES, len(_MOVES)):
            at = np.flatnonzero(picked[turn] == number)
            if len(at):
                result[at] = touch(result[at], signed[turn, at])
    return result


def mixup(
    images: np.ndarray,
    labels: np.ndarray,
    draws: np.ndarray,
    *,
    alpha: Positive = 0.2,
    probability: Probability = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Blend an image and its label with its neighbour's, in shares drawn from Beta(`alpha`, `alpha`).

    Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization". Shares are whole 256ths, so that integer arithmetic
    mixes the pixels in the very shares that the label states. Each image of a pair draws a share of its own.
    """
    shares = np.rint(betaincinv(alpha, alpha, draws[:, 0]) * 256)
    shares[draws[:, 1] >= probability] = 256
    partners, own = _partners(len(images)), shares.astype(np.uint16)[:, None, None, None]
    mixed = np.empty_like(images)
    for block in pixels.blocks(images):
        sums = images[block] * own[block] + images[partners[block]] * (256 - own[block])
        mixed[block] = (sums + 128) >> 8
    return mixed, _mixed_labels(labels, partners, shares / 256)


def cutmix(
    images: np.ndarray,
    labels: np.ndarray,
    draws: np.ndarray,
    *,
    alpha: Positive = 1.0,
    probability: Probability = 0.5,
) -> tuple[np.ndarray, np.ndarray]:
    """Paste a rectangle of the neighbour over an image, and mix their labels by area.

    Yun et al. 2019, "CutMix": the rectangle has the image's proportions, a share of its area drawn from
    Beta(`alpha`, `alpha`) and its centre anywhere; the label goes by what is left of it inside the image.
    """
    count, height, width, _ = images.shape
    side = np.sqrt(1 - betaincinv(alpha, alpha, draws[:, 0]))
    side[draws[:, 1] >= probability] = 0
    top, bottom = _span(draws[:, 2], side, height)
    left, right = _span(draws[:, 3], side, width)
    partners = _partners(count)
    mixed = images.copy()
    for index in np.flatnonzero(side).tolist():
        window = slice(top[index], bottom[index]), slice(left[index], right[index])
        mixed[index][window] = images[partners[index]][window]
    pasted = (bottom - top) * (right - left) / (height * width)
    return mixed, _mixed_labels(labels, partners, 1 - pasted)


def _either_way(draws: np.ndarray) -> np.ndarray:
    """[0, 1) to [-1, 1)."""
    return 2 * draws - 1


def _factors(signed: np.ndarray) -> np.ndarray:
    """AutoAugment's strength of an enhancement: 1 +- 0.9 at full magnitude, and never negative."""
    return np.maximum(1 + 0.9 * signed, 0)


def _level(signed: np.ndarray) -> float:
    """The magnitude of an operation that has one direction, at most the full one; all images have the same."""
    return min(abs(float(signed[0])), 1.0)


# What rand_augment picks from. A move takes signed magnitudes (n,), 1 for the full one, and the image's side.
_MOVES: tuple[Callable[[np.ndarray, int], np.ndarray], ...] = (
    lambda signed, side: rotation(np.deg2rad(30) * signed),
    lambda signed, side: shearing(0.3 * signed, 0 * signed),
    lambda signed, side: shearing(0 * signed, 0.3 * signed),
    lambda signed, side: translation(150 / 331 * side * signed, 0 * signed),
    lambda signed, side: translation(0 * signed, 150 / 331 * side * signed),
)
_TOUCHES: tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...] = (
    lambda images, signed: images,
    lambda images, signed: pixels.stretched(images),
    lambda images, signed: pixels.equalized(images),
    lambda images, signed: pixels.solarized(images, 256 - 256 * _level(signed)),
    lambda images, signed: pixels.posterized(images, 8 - round(4 * _level(signed))),
    lambda images, signed: pixels.saturated(images, _factors(signed)),
    lambda images, signed: pixels.contrasted(images, _factors(signed)),
    lambda images, signed: pixels.scaled(images, _factors(signed)),
    lambda images, signed: pixels.sharpened(images, _factors(signed)),
)


def _partners(count: int) -> np.ndarray:
    """Who mixes with whom: i^1, so that even slices of a batch hold whole pairs. The last of an odd one has itself."""
    return np.minimum(np.arange(count) ^ 1, count - 1)


def _mixed_labels(labels: np.ndarray, partners: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The image's own label in its share (n,), its partner's in the rest: float32 (n, classes)."""
    own = shares.astype(np.float32)[:, None]
    return labels * own + labels[partners] * (1 - own)


def _span(place: np.ndarray, side: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """First and past-the-last pixel of `side` (a share of `length`) about a centre at `place` (another), clipped."""
    half, centre = side * length / 2, place * length
    first, last = np.rint(centre - half), np.rint(centre + half)
    return np.clip(first, 0, length).astype(int), np.clip(last, 0, length).astype(int)
