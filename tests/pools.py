"""Simulated predictions of a pool of models, with the truth known, for the tests of ensembles."""

import inspect

import numpy as np

from emoray import ensemble, metrics
from emoray.blend import softmax

SHARES = np.array([14, 2, 14, 25, 17, 11, 17]) / 100  # FER2013's classes
METHODS = {
    name: function
    for name, function in inspect.getmembers(ensemble, inspect.isfunction)
    if function.__module__ == ensemble.__name__ and not name.startswith("_")
}
METRICS = (*metrics.METRICS, "recall_1")


def pool(seed, members, n, *, spread=0.05, own=0.6, classes=7):
    """Members whose log-odds share most of their noise; each has some of its own, a strength, a wrong temperature."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, n, p=SHARES[:classes] / SHARES[:classes].sum())
    shared = rng.normal(0.0, 1.2, (n, classes)).astype(np.float32)
    strengths, sharpness = rng.normal(1.9, spread, members), np.exp(rng.normal(0.3, 0.5, members))
    probabilities = np.empty((members, n, classes), np.float32)
    for member, strength, sharp in zip(probabilities, strengths, sharpness, strict=True):
        logits = shared + rng.normal(0.0, own, (n, classes)).astype(np.float32)
        logits[np.arange(n), labels] += strength
        member[...] = softmax(np.float32(sharp) * logits)
    return probabilities, labels
