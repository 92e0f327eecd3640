"""One architecture, looked into: one model's feature maps, filters and class maps, as PNG files and for the page.

It leaves `report/<study>/` in the run folder: full-size PNG files, and `inside.json` with the figures and the reduced
pictures that report.html shows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from emoray import inference, pictures
from emoray.data import Split
from emoray.held_out import HeldOut
from emoray.inside import attention, layers
from emoray.run_folder import write_json
from emoray.storage import AnyPath
from emoray.trial.threads import use_threads

CHANNELS, SIDE = 8, 64
FILTER_GAP = 10
DEAD_IMAGES, AVERAGED_IMAGES, MOST_FILTERS = 128, 24, 64


def examine(
    trial: AnyPath,
    files: Sequence[AnyPath],
    held_out: HeldOut,
    probabilities: NDArray[np.float32],
    folder: AnyPath,
    told: Mapping[str, Any],
    cpus: float,
) -> None:
    """One task: look into a candidate and write `folder`; `probabilities` are its own on the selection split.

    `told` goes into inside.json as it is: which trial it was, and the key by which the pictures are known to be its.
    """
    use_threads(cpus)
    model = inference.load(trial, files, held_out.image_shape, len(held_out.classes))
    split = held_out.load("selection")
    title = f"{told['name']} ({told['model']})"
    with layers.watched(model) as seen:
        model(split.images[:1], training=False)
    explained = attention.stage_for(seen)
    classes = _classes(model, split, probabilities, held_out.classes, folder, title)
    dead = layers.dead_filters(model, _spread(split, DEAD_IMAGES))
    write_json(
        folder / "inside.json",
        {
            **told,
            "method": attention.method_for(explained),
            "stage": {"path": explained.path, "size": list(explained.size)},
            "dead": [vars(one) for one in dead],
            "dead_images": min(DEAD_IMAGES, len(split.images)),
            "filters": _filters(model, folder, title),
            "classes": classes,
        },
    )


def _classes(
    model: keras.Model,
    split: Split,
    probabilities: NDArray[np.float32],
    names: Sequence[str],
    folder: AnyPath,
    title: str,
) -> list[dict[str, Any]]:
    """For each class: the stages' maps of one example, and class maps of a right and a wrong prediction and of all."""
    result: list[dict[str, Any]] = []
    explained: list[tuple[str, NDArray[np.uint8]]] = []
    for label, name in enumerate(names):
        own = np.flatnonzero(split.labels == label)
        if not len(own):
            continue
        predicted, confidence = probabilities[own].argmax(1), probabilities[own].max(1)
        right, wrong = own[predicted == label], own[predicted != label]
        right = right[np.argsort(-confidence[predicted == label], kind="stable")]
        wrong = wrong[np.argsort(-confidence[predicted != label], kind="stable")]
        example = int(right[0]) if len(right) else int(own[0])
        told: dict[str, Any] = {"name": name, "row": int(split.rows[example]), "right_share": len(right) / len(own)}
        told["image"] = pictures.uri(split.images[example])
        told["stages"] = _stages(model, split.images[example], folder / f"feature_maps_{label}.png", f"{title}: {name}")
        shown = [("right", index) for index in right[:1]] + [("wrong", index) for index in wrong[:1]]
        averaged = own[np.linspace(0, len(own) - 1, min(AVERAGED_IMAGES, len(own))).astype(int)]
        wanted = np.array([index for _, index in shown] + list(averaged))
        towards = np.array([probabilities[index].argmax() for _, index in shown] + [label] * len(averaged))
        maps = attention.class_maps(model, split.images[wanted], towards)
        for (kind, index), heat in zip(shown, maps, strict=False):
            picture = pictures.strip(_beside(split.images[index], heat))
            at = int(probabilities[index].argmax())
            confident = float(probabilities[index, at])
            told[kind] = {
                "picture": pictures.uri(picture),
                "row": int(split.rows[index]),
                "predicted": names[at],
                "confidence": confident,
            }
            explained.append((f"{name}, {kind}: {names[at]} {confident:.0%}", picture))
        mean = split.images[averaged].mean(axis=0).round().astype(np.uint8)
        heat = maps[len(shown) :].mean(axis=0)
        picture = pictures.strip(_beside(mean, heat / max(float(heat.max()), 1e-12)))
        told["average"] = {"picture": pictures.uri(picture), "images": len(averaged)}
        explained.append((f"{name}, mean of {len(averaged)}", picture))
        result.append(told)
    captions, strips = zip(*explained, strict=True)
    pictures.sheet(folder / "class_maps.png", strips, captions, f"{title}: what spoke for the prediction", columns=3)
    return result


