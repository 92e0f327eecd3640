"""Predicting with several members: emoray's parallel tasks beside Keras's `model.predict`, one model after the other.

    python benchmarks/predict.py                      # 35,000 images, 8 members, on the CPUs of this machine
    python benchmarks/predict.py --model resnet34 --images 4000 --members 4

Both start with weights and images on disk and end with all probabilities. Every process has begun and imported
TensorFlow before the clock starts, for both; compiling the models counts for both.
"""

import own_token  # noqa: F401

# isort: split
import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import ray

from emoray import inference, predictions, registry, tasks
from emoray.candidates import BEST, Candidate
from emoray.data import faces
from emoray.held_out import HeldOut
from emoray.run_folder import RunFolder, write_json
from emoray.study_settings import Resources
from emoray.trial import checkpoint
from emoray.trial.checkpoint import State
from emoray.trial_state import Trial

SHAPE = (48, 48, 1)


def prepare(folder: RunFolder, images: int, members: int, model: dict) -> tuple[HeldOut, list[Candidate]]:
    """A run folder with untrained members, and embedded faces that are repeated until there are enough."""
    drawn, labels = faces.draw(0, np.arange(min(images, 2000)))
    rows = np.resize(np.arange(len(drawn)), images)
    pixels, classes = drawn[rows].reshape(-1, *SHAPE), labels[rows].astype(np.int64)
    manifest = {"fingerprint": "benchmark", "classes": list(faces.CLASSES), "image_shape": list(SHAPE)}
    held_out = HeldOut(folder.path / "data", manifest)
    for name, part in (("selection", slice(0, images // 2)), ("test", slice(images // 2, None))):
        arrays = {"images": [pixels[part]], "labels": [classes[part]], "rows": [rows[part]]}
        arrays["files"] = [np.full(len(classes[part]), "drawn")]
        checkpoint.write(held_out.folder / f"{name}.npz", State(arrays, {"fingerprint": "benchmark"}))
    candidates = []
    for number in range(members):
        settings = {"model": model}
        trial = Trial(f"{model['name']}-{number}", model["name"], number, settings, {})
        built = registry.build("models", model, SHAPE, len(faces.CLASSES))
        file = folder.trial(trial.id) / "checkpoint" / "best.npz"
        checkpoint.write(file, State({"model": [v.numpy() for v in built.variables]}))
        write_json(folder.trial(trial.id) / "settings.json", {"trial": trial.id, "settings": settings})
        candidates.append(Candidate(trial, BEST, (file,), Resources()))
    return held_out, candidates


def plain(folder: RunFolder, held_out: HeldOut, candidates: list[Candidate], batch: int) -> tuple[float, np.ndarray]:
    """Seconds and the first member's probabilities of `model.predict`, as a user would write it."""
    began = time.perf_counter()
    first = np.empty(0)
    for candidate in candidates:
        model = inference.load(folder.trial(candidate.trial.id), candidate.files, SHAPE, len(held_out.classes))
        for split in ("selection", "test"):
            logits = model.predict(held_out.load(split).images, batch_size=batch, verbose=0)
            first = logits if not len(first) else first
    return time.perf_counter() - began, first


def warm(cpus: int) -> None:
    """Begin TensorFlow in a worker, as the first task of a finalize does."""
    inference.use_threads(cpus)
    import tensorflow as tf

    tf.constant(0)
    time.sleep(2)  # so that no worker takes two of these and another none


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=35_000)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--model", default="simple_cnn")
    parser.add_argument("--settings", type=json.loads, default={}, help="of the model, such as '{\"width\": 16}'")
    parser.add_argument("--batch", type=int, default=256, help="of model.predict")
    options = parser.parse_args()
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place))
        model = {"name": options.model, **options.settings}
        held_out, candidates = prepare(folder, options.images, options.members, model)
        cpus = int(ray.cluster_resources()["CPU"])
        tasks.run(warm, [(1,)] * cpus, [Resources()] * cpus)
        began = time.perf_counter()
        predictions.collect(candidates, folder, held_out, "none", lambda said: None)
        ours = time.perf_counter() - began
        theirs, _ = plain(folder, held_out, candidates, options.batch)
    total = options.images * options.members
    print(f"{options.members} x {options.images:,} images, {model}, {cpus} CPUs")
    print(f"emoray, one task a member:    {ours:7.1f} s  {total / ours:9,.0f} images/s")
    print(f"model.predict, one by one:    {theirs:7.1f} s  {total / theirs:9,.0f} images/s")
    print(f"rate of emoray / model.predict: {theirs / ours:.2f}")


if __name__ == "__main__":
    main()
