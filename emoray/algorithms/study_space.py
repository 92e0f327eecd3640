"""What an algorithm searches, and what it has to answer."""

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from emoray import space as spaces

Drawn = dict[str, Any]
"""What was drawn, by the name that `space.draw` gives each sampler that was reached."""

ATTEMPTS = 30
"""Draws of settings that were all tried before, after which a searcher has no more to say."""
COUNTED = 20_000
"""The most points of a space that is gone through, one by one."""
LAST_DRAWS = 1000
"""Random draws from a larger space, after which nothing that was not tried is expected in it."""


@dataclass(frozen=True)
class StudySpace:
    """What a searcher searches: the study's name and space, and the sweep's seed."""

    name: str
    space: Mapping[str, spaces.Tree]
    seed: int

    def key(self, *parts: int) -> int:
        """A 63-bit seed for this study and `parts`, the same in every process."""
        text = repr((self.seed, self.name, *parts)).encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


class Searcher(Protocol):
    """Draws the settings of trials; all of a study's calls come from one thread."""

    def ask(self, index: int, attempt: int) -> Drawn | None:
        """What trial `index` is given; None where it knows of no more.

        A later `attempt` (from 0) draws anew, where what was drawn has already been tried.
        """

    def restore(self, index: int, drawn: Drawn) -> None:
        """Take over a trial that was drawn elsewhere, as if `ask` had just returned `drawn`."""

    def tell(self, index: int, score: float | None) -> None:
        """The best score of a trial that has ended, higher is better; None where it has none."""


def at_random(searched: StudySpace, *parts: int, fixed: Mapping[str, Any] | None = None) -> Drawn:
    """Independent draws from a study's space, with the values in `fixed` as they are; a function of `parts` alone."""
    rng = np.random.default_rng(searched.key(*parts))
    drawn: Drawn = {}

    def suggest(name: str, sampler: spaces.Sampler) -> Any:
        u = float(rng.random())
        drawn[name] = fixed[name] if fixed and name in fixed else spaces.at(sampler, u)
        return drawn[name]

    spaces.draw(searched.space, suggest)
    return drawn


def points(space: spaces.Tree) -> Iterator[Drawn]:
    """What would have to be drawn for each point of a space that can be counted, in the file's order.

    Raises ValueError where it meets a continuous range.
    """

    def walk(prefix: list[int]) -> Iterator[Drawn]:
        """Depth first over the samplers in the order in which `draw` meets them, given the first few choices."""
        drawn: Drawn = {}
        counts: list[int] = []

        def suggest(name: str, sampler: spaces.Sampler) -> Any:
            values = list(sampler.labels()) if isinstance(sampler, spaces.Choice) else _listed(sampler)
            counts.append(len(values))
            position = len(counts) - 1
            drawn[name] = values[prefix[position] if position < len(prefix) else 0]
            return drawn[name]

        spaces.draw(space, suggest)
        yield drawn
        for position in range(len(counts) - 1, len(prefix) - 1, -1):
            chosen = [*prefix, *[0] * (position - len(prefix))]
            for value in range(1, counts[position]):
                yield from walk([*chosen, value])

    return walk([])


def left_over(study: StudySpace, index: int) -> Iterator[Drawn]:
    """What a space may hold beside the draws of a searcher, which may have settled on a part that is used up.

    The points of a small space in an order of trial `index`'s own; random draws from a large or a continuous one.
    """
    if spaces.size(study.space) > COUNTED:
        yield from (at_random(study, index, ATTEMPTS + attempt) for attempt in range(LAST_DRAWS))
        return
    listed = list(itertools.islice(points(study.space), COUNTED))
    for place in np.random.default_rng(study.key(index, ATTEMPTS)).permutation(len(listed)):
        yield listed[place]


def _listed(sampler: spaces.Sampler) -> Sequence[float]:
    values = sampler.values() if isinstance(sampler, spaces.Range) else None
    if values is None:
        raise ValueError("a continuous range has no grid")
    return values