def _stages(model: keras.Model, image: NDArray[np.uint8], path: AnyPath, title: str) -> list[dict[str, Any]]:
    """Each stage as the mean of its maps and the maps that vary most over the image."""
    with layers.watched(model) as seen:
        model(image[None], training=False)
    result, strips, captions = [], [], []
    for stage in layers.stages(seen):
        maps = np.asarray(stage.output, np.float32)[0]
        busiest = np.argsort(-maps.var(axis=(0, 1)), kind="stable")[:CHANNELS]
        shown = [maps.mean(axis=-1), *(maps[..., channel] for channel in busiest)]
        tiles = [pictures.enlarged(pictures.coloured(one), SIDE) for one in shown]
        picture = pictures.strip(tiles)
        height, width = stage.size
        result.append({"path": stage.path, "size": [height, width], "channels": stage.channels})
        result[-1]["strip"] = pictures.uri(picture)
        strips.append(picture)
        listed = ", ".join(map(str, busiest))
        captions.append(f"{stage.path}: {height} x {width}, {stage.channels} maps; their mean, then {listed}")
    large = pictures.enlarged(pictures.rgb(image), SIDE * 2)
    side = np.full((large.shape[0], max(strip.shape[1] for strip in strips) - large.shape[1], 3), 255, np.uint8)
    pictures.rows(path, [np.concatenate([large, side], axis=1), *strips], ["the image", *captions], title)
    return result


def _filters(model: keras.Model, folder: AnyPath, title: str) -> dict[str, Any] | None:
    """The first convolution's filters, each from its lowest to its highest weight."""
    kernels = layers.first_filters(model)
    if kernels is None:
        return None
    shown = np.moveaxis(kernels, 3, 0)[:MOST_FILTERS]
    # A kernel has white pixels of its own: without a frame and a wide gap its end could not be seen.
    tiles = [pictures.framed(pictures.enlarged(_kernel(kernel), 36)) for kernel in shown]
    picture = pictures.grid(tiles, columns=min(8, len(tiles)), gap=FILTER_GAP)
    height, width, inputs, count = kernels.shape
    caption = f"{len(tiles)} of {count} filters of {height} x {width} over {inputs} channels"
    pictures.rows(folder / "filters.png", [picture], [caption], f"{title}: first convolution")
    return {"picture": pictures.uri(picture), "shown": len(tiles), "filters": count, "size": [height, width]}


def _kernel(kernel: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A kernel (h, w, inputs) as a picture: in colours for three inputs, else the mean over them in grey."""
    values = kernel if kernel.shape[2] == 3 else kernel.mean(axis=2, keepdims=True)
    low, high = float(values.min()), float(values.max())
    return pictures.rgb(((values - low) / max(high - low, 1e-12) * 255).round().astype(np.uint8))


def _beside(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> list[NDArray[np.uint8]]:
    """An image and the same with its class map, both enlarged."""
    return [
        pictures.enlarged(one, 2 * SIDE, smooth=True) for one in (pictures.rgb(image), pictures.overlaid(image, heat))
    ]


def _spread(split: Split, count: int) -> NDArray[np.uint8]:
    """At most `count` images, evenly from all classes."""
    by_class = np.argsort(split.labels, kind="stable")
    return split.images[by_class[np.linspace(0, len(by_class) - 1, min(count, len(by_class))).astype(int)]]
