"""How a face is drawn: from numbers (identity, pose, light, action units) to pixels, for a whole batch at once.

A face is drawn upright on a canvas somewhat larger than the crop, each part in its own window, and then warped once.
One unit is half the crop; x runs to the right, y down, (0, 0) is the middle of the face. The rule to know: only
operations that work on each image alone and are exact in IEEE arithmetic (no exp, no BLAS), so an image is the same in
any batch. What spans the whole canvas is written in place, because the time goes into passes over memory.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from emoray.data.face_features import brow, cheek, eye, eye_place, forehead, mouth, nose
from emoray.data.face_strokes import Array, Values, Window, half, inside, line, paint, window

FIELD = 1.2  # the canvas reaches so far from its middle; the crop ends at 1
DENSITY = 1.04  # pixels of the canvas for one of the crop: the warp softens a little, as a real crop is soft


def render(values: Values, size: int) -> Array:
    """Draw one face for each row of `values`; float32 (n, size, size), about 0 (black) to 1 (white), without noise."""
    count = len(values["yaw"])
    side = canvas_side(size)
    step = np.float32(2 * FIELD / side)
    axis = (np.arange(side, dtype=np.float32) + np.float32(0.5)) * step - np.float32(FIELD)
    image = np.empty((side, side, count), np.float32)
    canvas = Window(image, axis[None, :, None], axis[:, None, None], float(1 / step))
    v = values
    _background(canvas, v)
    head, shade = _head(canvas, v)
    for hand in (-1.0, 1.0):
        cheek(canvas, v, hand)
        eye(canvas, v, hand)
        brow(canvas, v, hand)
    forehead(canvas, v)
    nose(canvas, v)
    _beard(canvas, v)
    mouth(canvas, v)
    _hairline(canvas, v, head)
    image *= shade
    _glasses(canvas, v)
    _occlusion(canvas, v)
    return _warp(np.ascontiguousarray(image.transpose(2, 0, 1)), v, size)


def canvas_side(size: int) -> int:
    """Pixels of the canvas, each way, for a crop of `size`."""
    return round(size * FIELD * DENSITY)


def smooth_noise(points: Array, side: int) -> Array:
    """Linear interpolation of (g, n) random points to (side, n)."""
    place = np.linspace(0, len(points) - 1.001, side, dtype=np.float32)
    low = place.astype(np.int64)
    part = (place - low.astype(np.float32))[:, None]
    return points[low] * (1 - part) + points[low + 1] * part


# --- the head --------------------------------------------------------------------------------------------------------


def _background(c: Window, v: Values) -> None:
    np.multiply(v["wall_rows"][:, None], v["wall_columns"], out=c.image)
    w = window(c, -FIELD, FIELD, 0.45, FIELD)
    paint(w.image, inside(v["face_width"] * 0.6 - np.abs(w.x), c.scale / 2), v["skin"] * 0.7)
    paint(w.image, inside(w.y - (v["shoulder"] + 0.35 * w.x * w.x), c.scale / 2), v["cloth"])
    for hand in (-1.0, 1.0):
        w = half(hand, c, 0.5, 1.0, -0.25, 0.25)
        ear = ((hand * w.x - v["face_width"] * 0.98) / 0.11) ** 2 + ((w.y + 0.02) / 0.2) ** 2
        paint(w.image, np.clip((1 - ear) * 2, 0, 1), v["skin"] * 0.82)


def _head(c: Window, v: Values) -> tuple[Array, Array]:
    """Paint hair behind and the bare skin; gives the mask of the head and the light on every pixel of the canvas."""
    centre, chin = np.float32(-0.08), v["chin"] + 0.1 * v["au26"] - 0.03 * v["au17"]
    below = c.y > centre
    crown = (c.y - centre) / (v["hair_height"] + 0.93)
    fall = np.where(below, (c.y - centre) / (v["hair_length"] * 1.6 + 0.05), crown)
    fall *= fall
    outer = (v["face_width"] + v["hair_width"]) * np.sqrt(np.maximum(1 - fall * np.where(below, 1, fall), 0))
    back = inside(outer - np.abs(c.x - 0.1 * v["yaw"]), c.scale / 2)
    paint(c.image, back, v["hair"])
    down = np.where(below, (c.y - centre) / (chin - centre), (c.y - centre) / np.float32(0.95))
    square = down * down
    squarish = np.where(below, v["jaw"], v["skull"])
    width = v["face_width"] * np.sqrt(np.maximum(1 - square + squarish * (square - square * square), 0))
    head = inside(width - np.abs(c.x), c.scale * 0.7)
    paint(c.image, head, v["skin"])
    return head, _shade(c, v, np.maximum(head, back, out=back), width, down)


def _shade(c: Window, v: Values, solid: Array, width: Array, down: Array) -> Array:
    """Light on each pixel: one lamp on an ellipsoid where something `solid` is, 1 elsewhere."""
    across = c.x / (width + np.float32(0.05))
    np.clip(across, -1, 1, out=across)
    depth = across * across
    depth *= np.float32(-0.85)
    depth += 1 - 0.35 * np.minimum(down * down, 1)
    np.maximum(depth, 0, out=depth)
    np.sqrt(depth, out=depth)
    depth *= np.float32(0.75)
    across *= v["light_x"]
    depth += across
    depth += v["light_y"] * down
    np.maximum(depth, 0, out=depth)
    depth *= v["diffuse"]
    depth += v["ambient"] - 1
    depth *= solid
    depth += 1
    return depth


def _hairline(c: Window, v: Values, head: Array) -> None:
    w = window(c, -FIELD, FIELD, -FIELD, 0.0)
    part = w.x - v["parting"]
    edge = v["hairline"] - v["fringe"] * part * part + v["yaw"] * 0.1 * part
    over = inside(edge - w.y, 9.0)
    over *= head[: len(w.image)]
    over *= v["has_hair"]
    strands = 1 + v["strands"] * (v["wall_columns"] - v["wall"])
    paint(w.image, over, v["hair"] * strands)


def _beard(c: Window, v: Values) -> None:
    w = window(c, -0.85, 0.85, 0.1, 1.1)
    middle = 0.25 * v["yaw"]
    across = (w.x - middle) / v["face_width"]
    rim = np.clip((w.y + 0.55 * across * across - v["mouth_y"] - v["pitch"] * 0.5 + 0.02) * 5, 0, 1)
    rim = np.maximum(rim, np.clip((np.abs(across) - 0.72) * 5, 0, 1) * (w.y > 0.1))
    lip = line(w.y - (v["mouth_y"] + 0.5 * v["pitch"] - 0.13), 0.1) * line(w.x - middle, v["mouth_width"] * 1.5)
    cover = np.maximum(rim * v["beard"], lip * v["moustache"]) * (w.image > 0.05)
    within = inside(v["face_width"] * 0.97 - np.abs(w.x), w.scale / 3) * inside(v["chin"] - w.y, w.scale / 3)
    paint(w.image, cover * within, v["hair"] * 1.1)


# --- what lies over the face, and the camera --------------------------------------------------------------------------


def _some(values: Values, chosen: NDArray[np.int64]) -> Values:
    return {name: value[..., chosen] for name, value in values.items()}


def _glasses(c: Window, values: Values) -> None:
    chosen = np.flatnonzero(values["glasses"])
    if not len(chosen):
        return
    v = _some(values, chosen)
    image = c.image[..., chosen]
    w = Window(image, c.x, c.y, c.scale)
    for hand in (-1.0, 1.0):
        part = half(hand, w, -0.1, 0.95, -0.65, 0.35)
        x, y, narrow = eye_place(v, hand)
        across, along = (part.x - x) / (v["lens"] * narrow), (part.y - y - 0.03) / (v["lens"] * v["lens_shape"])
        square = across * across + along * along
        corner = square + v["lens_square"] * across * across * along * along * 2
        distance = (np.sqrt(corner) - 1) * v["lens"]
        paint(part.image, v["tint"] * inside(-distance, part.scale), 0.06)
        paint(part.image, 0.9 * line(distance, v["rim"]), v["rim_tone"])
        gleam = line(across + along * 0.8 - v["gleam"], 0.22) * inside(-distance, part.scale)
        paint(part.image, v["gleam_ink"] * gleam, 0.95)
        arm = line(part.y - y + 0.03, v["rim"]) * inside(hand * (part.x - x) - v["lens"] * narrow, part.scale)
        paint(part.image, 0.7 * arm * (np.abs(part.x) < v["face_width"]), v["rim_tone"])
    x, y = 0.55 * v["yaw"], v["eye_y"] + 0.55 * v["pitch"]
    part = window(w, -0.4, 0.4, -0.5, 0.2)
    bridge = line(part.y - y + 0.02, v["rim"]) * inside(v["eye_x"] - v["lens"] - np.abs(part.x - x), part.scale)
    paint(part.image, 0.9 * bridge, v["rim_tone"])
    c.image[..., chosen] = image


def _occlusion(c: Window, values: Values) -> None:
    """A hand (fingers side by side), a lock of hair, or a flat patch, where `occlusion` is 1, 2 or 3."""
    chosen = np.flatnonzero(values["occlusion"])
    if not len(chosen):
        return
    v = _some(values, chosen)
    image = c.image[..., chosen]
    lean, kind = v["cover_lean"], v["occlusion"]
    across = (c.x - v["cover_x"]) + lean * (c.y - v["cover_y"])
    along = (c.y - v["cover_y"]) - lean * (c.x - v["cover_x"])
    finger = 2 * np.abs(((across / 0.19) % 1) - 0.5)  # 0 in the middle of a finger, 1 between two
    hand_depth = inside(v["cover_size"] - np.abs(across), c.scale / 2)
    hand_depth = hand_depth * inside(along - 0.1 * finger * finger, c.scale / 2)
    lock = inside(0.13 + 0.1 * along * along - np.abs(across + 0.3 * along * along), c.scale / 3) * (along < 0.9)
    patch = inside(v["cover_size"] * 0.8 - np.maximum(np.abs(across), np.abs(along)), c.scale / 2)
    tone = v["skin"] * (v["ambient"] + 0.6 * v["diffuse"])
    paint(image, hand_depth * (kind == 1), tone * (1 - 0.45 * finger * finger * finger))
    paint(image, lock * (kind == 2), v["hair"])
    paint(image, patch * (kind == 3), v["wall"] * 0.5 + v["cloth"] * 0.5)
    c.image[..., chosen] = image


def _warp(image: Array, v: Values, size: int) -> Array:
    """Crop as a face detector would: turned, moved, stretched, once, bilinear."""
    side = image.shape[1]
    roll, zoom, stretch = (v[name].astype(np.float64) for name in ("roll", "zoom", "stretch"))
    cosine, sine = 1 - roll**2 / 2 + roll**4 / 24, roll - roll**3 / 6 + roll**5 / 120
    step = side / (2 * FIELD) * 2 / size / zoom  # pixels of the canvas for one of the crop
    matrix = np.empty((len(image), 2, 3))
    matrix[:, 0, 0], matrix[:, 0, 1] = cosine * step * stretch, -sine * step
    matrix[:, 1, 0], matrix[:, 1, 1] = sine * step * stretch, cosine * step
    for row, shift in enumerate((v["move_x"], v["move_y"])):
        middle = (side - 1) / 2 + shift * side / (2 * FIELD)
        matrix[:, row, 2] = middle - (matrix[:, row, 0] + matrix[:, row, 1]) * (size - 1) / 2
    out = np.empty((len(image), size, size), np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for source, target, transform, sigma in zip(image, out, matrix, v["blur"], strict=True):
        cv2.warpAffine(source, transform, (size, size), dst=target, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        if sigma > 0.25:
            cv2.GaussianBlur(target, (0, 0), float(sigma) * size / 48, dst=target)
    return out
