"""Which kind of source a path is, and what is wrong with it if it is none."""

import difflib
import os
from collections.abc import Iterable, Iterator
from posixpath import basename, dirname, splitext

import pyarrow as pa
from pyarrow import fs

from emoray import notation
from emoray.config import DataSettings
from emoray.data import embedded, folders, kaggle, tables
from emoray.data.plan import Source, Stamp, told
from emoray.errors import UserError
from emoray.s3 import SCHEME, RemoteError, S3Path

SUPPORTED = (
    "CSV as Kaggle's fer2013.csv, Parquet (a file or a folder of them), or a folder with a folder for each class"
)
RETRY_SECONDS = 30
_NO_DATA = frozenset(("thumbs.db", "desktop.ini", "__macosx"))


def find(settings: DataSettings, seed: int) -> Source:
    """The source that `data.path` names; None: the embedded faces.

    Raises:
        UserError: there is nothing there, or nothing that can be read as images with labels.
    """
    if settings.path is None:
        return embedded.find(settings.faces, seed=seed, image_size=settings.image_size)
    try:
        filesystem, path = _open(settings.path)
        source = _find(filesystem, path, settings.path)
        if settings.path.startswith(SCHEME):
            _check_readable(source)
    except RemoteError as error:
        raise UserError(f"data.path: {error.filename}: {error.strerror}") from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"data.path: {notation.shown(settings.path)} cannot be read: {told(error)}") from None
    return source


def _find(filesystem: fs.FileSystem, path: str, shown: str) -> Source:
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        raise UserError(f"data.path: there is nothing at {shown}{_did_you_mean(filesystem, path)}")
    if info.type == fs.FileType.Unknown:  # to read a pipe is to wait for whoever writes it
        raise UserError(f"data.path: {shown} is neither a file nor a folder")
    if info.type == fs.FileType.Directory:
        return _find_in_folder(filesystem, path, shown)
    stamp = Stamp(basename(path), info.size, info.mtime_ns)
    match splitext(path)[1].lower():
        case ".csv":
            return kaggle.find(filesystem, dirname(path), stamp)
        case ".parquet" | ".pq":
            return tables.find(filesystem, dirname(path), stamp.file, [stamp])
    raise UserError(f"data.path: {shown} is a kind of file that is not read; what is read: {SUPPORTED}")


def _check_readable(source: Source) -> None:
    """One byte: who may list a bucket need not be allowed to read it."""
    with source.filesystem.open_input_file(source.path(source.stamps[0].file)) as file:
        file.read(1)


def _open(path: str) -> tuple[fs.FileSystem, str]:
    try:
        if path.startswith(SCHEME):
            from emoray.s3 import arrow

            place = S3Path.parse(path)
            return arrow.filesystem(), f"{place.bucket}/{place.key}".rstrip("/")
        if "://" in path:
            return fs.FileSystem.from_uri(_patient(path))
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(path))
    except (pa.ArrowException, OSError) as error:
        if "Unrecognized filesystem type" in str(error):
            raise UserError(
                f"data.path: {path} is no place that is read; allowed: a path on this machine, s3://, gs://, abfs://, "
                "hdfs://"
            ) from None
        raise UserError(f"data.path: {path} cannot be opened: {told(error)}") from error


def _patient(address: str) -> str:
    """An address with a bound on how long a server is tried again, which is a quarter of an hour for Google's."""
    if address.startswith(("gs://", "gcs://")) and "retry_limit_seconds" not in address:
        return f"{address}{'&' if '?' in address else '?'}retry_limit_seconds={RETRY_SECONDS}"
    return address


def _dangling(folder: str) -> Iterator[str]:
    """Links that are called like images and lead nowhere, which Arrow does not list."""
    for root, _, names in os.walk(folder):
        yield from (lost for name in names if folders.is_image(name) and not os.path.exists(lost := f"{root}/{name}"))


def _find_in_folder(filesystem: fs.FileSystem, path: str, shown: str) -> Source:
    infos = filesystem.get_file_info(fs.FileSelector(path, recursive=True))
    if isinstance(filesystem, fs.LocalFileSystem):
        _refuse_loops(info.path for info in infos if info.type == fs.FileType.Directory)
    # What is called like an image and is no file, such as a pipe, goes on the list of what cannot be used.
    is_image = folders.is_image
    held = [i for i in infos if i.type == fs.FileType.File or (i.type != fs.FileType.Directory and is_image(i.path))]
    stamps = [Stamp(i.path[len(path) :].lstrip("/"), i.size or 0, i.mtime_ns or 0) for i in held]
    if isinstance(filesystem, fs.LocalFileSystem):
        stamps += [Stamp(os.path.relpath(lost, path), 0, 0) for lost in _dangling(path)]
    stamps = sorted((stamp for stamp in stamps if _is_data(stamp.file)), key=lambda stamp: stamp.file)
    if not stamps:
        raise UserError(f"data.path: the folder {shown} is empty; what is read: {SUPPORTED}")
    tabular = [stamp for stamp in stamps if splitext(stamp.file)[1].lower() in (".parquet", ".pq")]
    if tabular:
        return tables.find(filesystem, path, basename(path), tabular)
    if any(folders.is_image(stamp.file) for stamp in stamps):
        return folders.find(filesystem, path, basename(path), stamps)
    csvs = [stamp for stamp in stamps if splitext(stamp.file)[1].lower() == ".csv"]
    if len(csvs) > 1:
        names = ", ".join(stamp.file for stamp in csvs[:5])
        raise UserError(f"data.path: {shown} holds {len(csvs)} CSV files ({names}); name the one to read")
    if csvs:
        return kaggle.find(filesystem, path, csvs[0])
    raise UserError(f"data.path: the folder {shown} holds no images; what is read: {SUPPORTED}")


def _refuse_loops(directories: Iterable[str]) -> None:
    """A link to a folder above itself would bring every image many times, under the labels of other classes."""
    for directory in directories:
        target = os.path.realpath(directory)
        if os.path.islink(directory) and os.path.commonpath([target, os.path.realpath(dirname(directory))]) == target:
            raise UserError(f"data.path: {directory} is a link to {target}, a folder that it lies in; remove the link")


def _is_data(file: str) -> bool:
    """Not one of the files that systems leave beside the user's."""
    return not any(part.startswith(".") or part.lower() in _NO_DATA for part in file.split("/"))


def _did_you_mean(filesystem: fs.FileSystem, path: str) -> str:
    folder = dirname(path)
    siblings = filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    close = difflib.get_close_matches(basename(path), [basename(info.path) for info in siblings], n=1)
    return f"; did you mean {folder}/{close[0]}?" if close else ""
