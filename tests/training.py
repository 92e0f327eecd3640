"""What tests train with: embedded faces, settings of a small model, and a player of one trial."""

from typing import Any

import numpy as np
import pytest

from emoray.data import faces
from emoray.trial.data import TrialData

IMAGES = 203
"""No multiple of a batch, so that every epoch ends with a smaller step."""


@pytest.fixture(scope="module")
def data() -> TrialData:
    return faces_of(IMAGES)


def faces_of(count: int) -> TrialData:
    """So many embedded faces to train on, and 61 to be judged by, which two workers cannot share evenly."""
    images, labels = faces.draw(0, np.arange(count + 61))
    images = images[..., None]
    targets = np.eye(7, dtype=np.float32)[labels]
    counts = tuple(int(c) for c in np.bincount(labels[:count], minlength=7))
    rows = np.arange(count)
    for array in (images, targets, rows):
        array.flags.writeable = False  # as the object store hands them out
    shown = (images[:count], targets[:count], rows)
    return TrialData("memory", faces.CLASSES, counts, *shown, images[count:], labels[count:])


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "model": {"name": "simple_cnn", "width": 4, "units": 16, "dropout": 0.3},
        "epochs": 4,
        "batch_size": 32,
        "precision": "float32",
        "accumulate_steps": 1,
        "jit": False,
        "optimizer": {"name": "adam", "learning_rate": 0.002},
        "schedule": {"name": "cosine", "warmup_epochs": 1},
        "loss": {"name": "cross_entropy", "label_smoothing": 0.05},
        "class_weight": {"name": "sqrt"},
        "sampler": {"name": "none"},
        "augment": [{"name": "flip"}, {"name": "rotate", "degrees": 10}, {"name": "mixup", "alpha": 0.2}],
        "early_stopping": {"name": "none"},
        "seed": 5,
    } | changes


def player(data: TrialData, **changes: Any) -> Any:
    from emoray.trial.player import Player

    return Player(settings(**changes), "accuracy", data)


def weights(played: Any) -> list[np.ndarray]:
    return [v.numpy() for v in played.program.model.variables]


def timeless(history: list[dict[str, float]]) -> list[dict[str, float]]:
    """What does not depend on who trained it, and how fast."""
    machine = ("seconds", "images_per_second", "data_wait", "workers")
    return [{k: v for k, v in row.items() if k not in machine} for row in history]
