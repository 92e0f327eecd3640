"""The parts of a face that move: eyes, brows, forehead, nose, cheeks and mouth, as their action units say.

Each function paints one part in its own window of the canvas, bare skin already being there. Action units are named in
docs/embedded_faces.md.
"""

import numpy as np

from emoray.data.face_strokes import Array, Values, Window, bump, darken, half, inside, line, paint, window


def eye_place(v: Values, hand: float) -> tuple[Array, Array, Array]:
    """Middle of an eye and its foreshortening; `hand` is -1 for the left of the picture, 1 for the right."""
    x = hand * v["eye_x"] + 0.55 * v["yaw"]
    y = v["eye_y"] + 0.55 * v["pitch"]
    return x, y, 1 - hand * 0.5 * v["yaw"] - 0.4 * v["yaw"] * v["yaw"]


def _side(v: Values, unit: int, hand: float) -> Array:
    return v[f"au{unit}"] * (1 + hand * v["asymmetry"])


def eye(c: Window, v: Values, hand: float) -> None:
    w = half(hand, c, 0.0, 0.7, -0.6, 0.15)
    x, y, narrow = eye_place(v, hand)
    au5, au6, au7, au9 = (_side(v, unit, hand) for unit in (5, 6, 7, 9))
    width, opening = v["eye_width"] * narrow, v["eye_open"]
    u = hand * (w.x - x) / width
    arch = np.maximum(1 - u * u, 0)
    slant = y - v["eye_tilt"] * u * width
    top = opening * np.clip(1 + 0.75 * au5 - 0.45 * au7 - 0.3 * au6 - 0.4 * au9 - v["au43"], 0.04, None)
    bottom = opening * 0.55 * np.clip(1 - 0.75 * au7 - 0.8 * au6 - 0.5 * au9 + 0.15 * au5 - v["au43"], 0.0, None)
    upper, lower = slant - top * arch, slant + bottom * arch
    socket = ((w.x - x) / (width * 1.7)) ** 2 + ((w.y - y + 0.05) / 0.24) ** 2
    darken(w.image, v["socket"] * bump(socket))
    darken(w.image, v["bags"] * line(w.y - lower - 0.1, 0.05) * arch)
    darken(w.image, (0.4 * au6 + 0.25 * au7) * line(w.y - lower - 0.055, 0.035) * arch)
    darken(w.image, v["crease"] * (1 - 0.6 * np.minimum(au5, 1)) * line(w.y - upper + 0.06, 0.03) * arch)
    ball = inside(np.minimum(w.y - upper, lower - w.y), w.scale) * (arch > 0)
    paint(w.image, ball, v["sclera"])
    across, along = w.x - x - v["gaze_x"], w.y - y + 0.12 * opening - v["gaze_y"]
    spot = across * across + along * along
    radius = np.float32(0.078)
    paint(w.image, ball * inside((radius * radius - spot) / (2 * radius), w.scale), v["iris"])
    paint(w.image, ball * inside((0.0014 - spot) / 0.075, w.scale), 0.03)
    glint = (across + 0.028 * v["light_side"]) ** 2 + (along + 0.03) ** 2
    paint(w.image, ball * 0.8 * bump(glint / 0.0012), 1.0)
    lash = line(w.y - upper, v["lash"]) * np.clip(arch * 6, 0, 1)
    paint(w.image, 0.85 * lash, 0.08)
    darken(w.image, 0.3 * line(w.y - lower, 0.03) * np.clip(arch * 4, 0, 1))
    fan = line(u - 1.45, 0.4) * v["lines"]
    for slope in (-0.5, 0.05, 0.6):
        darken(w.image, 0.45 * au6 * fan * line(w.y - y - slope * (u - 1) * width, 0.03))


