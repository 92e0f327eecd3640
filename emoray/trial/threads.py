"""The CPUs and GPUs that a process of a trial uses: its own, and no more."""

import math


def use_threads(cpus: float) -> None:
    """Give TensorFlow the process's CPUs; it takes the whole machine otherwise, and trials fight. GPU memory grows as
    it is needed, so that several trials fit on a GPU."""
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(max(1, math.floor(cpus)))
        tf.config.threading.set_inter_op_parallelism_threads(1)
        for device in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(device, True)
    except RuntimeError:
        pass  # the process is reused and already has them
