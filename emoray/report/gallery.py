"""Single images that the page shows: the surest mistakes and the labels in doubt, with their pictures."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from emoray.report.run import Run, interval

MOST_PICTURES = 24


class Mistake(NamedTuple):
    """An image that the classifier got wrong, how sure it was (None if not recorded), and the image as a data URI."""

    file: str
    label: str
    predicted: str
    confidence: float | None
    picture: str


def mistakes(run: Run) -> list[Mistake]:
    """The recorded mistakes as they are ordered in ensemble.json, at most `MOST_PICTURES`."""
    test = run.ensemble.get("test") or {}
    found = [item for item in test.get("mistakes") or [] if isinstance(item, Mapping)]
    shown = _pictures(run, "mistakes", len(found))
    return [
        Mistake(_place(m), str(m.get("label", "")), str(m.get("predicted", "")), m.get("confidence"), picture)
        for m, picture in zip(found[:MOST_PICTURES], shown, strict=False)
    ]


class Doubt(NamedTuple):
    """An image whose label is likely wrong, with the label that it looks like."""

    file: str
    given: str
    suggested: str
    margin: float | None
    picture: str


def doubts(run: Run) -> list[Doubt]:
    """The surest label issues as they are ordered in ensemble.json."""
    found = (run.ensemble.get("label_issues") or {}).get("surest") or []
    shown = _pictures(run, "label_issues", len(found))
    return [
        Doubt(_place(d), str(d.get("given", "")), str(d.get("suggested", "")), d.get("margin"), picture)
        for d, picture in zip(found[:MOST_PICTURES], shown, strict=False)
    ]


def label_doubts(run: Run) -> str:
    """How many labels are in doubt, what is estimated from them, and why neither is a count of wrong labels."""
    told = run.ensemble.get("label_issues") or {}
    count, images = told.get("count") or 0, told.get("images") or 0
    if not count or not images:
        return "by confident learning, no label of the selection split is in doubt."
    test = run.ensemble.get("test") or {}
    accuracy = interval((test.get(str(run.ensemble.get("recommended") or "ensemble")) or {}).get("accuracy"))
    errors = f", which is wrong on {1 - accuracy.estimate:.1%} of the test images" if accuracy else ""
    return (
        f"{count:,} of the {images:,} selection images ({count / images:.1%}) look like another class: predictions "
        "that were fitted to none of them give that class at least the probability that its own images have on "
        f"average. Confident learning scales this up to {told.get('share') or 0:.1%} of all labels, since it takes the "
        "images that reach no class's average to be as often wrong as others of their label. Read both as upper "
        "figures: they grow "
        f"with the mistakes of the model itself{errors}, and every mistake that it is sure of counts as a wrong label."
    )


def _pictures(run: Run, kind: str, count: int) -> list[str]:
    """The pictures of a list, empty texts where there are none: they were written together, or belong to another."""
    found = list(run.pictures.get(kind) or [])
    return found if len(found) == count else [""] * count


def _place(told: Mapping[str, Any]) -> str:
    """Where an image came from: its file, and in a table its row."""
    file, row = str(told.get("file", "")), told.get("row")
    picture = file.lower().rpartition(".")[2] in ("png", "jpg", "jpeg", "webp", "bmp")
    return file if picture or row is None else f"{file}, row {row}"
