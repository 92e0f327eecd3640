"""The colours of the report: whether they can be read."""

import re
from pathlib import Path

import numpy as np
import pytest

from emoray import report
from emoray.report.tables import DARK

STYLE = (Path(report.__file__).parent / "style.css").read_text()
THEMES = pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
# From linear sRGB to cones, and from their cube roots to Oklab (Ottosson 2020), in which the page mixes its tones.
CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def colours(theme: int) -> dict[str, str]:
    blocks = re.findall(r":root(?::not\(\.printing\))? \{(.*?)\}", STYLE, re.DOTALL)
    return dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", blocks[theme]))


def linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    low, high = sorted(float(np.array([0.2126, 0.7152, 0.0722]) @ colour) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


@THEMES
def test_colours_can_be_read(theme: int) -> None:
    """WCAG 2.2: 4.5 to 1 for text on both grounds, 2.9 to 1 for the lines of a chart."""
    light = {name: linear(colour) for name, colour in colours(theme).items()}
    for name in ("ink", "soft", "accent", "good", "warn", "bad"):
        assert min(contrast(light[name], light[ground]) for ground in ("paper", "raised")) >= 4.5, name
    for i in range(8):
        assert contrast(light[f"c{i}"], light["paper"]) >= 2.9, i


@THEMES
def test_numbers_can_be_read_on_every_tone(theme: int) -> None:
    """In the cells of confusion and agreement: the style mixes `raised` and `heat` by the percent of the tone."""
    light = {name: linear(colour) for name, colour in colours(theme).items()}
    pale, strong = (OKLAB @ np.cbrt(CONES @ light[name]) for name in ("raised", "heat"))
    for tone in range(101):
        mixed = np.linalg.inv(CONES) @ (np.linalg.inv(OKLAB) @ (pale + (strong - pale) * tone / 100)) ** 3
        text = light["on-heat" if tone > DARK else "on-pale"]
        assert contrast(text, np.clip(mixed, 0, 1)) >= 4.5, tone
