"""From the labels that a source writes to classes, and from votes to soft labels."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emoray.errors import UserError

FER_CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""FER2013's classes in the order of its numbers."""

FERPLUS = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt", "unknown", "not a face")
"""What FER+ lets its ten voters choose between, in its order, by FER2013's names (Barsoum et al. 2016)."""

_SAME = {"anger": "angry", "happiness": "happy", "sadness": "sad"}
_NUMBER = re.compile(r"\d+")

NO_VOTES = "it is votes, but the source has no column of votes (votes or <name>_votes)"


def name_classes(
    texts: Sequence[str | None], *, column: str | None, classes: Sequence[str] | None
) -> tuple[tuple[str, ...], NDArray[np.int64], list[str | None]]:
    """The classes, the class of each image by index (n,), -1 where it has none, and the reason for that, else None.

    Names stand in the order of `classes`, or of FER2013 if all are its names, or of the alphabet. Numbers count from 0
    in `classes`, and stand for FER2013's names where the column is called `emotion` and all are within 0-6.

    Raises:
        UserError: there are fewer than two classes, or one of `classes` has no image.
    """
    texts = [None if text is None else text.strip() for text in texts]
    distinct = {text for text in texts if text}
    numeric = _are_numbers(texts)
    if classes is not None:
        by_number = numeric and not distinct & set(classes)
        index = {text: i for i, name in enumerate(classes) for text in (_numbers(distinct, i) if by_number else [name])}
        wrong = "label '{}' is not in data.classes"
        names = tuple(classes)
    elif numeric:
        values = sorted({int(text) for text in distinct if _NUMBER.fullmatch(text)})
        fer = column == "emotion" and values[-1] < len(FER_CLASSES)
        names = tuple(FER_CLASSES[value] if fer else str(value) for value in values)
        index = {text: i for i, value in enumerate(values) for text in _numbers(distinct, value)}
        wrong = "label '{}' is not a whole number from 0, as the others are"
    else:
        names = tuple(sorted(distinct, key=FER_CLASSES.index if distinct <= set(FER_CLASSES) else None))
        index = {name: i for i, name in enumerate(names)}
        wrong = ""
    reasons = [None if text in index else wrong.format(text) if text else "no label" for text in texts]
    labels = np.array([index.get(text, -1) if text else -1 for text in texts], dtype=np.int64)
    _check(names, labels)
    return names, labels, reasons


def misnamed(texts: Sequence[str | None], classes: Sequence[str]) -> tuple[list[int], list[str]]:
    """Which of `classes` no image has for its label, by index, and the labels that there are.

    None of them where they are the names of numbers.
    """
    stripped = [text.strip() if text else None for text in texts]
    labels = {text for text in stripped if text}
    if not labels & set(classes) and _are_numbers(stripped):
        return [], sorted(labels)
    return [i for i, name in enumerate(classes) if name not in labels], sorted(labels)


def _are_numbers(texts: Sequence[str | None]) -> bool:
    """Whether most labels are numbers: then all should be."""
    return sum(1 for text in texts if text and _NUMBER.fullmatch(text)) * 2 > sum(1 for text in texts if text)


def _numbers(texts: set[str], value: int) -> list[str]:
    return [text for text in texts if _NUMBER.fullmatch(text) and int(text) == value]


def _check(names: tuple[str, ...], labels: NDArray[np.int64]) -> None:
    if len(names) < 2:
        only = f"one class, {names[0]}" if names else "no label"
        raise UserError(f"the data has {only}; a classifier needs at least two classes")
    counts = np.bincount(labels[labels >= 0], minlength=len(names))
    if counts.max() > 0 and counts.min() == 0:
        raise UserError(f"data.classes: it names '{names[counts.argmin()]}', but no usable image has that label")


def soft_labels(
    votes: Sequence[Sequence[float | None] | None], labels: NDArray[np.int64], names: Sequence[str]
) -> NDArray[np.float32]:
    """Each image's votes as shares of the classes, (n, classes); where nobody voted for one, all of its label.

    Ten votes are FER+'s and are matched by name; votes for no class of ours are left out. As many votes as there are
    classes stand in the order of the classes. A negative vote, or none, means that an image's votes are unknown.

    Raises:
        UserError: there are no votes at all, or neither as many as classes nor ten.
    """
    sizes = {len(one) for one in votes if one is not None}
    if not sizes:
        raise UserError(f"data.labels: {NO_VOTES}")
    order = [_SAME.get(name.strip().lower(), name.strip().lower()) for name in names]
    if sizes == {len(FERPLUS)} and set(order) & set(FERPLUS):
        columns = [FERPLUS.index(name) if name in FERPLUS else -1 for name in order]
    elif sizes == {len(names)}:
        columns = list(range(len(names)))
    else:
        found = " or ".join(map(str, sorted(sizes)))
        allowed = f"{len(names)} (one for each class) or 10 (FER+)"
        raise UserError(f"data.labels is votes, but an image has {found} of them; {allowed} are read")
    table = np.zeros((len(votes), max(sizes) + 1), np.float64)  # the last column stays 0: classes that FER+ lacks
    for row, one in zip(table, votes, strict=True):
        if one is not None and all(vote is not None and vote >= 0 for vote in one):
            row[: len(one)] = one
    soft = table[:, columns]
    unknown = ~(soft.sum(axis=1) > 0)
    soft[unknown] = np.eye(len(names))[labels[unknown]]
    return (soft / soft.sum(axis=1, keepdims=True)).astype(np.float32)
