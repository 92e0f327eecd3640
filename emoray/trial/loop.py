"""The one training loop: chunks of batches in, weights changed, sums out.

A `Program` holds a model with its loss and optimizer, compiled. Steps are fed in chunks to one compiled loop, which is
faster than a call for each step. Gradients, loss and weights are summed by `total` before they are used: the identity
for one worker, an all-reduce for several, so that N workers take the same step as one.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.func_graph import dismantle_func_graph

from emoray import registry
from emoray.data.batches import Chunk, Feed
from emoray.losses import Classes
from emoray.models.fine_tuning import FineTuning
from emoray.trial.precision import LossScale, policy
from emoray.trial.ranks import ALONE, Tensors


class Program:
    """A model, its loss and its optimizer as compiled functions."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        image_shape: tuple[int, int, int],
        classes: Classes,
        total: Callable[[Tensors], Tensors] = ALONE.total,
    ) -> None:
        keras.utils.set_random_seed(settings["seed"] % 2**32)
        with policy(settings["precision"]):
            self.model = registry.build("models", settings["model"], image_shape, len(classes.names))
        self.loss_scale = LossScale(settings["precision"])
        self.optimizer = registry.build("optimizers", settings["optimizer"], self.model.trainable_variables)
        self.learning_rate = float(settings["optimizer"]["learning_rate"])
        self._loss = registry.bind("losses", settings["loss"])
        self._classes = classes
        weights = registry.build("class_weights", settings["class_weight"], np.asarray(classes.counts))
        self._class_weights = tf.constant(weights, tf.float32)
        self._total, self._parts = total, settings["accumulate_steps"]
        self._jit = settings["jit"]
        self._fine_tuning: FineTuning | None = getattr(self.model, "fine_tuning", None)
        # Open in steps and batch, so that the smaller last step of an epoch is not traced again.
        images = tf.TensorSpec([None, None, *image_shape], tf.uint8)
        labels = tf.TensorSpec([None, None, len(classes.names)], tf.float32)
        self._signature = [images, labels, tf.TensorSpec([None], tf.float32)]
        self._compiled: dict[float, Any] = {}
        batch = tf.TensorSpec([None, *image_shape], tf.uint8)
        self._predict = tf.function(self._probabilities, input_signature=[batch], autograph=False)

    def train(self, chunk: Chunk, epoch: int, rates: np.ndarray) -> np.ndarray:
        """Take the chunk's steps in `epoch` (from 0), each at its learning rate; `rates` is float32 (steps,).

        Returns float64 (3,): the weighted sum of losses, the sum of weights, and how many images were right.
        """
        backbone_rate = self._fine_tuning.rate(epoch) if self._fine_tuning else 1.0
        if backbone_rate not in self._compiled:
            steps = partial(self._steps, backbone_rate)
            self._compiled[backbone_rate] = tf.function(steps, input_signature=self._signature, autograph=False)
        train = self._compiled[backbone_rate]
        sums = train(tf.constant(chunk.images), tf.constant(chunk.labels), tf.constant(rates, tf.float32))
        return np.array([s.numpy() for s in sums], np.float64)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Probabilities float32 (n, classes) of images uint8 (n, h, w, c)."""
        probabilities: np.ndarray = self._predict(tf.constant(images)).numpy()
        return probabilities

    def close(self) -> None:
        """Free what was compiled. A loop's graphs and their operations hold each other where Python's collector does
        not see it: 2 MB a trial, in a process that trains hundreds."""
        for compiled in [*self._compiled.values(), self._predict]:
            graph = compiled.get_concrete_function().graph
            bodies = [getattr(function, "_cached_graph", None) for function in graph._functions.values()]
            for made in [graph, *filter(None, bodies)]:
                dismantle_func_graph(made)
        self._compiled.clear()

    def _probabilities(self, images: Any) -> Any:
        return tf.nn.softmax(tf.cast(self.model(images, training=False), tf.float32))

    def _steps(self, backbone_rate: float, images: Any, labels: Any, rates: Any) -> Tensors:
        def body(i: Any, *sums: Any) -> Tensors:
            self.optimizer.learning_rate.assign(rates[i])
            return [i + 1, *(s + d for s, d in zip(sums, self._step(backbone_rate, images[i], labels[i]), strict=True))]

        zero = tf.constant(0.0)
        _, *sums = tf.while_loop(lambda i, *_: i < tf.shape(rates)[0], body, [tf.constant(0), zero, zero, zero])
        return sums

    def _step(self, backbone_rate: float, images: Any, labels: Any) -> Tensors:
        backbone = set(self._fine_tuning.backbone) if self._fine_tuning else set()
        held = [v for v in self.model.trainable_variables if v.path in backbone and backbone_rate != 1]
        variables = [v for v in self.model.trainable_variables if v.path not in backbone or backbone_rate != 0]
        sums = partial(self._sums, variables)
        if self._jit:
            sums = tf.function(sums, jit_compile=True, autograph=False)
        if self._parts > 1:
            sums = partial(self._accumulated, sums, [v.shape for v in variables])
        *gradients, loss, weight, right = self._total(sums(images, labels))
        before = [tf.identity(v.value) for v in held if backbone_rate != 0]
        # Divided by the weight of the whole global batch, and only then clipped and applied, so that how a batch is
        # shared among workers, or cut up for a small memory, changes nothing but what looks at a part by itself:
        # batch norm, and dropout, whose masks are drawn anew for each part.
        gradients = [gradient / weight for gradient in gradients]
        self.loss_scale.apply(gradients, lambda taken: self.optimizer.apply(taken, variables))
        if backbone_rate != 0:
            self._slow_down(held, before, backbone_rate)
        return [loss, weight, right]

    def _slow_down(self, held: list[Any], before: list[Any], rate: float) -> None:
        """Leave `rate` of what a step did to the weights `held`, and to their average, which already has all of it."""
        paths = [v.path for v in self.model.trainable_variables]
        kept = self.optimizer._model_variables_moving_average if self.optimizer.use_ema else []
        averages = dict(zip(paths, kept, strict=bool(kept)))
        for variable, value in zip(held, before, strict=True):
            done = variable.value - value
            variable.assign(value + rate * done)
            if (average := averages.get(variable.path)) is not None:
                share = tf.where(self.optimizer.iterations.value > 1, 1 - self.optimizer.ema_momentum, 1.0)
                average.assign(average.value - share * (1 - rate) * done)

    def _sums(self, variables: list[Any], images: Any, labels: Any) -> Tensors:
        """Of a batch or a part of one: the sums of gradients, losses and weights, and how many images were right."""
        weights = tf.linalg.matvec(labels, self._class_weights)
        with tf.GradientTape() as tape:
            logits = self.model(images, training=True)
            loss = tf.reduce_sum(weights * self._loss(labels, logits, self._classes))
            scaled = self.loss_scale.scaled(loss)
        gradients = tape.gradient(scaled, variables)
        labelled = tf.reduce_sum(labels, -1) > 0  # a rank without a share of the step has an image without a label
        right = tf.reduce_sum(tf.cast((tf.argmax(logits, -1) == tf.argmax(labels, -1)) & labelled, tf.float32))
        return [*gradients, loss, tf.reduce_sum(weights), right]

    def _accumulated(self, sums: Callable[..., Tensors], shapes: list[Any], images: Any, labels: Any) -> Tensors:
        """`sums` over the parts of a batch, one after the other, so that memory is needed for one of them only."""
        n = tf.shape(images)[0]
        parts = tf.minimum(self._parts, n)

        def body(i: Any, *so_far: Any) -> Tensors:
            part = slice(n * i // parts, n * (i + 1) // parts)
            return [i + 1, *(a + b for a, b in zip(so_far, sums(images[part], labels[part]), strict=True))]

        zeros = [tf.zeros(shape) for shape in (*shapes, (), (), ())]
        _, *summed = tf.while_loop(lambda i, *_: i < parts, body, [tf.constant(0), *zeros])
        return summed


@dataclass(frozen=True)
class Progress:
    """How far an epoch has come: the chunks and steps that were trained, their sums as `Program.train` gives them, and
    the seconds that they took in all and in waiting for data."""

    chunks: int = 0
    steps: int = 0
    sums: tuple[float, ...] = (0.0, 0.0, 0.0)
    seconds: float = 0.0
    waited: float = 0.0


def train_epoch(
    program: Program, feed: Feed, epoch: int, rate: Callable[[float], float], steps: int, done: Progress
) -> Iterator[Progress]:
    """Train on what is left of an epoch (from 0) of `steps` steps; `rate(share)` is the learning rate at a share of it.

    Yields how far it has come after each chunk.
    """
    began, before = time.perf_counter(), done
    for chunk in feed.epoch(epoch, done.chunks):
        rates = [rate((done.steps + i) / steps) for i in range(chunk.steps)]
        sums = np.array(done.sums) + program.train(chunk, epoch, np.array(rates, np.float32))
        seconds = before.seconds + time.perf_counter() - began
        waited = before.waited + feed.waited
        done = Progress(done.chunks + 1, done.steps + chunk.steps, tuple(sums.tolist()), seconds, waited)
        yield done
