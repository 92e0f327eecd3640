"""Settings of a trial that are each allowed and cannot work together."""

from collections.abc import Mapping
from typing import Any

from emoray import space
from emoray.problems import Problems


def check(workers: int, gpus: float, settings: Mapping[str, Any], place: str, problems: Problems) -> None:
    """Note what cannot work of a study's space of settings, on so many workers with so many GPUs each."""

    def at(key: str) -> str:
        return problems.nearest(f"{place}.{key}", f"train.{key}")

    batches = _numbers(settings["batch_size"])
    told = False
    if workers > 1:
        small = [batch for batch in batches if batch < 2 * workers]
        odd = [batch for batch in batches if batch % 2]
        told = bool(small)
        if small:  # then it is not told of the same batch that it is odd, or cannot be cut
            needed = f"{workers} workers need even batches of at least {2 * workers} images"
            problems.add(at("batch_size"), f"{needed}, not {small[0]}")
        elif odd:
            problems.add(at("batch_size"), f"several workers share even batches, not {odd[0]}")
        if gpus % 1:
            problems.add(
                at("gpus_per_worker"),
                f"{gpus:g}: a trial's workers cannot share a GPU; use whole GPUs or workers: 1",
            )
    _check_erase(settings["augment"], at("augment"), problems)
    most = max(_numbers(settings["accumulate_steps"]), default=1)
    if batches and (most > 2 or not told) and most * workers > min(batches):
        whose = f" on {workers} workers" if workers > 1 else ""
        problems.add(at("accumulate_steps"), f"a batch of {min(batches)}{whose} cannot be cut into {most} parts each")


def _check_erase(augment: Any, place: str, problems: Problems) -> None:
    """Note rectangles whose smallest area may be drawn above their largest, in a list of augmentations or a choice."""
    match augment:
        case space.Choice():
            for option in augment.options:
                _check_erase(option, place, problems)
        case list():
            for component in augment:
                _check_erase(component, place, problems)
        case {"name": "erase", "min_area": smallest, "max_area": largest}:
            smallest, largest = max(space.ends(smallest), default=0), min(space.ends(largest), default=1)
            if smallest > largest:
                problems.add(place, f"erase: min_area {smallest:g} is above max_area {largest:g}; it is at most that")


def _numbers(tree: Any) -> list[int]:
    """The values that a setting may take; of a range its ends, and the first two, which tell of what kind all are."""
    match tree:
        case space.Choice():
            return [number for option in tree.options for number in _numbers(option)]
        case space.Range():
            values = tree.values() or (tree.low, tree.high)
            return [int(values[0]), int(values[1]), int(values[-1])]
        case bool():
            return []
        case int():
            return [tree]
    return []
