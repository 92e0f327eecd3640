"""From a data source to prepared data in the cache: decode, name the classes, split, write."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import emoray
from emoray import storage
from emoray.config import DataSettings
from emoray.data import rows, shared, sources, splits, store
from emoray.data.labels import soft_labels
from emoray.data.plan import Source
from emoray.data.rows import Images, Place
from emoray.data.splits import SPLITS, TEST, TRAIN, VALIDATION
from emoray.data.store import Prepared
from emoray.errors import UserError
from emoray.s3 import S3Path
from emoray.storage import AnyPath

CHANNELS = {"grey": 1, "rgb": 3}
PACKAGES = ("ray", "numpy", "pyarrow", "pillow", "opencv-python-headless")

_WAITING = "another run is preparing the same data; waiting for it"

Progress = Callable[[str], None]


def prepare(settings: DataSettings, *, cache: str, seed: int, progress: Progress) -> Prepared:
    """The data that `settings` describe, from the folder `cache` or by a Ray Data job on the running cluster.

    Raises:
        UserError: the source is missing or is no such data, too many images cannot be used, or they cannot be split.
    """
    source = sources.find(settings, seed)
    fingerprint = store.fingerprint(source, settings, seed)
    place = storage.at(cache)
    if isinstance(place, S3Path):
        prepared = shared.prepare(
            place,
            fingerprint,
            lambda folder: _build(source, settings, seed, folder, progress),
            lambda: progress(_WAITING),
        )
    else:
        prepared = _prepare_here(source, settings, seed, place.expanduser().absolute() / fingerprint, progress)
    check_bad(prepared, settings)
    return prepared


def cached(cache: str, fingerprint: str) -> Prepared | None:
    """What is prepared in the folder `cache`, None where nothing is."""
    place = storage.at(cache)
    if isinstance(place, S3Path):
        return shared.read(place, fingerprint)
    return store.read(place.expanduser().absolute() / fingerprint)


def check_bad(prepared: Prepared, settings: DataSettings) -> None:
    """Refuse prepared data with too many images that cannot be used: it was prepared for a sweep that allows more.

    Raises UserError.
    """
    bad = sum(prepared.manifest["quarantined"].values())
    if bad > settings.max_bad_fraction * prepared.manifest["images"]:
        path = storage.at(prepared.folder) / store.QUARANTINE
        raise _too_many_bad(rows.read_places(path), prepared.manifest["images"], settings, path)


def _prepare_here(source: Source, settings: DataSettings, seed: int, folder: Path, progress: Progress) -> Prepared:
    prepared = store.read(folder)
    if prepared is not None:
        return prepared
    folder.parent.mkdir(parents=True, exist_ok=True)
    store.remove_leftovers(folder.parent)
    with store.exclusive(folder, lambda: progress(_WAITING)):
        return store.read(folder) or _build(source, settings, seed, folder, progress)


def _build(source: Source, settings: DataSettings, seed: int, folder: Path, progress: Progress) -> Prepared:
    # A cache hit must not wait for Ray Data, whose import alone takes about two seconds.
    from emoray.data import job

    started = time.monotonic()
    size, channels = settings.image_size, CHANNELS[settings.channels]
    what = f"{source.images:,} images of {source.name}" if source.images else source.name
    progress(f"preparing {what}" + (f", at most {settings.limit:,} of them to train on" if settings.limit else ""))
    with store.assembled(folder) as work:
        found = job.decode_all(source, image_size=size, channels=channels, folder=work, progress=progress)
        images, bad = _usable(rows.placed(found), source, settings, folder)
        groups = splits.group(images.digests, images.labels, classes=len(images.names), seed=seed)
        split = _split(images, settings, seed)
        leaks = splits.leaked(groups, split)
        reasons = _reasons_to_leave(images, groups, split, settings)
        kept = np.where(reasons == "", split, -1)
        _check_training(images, kept)
        dropped = rows.left_out(images, reasons)
        votes = None
        if settings.labels == "votes":
            votes = soft_labels(images.table["votes"].to_pylist(), images.labels, images.names)
        rows.write_rows(work / store.ROWS, images, kept, votes)
        rows.write_places(work / store.QUARANTINE, bad)
        rows.write_places(work / store.DROPPED, dropped)
        manifest: dict[str, Any] = {
            "fingerprint": folder.name,
            "source": settings.path or source.name,
            "format": source.format,
            "image_shape": [size, size, channels],
            "classes": list(images.names),
            "images": found.num_rows,
            "splits": {name: _counts(images, kept == number) for number, name in enumerate(SPLITS)},
            "quarantined": _by_reason(bad),
            "dropped": _by_reason(dropped),
            "duplicates": {
                "images": len(split) - len(groups.sizes),
                "groups": int((groups.sizes > 1).sum()),
                "conflicting_labels": groups.conflicting,
            },
            "leaks": {
                **{SPLITS[number]: int((leaks & (split == number)).sum()) for number in range(TRAIN + 1, len(SPLITS))},
                "dropped_from_train": sum(reason != _BEYOND_LIMIT for *_, reason in dropped),
            },
            "settings": asdict(settings),
            "seed": seed,
            "seconds": round(time.monotonic() - started, 2),
            "versions": {"emoray": emoray.__version__} | {package: version(package) for package in PACKAGES},
        }
        store.write_manifest(work, manifest)
    progress(f"prepared {len(split):,} images in {manifest['seconds']:.1f} s")
    return Prepared(str(folder), manifest)


def _usable(found: pa.Table, source: Source, settings: DataSettings, folder: Path) -> tuple[Images, list[Place]]:
    """The usable images and the places of the others; too many of these are an error, and a list beside the cache."""
    list_path = folder.with_name(f"{folder.name}-{store.QUARANTINE}")

    def check(bad: list[Place]) -> None:
        if len(bad) > settings.max_bad_fraction * found.num_rows or len(bad) == found.num_rows:
            rows.write_places(list_path, bad)
            raise _too_many_bad(bad, found.num_rows, settings, list_path)

    decoded, bad = rows.undecoded(found)
    check(bad)  # before the labels: if hardly any image can be read, what the few are called is beside the point
    images, unknown = rows.understood(decoded, column=source.label_column, classes=settings.classes)
    check(bad + unknown)
    list_path.unlink(missing_ok=True)
    return images, bad + unknown


def _too_many_bad(bad: Sequence[Place], total: int, settings: DataSettings, list_path: AnyPath) -> UserError:
    if total == 0:
        return UserError(f"data.path: {settings.path} holds no images")
    first = "; ".join(f"{rows.place_text(file, row)}: {reason}" for file, row, reason in bad[:3])
    return UserError(
        f"{len(bad):,} of {total:,} images ({len(bad) / total:.1%}) cannot be used, "
        f"data.max_bad_fraction allows {settings.max_bad_fraction:.1%}: {first}; all are listed in {list_path}"
    )


def _split(images: Images, settings: DataSettings, seed: int) -> NDArray[np.int64]:
    return splits.assign(
        images.digests,
        images.labels,
        images.official,
        validation=settings.split.validation,
        selection=settings.split.selection,
        test=settings.split.test,
        names=images.names,
        seed=seed,
    )


_BEYOND_LIMIT = "beyond data.limit"


def _reasons_to_leave(
    images: Images, groups: splits.Groups, split: NDArray[np.int64], settings: DataSettings
) -> NDArray[np.str_]:
    """Why each image (n,) is left out of its split, empty where it stays."""
    reasons = np.full(len(split), "", dtype="U32")
    if settings.leaks == "drop":
        last = splits.last_split(groups, split)
        for later in (VALIDATION, TEST):
            reasons[(last == later) & (split < later)] = f"also in {SPLITS[later]}"
    train = np.flatnonzero((split == TRAIN) & (reasons == ""))
    if settings.limit is not None and settings.limit < len(train):
        reasons[splits.beyond(settings.limit, train, images.labels, groups, classes=len(images.names))] = _BEYOND_LIMIT
    return reasons


def _check_training(images: Images, split: NDArray[np.int64]) -> None:
    counts = np.bincount(images.labels[split == TRAIN], minlength=len(images.names))
    if counts.min() == 0:
        raise UserError(
            f"class '{images.names[counts.argmin()]}' has no training image left: "
            "all of them also occur in validation or test, or carry another label elsewhere"
        )


def _counts(images: Images, mask: NDArray[np.bool_]) -> dict[str, Any]:
    counts = np.bincount(images.labels[mask], minlength=len(images.names))
    return {"images": int(mask.sum()), "classes": dict(zip(images.names, counts.tolist(), strict=True))}


def _by_reason(places: Sequence[Place]) -> dict[str, int]:
    return dict(Counter(reason for *_, reason in places).most_common())
