"""The embedded data set: grey faces drawn from facial action units, so that everything can be tried without a download.

Image i is a pure function of (seed, ids[i]): parallel jobs may draw any block in any order. Every random number is a
hash of (seed, id, column) and there is no generator with a state.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from emoray.data.face_drawing import Values, canvas_side, render, smooth_noise

CLASSES: tuple[str, ...] = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
COUNTS: tuple[int, ...] = (3995, 436, 4097, 7215, 4830, 3171, 4965)
"""Images by class in FER2013's Training part (Goodfellow et al. 2013): what the classes are drawn in proportion to."""

UNITS: tuple[int, ...] = (1, 2, 4, 5, 6, 7, 9, 10, 12, 15, 16, 17, 20, 23, 25, 26, 43)

PROTOTYPES: dict[str, tuple[dict[int, float], dict[int, float]]] = {
    "angry": ({4: 1.0, 5: 0.6, 7: 0.7, 23: 1.0}, {4: 1.0, 5: 0.5, 7: 0.6, 10: 0.8, 25: 1.0, 16: 0.7}),
    "disgust": ({9: 1.0, 15: 0.7, 16: 0.3, 17: 0.5, 10: 0.5}, {9: 1.0, 10: 0.9, 15: 0.5, 16: 0.7, 25: 0.9}),
    "fear": (
        {1: 1.0, 2: 0.6, 4: 0.7, 5: 1.0, 20: 1.0, 25: 0.7, 26: 0.25},
        {1: 1.0, 2: 0.5, 4: 0.7, 5: 1.0, 20: 0.8, 26: 0.6},
    ),
    "happy": ({6: 0.8, 12: 1.0}, {6: 1.0, 12: 1.0, 25: 1.0, 26: 0.25}),
    "sad": ({1: 1.0, 4: 0.6, 15: 1.0}, {1: 1.0, 4: 0.8, 15: 0.8, 17: 0.9, 43: 0.3}),
    "surprise": ({1: 1.0, 2: 1.0, 5: 0.8, 26: 1.0}, {1: 0.9, 2: 1.0, 5: 0.6, 26: 0.6, 25: 0.4}),
    "neutral": ({}, {}),
}
"""Two variants of each basic emotion, intensity by action unit, after EMFACS (Friesen & Ekman 1983)."""

CONFUSIONS: dict[tuple[str, str], float] = {
    ("fear", "surprise"): 0.26,
    ("sad", "neutral"): 0.26,
    ("angry", "disgust"): 0.36,
    ("angry", "sad"): 0.08,
    ("angry", "neutral"): 0.13,
    ("fear", "sad"): 0.13,
    ("happy", "neutral"): 0.1,
    ("angry", "fear"): 0.07,
}
"""Share of the smaller class's faintest expressions that a labeller takes for the other class, as many both ways."""

