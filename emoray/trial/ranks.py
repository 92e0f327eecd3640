"""The processes that train one trial together: which of them this is, and how they add up.

Models are plain Keras models, one replica in each process; `tf.distribute` only moves bytes. All ranks call the same
functions in the same order, or they wait for each other for ever.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.compiler.xla.tsl.protobuf.coordination_config_pb2 import CoordinatedJob
from tensorflow.python.eager import context

HEARTBEAT_SECONDS = 300.0
"""For TensorFlow, a rank that is silent for so long has died. Its own 10 seconds kill groups on busy machines; Ray sees
the death of a process at once, and that of a node within half a minute."""

Tensors = list[Any]


def _itself(tensors: Any) -> Any:
    return tensors


@dataclass(frozen=True)
class Ranks:
    """`total` sums tensors of float32, each of the same shape on all ranks, inside a `tf.function`."""

    rank: int = 0
    size: int = 1
    total: Callable[[Tensors], Tensors] = _itself
    sum: Callable[[np.ndarray], np.ndarray] = _itself
    """The sum of an array of float32 that has the same shape on all ranks."""

    def part(self, n: int) -> slice:
        """This rank's stretch of `n` things."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def each(self, own: np.ndarray) -> np.ndarray:
        """Every rank's array, float32 (size, ...): that of this rank is `own`, of the same shape on all."""
        rows = np.zeros((self.size, *own.shape), np.float32)
        rows[self.rank] = own
        return self.sum(rows)


ALONE = Ranks()


def connect() -> Ranks:
    """Join the ranks that TF_CONFIG tells of (backend.py); before anything else of TensorFlow's is used."""
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    size = len(resolver.cluster_spec().as_dict()["worker"])
    if size == 1:
        return ALONE
    # As the strategy would, which leaves alone what it finds; there is no public name for it.
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader="/job:worker/replica:0/task:0",
        heartbeat_timeout_in_ms=int(HEARTBEAT_SECONDS * 1000),
        coordinated_jobs=[CoordinatedJob(name="worker", num_tasks=size)],
    )
    strategy = tf.distribute.MultiWorkerMirroredStrategy()

    def total(tensors: Tensors) -> Tensors:
        # As one vector: a single collective a step, and none that could overtake another.
        flat = tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], 0)
        parts = tf.split(strategy.run(_all_reduce, args=(flat,)), [tf.size(tensor) for tensor in tensors])
        return [tf.reshape(part, tf.shape(tensor)) for part, tensor in zip(parts, tensors, strict=True)]

    total_of_one = tf.function(lambda tensor: total([tensor])[0], autograph=False)

    def sum_(array: np.ndarray) -> np.ndarray:
        summed: np.ndarray = total_of_one(tf.constant(array, tf.float32)).numpy()
        return summed

    return Ranks(resolver.task_id, size, total, sum_)


def peer_was_lost(error: Exception) -> bool:
    """Whether an error only says that another rank is gone."""
    lost = ("UnavailableError", "AbortedError", "CancelledError", "DeadlineExceededError")
    return type(error).__name__ in lost or "Collective ops is aborted" in str(error)


def _all_reduce(tensor: Any) -> Any:
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(tensor))
