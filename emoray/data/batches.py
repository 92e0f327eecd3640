"""The batches of a trial: what each step of each epoch holds, and a thread that makes them while the model trains.

What an image looks like in an epoch is a function of (seed, epoch, row id); in which batch it comes, of (seed, epoch).
Neither depends on who makes the batch: a thread (`Batches`) or Ray Data (stream.py), one worker or several.
"""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from emoray.data import draws
from emoray.data.augmentation import Pipeline

CHUNK_BYTES = 16 << 20
CHUNK_STEPS = 64
FIRST_STEPS = 4
"""The first chunk of an epoch is small, so that training waits for little at the epoch's border."""
AHEAD = 2
WINDOW_BYTES = 128 << 20
"""Images that are shuffled among each other; more than that is shuffled in runs first, so that a process that takes
them from disk reads no run twice an epoch."""


@dataclass(frozen=True)
class Chunk:
    """Several steps of training: images uint8 (steps, batch, h, w, c), soft labels float32 (steps, batch, classes)."""

    images: np.ndarray
    labels: np.ndarray

    @property
    def steps(self) -> int:
        return len(self.images)


class Images(Protocol):
    """An array uint8 (n, h, w, c), or what stands for one: it is indexed with integers (k,) or a slice."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, places: np.ndarray | slice) -> np.ndarray: ...


class Feed(Protocol):
    """Gives the chunks of one epoch after the other."""

    waited: float
    """Seconds that the last epoch's consumer spent waiting for chunks."""

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Chunk]:
        """The chunks of an epoch from its chunk `first` on."""

    def close(self) -> None: ...


class Epochs:
    """Which images, augmented how, each step of each epoch holds, for one of `world` workers.

    `images` uint8 (n, h, w, c) and soft `labels` float32 (n, classes) may be read-only views that are shared with other
    trials; `rows` int64 (n,) are the images' ids. A worker gets its share of every batch, whole pairs of neighbours.
    """

    def __init__(
        self,
        images: Images,
        labels: np.ndarray,
        rows: np.ndarray,
        *,
        batch_size: int,
        pipeline: Pipeline,
        seed: int,
        row_weights: np.ndarray | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """With `row_weights` (n,), mean 1, an epoch holds each image that many times on average, n in all."""
        self.images, self.labels, self.rows, self.row_weights = images, labels, rows, row_weights
        self.batch_size, self.pipeline, self.seed = min(batch_size, len(images)), pipeline, seed
        self.rank, self.world = rank, world
        self.image_bytes = int(np.prod(images.shape[1:]))
        self.window = max(batch_size, WINDOW_BYTES // self.image_bytes)
        self.steps = -(-len(images) // self.batch_size)
        self.parts = list(self._parts())
        self._order: tuple[int, np.ndarray, np.ndarray] | None = None

    def chunk(self, epoch: int, number: int) -> Chunk:
        """The chunk of the epoch that holds the steps of `parts[number]`.

        A worker whose share of the last step is empty gets one image there that has no label, and so no weight.
        """
        places, copies = (order[self.parts[number]] for order in self.order(epoch))
        batch = min(self.batch_size, len(places))
        first, last = share(batch, self.rank, self.world)
        mine = slice(first, last) if last > first else slice(0, 1)
        places, copies = places.reshape(-1, batch)[:, mine].ravel(), copies.reshape(-1, batch)[:, mine].ravel()
        rows = self.rows[places] + (copies << 40)  # beyond any row id: a copy draws as an image of its own
        images, labels = self.pipeline(self.images[places], self.labels[places], rows, seed=self.seed, epoch=epoch)
        size = mine.stop - mine.start
        labels = labels if last > first else np.zeros_like(labels)
        return Chunk(
            np.ascontiguousarray(images).reshape(-1, size, *images.shape[1:]),
            np.ascontiguousarray(labels, np.float32).reshape(-1, size, labels.shape[1]),
        )

    def order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Which images the epoch holds, (n,), and the how-manieth copy each is, so that copies are augmented apart."""
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, *self._drawn(epoch))
        return self._order[1:]

    def _drawn(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        n = len(self.images)
        order = draws.windowed_permutation(self.seed, epoch, n, self.window)
        if self.row_weights is None:
            return order, np.zeros(n, np.int64)
        # Systematic sampling, a class after the other: an image of weight w is drawn floor(w) or ceil(w) times, and
        # each class as often as its weights say, to within one image.
        by_weight = order[np.argsort(self.row_weights[order], kind="stable")]
        shares = np.cumsum(self.row_weights[by_weight])
        offset = draws.uniform(self.seed, epoch, "sampler", np.zeros(1, np.int64), 1)[0, 0]
        points = (np.arange(n) + offset) * (shares[-1] / n)
        drawn = by_weight[np.minimum(np.searchsorted(shares, points, side="right"), n - 1)]
        times = np.bincount(drawn, minlength=n)[order]
        copies = np.arange(n) - np.repeat(np.cumsum(times) - times, times)
        mixed = draws.shuffled_windows(self.seed, -1 - epoch, n, self.window)
        return np.repeat(order, times)[mixed], copies[mixed]

    def _parts(self) -> Iterator[slice]:
        """Stretches of the epoch's order: growing chunks of whole batches, then the rest.

        Each begins at an even place, so that which images are neighbours, and so mixed, does not depend on the chunks.
        """
        rest = len(self.images) % self.batch_size
        whole = len(self.images) - rest
        most = max(2, min(CHUNK_STEPS, CHUNK_BYTES // (self.batch_size * self.image_bytes)) // 2 * 2)
        start, steps = 0, min(FIRST_STEPS, most)
        while start < whole:
            stop = min(start + steps * self.batch_size, whole)
            yield slice(start, stop)
            start, steps = stop, min(2 * steps, most)
        if rest:
            yield slice(whole, whole + rest)


def share(batch: int, rank: int, world: int) -> tuple[int, int]:
    """The places of a batch, from the first up to the last, that a worker trains on: pairs are never torn."""
    pairs = -(-batch // 2)
    return 2 * (pairs * rank // world), min(batch, 2 * (pairs * (rank + 1) // world))


class Batches:
    """Chunks of images in memory, made in a thread a few ahead of the training."""

    def __init__(self, epochs: Epochs) -> None:
        self.epochs, self.waited = epochs, 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Chunk]:
        """The images in the order of this epoch; the last step is smaller where the batch size leaves a rest."""
        self.waited = 0.0
        pending: deque[Future[Chunk]] = deque()
        try:
            for number in range(first, len(self.epochs.parts)):
                pending.append(self._thread.submit(self.epochs.chunk, epoch, number))
                if len(pending) > AHEAD:
                    yield self._next(pending)
            while pending:
                yield self._next(pending)
        finally:
            for future in pending:
                future.cancel()

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _next(self, pending: "deque[Future[Chunk]]") -> Chunk:
        began = time.perf_counter()
        chunk = pending.popleft().result()
        self.waited += time.perf_counter() - began
        return chunk