def brow(c: Window, v: Values, hand: float) -> None:
    w = half(hand, c, -0.06, 0.75, -0.85, 0.0)
    x, y, narrow = eye_place(v, hand)
    au1, au2, au4, au9 = (_side(v, unit, hand) for unit in (1, 2, 4, 9))
    u = hand * (w.x - x - hand * 0.03 + hand * 0.045 * au4) / (v["brow_length"] * narrow)
    inner, outer = (1 - u) / 2, (1 + u) / 2
    height = y - v["brow_gap"] - v["brow_arch"] * (1 - u * u) - v["brow_tilt"] * u
    lift = 0.17 * au1 * inner * inner + 0.15 * au2 * outer * (1.4 - 0.5 * outer)
    drop = au4 * (0.05 + 0.09 * inner) + au9 * (0.02 + 0.07 * inner)
    distance = v["brow_thick"] * (0.55 + 0.45 * np.clip(inner, 0, 1)) - np.abs(w.y - height + lift - drop)
    ends = np.clip((1 - np.abs(u)) * 4, 0, 1)
    paint(w.image, v["brow_ink"] * ends * inside(distance, w.scale * 0.8), v["brow_tone"])


def forehead(c: Window, v: Values) -> None:
    middle, brow = 0.55 * v["yaw"], v["eye_y"] + 0.55 * v["pitch"] - v["brow_gap"]
    w = window(c, -0.6, 0.6, -0.95, -0.3)
    across = (w.x - middle) / 0.5
    strength = v["lines"] * (v["au1"] * bump(across * across * 2) + v["au2"] * bump(across * across) * np.abs(across))
    for row in (0.17, 0.26, 0.35):
        wave = 0.06 * across * across - v["au4"] * 0.04 * bump(across * across * 4)
        darken(w.image, 0.5 * strength * line(w.y - brow + row - wave, 0.03))
    w = window(c, -0.4, 0.4, -0.75, 0.1)
    frown = np.maximum(v["au4"], 0.6 * v["au9"]) * (0.5 + 0.5 * v["lines"])
    pair = line(np.abs(w.x - middle) - 0.055, 0.035) * line(w.y - brow - 0.05, 0.16)
    darken(w.image, 0.6 * frown * pair)
    darken(w.image, 0.25 * v["au4"] * bump(((w.x - middle) / 0.16) ** 2 + ((w.y - brow - 0.06) / 0.15) ** 2))


def nose(c: Window, v: Values) -> None:
    w = window(c, -0.45, 0.45, -0.35, 0.5)
    tip_x, tip_y = 0.8 * v["yaw"], v["nose_y"] + 0.75 * v["pitch"] - 0.045 * v["au9"]
    root_x, root_y = 0.5 * v["yaw"], v["eye_y"] + 0.5 * v["pitch"]
    along = np.clip((w.y - root_y) / (tip_y - root_y), 0, 1)
    ridge = w.x - root_x - (tip_x - root_x) * along
    length = line(w.y - (root_y + tip_y) / 2 - 0.03, 0.34)
    width = v["nose_width"] * (1 + 0.15 * v["au9"] + 0.12 * v["au12"])
    paint(w.image, v["nose_light"] * length * line(ridge, 0.06), v["skin"] * 1.3)
    darken(w.image, v["nose_shadow"] * length * line(ridge + v["light_side"] * (0.05 + 0.06 * along), 0.07))
    darken(w.image, 0.35 * bump(((w.x - tip_x) / (width * 1.3)) ** 2 + ((w.y - tip_y - 0.06) / 0.06) ** 2))
    for hand in (-1, 1):
        hole = ((w.x - tip_x - hand * width * 0.5) / 0.05) ** 2 + ((w.y - tip_y - 0.02) / 0.035) ** 2
        darken(w.image, 0.65 * bump(hole))
        darken(w.image, 0.35 * line(w.x - tip_x - hand * width, 0.04) * line(w.y - tip_y + 0.01, 0.09))
    bridge = v["au9"] * line(ridge, 0.15)
    for row in (0.02, 0.09, 0.16):
        darken(w.image, 0.55 * bridge * line(w.y - root_y - row + 0.4 * np.abs(ridge), 0.03))


