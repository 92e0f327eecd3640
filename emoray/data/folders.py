"""Image files in a folder for each class as a source: `<class>/...` or `<split>/<class>/...`."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from posixpath import splitext

from pyarrow import fs

from emoray.data import decode
from emoray.data.plan import Item, Marks, Sample, Source, Stamp, UnusableImage
from emoray.data.splits import ROLES
from emoray.errors import UserError
from emoray.s3 import RemoteError

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ""))
"""What is opened; whether it is an image of a known format, its content tells."""
FILES_PER_ITEM = 512
AT_ONCE = 16
"""Files that a task reads at once where they are not on a local disk: each takes long to come, and no CPU."""
BYTES_PER_ITEM = 8 << 20
"""Few large photographs are shared out as well as many small faces."""


def is_image(file: str) -> bool:
    """Whether a file's name lets one expect an image."""
    suffix = splitext(file)[1].lower()
    return suffix in SUFFIXES and suffix != ""


def find(filesystem: fs.FileSystem, root: str, name: str, stamps: Sequence[Stamp]) -> Source:
    """The source in a folder with these files.

    Raises:
        UserError: there are no class folders, or the folders of splits stand among others.
    """
    stamps = tuple(stamp for stamp in stamps if "/" in stamp.file or is_image(stamp.file))
    parts = [stamp.file.split("/") for stamp in stamps]
    top = {part[0] for part in parts if len(part) > 1}
    nested = {part[0] for part in parts if len(part) > 2}
    with_split = {folder for folder in nested if folder.strip().lower() in ROLES}
    if with_split and with_split != top:
        others = ", ".join(sorted(top - with_split)[:3])
        raise UserError(
            f"{name}: holds folders of splits ({', '.join(sorted(with_split))}) beside others ({others}); "
            "it should be either <split>/<class>/ or <class>/ throughout"
        )
    depth = 1 if with_split else 0
    classes = {part[depth] for part in parts if len(part) > depth + 1}
    if not classes:
        raise UserError(f"{name}: has images but no class folders; put each into a folder named after its class")
    if len(classes) == 1:
        raise UserError(f"{name}: the data has one class, {min(classes)}; a classifier needs at least two classes")
    return Source(
        format="folders",
        name=name,
        stamps=stamps,
        items=tuple({"depth": depth, "files": files} for files in _shares(stamps)),
        read=_read,
        filesystem=filesystem,
        root=root,
        images=len(stamps),
        mark=_mark,
    )


def _shares(stamps: Sequence[Stamp]) -> Iterator[list[str]]:
    files: list[str] = []
    size = 0
    for stamp in stamps:
        if files and (len(files) == FILES_PER_ITEM or size + stamp.size > BYTES_PER_ITEM):
            yield files
            files, size = [], 0
        files.append(stamp.file)
        size += stamp.size
    yield files


def _read(source: Source, item: Item) -> Iterator[Sample]:
    depth, files = item["depth"], item["files"]
    content = partial(_content, source, depth)
    if isinstance(source.filesystem, fs.LocalFileSystem):
        yield from (_sample(file, depth, content(file)) for file in files)
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for file, found in zip(files, pool.map(content, files), strict=True):
            yield _sample(file, depth, found)


def _mark(source: Source, item: Item) -> Iterator[Marks]:
    for file in item["files"]:
        yield _label(file, item["depth"]), _split(file, item["depth"])


def _sample(file: str, depth: int, content: bytes | UnusableImage) -> Sample:
    return Sample(file, None, file, _label(file, depth), _split(file, depth), None, content)


def _split(file: str, depth: int) -> str | None:
    return file.split("/")[0] if depth else None


def _label(file: str, depth: int) -> str | None:
    parts = file.split("/")
    return parts[depth] if len(parts) > depth + 1 else None


def _content(source: Source, depth: int, file: str) -> bytes | UnusableImage:
    if _label(file, depth) is None:
        return UnusableImage("not in a class folder")
    if splitext(file)[1].lower() not in SUFFIXES:
        return UnusableImage("not an image file by its name")
    if isinstance(source.filesystem, fs.LocalFileSystem) and not os.path.isfile(source.path(file)):
        return UnusableImage("no file: a pipe, or a link that leads nowhere")  # to open a pipe is to wait
    try:
        with source.filesystem.open_input_stream(source.path(file)) as stream:
            return decode.read(stream)
    except UnusableImage as error:
        return error
    except RemoteError:  # that a server does not answer says nothing of the image
        raise
    except OSError as error:
        return UnusableImage(f"cannot be read: {error}")
