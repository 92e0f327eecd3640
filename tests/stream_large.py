"""Streams data ten times as large as the object store; prints what it saw. Its own program: it starts its own Ray."""

import json
import sys
from pathlib import Path

import numpy as np
import ray
from ray._private.internal_api import memory_summary

from emoray.data.augmentation import pipeline
from emoray.data.batches import Epochs
from emoray.data.stream import DataShare, Stream
from tests.test_stream import on_disk

STORE = 80 << 20


def main(folder: Path) -> None:
    ray.init(address="local", num_cpus=2, object_store_memory=STORE, include_dashboard=False, log_to_driver=False)
    images, array = on_disk(folder, files=16, each=3000, shape=(96, 96, 3))
    del array
    labels, rows = np.ones((len(images), 1), np.float32), np.arange(len(images))
    epochs = Epochs(images, labels, rows, batch_size=128, pipeline=pipeline([{"name": "flip"}]), seed=0)
    stream = Stream(epochs, 1, DataShare(1.0))
    seen = sum(chunk.labels.sum() for chunk in stream.epoch(0))
    stream.close()
    spilled = "Spilled" in memory_summary(ray.get_runtime_context().gcs_address, stats_only=True)
    told = {"images": len(images), "seen": int(seen), "data_bytes": int(np.prod(images.shape))}
    print(json.dumps({**told, "object_store_bytes": STORE, "spilled": spilled}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