def cheek(c: Window, v: Values, hand: float) -> None:
    w = half(hand, c, 0.0, 0.85, -0.15, 0.85)
    middle = 0.6 * v["yaw"]
    au6, au9, au10, au12 = (_side(v, unit, hand) for unit in (6, 9, 10, 12))
    raised = np.clip(0.6 * au6 + 0.6 * au12, 0, 1.2)
    apple = ((w.x - middle - hand * 0.4) / 0.22) ** 2 + ((w.y - 0.2 + 0.06 * raised - 0.5 * v["pitch"]) / 0.17) ** 2
    paint(w.image, (0.12 + 0.35 * raised) * bump(apple), v["skin"] * 1.25)
    start, end = v["nose_y"] + 0.6 * v["pitch"], v["mouth_y"] + 0.5 * v["pitch"]
    along = (w.y - start) / (end - start)
    fold = v["nose_width"] + 0.06 + along * (v["mouth_width"] * (1.05 + 0.2 * au12) - v["nose_width"])
    strength = np.clip(0.12 * v["lines"] + 0.55 * au12 + 0.5 * au9 + 0.5 * au10, 0, 1)
    bend = 0.05 * au12 * (1 - (2 * along - 1) ** 2)
    crease = line(hand * (w.x - middle) - fold - bend, 0.045) * line(along - 0.45, 0.75)
    darken(w.image, 0.4 * strength * crease)


def mouth(c: Window, v: Values) -> None:
    w = window(c, -0.65, 0.65, 0.2, 1.2)
    width = v["mouth_width"] * (
        1 + 0.3 * v["au12"] + 0.28 * v["au20"] - 0.13 * v["au23"] - 0.18 * v["au26"] - 0.06 * v["au17"]
    )
    u = (w.x - 0.62 * v["yaw"]) / width
    square = u * u
    arch = np.maximum(1 - square, 0)
    corners = -0.15 * v["au12"] + 0.13 * v["au15"] + 0.04 * v["au20"] + v["mouth_bow"]
    middle = (
        v["mouth_y"]
        + 0.6 * v["pitch"]
        - 0.02 * v["au10"]
        - 0.03 * v["au17"]
        + 0.3 * v["asymmetry"] * u * v["au12"] * 0.2
    )
    seam = middle + corners * (square - 0.4)
    top = seam - arch * (0.06 * v["au10"] + 0.035 * v["au25"] + 0.05 * v["au9"] * v["au25"] + 0.03 * v["au26"])
    bottom = seam + np.sqrt(arch) * arch * (0.06 * v["au25"] + 0.07 * v["au16"] + 0.3 * v["au26"])
    thin = np.clip(1 - 0.6 * v["au23"] - 0.25 * v["au12"] - 0.2 * v["au20"], 0.25, None)
    cupid = 1 - 0.3 * bump(square * 25)
    outer_top = top - v["upper_lip"] * thin * arch * cupid
    outer_bottom = bottom + v["lower_lip"] * thin * (1 + 0.3 * v["au17"]) * arch
    body = (np.abs(u) < 1).astype(np.float32)
    lips = inside(np.minimum(w.y - outer_top, outer_bottom - w.y), w.scale) * body
    paint(w.image, lips * v["lip_ink"], v["lip"])
    darken(w.image, 0.3 * line(w.y - outer_bottom - 0.045, 0.06) * arch)
    hole = inside(np.minimum(w.y - top, bottom - w.y) - 0.004, w.scale) * body
    paint(w.image, hole, 0.07)
    teeth = np.clip(v["au12"] + v["au20"] + v["au10"] - 0.5 * v["au26"] + v["teeth"], 0, 1)
    paint(w.image, hole * teeth * inside(top + 0.095 - w.y, w.scale), 0.8)
    paint(w.image, hole * np.clip(v["au16"], 0, 1) * 0.7 * inside(w.y - bottom + 0.05, w.scale), 0.75)
    closed = 1 - np.clip((bottom - top) * 14, 0, 1)
    darken(w.image, (0.55 + 0.2 * v["au23"]) * closed * line(w.y - seam, 0.032) * np.clip(arch * 5, 0, 1))
    dent = (np.abs(u) - 1.03) ** 2 / 0.025 + ((w.y - middle - corners * 0.6) / 0.05) ** 2
    darken(w.image, (0.2 + 0.3 * np.maximum(v["au12"], v["au15"])) * bump(dent))
    boss = (u / 0.6) ** 2 + ((w.y - outer_bottom - 0.15) / 0.1) ** 2
    darken(w.image, 0.3 * v["au17"] * bump(boss) * bump((boss - 0.7) ** 2 * 6))
