"""Pictures of the data beside what is said of it: the surest mistakes, labels in doubt, examples of each class.

They go into `report/` of the run folder as PNG files, and reduced into `report/pictures.json`, which the page shows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emoray import pictures
from emoray.data import Split
from emoray.held_out import HeldOut
from emoray.run_folder import RunFolder, write_json
from emoray.storage import AnyPath

EXAMPLES = 8
LARGEST = 96
"""Pixels of the longer edge on the page; larger images are reduced."""


def write(folder: RunFolder, held_out: HeldOut, ensemble: Mapping[str, Any]) -> None:
    """Pictures for what `ensemble` (the content of ensemble.json) tells of single images."""
    selection, test = held_out.load("selection"), held_out.load("test")
    mistakes, doubts = ensemble["test"]["mistakes"], ensemble["label_issues"]["surest"]
    into = folder.pictures
    examples = {name: _examples(selection, label) for label, name in enumerate(held_out.classes)}
    write_json(
        into / "pictures.json",
        {
            "mistakes": [_small(test, told["index"]) for told in mistakes],
            "label_issues": [_small(selection, told["index"]) for told in doubts],
            "examples": {name: [_small(selection, index) for index in found] for name, found in examples.items()},
        },
    )
    told = [f"{m['label']}, taken for\n{m['predicted']} ({m['confidence']:.0%})" for m in mistakes]
    _sheet(into / "mistakes.png", test, mistakes, told, "the surest mistakes on test")
    told = [f"labelled {d['given']},\nlooks like {d['suggested']}" for d in doubts]
    _sheet(into / "label_issues.png", selection, doubts, told, "labels in doubt on the selection split")
    shown = [(name, index) for name, found in examples.items() for index in found]
    names, indices = [name for name, _ in shown], [index for _, index in shown]
    pictures.sheet(into / "examples.png", list(selection.images[indices]), names, "examples of each class", EXAMPLES)


def _sheet(path: AnyPath, split: Split, told: Sequence[Mapping[str, Any]], captions: Sequence[str], title: str) -> None:
    if told:
        pictures.sheet(path, list(split.images[[one["index"] for one in told]]), captions, title)
    else:
        path.unlink(missing_ok=True)  # of an earlier finalize


def _examples(split: Split, label: int) -> list[int]:
    """Images of a class, evenly from all that there are."""
    own = np.flatnonzero(split.labels == label)
    return [int(own[i]) for i in np.linspace(0, len(own) - 1, min(EXAMPLES, len(own))).astype(int)] if len(own) else []


def _small(split: Split, index: int) -> str:
    image = split.images[index]
    return pictures.uri(image if max(image.shape[:2]) <= LARGEST else pictures.enlarged(image, LARGEST))
