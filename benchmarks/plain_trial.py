"""A trial as the benchmarks train it: plain settings, and embedded faces in memory."""

from typing import Any

BATCH, CLASSES = 64, 7


def settings(model: str, epochs: int, augment: list[dict[str, Any]], seed: int = 0) -> dict[str, Any]:
    """What a trial is given: Adam, batches of 64, no early stopping."""
    none = {key: {"name": "none"} for key in ("class_weight", "sampler", "early_stopping")}
    return none | {
        "model": {"name": model},
        "epochs": epochs,
        "batch_size": BATCH,
        "precision": "float32",
        "accumulate_steps": 1,
        "jit": False,
        "optimizer": {"name": "adam", "learning_rate": 1e-3},
        "schedule": {"name": "constant"},
        "loss": {"name": "cross_entropy"},
        "augment": augment,
        "seed": seed,
    }


def faces_to_train_on(images: int, validation: int) -> Any:
    """`TrialData` of so many faces; imports wait, since Ray and TensorFlow read the environment when loaded."""
    import numpy as np

    from emoray.data import faces
    from emoray.trial.data import TrialData

    pixels, labels = faces.draw(0, np.arange(images + validation))
    pixels, counts = pixels[..., None], tuple(int(n) for n in np.bincount(labels[:images], minlength=CLASSES))
    shown = (pixels[:images], np.eye(CLASSES, dtype=np.float32)[labels[:images]], np.arange(images))
    return TrialData("memory", faces.CLASSES, counts, *shown, pixels[images:], labels[images:])
