"""Trains an epoch on data ten times as large as the object store; prints what it saw. Starts a Ray of its own."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray._private.internal_api import memory_summary

from emoray.data.stream import DataShare
from emoray.trial.data import TrialData
from emoray.trial.notice import Within
from tests.test_stream import on_disk
from tests.training import settings

STORE = 80 << 20
CLASSES = ("even", "odd")


def distant(image_shape: tuple[int, int, int], classes: int) -> Any:
    """A lenet that sees every fourth pixel: large images, and little to compute."""
    import keras

    from emoray.models.lenet import lenet

    images = keras.Input(image_shape, dtype="uint8")
    seen = images[:, ::4, ::4]
    return keras.Model(images, lenet(tuple(seen.shape[1:]), classes)(seen))


def main(folder: Path) -> None:
    ray.init(address="local", num_cpus=2, object_store_memory=STORE, include_dashboard=False, log_to_driver=False)
    from emoray.trial.player import Player

    images, array = on_disk(folder, files=16, each=3000, shape=(96, 96, 3))
    judged = array[:61].copy()
    del array
    rows = np.arange(len(images))
    labels = rows % 2
    shown = (images, np.eye(2, dtype=np.float32)[labels], rows)
    data = TrialData("stream", CLASSES, (len(rows) // 2,) * 2, *shown, judged, labels[:61])
    plain = {"augment": [{"name": "flip"}], "class_weight": {"name": "none"}, "batch_size": 128, "epochs": 1}
    model = {"name": "tests.stream_large.distant"}
    player, ends = Player(settings(model=model, **plain), "accuracy", data, share=DataShare(1.0)), []
    row = player.play(Within(lambda: True, lambda state: ends.append(state.meta["within"])))
    player.close()
    spilled = "Spilled" in memory_summary(ray.get_runtime_context().gcs_address, stats_only=True)
    told = {"images": len(images), "trained_on": ends[-1]["sums"][1], "data_bytes": int(np.prod(images.shape))}
    print(json.dumps({**told, "epoch": row["epoch"], "object_store_bytes": STORE, "spilled": spilled}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
