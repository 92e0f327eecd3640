"""What the data job would refuse, told before it runs: from labels and splits alone, and no image is decoded."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from emoray import registry
from emoray.config import DataSettings
from emoray.data import splits
from emoray.data.faces import CLASSES
from emoray.data.labels import NO_VOTES, misnamed, name_classes
from emoray.data.plan import Source
from emoray.data.prepare import check_bad
from emoray.data.store import Prepared
from emoray.errors import UserError
from emoray.problems import Problems

_FEW_FACES = 5000
"""Drawn faces beyond which every class has enough of them, the rarest about one in a hundred."""


@dataclass(frozen=True)
class Known:
    """What is known of a source before its images are. `classes` is None where its labels were not looked at."""

    classes: tuple[str, ...] | None = None
    splits: dict[str, dict[str, int]] | None = None
    """As `Prepared.measured`, where the data are prepared already."""
    unread: str = ""
    """Why labels that were asked for were not looked at."""


def look(source: Source, prepared: Prepared | None, settings: DataSettings, wanted: bool, problems: Problems) -> Known:
    """The classes of a source, with what cannot be prepared of it noted.

    `prepared` is what the job has made of it before, if it has. Labels are looked at only where a setting depends on
    them, or what else is `wanted` does: to find them may be to read a whole file.
    """
    if prepared is not None:
        problems.catch("data.max_bad_fraction", check_bad, prepared, settings)
        return Known(tuple(prepared.manifest["classes"]), prepared.measured)
    if settings.labels == "votes" and not source.has_votes:
        problems.add("data.labels", NO_VOTES)
    split, limit, is_drawn = settings.split, settings.limit, settings.path is None
    official = "official" in (split.validation, split.test)
    classes = CLASSES if is_drawn else None
    if settings.classes is not None or official or (not is_drawn and (wanted or limit is not None)):
        if source.mark is None:
            return Known(unread=f"{source.name} is too large to be read for its labels alone")
        marks = list(source.marks())
        if not marks:
            problems.add("data.path", f"{settings.path} holds no images")
            return Known()
        texts, roles = zip(*marks, strict=True)
        problems.catch("data.split", splits.check_official, splits.official_roles(roles), split.validation, split.test)
        classes = _classes(texts, source, settings, problems)
    if (count := len(classes or settings.classes or ())) and limit is not None:
        problems.catch("data.limit", splits.check_limit, limit, count)
    if is_drawn and settings.faces <= _FEW_FACES and "data.split" not in problems.lines:
        _check_drawn(source, settings, classes or CLASSES, problems)
    return Known(classes)


def _check_drawn(source: Source, settings: DataSettings, classes: Sequence[str], problems: Problems) -> None:
    """Note a class of the drawn faces with fewer of them than there are splits."""
    split = settings.split
    shares = {"test": split.test, "validation": split.validation, "selection": split.selection}
    parts = ["train", *(name for name, share in shares.items() if isinstance(share, str) or share > 0)]
    drawn = Counter(text for text, _ in source.marks())
    rarest = min(classes, key=lambda name: drawn[name])
    if drawn[rarest] < len(parts):
        has = f"{drawn[rarest]} of them are" if drawn[rarest] != 1 else "1 of them is"
        problems.add(
            "data.faces",
            f"{settings.faces} are too few: {has} of class '{rarest}', which needs at least {len(parts)}, one for each "
            f"of {', '.join(parts)}; raise data.faces",
        )


def _classes(
    texts: Sequence[str | None], source: Source, settings: DataSettings, problems: Problems
) -> tuple[str, ...] | None:
    """The classes that labels stand for, as the job names them; None where it would refuse them."""
    place = "data.path" if settings.classes is None else "data.classes"
    if settings.classes is not None:
        wrong, labels = misnamed(texts, settings.classes)
        for i in wrong:
            name = settings.classes[i]
            told = f"no image has the label '{name}': {registry.suggestion(name, labels)}"
            problems.add(f"data.classes[{i}]", told)
        if wrong:
            return None
    try:
        names, _, reasons = name_classes(texts, column=source.label_column, classes=settings.classes)
    except UserError as error:
        problems.add(place, str(error).removeprefix(f"{place}: "))
        return None
    why = Counter(reason for reason in reasons if reason is not None)
    if (bad := sum(why.values())) > settings.max_bad_fraction * len(texts):
        listed = "; ".join(f"{reason} ({count:,} images)" for reason, count in why.most_common(3))
        problems.add(
            place,
            f"{bad:,} of {len(texts):,} images ({bad / len(texts):.1%}) cannot be used, data.max_bad_fraction allows "
            f"{settings.max_bad_fraction:.1%}: {listed}",
        )
    return names
