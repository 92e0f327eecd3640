"""What is done to the values of pixels, with nothing random in it: uint8 images (n, h, w, c) in, new ones out.

Strengths are arrays with one entry an image. Arithmetic in wider numbers goes block by block, to stay in cache.
"""

import functools
import math

import cv2
import numpy as np

_BANK = 1 << 20
_SMOOTHING = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13
"""Pillow's SMOOTH, from which its sharpness goes away."""


def blocks(images: np.ndarray) -> list[slice]:
    """Slices over the batch of about 64 Ki pixels each."""
    step = max(1, (1 << 16) // math.prod(images.shape[1:]))
    return [slice(start, start + step) for start in range(0, len(images), step)]


def scaled(images: np.ndarray, factors: np.ndarray, offsets: np.ndarray | None = None) -> np.ndarray:
    """factor * pixel + offset, rounded and clipped; both (n,), or (n, c) with one for each channel."""
    factors = factors.astype(np.float32).reshape(len(images), 1, 1, -1)
    # Half a grey level makes the cut of the conversion to uint8 a rounding.
    halves = np.full_like(factors, 0.5)
    if offsets is not None:
        halves = halves + offsets.astype(np.float32).reshape(factors.shape)
    result = np.empty(images.shape, np.uint8)
    for block in blocks(images):
        values = images[block] * factors[block]
        values += halves[block]
        result[block] = np.clip(values, 0, 255, out=values)
    return result


def contrasted(images: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Distances from the image's mean grey level multiplied by factors (n,)."""
    means = images.reshape(len(images), -1).mean(axis=1, dtype=np.float32)
    return scaled(images, factors, means * (1 - factors.astype(np.float32)))


def stretched(images: np.ndarray) -> np.ndarray:
    """Each channel spread over 0 to 255; a constant one stays as it is."""
    low, high = (pick(axis=(1, 2)).astype(np.float32) for pick in (images.min, images.max))
    spread = high > low
    factors = np.where(spread, 255 / np.maximum(high - low, 1), 1)
    return scaled(images, factors, np.where(spread, -low * factors, 0))


def equalized(images: np.ndarray) -> np.ndarray:
    """The histogram of each channel made flat; a constant channel stays as it is."""
    result = np.empty(images.shape, np.uint8)
    for index in np.ndindex(len(images), images.shape[3]):
        place = (index[0], ..., index[1])
        result[place] = cv2.equalizeHist(np.ascontiguousarray(images[place]))
    return result


def solarized(images: np.ndarray, threshold: float) -> np.ndarray:
    """Pixels from `threshold` (0 to 256) upwards inverted."""
    return np.where(images < threshold, images, 255 - images)


def posterized(images: np.ndarray, bits: int) -> np.ndarray:
    """Only the highest `bits` (0 to 8) of each pixel kept."""
    return images & np.uint8(256 - (1 << (8 - bits)))


def saturated(images: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Distances from grey multiplied by factors (n,): 0 takes the colour away, and a grey image stays as it is."""
    if images.shape[3] == 1:
        return images.copy()
    greys = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images])[..., None]
    return _between(np.broadcast_to(greys, images.shape), images, factors)


def sharpened(images: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Distances from the smoothed image multiplied by factors (n,): under 1 softer, over 1 sharper."""
    smooth = np.stack([cv2.filter2D(image, -1, _SMOOTHING) for image in images])
    return _between(smooth.reshape(images.shape), images, factors)


def blurred(images: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Gaussian blur with standard deviations (n,) in pixels."""
    result = images.copy()
    for index in np.flatnonzero(sigmas).tolist():
        cv2.GaussianBlur(images[index], (0, 0), float(sigmas[index]), result[index])
    return result


def noisy(images: np.ndarray, std: float, places: np.ndarray) -> np.ndarray:
    """Gaussian noise of `std` grey levels on each pixel: the window at `places` (n,), in [0, 1), of one fixed noise."""
    size = math.prod(images.shape[1:])
    bank = _gaussian_noise(std, _BANK + size)
    result = np.empty(images.shape, np.uint8)
    for index, start in enumerate((places * _BANK).astype(int).tolist()):
        noise = bank[start : start + size].reshape(images.shape[1:])
        cv2.add(images[index], noise, result[index], dtype=cv2.CV_8U)
    return result


def static(shape: tuple[int, ...], place: float) -> np.ndarray:
    """Uniform random pixels of a shape: the window at `place`, in [0, 1), of one fixed noise."""
    size, start = math.prod(shape), int(place * _BANK)
    return _uniform_noise(_BANK + size)[start : start + size].reshape(shape)


def _between(away: np.ndarray, images: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """`away` at factor 0, the image at 1, and on beyond it; rounded and clipped."""
    factors = factors.astype(np.float32)[:, None, None, None]
    return np.clip(away + factors * (images - away.astype(np.float32)) + 0.5, 0, 255).astype(np.uint8)


@functools.lru_cache(maxsize=4)
def _gaussian_noise(std: float, count: int) -> np.ndarray:
    # RandomState, for NumPy has promised never to change its stream. Rounding here rounds the sum: pixels are whole.
    return np.rint(np.random.RandomState(0).standard_normal(count) * std).astype(np.int16)


@functools.lru_cache(maxsize=4)
def _uniform_noise(count: int) -> np.ndarray:
    return np.frombuffer(np.random.RandomState(1).bytes(count), np.uint8)
