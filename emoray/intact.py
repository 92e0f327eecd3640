"""What a run folder has to be before anything in it is used: it may come from somebody else, by mail or from a bucket.

Its files are data, so they can name nothing outside it and run nothing. The one exception are components of the run's
own, which are Python: they run only where the user says so.
"""

import os
import re
import stat
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from emoray.errors import UserError
from emoray.storage import AnyPath

ALLOW = "--run-components"
SIZES = range(1, 1025)
"""Sides of images that there are models for."""
MOST_BYTES = 256 << 20
"""Of a file that is read as a whole: JSON, CSV, YAML, text."""
_READ_WHOLE = (".json", ".csv", ".yaml", ".txt")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")


def links(folder: AnyPath) -> None:
    """Refuse a folder in which a link leads out of it: what is written there would be written elsewhere.

    Refused, too, is what has no end or would block whoever opens it: devices, pipes, huge files of text. The folder may
    itself be a link. Raises UserError that names the first.
    """
    if not isinstance(folder, Path):  # there are no links on S3
        return
    root = os.path.realpath(folder)
    for inside, folders, files in os.walk(folder):
        for entry in (*folders, *files):
            file = os.path.join(inside, entry)
            try:
                found = os.lstat(file)
            except FileNotFoundError:  # the run is at work, and has just replaced it
                continue
            if stat.S_ISLNK(found.st_mode):
                _link(file, root)
            else:
                _ordinary(file, found)


def _link(file: str, root: str) -> None:
    target = os.path.realpath(file)
    if os.path.commonpath([root, target]) != root:
        raise UserError(
            f"{file} is a link that leads out of the run folder, to {target}; copy what is there, or remove it"
        )


def _ordinary(file: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise UserError(f"{file} is neither a file nor a folder, as all that a run holds is; remove it")
    if found.st_size > MOST_BYTES and file.endswith(_READ_WHOLE):
        raise UserError(f"{file} has {found.st_size:,} bytes; at most {MOST_BYTES:,} of such a file are read")


def name(written: Any, of: AnyPath) -> str:
    """The name of a trial or a study, by which files are called. Raises UserError where it cannot be one."""
    if not isinstance(written, str) or not _NAME.fullmatch(written):
        raise UserError(f"{of}: {written!r} is no name of a trial or a study")
    return written


def module(written: Any, of: AnyPath) -> str:
    """The name of a module. Raises UserError where it is a path or anything else."""
    if not isinstance(written, str) or not _MODULE.fullmatch(written):
        raise UserError(f"{of}: components: {written!r} is no name of a module")
    return written


def file_inside(folder: AnyPath, written: Any, of: AnyPath) -> AnyPath:
    """The file of a run that a file of it names. Raises UserError where the name leads out of the run folder."""
    parts = written.split("/") if isinstance(written, str) else []
    if not parts or any(part in ("", ".", "..") for part in parts):
        raise UserError(f"{of}: {written!r} is no file of the run; names in it are relative to the run folder")
    return folder / written


def trial(told: Any, given: AnyPath) -> dict[str, Any]:
    """What a trial's settings.json tells. Raises UserError where it is of another trial than its folder's name says."""
    if not isinstance(told, dict) or not {"trial", "study", "index", "settings", "drawn"} <= told.keys():
        raise UserError(f"{given} tells no settings of a trial; bring it back, or delete its folder")
    name(told["study"], given)
    if name(told["trial"], given) != given.parent.name:
        raise UserError(f"{given} is of the trial '{told['trial']}', and lies in the folder of another")
    return told


def components(settings: Any, allowed: Collection[str] | None, given: AnyPath) -> None:
    """Refuse settings that name code other than emoray's and that of the `allowed` modules; None allows any."""
    if allowed is None:
        return
    foreign = sorted({one for one in _foreign(settings) if one.rpartition(".")[0] not in allowed})
    if foreign:
        raise UserError(
            f"{given}: it is built by code that is not emoray's ({', '.join(foreign)}), which would have all "
            f"your rights: read it, then add {ALLOW} (predict, finalize) or list its module under components (sweep)"
        )


def manifest(told: Any, of: AnyPath) -> dict[str, Any]:
    """data/manifest.json, whose sizes decide how much memory is taken. Raises UserError where they cannot be right."""
    shape, classes = (told.get("image_shape"), told.get("classes")) if isinstance(told, Mapping) else (None, None)
    if not isinstance(shape, list) or len(shape) != 3 or not all(type(side) is int for side in shape):
        raise UserError(f"{of}: image_shape is {shape!r}, and should be [height, width, channels]")
    height, width, channels = shape
    if height not in SIZES or width not in SIZES or channels not in (1, 3):
        raise UserError(f"{of}: images of {shape} are none that emoray makes")
    if not isinstance(classes, list) or not classes or not all(isinstance(one, str) for one in classes):
        raise UserError(f"{of}: classes is {str(classes)[:80]}, and should be a list of names")
    splits = told.get("splits")
    for split, shown in splits.items() if isinstance(splits, Mapping) else ():
        counted = shown.get("classes") if isinstance(shown, Mapping) else None
        if isinstance(counted, Mapping) and list(counted) != classes:
            raise UserError(
                f"{of}: classes ({', '.join(classes)}) is another list than splits.{split} counts by "
                f"({', '.join(counted)}); bring back the manifest.json that the run was trained with"
            )
    return dict(told)


def stored(file: Path | IO[bytes]) -> None:
    """Refuse a checkpoint whose parts are compressed, or lie one over the other: a few bytes could become any number.

    Raises ValueError with the reason; what is no zip file at all is for the reader to tell.
    """
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        for part in parts:
            if part.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"its part {part.filename[:80]} is compressed, which no checkpoint of emoray is")
        if len({part.filename for part in parts}) < len(parts) or sum(part.file_size for part in parts) > _size(file):
            raise ValueError("its parts lie one over the other, which those of no checkpoint of emoray do")
    if not isinstance(file, Path):
        file.seek(0)


def _size(file: Path | IO[bytes]) -> int:
    return file.stat().st_size if isinstance(file, Path) else file.seek(0, os.SEEK_END)


def _foreign(settings: Any) -> Iterator[str]:
    """Names of components that are not emoray's: written `module.function`."""
    if isinstance(settings, Mapping):
        called = settings.get("name")
        if isinstance(called, str) and "." in called:
            yield called
    inside = settings.values() if isinstance(settings, Mapping) else settings if isinstance(settings, list) else ()
    for one in inside:
        yield from _foreign(one)
