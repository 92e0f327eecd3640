"""`emoray augment`: pictures of what a sweep file's augmentation does to its images, one for each different list.

Which study and which list a picture is of stands in its file's name, above its images and on the line that is printed.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from emoray import registry, space
from emoray.config import Sweep
from emoray.errors import UserError

IMAGES = 8
MOST = 4
"""Lists that are drawn from spaces; beyond it each study shows one."""


class List(NamedTuple):
    """An `augment` list and the studies whose space gave it."""

    studies: list[str]
    components: list[dict[str, Any]]

    @property
    def title(self) -> str:
        """`lenet: flip, rotate degrees 7.3`."""
        return f"{', '.join(self.studies)}: {', '.join(map(_shown, self.components))}"


def draw(sweep: Sweep, out: Path, each: bool) -> Iterator[str]:
    """Draw the sheets of a sweep; tells of each, when it is written, which it is. Raises UserError where it cannot be.

    With `each` a row for each component instead of each image.
    """
    from PIL import Image

    from emoray.data import contact_sheet, preview

    seen = preview.images(sweep.data, sweep.seed, IMAGES)
    lists = augmentations(sweep)
    if not lists:
        raise UserError(f"{sweep.name}: no model of it has an 'augment' list")
    drawn = contact_sheet.component_sheet if each else contact_sheet.contact_sheet
    with registry.importable(sweep.import_path):
        sheets = [
            Image.fromarray(drawn(seen.images, one.components, seed=sweep.seed, names=seen.names, title=one.title))
            for one in lists
        ]
    for one, sheet, name in zip(lists, sheets, _names(lists, out), strict=True):
        try:
            sheet.save(name)
        except (OSError, ValueError) as error:
            raise UserError(f"--out {name}: {error}; name a .png file in a folder that can be written") from None
        yield f"{name}: {one.title}"


def augmentations(sweep: Sweep) -> list[List]:
    """Different `augment` lists of a sweep: some drawn from the space of each study."""
    found: list[List] = []
    for study in sweep.studies:
        for number in range(MOST):
            drawn = space.draw(study.space["augment"], _at_random(number))
            known = next((one for one in found if one.components == drawn), None)
            if known is not None:
                known.studies.extend([study.name] if study.name not in known.studies else [])
            elif drawn and (number == 0 or len(found) < MOST):
                found.append(List([study.name], drawn))
    return found


def _names(lists: list[List], out: Path) -> list[Path]:
    """A file for each list: `out` where there is one, else with the first of its studies and a number in its name."""
    if len(lists) == 1:
        return [out]
    firsts = [one.studies[0] for one in lists]
    counts = [firsts[: i + 1].count(first) for i, first in enumerate(firsts)]
    named = [f"{first}-{n}" if firsts.count(first) > 1 else first for first, n in zip(firsts, counts, strict=True)]
    return [out.with_name(f"{out.stem}-{name}{out.suffix}") for name in named]


def _shown(component: dict[str, Any]) -> str:
    settings = (
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in component.items()
    )
    return " ".join([component["name"], *(told for told in settings if not told.startswith("name "))])


def _at_random(seed: int) -> Callable[[str, space.Sampler], Any]:
    rng = random.Random(seed)
    return lambda name, sampler: space.at(sampler, rng.random())
