"""S3 as a file system of Arrow's, for reading: the same client, credentials and retries as for all else on S3.

Arrow's own S3 file system finds credentials by another chain, or holds those that it is given as they are, where roles
and logins give new ones by the hour. This one holds nothing, and travels to tasks as a name.
"""

import io
from typing import Any

import pyarrow as pa
from pyarrow import fs

from emoray.s3 import requests
from emoray.s3.path import Listed, S3Path

WHOLE_BYTES = 8 << 20
"""An object of so many is fetched by one request, a larger one by parts of this size."""


def filesystem() -> fs.FileSystem:
    """Its paths are `bucket/key`."""
    return fs.PyFileSystem(_Objects())


class _Objects(fs.FileSystemHandler):
    """Nothing can be written through it."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Objects)

    def __hash__(self) -> int:
        return hash(_Objects)

    def get_type_name(self) -> str:
        return "emoray-s3"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        return [self._info(_path(path)) for path in paths]

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        """The files below, and right below, where it is not recursive, the folders too."""
        folder = _path(selector.base_dir)
        if selector.recursive:
            found = [_file(one) for one in folder.below()]
        else:
            found = [fs.FileInfo(_text(below), fs.FileType.Directory) for below in folder.folders()]
            found += [_file(one) for one in folder.matching("*")]
        if not found and not selector.allow_not_found:
            raise FileNotFoundError(str(folder))
        return found

    def open_input_file(self, path: str) -> pa.NativeFile:
        return pa.PythonFile(_path(path).open("rb"), mode="r")

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """Of a large object, only what is read of it is fetched: the reader may have enough long before its end."""
        found = _path(path)
        try:
            return pa.BufferReader(requests.get(found.bucket, found.key, most=WHOLE_BYTES)[0])
        except requests.TooLarge:
            return pa.PythonFile(io.BufferedReader(found.open("rb"), WHOLE_BYTES), mode="r")

    def _info(self, path: S3Path) -> fs.FileInfo:
        found = path.listed() if path.key else None
        if found is not None:
            return _file(found)
        there = path.is_dir()
        return fs.FileInfo(_text(path), fs.FileType.Directory if there or not path.key else fs.FileType.NotFound)

    def _refuse(self, *asked: Any, **more: Any) -> Any:
        raise NotImplementedError("data sources are only read")

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = delete_file = _refuse
    move = copy_file = open_output_stream = open_append_stream = _refuse


def _path(path: str) -> S3Path:
    bucket, _, key = path.partition("/")
    return S3Path(bucket, key.strip("/"))


def _text(path: S3Path) -> str:
    return f"{path.bucket}/{path.key}".rstrip("/")


def _file(found: Listed) -> fs.FileInfo:
    return fs.FileInfo(
        _text(found.path), fs.FileType.File, size=found.size, mtime_ns=round(found.modified * 1e6) * 1000
    )
