"""A machine that is about to be taken away: what a trial that trains in its own process saves of its epoch."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emoray.study_settings import Resources
from emoray.trial import checkpoint, notice
from emoray.trial.data import TrialData
from emoray.trial.trainable import TrialRunner
from tests.slow_images import SlowImages
from tests.training import data, settings

__all__ = ["data"]  # the fixture


class LostImages(SlowImages):
    """They can be read so many times."""

    times = 5

    def __getitem__(self, places: np.ndarray | slice) -> np.ndarray:
        if self.log.exists() and self.log.stat().st_size == self.times:
            raise OSError("the node is gone")
        return super().__getitem__(places)


def begun(data: TrialData, folder: Path) -> Any:
    given = {"settings": settings(epochs=2), "metric": "accuracy", "mode": "memory", "folder": str(folder)}
    runner = TrialRunner.__new__(TrialRunner)
    runner.data, runner.notice = data, notice.Notice()
    runner._begin({"trial": "a", "resources": Resources(), **given})
    return runner


@pytest.mark.ray
@pytest.mark.keras
def test_a_trial_saves_its_epoch_when_its_node_drains_and_not_at_every_chunk(
    ray_cluster: None, data: TrialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's answer is stood in for: the test's only node cannot be drained. The images are lost after two of three
    chunks of the second epoch, so what was saved last is seen."""
    import ray

    draining: dict[str, int] = {"another": 0}
    asked: list[float] = []

    def nodes() -> dict[str, int]:
        asked.append(time.monotonic())
        return draining

    monkeypatch.setattr(notice.state, "get_draining_nodes", nodes)
    seconds = 1.2 * notice.ASK_SECONDS  # for a chunk: Ray may be asked again at each
    images = LostImages(np.asarray(data.images), seconds, tmp_path / "log")
    broken = begun(dataclasses.replace(data, images=images), tmp_path)
    assert not broken.step()["done"]
    assert asked
    assert not (tmp_path / "checkpoint" / "within.npz").exists(), "it was another node"
    draining[ray.get_runtime_context().get_node_id()] = 0
    asked.clear()
    assert "the node is gone" in broken.step()["reason"]
    saved = checkpoint.read(tmp_path / "checkpoint" / "within.npz")
    assert (len(saved.meta["history"]), saved.meta["within"]["chunks"]) == (1, 1)
    assert len(asked) == 1, "once was enough for the next AGAIN_SECONDS"

    draining.clear()
    again = begun(data, tmp_path)
    again.player = again._player()
    assert again.player.progress.chunks == 1
    assert again.step()["status"] == "finished"
    assert not (tmp_path / "checkpoint" / "within.npz").exists()
