"""Loss functions by name: soft labels (batch, classes) and logits (batch, classes) in, one float32 loss an image out.

The one rule: everything is computed in float32 from log-probabilities, never from probabilities that may underflow.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np

from emoray import class_names
from emoray.settings import Fraction, NonNegative, Positive, Probability


@dataclass(frozen=True)
class Classes:
    """The classes of a sweep, in the order of the labels: their names and their numbers of training images."""

    names: tuple[str, ...]
    counts: tuple[int, ...]


def cross_entropy(
    labels: keras.KerasTensor, logits: keras.KerasTensor, *, label_smoothing: Fraction = 0.0
) -> keras.KerasTensor:
    """Cross-entropy, with the labels mixed with the uniform distribution by `label_smoothing` (Szegedy et al. 2016)."""
    return -keras.ops.sum(_smooth(labels, label_smoothing) * _log_probabilities(logits), axis=-1)


def focal(
    labels: keras.KerasTensor, logits: keras.KerasTensor, *, gamma: NonNegative = 2.0, label_smoothing: Fraction = 0.0
) -> keras.KerasTensor:
    """Focal loss: cross-entropy times (1 - p)^gamma, so that easy images count less; gamma 0 is cross-entropy.

    Lin et al. 2017, "Focal loss for dense object detection", for soft labels: the sum over classes of
    label * (1 - p)^gamma * -log p.
    """
    log_p = _log_probabilities(logits)
    return keras.ops.sum(_smooth(labels, label_smoothing) * _focus(log_p, gamma) * -log_p, axis=-1)


def class_balanced(
    labels: keras.KerasTensor,
    logits: keras.KerasTensor,
    classes: Classes,
    *,
    beta: Fraction = 0.9999,
    gamma: NonNegative = 0.0,
    label_smoothing: Fraction = 0.0,
) -> keras.KerasTensor:
    """Focal loss weighted by 1 / effective number of images, (1 - beta) / (1 - beta^n); beta 0 weighs all alike.

    Cui et al. 2019, "Class-balanced loss based on effective number of samples". The weights sum to the number of
    classes, as in the paper; a class without a training image has none. With gamma 0 it is a weighted cross-entropy.
    """
    log_p = _log_probabilities(logits)
    weighted = _smooth(labels, label_smoothing) * _effective_number_weights(classes, beta)
    return keras.ops.sum(weighted * _focus(log_p, gamma) * -log_p, axis=-1)


def cost_sensitive(
    labels: keras.KerasTensor,
    logits: keras.KerasTensor,
    classes: Classes,
    *,
    costs: dict[str, dict[str, NonNegative]] | None = None,
    priority: dict[str, NonNegative] | None = None,
    label_smoothing: Fraction = 0.0,
) -> keras.KerasTensor:
    """Cross-entropy that counts emotions by `priority` and adds the expected cost of confusions in `costs`.

    `costs: {fear: {happy: 2.0}}` adds 2 times the probability given to happy on an image of fear (Galdran et al. 2020,
    "Cost-sensitive regularization for diabetic retinopathy grading"); confusions that are not named cost nothing more.
    `priority: {fear: 2.0}` multiplies the cross-entropy of fear by 2; emotions that are not named have 1.
    Raises UserError for names that are not classes, and for the cost of a right answer.
    """
    log_p = _log_probabilities(logits)
    smooth = _smooth(labels, label_smoothing)
    entropy = -keras.ops.sum(smooth * _priorities(priority or {}, classes.names) * log_p, axis=-1)
    if not costs:
        return entropy
    cost_of_each_answer = keras.ops.matmul(keras.ops.cast(labels, "float32"), _cost_matrix(costs, classes.names))
    return entropy + keras.ops.sum(cost_of_each_answer * keras.ops.exp(log_p), axis=-1)


def generalized_cross_entropy(
    labels: keras.KerasTensor, logits: keras.KerasTensor, *, q: Probability = 0.7, label_smoothing: Fraction = 0.0
) -> keras.KerasTensor:
    """(1 - p^q) / q, for noisy labels: cross-entropy at q 0, the mean absolute error (halved) at q 1.

    Zhang & Sabuncu 2018, "Generalized cross entropy loss for training deep neural networks with noisy labels".
    """
    log_p = _log_probabilities(logits)
    losses = -keras.ops.expm1(q * log_p) / q if q else -log_p
    return keras.ops.sum(_smooth(labels, label_smoothing) * losses, axis=-1)


def symmetric_cross_entropy(
    labels: keras.KerasTensor,
    logits: keras.KerasTensor,
    *,
    alpha: NonNegative = 0.1,
    beta: NonNegative = 1.0,
    log_zero: Positive = 4.0,
) -> keras.KerasTensor:
    """alpha times cross-entropy plus beta times the reverse one, -sum(p log label), for noisy labels.

    Wang et al. 2019, "Symmetric cross entropy for robust learning with noisy labels", which defines log 0 as a
    constant: here -`log_zero`, and no logarithm of a label is below it.
    """
    labels = keras.ops.cast(labels, "float32")
    log_p = _log_probabilities(logits)
    log_labels = keras.ops.log(keras.ops.maximum(labels, float(np.exp(-log_zero))))
    forward = -keras.ops.sum(labels * log_p, axis=-1)
    reverse = -keras.ops.sum(keras.ops.exp(log_p) * log_labels, axis=-1)
    return alpha * forward + beta * reverse


def _log_probabilities(logits: keras.KerasTensor) -> keras.KerasTensor:
    return keras.ops.log_softmax(keras.ops.cast(logits, "float32"), axis=-1)


def _smooth(labels: keras.KerasTensor, label_smoothing: float) -> keras.KerasTensor:
    labels = keras.ops.cast(labels, "float32")
    return labels * (1.0 - label_smoothing) + label_smoothing / labels.shape[-1]


def _focus(log_p: keras.KerasTensor, gamma: float) -> keras.KerasTensor:
    # 1 - p is kept off 0, where the gradient of its power is infinite for a gamma under 1.
    return keras.ops.maximum(-keras.ops.expm1(log_p), 1e-7) ** gamma


def _effective_number_weights(classes: Classes, beta: float) -> np.ndarray:
    """(classes,) float32, with the sum the number of classes that have images."""
    counts = np.asarray(classes.counts, np.float64)
    present = counts > 0
    # 1 - beta^n, without the digits that a beta close to 1 would cost.
    effective = -np.expm1(counts * np.log1p(beta - 1.0)) if beta else np.ones_like(counts)
    weights = np.divide(1.0, effective, out=np.zeros_like(counts), where=present)
    return (weights * present.sum() / weights.sum()).astype(np.float32)


def _priorities(priority: Mapping[str, float], names: tuple[str, ...]) -> np.ndarray:
    """(classes,) float32."""
    class_names.known("loss.priority", priority, names)
    return np.array([priority.get(name, 1.0) for name in names], np.float32)


def _cost_matrix(costs: Mapping[str, Mapping[str, float]], names: tuple[str, ...]) -> np.ndarray:
    """(true class, predicted class) float32."""
    class_names.known("loss.costs", costs, names)
    matrix = np.zeros((len(names), len(names)), np.float32)
    for true, by_answer in costs.items():
        class_names.known(f"loss.costs.{true}", by_answer, names, but=true)
        for answer, cost in by_answer.items():
            matrix[names.index(true), names.index(answer)] = cost
    return matrix
