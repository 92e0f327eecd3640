"""Every format and mode of image file, and everything that is none."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from emoray.data import decode
from emoray.data.plan import UnusableImage


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(height: int = 20, width: int = 30) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return ((rows * 7 + columns * 5) % 256).astype(np.uint8)


def coloured() -> np.ndarray:
    grey = gradient()
    return np.stack([grey, 255 - grey, grey // 2], axis=2)


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_keep_every_pixel(kind, options):
    pixels = decode.decode(encoded(Image.fromarray(coloured()), kind, **options), 3)
    np.testing.assert_array_equal(pixels, coloured())


def test_grey_png_gives_its_levels_in_one_and_in_three_channels():
    data = encoded(Image.fromarray(gradient()), "PNG")
    np.testing.assert_array_equal(decode.decode(data, 1)[:, :, 0], gradient())
    np.testing.assert_array_equal(decode.decode(data, 3), np.repeat(gradient()[:, :, None], 3, axis=2))


def test_jpeg_is_close_to_what_was_written():
    pixels = decode.decode(encoded(Image.fromarray(gradient() // 4 + 90), "JPEG", quality=95), 1)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels[:, :, 0].astype(int) - (gradient() // 4 + 90)).mean() < 3


def test_colour_becomes_grey_by_luminance():
    red = np.zeros((4, 4, 3), np.uint8)
    red[:, :2, 0] = 255
    assert decode.decode(encoded(Image.fromarray(red), "PNG"), 1)[0, 0, 0] == 76


def test_palette_is_looked_up():
    image = Image.new("P", (4, 2))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1] * 4)
    pixels = decode.decode(encoded(image, "PNG"), 3)
    assert pixels[0, :2].tolist() == [[10, 20, 30], [200, 100, 50]]


def test_sixteen_bits_are_scaled_not_cut():
    levels = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    pixels = decode.decode(encoded(Image.fromarray(levels), "PNG"), 1)
    assert pixels[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_lie_on_mid_grey(mode):
    image = Image.new(mode, (2, 1))
    opaque, clear = ((200,) * 3 + (255,), (0,) * 3 + (0,)) if mode == "RGBA" else ((200, 255), (0, 0))
    image.putpixel((0, 0), opaque)
    image.putpixel((1, 0), clear)
    assert decode.decode(encoded(image, "PNG"), 1)[0, :, 0].tolist() == [200, decode.BACKGROUND]


def test_palette_with_a_transparent_colour_lies_on_mid_grey():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 10, 10, 200, 200, 200])
    image.putdata([0, 1])
    pixels = decode.decode(encoded(image, "PNG", transparency=0), 1)
    assert pixels[0, :, 0].tolist() == [decode.BACKGROUND, 200]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(orientation):
    upright = np.zeros((16, 24), np.uint8)
    upright[:8, :8] = 255  # only the upper left corner is bright
    undo = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
    stored = Image.fromarray(upright)
    if orientation > 1:
        stored = stored.transpose(decode._UPRIGHT[undo])
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode.decode(encoded(stored, "JPEG", exif=exif, quality=95), 1)[:, :, 0]
    assert pixels.shape == (16, 24)
    assert pixels[:8, :8].mean() > 230
    assert pixels[8:].mean() < 25
    assert pixels[:, 8:].mean() < 25


def test_cmyk_jpeg_is_read():
    data = encoded(Image.fromarray(coloured()).convert("CMYK"), "JPEG")
    assert decode.decode(data, 3).shape == (20, 30, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_truncated_files_are_refused(kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(UnusableImage, match=r"damaged or incomplete|not a PNG"):
        decode.decode(data[: len(data) // 2], 1)


def test_flipped_bytes_in_a_png_are_refused():
    data = bytearray(encoded(Image.fromarray(gradient(64, 64)), "PNG"))
    data[60] ^= 0xFF
    with pytest.raises(UnusableImage, match="damaged or incomplete"):
        decode.decode(bytes(data), 1)


def test_an_empty_file_and_a_text_file_are_no_images():
    with pytest.raises(UnusableImage, match="the file is empty"):
        decode.decode(b"", 1)
    with pytest.raises(UnusableImage, match="not a PNG, JPEG, WebP or BMP image"):
        decode.decode(b"this is not an image at all", 1)


def test_a_gif_is_no_format_that_is_read():
    with pytest.raises(UnusableImage, match="not a PNG, JPEG, WebP or BMP image"):
        decode.decode(encoded(Image.fromarray(gradient()), "GIF"), 1)


@pytest.mark.parametrize("side", [8_000, 60_000])
def test_a_header_that_claims_a_huge_image_is_refused_before_decoding(side):
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )
    with pytest.raises(UnusableImage, match=r"too large: .*50,000,000"):
        decode.decode(bomb, 1)


def test_constant_images_are_refused_and_nearly_constant_ones_are_not():
    pixels = np.full((8, 8, 3), 40, np.uint8)
    pixels[..., 0] = 200
    with pytest.raises(UnusableImage, match="all pixels are equal"):
        decode.check(pixels)
    pixels[3, 3, 1] += 1
    decode.check(pixels)


def test_shrinking_averages_and_enlarging_keeps_levels():
    checkers = (np.indices((96, 96)).sum(axis=0) % 2 * 255).astype(np.uint8)[:, :, None]
    shrunk = decode.resize(checkers, 48)
    assert shrunk.shape == (48, 48, 1)
    assert np.abs(shrunk.astype(int) - 127).max() <= 1
    assert decode.resize(np.full((10, 80, 3), 77, np.uint8), 48).tolist() == np.full((48, 48, 3), 77).tolist()


def test_an_image_of_the_right_size_stays_as_it_is():
    pixels = np.random.default_rng(1).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode.resize(pixels, 48), pixels)
