"""How fast are augmented images fed to a trial that takes no time at all, from memory and streamed by Ray Data?

    python -m benchmarks.feeding            about 2 minutes on two cores

Embedded faces of 48x48, prepared as for a sweep; mirrored and rotated, in one warp. `memory`: a thread of one process
that is held to one core. `stream`: Ray Data's tasks read the prepared files and augment on as many CPUs as there are,
in one execution for all epochs. Tells images a second of each epoch, what passes between the last images of an epoch
and the first of the next, and what the first epoch cost besides, in which processes are started.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoray import cluster, config

BATCH = 64
AUGMENT = [{"name": "flip"}, {"name": "rotate", "degrees": 10}]


@dataclass(frozen=True)
class Fed:
    """An epoch: its images, seconds to the first of them and seconds in all."""

    images: int
    first: float
    seconds: float


def epochs_of(data: Any) -> Any:
    from emoray.data.augmentation import pipeline
    from emoray.data.batches import Epochs

    augment = pipeline(AUGMENT)
    return Epochs(data.images, data.targets, data.rows, batch_size=BATCH, pipeline=augment, seed=0)


def fed(feed: Any, count: int) -> Iterator[Fed]:
    for epoch in range(count):
        began, first, images = time.perf_counter(), 0.0, 0
        for chunk in feed.epoch(epoch):
            first = first or time.perf_counter() - began
            images += int(chunk.labels.sum())
        yield Fed(images, first, time.perf_counter() - began)
    feed.close()


def tell(way: str, epochs: list[Fed]) -> None:
    begun, steady = epochs[0], epochs[1:]
    rate = statistics.median(epoch.images / epoch.seconds for epoch in steady)
    border = statistics.median(epoch.first for epoch in steady)
    print(
        f"{way}: {rate:,.0f} images/s, epochs of {steady[0].images:,} images in {steady[0].seconds:.2f} s; "
        f"first images of an epoch after {border * 1000:.0f} ms, of the first one after {begun.first:.2f} s",
        flush=True,
    )


def from_memory(prepared: Any, count: int) -> None:
    """In a process of its own, held to one core."""
    from emoray.data.batches import Batches
    from emoray.trial.data import load

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    tell("memory, one core", list(fed(Batches(epochs_of(load(prepared, "memory"))), count)))


def streamed(prepared: Any, count: int, cpus: float) -> None:
    from emoray.data.stream import DataShare, Stream
    from emoray.trial.data import load

    data = load(prepared, "stream")
    tell(f"stream, {cpus:g} CPUs", list(fed(Stream(epochs_of(data), count, DataShare(cpus)), count)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=40_000, help="of which some 70 %% are for training")
    parser.add_argument("--epochs", type=int, default=6, help="default: 6")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "sweep.yaml")
        file.write_text(f"name: feeding\ndata: {{faces: {options.faces}}}\nmodels: [lenet]\n")
        sweep = config.load(file)
        with cluster.connected(None, [], print) as machine:
            from emoray import data

            prepared = data.prepare(sweep.data, cache=folder, seed=0, progress=print)
            process = multiprocessing.get_context("spawn").Process(target=from_memory, args=(prepared, options.epochs))
            process.start()
            process.join()
            assert process.exitcode == 0
            streamed(prepared, options.epochs, machine.cpus)


if __name__ == "__main__":
    main()