# Evenly distributed numbers of a face, (low, high). Their order is their column of the hash: append, never reorder.
_RANGES: dict[str, tuple[float, float]] = {
    "skin": (0.45, 0.88), "face_width": (0.66, 0.84), "chin": (0.86, 1.04), "jaw": (0.2, 0.9), "skull": (0.2, 0.9),
    "eye_x": (0.27, 0.36), "eye_y": (-0.27, -0.17), "eye_width": (0.125, 0.175), "eye_open": (0.06, 0.095),
    "eye_tilt": (-0.12, 0.2), "socket": (0.08, 0.4), "bags": (0.0, 0.22), "crease": (0.1, 0.5),
    "sclera": (0.62, 0.88), "iris": (0.06, 0.38), "lash": (0.02, 0.045), "gaze_x": (-0.05, 0.05),
    "gaze_y": (-0.015, 0.02), "brow_length": (0.19, 0.26), "brow_gap": (0.18, 0.26), "brow_arch": (0.01, 0.06),
    "brow_tilt": (-0.02, 0.04), "brow_thick": (0.018, 0.05), "brow_ink": (0.45, 0.95), "nose_y": (0.16, 0.25),
    "nose_width": (0.1, 0.17), "nose_light": (0.1, 0.5), "nose_shadow": (0.1, 0.4), "mouth_y": (0.47, 0.58),
    "mouth_width": (0.22, 0.31), "mouth_bow": (-0.03, 0.03), "upper_lip": (0.03, 0.065), "lower_lip": (0.04, 0.09),
    "lip_ink": (0.5, 0.95), "lip_shade": (0.5, 0.85), "teeth": (-0.3, 0.6), "lines": (0.1, 1.0),
    "asymmetry": (-0.3, 0.3), "hair_shade": (0.03, 0.75), "hair_height": (0.0, 0.22), "hair_width": (0.0, 0.14),
    "hair_length": (0.0, 0.9), "hairline": (-0.75, -0.5), "fringe": (-0.35, 0.9), "parting": (-0.35, 0.35),
    "strands": (0.0, 1.0), "wall": (0.05, 0.9), "clouds": (0.0, 0.7), "shoulder": (0.85, 1.15), "cloth": (0.05, 0.9),
    "ambient": (0.3, 0.65), "light_x": (-0.75, 0.75), "light_y": (-0.65, 0.2), "contrast": (0.8, 1.3),
    "brightness": (-0.12, 0.12), "gamma": (-0.45, 0.5), "noise_u": (0.0, 1.0), "blur_u": (0.0, 1.0),
    "zoom": (1.0, 1.28), "stretch": (0.92, 1.08), "lens": (0.2, 0.27), "lens_shape": (0.7, 1.0),
    "lens_square": (0.0, 1.0), "rim": (0.02, 0.05), "rim_tone": (0.02, 0.45), "gleam": (-0.6, 0.6),
    "gleam_u": (0.0, 1.0), "tint_u": (0.0, 1.0), "glasses_u": (0.0, 1.0), "occlusion_u": (0.0, 1.0),
    "cover_x": (-0.6, 0.6), "cover_y": (-0.4, 0.95), "cover_lean": (-0.6, 0.6), "cover_size": (0.22, 0.42),
    "beard_u": (0.0, 1.0), "moustache_u": (0.0, 1.0), "bald_u": (0.0, 1.0), "label_u": (0.0, 1.0),
    "variant_u": (0.0, 1.0), "variant_mix": (0.0, 0.35), "confuse_u": (0.0, 1.0), "mix_u": (0.0, 1.0),
    "mix_with": (0.0, 1.0), "mix_part": (0.1, 0.5), "strong_a": (0.0, 1.0), "strong_b": (0.0, 1.0),
    "talk_u": (0.0, 1.0),
}  # fmt: skip
# Bell-shaped numbers: the sum of three even ones, times this; angles in radians, as the drawing takes them.
_SPREADS: dict[str, float] = {"yaw": 0.27, "pitch": 0.14, "roll": 0.16, "move_x": 0.09, "move_y": 0.09}

_CHUNK = 128  # images drawn together: enough to hide the cost of a call, few enough for the cache
_STRIPES = 9  # soft stripes of the background, each way


