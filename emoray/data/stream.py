"""Training data through Ray Data: its tasks take images from disk and augment them in parallel, on CPUs of their own.

One execution serves as many epochs as it can, so that nothing is started at an epoch's border. The chunks are those
that `Batches` would give: `Epochs` says what each holds, whoever makes it.
"""

import functools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import ray
import ray.data
from ray.data import ExecutionOptions, ExecutionResources, TaskPoolStrategy
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from emoray.data.batches import Chunk, Epochs
from emoray.data.job import quiet_context
from emoray.placement import STREAM_BYTES

MOST_CHUNKS = 4096
"""Chunks in one execution: the list of them is made before it starts."""


@dataclass(frozen=True)
class DataShare:
    """What the tasks of one worker may take: `cpus`, in a bundle of the trial's placement group where it has one."""

    cpus: float
    group: PlacementGroup | None = None
    bundle: int = -1

    def task_options(self) -> dict[str, Any]:
        """For `map_batches`: as many tasks at once as there are whole CPUs, at least one."""
        tasks = max(1, math.floor(self.cpus))
        options: dict[str, Any] = {"num_cpus": self.cpus / tasks, "compute": TaskPoolStrategy(tasks)}
        if self.group is not None:
            strategy = PlacementGroupSchedulingStrategy(self.group, placement_group_bundle_index=self.bundle)
            options["scheduling_strategy"] = strategy
        return options


class Stream:
    """Chunks made by Ray Data, for up to `last` epochs."""

    def __init__(self, epochs: Epochs, last: int, share: DataShare) -> None:
        self.epochs, self.last, self.share = epochs, last, share
        self.waited = 0.0
        self._held = ray.put(epochs)
        self._blocks: Iterator[Any] | None = None
        self._next: tuple[int, int] | None = None
        """The first epoch that the execution has not given out, and the one where it ends."""

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Chunk]:
        """The images in the order of this epoch; the last step is smaller where the batch size leaves a rest."""
        self.waited = 0.0
        if first == len(self.epochs.parts):
            return
        if first or self._next is None or self._next[0] != epoch or self._next[0] == self._next[1]:
            self._start(epoch, first)
        assert self._blocks is not None
        assert self._next is not None
        for part in self.epochs.parts[first:]:
            began = time.perf_counter()
            block = next(self._blocks)
            self.waited += time.perf_counter() - began
            steps = -(-(part.stop - part.start) // self.epochs.batch_size)
            images, labels = block["image"], block["label"]
            yield Chunk(images.reshape(steps, -1, *images.shape[1:]), labels.reshape(steps, -1, labels.shape[1]))
        self._next = (epoch + 1, self._next[1])

    def close(self) -> None:
        """End the execution; its tasks are cancelled and its CPUs free."""
        if self._blocks is not None:
            self._blocks.close()  # type: ignore[attr-defined]
            self._blocks = self._next = None

    def _start(self, first: int, skipped: int) -> None:
        """Begin an execution with epoch `first`, without as many chunks of it as are `skipped`."""
        self.close()
        parts = len(self.epochs.parts)
        last = min(max(self.last, first + 1), first + max(1, MOST_CHUNKS // parts))
        plan = [{"epoch": epoch, "number": number} for epoch in range(first, last) for number in range(parts)][skipped:]
        context = quiet_context()
        limits = ExecutionResources.for_limits(cpu=self.share.cpus, object_store_memory=STREAM_BYTES)
        context.execution_options = ExecutionOptions(resource_limits=limits, preserve_order=True)
        with ray.data.DataContext.current(context):
            dataset = ray.data.from_items(plan, override_num_blocks=len(plan)).map_batches(
                cast(Any, _chunks),
                batch_size=None,
                batch_format="numpy",
                fn_kwargs={"held": [self._held]},
                **self.share.task_options(),
            )
            blocks = dataset.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=1)
            self._blocks = iter(blocks)
        self._next = (first, last)


def _chunks(batch: Any, held: list[Any]) -> Iterator[dict[str, np.ndarray]]:
    """The chunks that a block of the plan names, each a block of its own."""
    epochs = _epochs(held[0])
    for epoch, number in zip(batch["epoch"], batch["number"], strict=True):
        chunk = epochs.chunk(int(epoch), int(number))
        images, labels = chunk.images, chunk.labels
        yield {"image": images.reshape(-1, *images.shape[2:]), "label": labels.reshape(-1, labels.shape[2])}


@functools.lru_cache(maxsize=1)
def _epochs(held: Any) -> Epochs:
    """What the trial's tasks share, kept for the next task of it: an epoch's order is made once in a process."""
    epochs: Epochs = ray.get(held)
    return epochs
