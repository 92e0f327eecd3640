"""The one place where pixels are moved: affine matrices about the image's centre, and a warp of a batch by them.

A matrix is (3, 3) in homogeneous (x, y, 1), in pixels, x to the right and y downwards, with the origin in the middle of
the image. It says where a point of the input goes: `second @ first` does `first`, then `second`.
"""

import cv2
import numpy as np

_STILL = np.eye(3, dtype=np.float32)
_MIRRORED = np.diag([-1.0, 1.0, 1.0]).astype(np.float32)
_BORDER = cv2.BORDER_REFLECT_101
"""What is pulled in from outside is the image mirrored at its edge: it has the grain and brightness of what is beside
it. Black corners and the streaks of a replicated edge are patterns of their own, which a network learns to see."""


def scaling(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Matrices that enlarge by the factors `x` and `y`, each (n,); a negative one mirrors: float32 (n, 3, 3)."""
    matrices = np.zeros((len(x), 3, 3), np.float32)
    matrices[:, 0, 0], matrices[:, 1, 1], matrices[:, 2, 2] = x, y, 1
    return matrices


def rotation(radians: np.ndarray) -> np.ndarray:
    """Matrices that turn by angles (n,), from x towards y, so clockwise on the screen: float32 (n, 3, 3)."""
    cosines = np.cos(radians)
    matrices = scaling(cosines, cosines)
    matrices[:, 1, 0] = np.sin(radians)
    matrices[:, 0, 1] = -matrices[:, 1, 0]
    return matrices


def translation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Matrices that move by pixels, each (n,): float32 (n, 3, 3)."""
    matrices = scaling(np.ones(len(x)), np.ones(len(x)))
    matrices[:, 0, 2], matrices[:, 1, 2] = x, y
    return matrices


def shearing(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Matrices that move along x by `x` pixels for each in y and along y by `y` for each in x: float32 (n, 3, 3)."""
    matrices = scaling(np.ones(len(x)), np.ones(len(x)))
    matrices[:, 0, 1], matrices[:, 1, 0] = x, y
    return matrices


def warp(images: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Move each of `images`, uint8 (n, h, w, c), by its matrix, float32 (n, 3, 3), with bilinear interpolation.

    The images are read only; the result is a new array. The last row of a matrix is taken to be (0, 0, 1).
    """
    height, width = images.shape[1:3]
    still = (matrices == _STILL).all(axis=(1, 2))
    mirrored = (matrices == _MIRRORED).all(axis=(1, 2))
    moved = ~(still | mirrored)

    # A mirror image is exact without interpolation, and a batch that is only flipped costs two copies.
    out = np.empty(images.shape, np.uint8)
    if not moved.all():
        out[still] = images[still]
        out[mirrored] = images[mirrored, :, ::-1]

    affine, size = _about_corner(matrices, height, width), (width, height)
    for index in np.flatnonzero(moved).tolist():
        cv2.warpAffine(images[index], affine[index], size, out[index], cv2.INTER_LINEAR, _BORDER)
    return out


def _about_corner(matrices: np.ndarray, height: int, width: int) -> np.ndarray:
    """The same maps with the origin in the centre of the top left pixel, as OpenCV counts: float64 (n, 2, 3)."""
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    affine = matrices[:, :2].astype(np.float64)
    affine[:, :, 2] += centre - affine[:, :, :2] @ centre
    return affine
