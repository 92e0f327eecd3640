"""A few real steps of a trial: what an epoch will take, and how large its checkpoints are. For the plan."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from emoray.trial.data import TrialData

if TYPE_CHECKING:
    from emoray.trial.player import Player

SECONDS = 4.0
"""How long steps are timed; on a slow machine one chunk of them may take longer."""
PREDICTED = 512


@dataclass(frozen=True)
class Cost:
    """What an epoch of one trial costs, and what it leaves: bytes of `best.npz` (weights) and `last.npz` (all)."""

    epoch_seconds: float
    images_per_second: float
    parameters: int
    best_bytes: int
    last_bytes: int


def cost(settings: Mapping[str, Any], metric: str, data: TrialData) -> Cost:
    """Build a trial from `settings`, train a few steps after those that compile, predict a few images."""
    from emoray.trial.player import Player  # Keras, which a driver that names this must not import

    player = Player(settings, metric, data)
    try:
        rate = _training_rate(player)
        validated = data.validation_images[:PREDICTED]
        player.program.predict(validated)
        began = time.perf_counter()
        player.program.predict(validated)
        predicting = (time.perf_counter() - began) / len(validated)
        state = player.state().arrays
        sizes = {group: sum(array.nbytes for array in arrays) for group, arrays in state.items()}
        seconds = len(data.images) / rate + predicting * len(data.validation_images)
        return Cost(seconds, rate, player.parameters, sizes["model"], sum(sizes.values()))
    finally:
        player.close()


def _training_rate(player: "Player") -> float:
    """Images a second, without the chunks of the first epoch that are compiled."""
    images, seconds = 0, 0.0
    for number, chunk in enumerate(_chunks(player)):
        began = time.perf_counter()
        player.program.train(chunk, 0, np.full(chunk.steps, player.program.learning_rate, np.float32))
        if number == 0:
            continue
        seconds += time.perf_counter() - began
        images += chunk.images.shape[0] * chunk.images.shape[1]
        if seconds > SECONDS:
            break
    return images / seconds


def _chunks(player: "Player") -> Iterator[Any]:
    """Two epochs: one of small data may be a single chunk."""
    for epoch in range(2):
        yield from player.feed.epoch(epoch)