def draw(seed: int, ids: np.ndarray, *, size: int = 48) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw the faces `ids` (n,) of the set `seed`: uint8 images (n, size, size), int64 labels (n,) in order of CLASSES.

    Each image depends on (seed, its id, size) only, so any split of the ids into blocks and processes gives one set.
    """
    ids = np.asarray(ids)
    images = np.empty((len(ids), size, size), np.uint8)
    labels = np.empty(len(ids), np.int64)
    for start in range(0, len(ids), _CHUNK):
        part = slice(start, start + _CHUNK)
        keys = _keys(seed, ids[part])
        images[part], labels[part] = _draw_chunk(keys, size)
    return images, labels


# --- numbers from a hash ----------------------------------------------------------------------------------------------


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele et al. 2014): every bit of the input moves half of the output's bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _keys(seed: int, ids: np.ndarray) -> NDArray[np.uint64]:
    root = _mix(np.array([seed % 2**64], np.uint64))
    return _mix(root + _mix(ids.astype(np.int64).astype(np.uint64)))


def _uniform(keys: NDArray[np.uint64], stream: int, count: int) -> NDArray[np.float64]:
    """(n, count) numbers in [0, 1), the same for a key and stream whatever else is drawn."""
    columns = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(stream << 32)) * np.uint64(0x9E3779B97F4A7C15)
    return (_mix(keys[:, None] + columns) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _grain(keys: NDArray[np.uint64], pixels: int) -> NDArray[np.float32]:
    """(n, pixels) nearly normal noise of deviation 1: the sum of the four bytes of a 32-bit hash."""
    x = (np.arange(pixels, dtype=np.uint32) * np.uint32(0x9E3779B1)) ^ keys.astype(np.uint32)[:, None]
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    low = (x & np.uint32(0x00FF00FF)) + ((x >> np.uint32(8)) & np.uint32(0x00FF00FF))
    total = (low & np.uint32(0xFFFF)) + (low >> np.uint32(16))
    return (total.astype(np.float32) - np.float32(510)) * np.float32(1 / 147.8)


# --- from numbers to a face -------------------------------------------------------------------------------------------


def _draw_chunk(keys: NDArray[np.uint64], size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    values = _person(keys)
    units, labels = _expression(keys, values)
    values |= units | _wall(keys, values, size)
    image = render(values, size)
    contrast, brightness, gamma, noise = (
        values[name][:, None, None] for name in ("contrast", "brightness", "gamma", "noise")
    )
    image -= np.float32(0.5)
    image *= contrast
    image += brightness + np.float32(0.5)
    np.clip(image, 0, 1, out=image)
    image += gamma * image * (1 - image)
    image += noise * _grain(keys, size * size).reshape(image.shape)
    image *= np.float32(255)
    image += np.float32(0.5)
    np.clip(image, 0, 255, out=image)
    return image.astype(np.uint8), labels


def _person(keys: NDArray[np.uint64]) -> Values:
    low, high = np.array(list(_RANGES.values())).T
    even = (low + (high - low) * _uniform(keys, 0, len(low))).astype(np.float32)
    bell = _uniform(keys, 1, 3 * len(_SPREADS)).reshape(len(keys), -1, 3).sum(2) - 1.5
    spread = (bell * np.array(list(_SPREADS.values()))).astype(np.float32)
    v: Values = dict(zip(_RANGES, np.ascontiguousarray(even.T), strict=True))
    v |= dict(zip(_SPREADS, np.ascontiguousarray(spread.T), strict=True))
    bald: NDArray[np.bool_] = v["bald_u"] < 0.1
    v["has_hair"] = (~bald).astype(np.float32)
    v["hair"] = np.where(bald, v["skin"] * 0.8, np.minimum(v["hair_shade"], v["skin"] * 1.05))
    v["hair_height"] = np.where(bald, 0, v["hair_height"])
    v["hair_width"] = np.where(bald, 0, v["hair_width"])
    v["brow_tone"] = np.minimum(v["hair"], v["skin"] * 0.5)
    v["lip"] = v["skin"] * v["lip_shade"]
    v["diffuse"] = np.float32(1.12) - v["ambient"]
    v["light_side"] = v["light_x"]
    v["beard"] = np.clip((v["beard_u"] - 0.8) * 4, 0, 0.75)
    v["moustache"] = np.maximum(v["beard"], np.clip((v["moustache_u"] - 0.9) * 8, 0, 0.75))
    v["blur"] = v["blur_u"] * v["blur_u"] * 0.9
    v["noise"] = np.float32(0.008) + v["noise_u"] * v["noise_u"] * v["noise_u"] * 0.05
    v["glasses"] = (v["glasses_u"] < 0.13).astype(np.float32)
    v["tint"] = np.where(v["tint_u"] > 0.8, np.float32(0.88), np.float32(0.08))
    v["gleam_ink"] = np.clip(v["gleam_u"] - 0.5, 0, 0.4)
    cover = np.searchsorted([0.035, 0.07, 0.11], v["occlusion_u"], side="right")
    v["occlusion"] = ((cover + 1) % 4).astype(np.float32)  # 1 a hand, 2 a lock of hair, 3 a patch, 0 for most
    return v


def _wall(keys: NDArray[np.uint64], values: Values, size: int) -> Values:
    """What is behind the head, as a product of soft stripes both ways (side, n); also the streaks in the hair."""
    points = _uniform(keys, 2, 2 * _STRIPES).T.astype(np.float32) - np.float32(0.5)
    rows, columns = (smooth_noise(part, canvas_side(size)) for part in np.split(points, 2))
    return {"wall_rows": 1 + values["clouds"] * rows, "wall_columns": values["wall"] + values["clouds"] * columns}


# --- expression and label ---------------------------------------------------------------------------------------------


def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Classes' cumulative shares (7,), prototypes (7, 2, units), rates of confusion (7, 7) when faintest."""
    counts = np.array(COUNTS, np.float64)
    prototypes = np.array([[[p.get(u, 0.0) for u in UNITS] for p in PROTOTYPES[name]] for name in CLASSES])
    rates = np.zeros((len(CLASSES), len(CLASSES)))
    for (one, other), share in CONFUSIONS.items():
        i, j = CLASSES.index(one), CLASSES.index(other)
        rates[i, j] = share * min(counts[i], counts[j]) / counts[i]
        rates[j, i] = share * min(counts[i], counts[j]) / counts[j]
    return np.cumsum(counts) / counts.sum(), prototypes, rates


