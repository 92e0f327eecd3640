"""What ranks share out, learn apart and agree on: here they are threads; in test_distributed.py, processes."""

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emoray.trial.data import TrialData
from emoray.trial.notice import Ended, Within, never
from emoray.trial.ranks import Ranks
from tests.slow_images import SlowImages
from tests.training import data, settings

__all__ = ["data"]  # the fixture
pytestmark = pytest.mark.keras


class Meeting:
    """Where threads add up an array of each."""

    def __init__(self, size: int) -> None:
        self.arrays: dict[int, np.ndarray] = {}
        self.barrier = threading.Barrier(size, timeout=60)

    def sum_for(self, rank: int) -> Callable[[np.ndarray], np.ndarray]:
        def sum_(array: np.ndarray) -> np.ndarray:
            self.arrays[rank] = array
            self.barrier.wait()
            total = np.sum([self.arrays[other] for other in sorted(self.arrays)], axis=0, dtype=np.float32)
            self.barrier.wait()
            return total

        return sum_


def two_players(*each: TrialData) -> list[Any]:
    """Their steps move nothing, since gradients are not summed here: the ranks would find that they differ."""
    from emoray.trial.player import Player

    meeting, still = Meeting(2), {"name": "sgd", "learning_rate": 0.0}
    told = settings(model={"name": "lenet"}, optimizer=still)
    ranks = [Ranks(rank, 2, sum=meeting.sum_for(rank)) for rank in range(2)]
    return [Player(told, "accuracy", own, rank) for own, rank in zip(each, ranks, strict=True)]


def in_threads(*calls: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(calls)) as threads:
        return [future.result() for future in [threads.submit(call) for call in calls]]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [0, 1, 2, 61, 64, 1000])
def test_parts_hold_every_thing_once(n: int, size: int) -> None:
    parts = [Ranks(rank, size).part(n) for rank in range(size)]
    assert [thing for part in parts for thing in range(n)[part]] == list(range(n))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_ranks_see_what_each_of_them_has() -> None:
    meeting = Meeting(3)
    ranks = [Ranks(rank, 3, sum=meeting.sum_for(rank)) for rank in range(3)]
    seen = in_threads(*(lambda rank=rank: rank.each(np.full(2, rank.rank + 1.5)) for rank in ranks))
    assert all(np.array_equal(rows, [[1.5, 1.5], [2.5, 2.5], [3.5, 3.5]]) for rows in seen)


def test_what_a_rank_learns_apart_is_what_a_step_changes_without_gradients() -> None:
    """In models of models, subclassed ones and layers of one's own; nothing of what is frozen."""
    import keras

    from emoray.trial.player import learned_apart

    def block() -> Any:
        layers = keras.layers
        return keras.Sequential([layers.Conv2D(3, 3), layers.BatchNormalization(), layers.Dropout(0.5)])

    class Brightness(keras.layers.Layer):
        """Hands images on, and keeps a running mean of them."""

        def build(self, shape: Any) -> None:
            self.mean = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, images: Any, training: bool = False) -> Any:
            if training and self.trainable:
                self.mean.assign(0.9 * self.mean + 0.1 * keras.ops.mean(images))
            return images

    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = keras.Sequential([block(), block()])
            self.backbone.trainable = False
            self.backbone.layers[1].trainable = True  # the last of it is to train
            self.parts = [Brightness(), block(), Brightness()]
            self.parts[2].trainable = False
            self.head = keras.layers.Dense(7)

        def call(self, images: Any, training: bool = False) -> Any:
            x = self.backbone(keras.ops.cast(images, "float32"), training=training)
            for part in self.parts:
                x = part(x, training=training)
            return self.head(keras.layers.Flatten()(x))

    model, images = Own(), np.random.default_rng(0).integers(0, 256, (8, 12, 12, 1), np.uint8)
    model(images)
    before = {v.path: v.numpy() for v in model.variables if "float" in v.dtype}
    model(images, training=True)
    changed = [v.path for v in model.variables if v.path in before and not np.array_equal(v.numpy(), before[v.path])]
    assert sorted(v.path for v in learned_apart(model)) == sorted(changed)
    assert len(changed) == 5, "two batch norms of two statistics each, and a mean"


def test_the_wait_for_data_is_that_of_the_rank_that_waits_longest(data: TrialData, tmp_path: Path) -> None:
    slow = dataclasses.replace(data, images=SlowImages(np.asarray(data.images), 0.3, tmp_path / "log"))
    players = two_players(data, slow)
    for _ in range(2):  # the first epoch makes its chunks while it compiles
        rows = in_threads(*(one.play for one in players))
    assert rows[0]["data_wait"] == rows[1]["data_wait"] > 0.5
    for one in players:
        one.close()


def test_all_ranks_leave_an_epoch_when_one_of_them_learns_that_nobody_waits(data: TrialData) -> None:
    asked: list[list[int]] = [[], []]

    def play(one: Any) -> None:
        mine = asked[one.ranks.rank]

        def ended() -> bool:
            mine.append(1)
            return one.ranks.rank == 1 and len(mine) == 2

        with pytest.raises(Ended):
            one.play(Within(never, lambda state: None, ended))

    players = two_players(data, data)
    in_threads(*(lambda one=one: play(one) for one in players))
    assert [len(calls) for calls in asked] == [2, 2]
    assert len(players[0].batches.parts) > 2, "there was more to come"
    for one in players:
        one.close()
