"""From an image file's bytes to pixels of one shape, or a reason why not. Nothing is repaired or replaced."""

import io
import warnings
from typing import IO

import cv2
import numpy as np
from PIL import Image

from emoray.data.plan import UnusableImage

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
MAX_PIXELS = 50_000_000
"""A header may claim any size; beyond this one nothing is decoded."""
MAX_BYTES = 256 << 20
"""Of a file; what is larger is not read to its end."""
BACKGROUND = 128
"""Grey level under transparent pixels: neither of the two that edges and shadows have."""

_PART_BYTES = 1 << 20
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(data: bytes, channels: int) -> np.ndarray:
    """The pixels of an image file, upright, as uint8 (height, width, channels) with 1 or 3 channels.

    The file's content tells its format, not its name. Of an animation the first frame is taken, transparent pixels lie
    on mid-grey, and 16 bits are scaled to 8.

    Raises:
        UnusableImage: the bytes are no image, are damaged or incomplete, or claim more than `MAX_PIXELS`.
    """
    if not data:
        raise UnusableImage("the file is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of sizes and of odd metadata; the first is checked below
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise UnusableImage(f"too large: {width} x {height} pixels, at most {MAX_PIXELS:,} are decoded")
                image.load()
                return _pixels(_upright(image), channels)
        except UnusableImage:
            raise
        except Image.DecompressionBombError as error:
            raise UnusableImage(f"too large: at most {MAX_PIXELS:,} pixels are decoded") from error
        except Image.UnidentifiedImageError as error:
            raise UnusableImage("not a PNG, JPEG, WebP or BMP image") from error
        except Exception as error:  # damaged files make Pillow raise almost anything, SyntaxError included
            raise UnusableImage(f"damaged or incomplete: {error}") from error


def read(file: IO[bytes]) -> bytes:
    """The bytes of an image file.

    Raises:
        UnusableImage: there are more than `MAX_BYTES`, as in a device that never ends.
    """
    parts: list[bytes] = []
    while part := file.read(_PART_BYTES):
        parts.append(part)
        if len(parts) * _PART_BYTES > MAX_BYTES:
            raise UnusableImage(f"too large: at most {MAX_BYTES >> 20} MB of a file are read")
    return b"".join(parts)


def of_sample(image: bytes | np.ndarray | UnusableImage, channels: int) -> np.ndarray:
    """The pixels of an image as a source gives it out, decoded and checked: uint8 (height, width, channels).

    Raises:
        UnusableImage: why it cannot be used.
    """
    if isinstance(image, UnusableImage):
        raise image
    pixels = decode(image, channels) if isinstance(image, bytes) else with_channels(image, channels)
    check(pixels)
    return pixels


def check(pixels: np.ndarray) -> None:
    """Refuse an image that shows nothing.

    Raises:
        UnusableImage: every pixel has the same colour.
    """
    if (pixels == pixels[0, 0]).all():
        raise UnusableImage("all pixels are equal")


def with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Grey pixels (height, width) as (height, width, channels)."""
    return np.repeat(pixels[:, :, None], channels, axis=2)


def resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """Pixels (h, w, c) stretched to (size, size, c): averaged along sides that shrink, cubic along those that grow."""
    height, width, channels = pixels.shape
    shrunk = (min(width, size), min(height, size))
    if shrunk != (width, height):
        pixels = cv2.resize(pixels, shrunk, interpolation=cv2.INTER_AREA)
    if shrunk != (size, size):
        pixels = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_CUBIC)
    return pixels.reshape(size, size, channels)


def _upright(image: Image.Image) -> Image.Image:
    turn = _UPRIGHT.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)


def _pixels(image: Image.Image, channels: int) -> np.ndarray:
    if image.mode == "I" or image.mode.startswith("I;16"):
        levels = np.asarray(image).clip(0, 65535).astype(np.uint32)
        return with_channels(((levels * 255 + 32767) // 65535).astype(np.uint8), channels)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        backdrop = Image.new("RGBA", image.size, (BACKGROUND, BACKGROUND, BACKGROUND, 255))
        image = Image.alpha_composite(backdrop, image).convert("RGB")
    if channels == 1:
        return np.asarray(image.convert("L"))[:, :, None]
    return np.asarray(image.convert("RGB"))
