"""What population based training does to the settings that a trial takes over: numbers move, kinds stay.

Weights and the optimizer's state come along, so nothing may change that they depend on: no option of a choice among
components, no setting of the model.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from emoray import space as spaces
from emoray.algorithms.study_space import Drawn

FACTORS = (0.8, 1.2)


def explored(space: spaces.Tree, drawn: Mapping[str, Any], rng: np.random.Generator, resample: float) -> Drawn:
    """`drawn` with each number drawn anew (with the probability `resample`) or multiplied by one of `FACTORS`.

    A choice among plain values moves to one beside it, or to any when drawn anew. A number that is 0 switches
    something off: it is neither left nor reached.
    """
    changed: Drawn = {}

    def suggest(name: str, sampler: spaces.Sampler) -> Any:
        anew, factor, u = rng.random() < resample, FACTORS[int(rng.random() * 2)], float(rng.random())
        value = drawn[name]
        new: Any
        if isinstance(sampler, spaces.Choice):
            new = _neighbour(sampler, value, anew, factor, u)
        elif isinstance(sampler, spaces.Normal):
            new = u if anew else min(max(value + (factor - 1.0) / 2, 0.0), 1.0)
        else:
            new = spaces.at(sampler, u) if anew else _multiplied(sampler, value, factor)
            new = value if value == 0 or new == 0 else new
        changed[name] = new
        return new

    spaces.draw(space, suggest)
    return changed


def _multiplied(sampler: spaces.Range, value: float, factor: float) -> float:
    new = min(max(value * factor, sampler.low), sampler.high)
    values = sampler.values()
    if values is None:
        return sampler.rounded(new)
    place = values.nearest(new)
    if values[place] == value:  # a step at least
        place = min(max(place + (1 if factor > 1 else -1), 0), len(values) - 1)
    return values[place]


def _neighbour(sampler: spaces.Choice, label: str, anew: bool, factor: float, u: float) -> str:
    if not all(isinstance(option, int | float) and not isinstance(option, bool) for option in sampler.options):
        return label
    labels = list(sampler.labels())
    place = labels.index(label) + (1 if factor > 1 else -1)
    return labels[int(u * len(labels))] if anew else labels[min(max(place, 0), len(labels) - 1)]
