"""Where files lie, on a disk or on S3: what differs between the two, behind one set of functions.

The one rule: a file appears whole or not at all on both. For all else `pathlib.Path` and `S3Path` have their methods in
common, so that hardly anybody needs to ask which of the two a path is.
"""

import errno
import fcntl
import io
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, TypeVar

from emoray.errors import UserError
from emoray.s3 import SCHEME, S3Path

AnyPath = Path | S3Path
AT_ONCE = 16
"""Requests to S3 under way at once: each takes tens of milliseconds, nearly all of it waiting."""
_unique = itertools.count()
Item = TypeVar("Item")
Result = TypeVar("Result")


def at(address: str | AnyPath) -> AnyPath:
    """The path that an address names. Raises UserError for one that is neither a local path nor on S3."""
    if not isinstance(address, str):
        return address
    if address.startswith(SCHEME):
        return S3Path.parse(address)
    if "://" in address:
        raise UserError(f"{address}: runs are kept in a local folder or on S3, as s3://bucket/folder")
    return Path(address)


def write(path: AnyPath, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part."""
    if isinstance(path, S3Path):
        path.write_bytes(content)
        return
    with _replacing(path) as file:
        file.write(content)


@contextmanager
def appearing(path: AnyPath) -> Iterator[IO[bytes]]:
    """A file to write that takes its place at the end, if no error ends it; it then outlives a crash of the machine."""
    if isinstance(path, S3Path):
        with io.BytesIO() as content:
            yield content
            path.write_bytes(content.getvalue())
        return
    with _replacing(path) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def text(path: AnyPath) -> str:
    """What a text file holds; nothing where it is not there."""
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        return ""


def copy(source: AnyPath, target: AnyPath) -> None:
    """Copy a file, whole or not at all."""
    if isinstance(source, S3Path) and isinstance(target, S3Path):
        source.copy_to(target)
    else:
        write(target, source.read_bytes())


def keep_as(source: AnyPath, target: AnyPath) -> None:
    """Keep what a file holds now under a second name; on a disk it costs no room until the first is written anew."""
    if isinstance(source, S3Path) or isinstance(target, S3Path):
        copy(source, target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(target)
    try:
        os.link(source, temporary)
    except OSError:  # a file system without links
        shutil.copyfile(source, temporary)
    temporary.replace(target)


def claim(folder: AnyPath) -> bool:
    """Make a folder; whether it was not there before, whoever else may be making it at the same time."""
    if isinstance(folder, S3Path):
        mark = f"{os.getpid()} {os.urandom(8).hex()}".encode()
        return (folder / ".claimed").write_if(mark, None) is not None
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def folders(path: AnyPath) -> list[AnyPath]:
    """The folders right below; none where there is nothing."""
    if isinstance(path, S3Path):
        return list(path.folders())
    return [each for each in path.iterdir() if each.is_dir()] if path.is_dir() else []


def remove(folder: AnyPath) -> None:
    """Delete a folder and all below it, where it is there."""
    if isinstance(folder, S3Path):
        folder.remove_below()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def used(folder: AnyPath, pattern: str) -> int:
    """Bytes of the files below that match."""
    if isinstance(folder, S3Path):
        return sum(one.size for one in folder.matching(pattern))
    return sum(file.stat().st_size for file in folder.glob(pattern))


def changed(files: Iterable[AnyPath]) -> float:
    """When the last of these files was written, in seconds since 1970; 0 where none of them is there."""
    times = [0.0]
    for file in files:
        if isinstance(file, S3Path):
            found = file.listed()
            times += [found.modified] if found else []
        elif file.exists():
            times.append(file.stat().st_mtime)
    return max(times)


def relative(file: AnyPath, folder: AnyPath) -> str:
    """A file's place below a folder, as it is wherever that lies."""
    if isinstance(file, S3Path) or isinstance(folder, S3Path):
        return PurePosixPath(str(file)).relative_to(PurePosixPath(str(folder))).as_posix()
    return file.relative_to(folder).as_posix()


def each(folder: AnyPath, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`work` on each item, in order; many at once where they wait for S3."""
    if not isinstance(folder, S3Path):
        yield from map(work, items)
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(work, items)


def cache() -> Path:
    """This machine's folder for copies of data on S3: EMORAY_CACHE, or ~/.cache/emoray. Raises UserError for none."""
    folder = Path(os.environ.get("EMORAY_CACHE") or Path.home() / ".cache" / "emoray").absolute() / "data"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made: {error.strerror}; name another folder in EMORAY_CACHE") from None
    return folder


def near(file: AnyPath) -> Path:
    """A file on this machine's disk: itself, or a copy that is fetched once. For files that never change.

    The copy has the name of the file and of the folder that it lies in, which has to be unlike all others.
    """
    if isinstance(file, Path):
        return file
    copied = cache() / file.parent.name / file.name
    if not copied.exists():
        copied.parent.mkdir(parents=True, exist_ok=True)
        with copied.with_name(f".{file.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # every trial of this machine wants it, and one fetches it
            if not copied.exists():
                write(copied, file.read_bytes())
    return copied


def check_writable(folder: AnyPath) -> None:
    """Write a file there, read it and delete it. Raises OSError with what is wrong."""
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    next(iter(folder.folders()), None)  # may be listed
    probe = folder / f".probe-{os.urandom(8).hex()}"
    probe.write_bytes(b"")
    probe.read_bytes()
    probe.unlink()


def check_place(folder: AnyPath) -> None:
    """See whether a folder could be written to, and write nothing. Raises OSError with what is wrong."""
    if isinstance(folder, S3Path):
        next(iter(folder.folders()), None)  # may be listed
        return
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise OSError(errno.ENOTDIR, f"{there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OSError(errno.EACCES, f"nothing may be written in {there}")


def remedy(broken: str) -> str:
    """What to do about a disk or a server that ended a sweep."""
    return f"{'put that right' if SCHEME in broken else 'make room'} and go on with --resume"


def clear(folder: AnyPath) -> None:
    """Remove what processes were writing here, or below, when they were killed; on S3 nothing of the kind can be."""
    for path in folder.rglob(".*") if isinstance(folder, Path) else ():
        if re.fullmatch(r"\..+\.[0-9]+\.[0-9]+", path.name):
            path.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """A name for a file that is still being written: of this process and of no other write of it."""
    return path.with_name(f".{path.name}.{os.getpid()}.{next(_unique)}")
