"""Mixed precision: computing in 16 bits with weights in 32 (Micikevicius et al. 2018, "Mixed precision training")."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

GROWTH_STEPS = 2000
"""Steps without an overflow after which the scale is doubled."""
_FIRST_SCALE = 2.0**15


@contextmanager
def policy(name: str) -> Iterator[None]:
    """Layers that are made within compute in `name`; the process's own policy comes back afterwards."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class LossScale:
    """Keeps gradients within float16's range: the loss is multiplied, a step that overflows is left out.

    Dynamic: halved after an overflow, doubled after `GROWTH_STEPS` without one. For other precisions it is 1 and does
    nothing.
    """

    def __init__(self, precision: str) -> None:
        self.dynamic = precision == "mixed_float16"
        self.scale = tf.Variable(_FIRST_SCALE if self.dynamic else 1.0, trainable=False)
        self.good_steps = tf.Variable(0.0, trainable=False)

    @property
    def variables(self) -> list[Any]:
        """What a checkpoint has to hold of it."""
        return [self.scale, self.good_steps] if self.dynamic else []

    def scaled(self, loss: Any) -> Any:
        return loss * self.scale if self.dynamic else loss

    def apply(self, gradients: list[Any], step: Callable[[list[Any]], None]) -> None:
        """Take `step` with the true gradients, unless they overflowed."""
        if not self.dynamic:
            step(gradients)
            return
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])

        def taken() -> Any:
            step([gradient / self.scale for gradient in gradients])
            grown = self.good_steps + 1 >= GROWTH_STEPS
            self.scale.assign(tf.where(grown, self.scale * 2, self.scale))
            self.good_steps.assign(tf.where(grown, 0.0, self.good_steps + 1))
            return tf.constant(True)

        def left_out() -> Any:
            self.scale.assign(tf.maximum(self.scale / 2, 1.0))
            self.good_steps.assign(0.0)
            return tf.constant(False)

        tf.cond(finite, taken, left_out)