_SHARES, _PROTOTYPES, _RATES = _tables()


def _expression(keys: NDArray[np.uint64], values: Values) -> tuple[Values, NDArray[np.int64]]:
    """Action units of each face, and what the labeller wrote down."""
    v = {name: values[name].astype(np.float64) for name in _RANGES}
    shown = np.searchsorted(_SHARES, v["label_u"], side="right")
    strength = np.maximum(v["strong_a"], v["strong_b"])  # density 2s: most are clear, some are faint
    first, second = _PROTOTYPES[shown, 0], _PROTOTYPES[shown, 1]
    mix = np.where(v["variant_u"] < 0.5, v["variant_mix"], 1 - v["variant_mix"])[:, None]
    units = (first * (1 - mix) + second * mix) * (0.36 + 0.68 * strength)[:, None]
    units *= 0.65 + 0.6 * _uniform(keys, 3, len(UNITS))
    other = _PROTOTYPES[(v["mix_with"] * len(CLASSES)).astype(np.int64), 0]
    units += other * np.where(v["mix_u"] < 0.15, v["mix_part"] * (0.3 + 0.7 * strength), 0)[:, None]
    stray = _uniform(keys, 4, 2 * len(UNITS)).reshape(len(keys), 2, -1)
    units += np.where(stray[:, 0] < 0.07, 0.1 + 0.4 * stray[:, 1], 0)
    talk = np.where(v["talk_u"] < 0.12, 1 - v["talk_u"] / 0.12, 0)  # a person who speaks: lips part, jaw drops
    units[:, UNITS.index(25)] += 0.8 * talk
    units[:, UNITS.index(26)] += 0.35 * talk
    units = np.minimum(units, 1.25).astype(np.float32)
    return {f"au{u}": np.ascontiguousarray(units[:, i]) for i, u in enumerate(UNITS)}, _label(
        shown, strength, v["confuse_u"]
    )


def _label(shown: np.ndarray, strength: np.ndarray, draws: np.ndarray) -> NDArray[np.int64]:
    """The labeller errs in proportion to how faint the expression is; errors are symmetric, so class shares stay."""
    edges = np.cumsum(_RATES[shown] * (1 - strength)[:, None], axis=1)
    taken = (draws[:, None] >= edges).sum(1)
    return np.where(taken < len(CLASSES), taken, shown).astype(np.int64)


# --- the contact sheet ------------------------------------------------------------------------------------------------


def contact_sheet(seed: int, *, columns: int = 12, size: int = 48, zoom: int = 2) -> NDArray[np.uint8]:
    """A grey picture with a row of faces for each class, the first of each in the order of ids: none is picked out."""
    images, labels = draw(seed, np.arange(200 * columns), size=size)
    cell, margin = size * zoom, 110
    sheet = np.full((len(CLASSES) * (cell + 4), margin + columns * (cell + 4)), 255, np.uint8)
    for row, name in enumerate(CLASSES):
        y = row * (cell + 4)
        cv2.putText(sheet, name, (6, y + cell // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 0, 1, cv2.LINE_AA)
        for column, image in enumerate(images[labels == row][:columns]):
            x = margin + column * (cell + 4)
            sheet[y : y + cell, x : x + cell] = cv2.resize(image, (cell, cell), interpolation=cv2.INTER_CUBIC)
    return sheet
