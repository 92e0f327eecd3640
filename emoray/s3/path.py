"""An object on S3 as a path."""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from emoray.errors import UserError
from emoray.s3 import requests
from emoray.s3.requests import SCHEME, RemoteError

PART_BYTES = 32 << 20
"""What is larger is sent in parts, several at once, that become an object together or not at all."""
_NO_CONDITIONS = ("NotImplemented", "501")
_REPLACED = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


@dataclass(frozen=True, order=True)
class Listed:
    """An object as a listing shows it: its size in bytes, its time in seconds since 1970 by the server's clock."""

    path: "S3Path"
    size: int
    modified: float


@dataclass(frozen=True, order=True)
class S3Path:
    """An object, or what its address is the beginning of, with the methods of `pathlib.Path` that are used here.

    There are no folders on S3: `mkdir` has nothing to do, and `exists` asks for an object. It holds no credentials and
    no connection, so it may travel to any process.
    """

    bucket: str
    key: str = ""

    @classmethod
    def parse(cls, address: str) -> "S3Path":
        """`s3://bucket/key`. Raises UserError for an address without a bucket, or with more than a bucket and a key."""
        bucket, _, key = address.removeprefix(SCHEME).partition("/")
        if "@" in bucket or "?" in address:
            raise UserError(
                f"{SCHEME}{bucket.rpartition('@')[2]}/...: an address holds neither keys nor options, since it is "
                "written down; set AWS_PROFILE or AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT_URL_S3"
            )
        if not bucket:
            raise UserError(f"{address}: an address on S3 names a bucket, as s3://bucket/folder")
        return cls(bucket, "/".join(part for part in key.split("/") if part))

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}".rstrip("/")

    def __truediv__(self, below: str) -> "S3Path":
        return S3Path(self.bucket, f"{self.key}/{below}".strip("/"))

    @property
    def name(self) -> str:
        return PurePosixPath(self.key).name or self.bucket

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> "S3Path":
        return S3Path(self.bucket, self.key.rpartition("/")[0])

    def with_name(self, name: str) -> "S3Path":
        return self.parent / name

    def absolute(self) -> "S3Path":
        return self

    def resolve(self) -> "S3Path":
        return self

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: an object needs no folder."""

    def read_bytes(self) -> bytes:
        """The whole object. Raises FileNotFoundError where there is none."""
        return requests.get(self.bucket, self.key)[0]

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self.read_bytes().decode(encoding, errors)

    def open(self, mode: str = "r", newline: str | None = None, encoding: str = "utf-8") -> Any:
        """For reading: with `rb`, what is read is fetched as it is read; text is fetched whole."""
        return ObjectFile(self) if mode == "rb" else io.StringIO(self.read_text(encoding), newline)

    def write_bytes(self, content: bytes) -> None:
        """Put the object there, whole or not at all."""
        if len(content) <= PART_BYTES:
            self._ask("written", lambda s3: s3.put_object(Bucket=self.bucket, Key=self.key, Body=content))
            return
        from boto3.s3.transfer import TransferConfig

        parts, file = (
            TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES),
            io.BytesIO(content),
        )
        self._ask("written", lambda s3: s3.upload_fileobj(file, self.bucket, self.key, Config=parts))

    def write_if(self, content: bytes, tag: str | None) -> str | None:
        """Put the object there if it still has `tag`, or if there is none yet where that is None.

        Returns its new tag, or None where another was faster. `content` has to differ from all that others may write:
        where the answer to a first try was lost, it is by the content that the second one shows to be ours.
        """
        condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        try:
            put = self._ask(
                "written", lambda s3: s3.put_object(Bucket=self.bucket, Key=self.key, Body=content, **condition)
            )
        except FileNotFoundError:
            return None  # it was deleted, and had a tag
        except RemoteError as error:
            name = requests.code(error.__cause__)
            if name not in (*_REPLACED, *_NO_CONDITIONS):
                raise
            found = self.tagged()
            if name in _NO_CONDITIONS and (found[1] if found else None) == tag:
                self.write_bytes(content)  # as good as such a server allows
                found = self.tagged()
            return found[1] if found is not None and found[0] == content else None
        return str(put["ETag"])

    def tagged(self) -> tuple[bytes, str] | None:
        """The content, with the tag that tells it from a later one; None where there is no object."""
        try:
            return requests.get(self.bucket, self.key)
        except FileNotFoundError:
            return None

    def copy_to(self, target: "S3Path") -> None:
        """Copy on the server, whole or not at all."""
        source = {"Bucket": self.bucket, "Key": self.key}
        target._ask("written", lambda s3: s3.copy(source, target.bucket, target.key))

    def unlink(self, missing_ok: bool = True) -> None:
        """Delete the object; S3 does not tell whether there was one."""
        self._ask("deleted", lambda s3: s3.delete_object(Bucket=self.bucket, Key=self.key))

    def remove_below(self) -> None:
        """Delete all objects below."""
        keys = [{"Key": one.path.key} for one in self.below()]
        for start in range(0, len(keys), 1000):
            self._delete({"Objects": keys[start : start + 1000], "Quiet": True})

    def exists(self) -> bool:
        """Whether there is an object."""
        return self.listed() is not None

    def is_file(self) -> bool:
        return self.exists()

    def is_dir(self) -> bool:
        """Whether there are objects below."""
        page = next(requests.pages(self.bucket, self._prefix, MaxKeys=1))
        return bool(page.get("KeyCount", 0))

    def listed(self) -> Listed | None:
        """The object's size and time; None where there is none."""
        try:
            head = self._ask("read", lambda s3: s3.head_object(Bucket=self.bucket, Key=self.key))
        except FileNotFoundError:
            return None
        return Listed(self, int(head["ContentLength"]), head["LastModified"].timestamp())

    def below(self) -> Iterator[Listed]:
        """All objects below, in the order of their keys; the marks that some tools leave for folders are none."""
        for page in requests.pages(self.bucket, self._prefix):
            for each in page.get("Contents", ()):
                if not each["Key"].endswith("/"):
                    path = S3Path(self.bucket, each["Key"])
                    yield Listed(path, int(each["Size"]), each["LastModified"].timestamp())

    def folders(self) -> list["S3Path"]:
        """The folders right below."""
        pages = requests.pages(self.bucket, self._prefix, Delimiter="/")
        found = [each["Prefix"].rstrip("/") for page in pages for each in page.get("CommonPrefixes", ())]
        return [S3Path(self.bucket, key) for key in found]

    def matching(self, pattern: str) -> Iterator[Listed]:
        """The objects below whose keys, from here on, match a pattern such as `*/checkpoint/*.npz`."""
        for one in self.below():
            rest = PurePosixPath(one.path.key[len(self._prefix) :])
            if len(rest.parts) == pattern.count("/") + 1 and rest.match(pattern):
                yield one

    def glob(self, pattern: str) -> Iterator["S3Path"]:
        return (one.path for one in self.matching(pattern))

    @property
    def _prefix(self) -> str:
        return f"{self.key}/" if self.key else ""

    def _ask(self, what: str, ask: Any) -> Any:
        return requests.asked(self.bucket, self.key, what, ask)

    def _delete(self, keys: dict[str, Any]) -> None:
        answer = self._ask("deleted", lambda s3: s3.delete_objects(Bucket=self.bucket, Delete=keys))
        for left in answer.get("Errors", ()):
            raise requests.told(_Left({"Error": left}), self.bucket, left["Key"], "deleted")


class _Left(Exception):
    """An object that a request for many has not deleted, told like an error of boto3's."""

    def __init__(self, response: dict[str, Any]) -> None:
        super().__init__(response)
        self.response = response


class ObjectFile(io.RawIOBase):
    """An object as a file to read from: each read fetches its part, of the object as it was when it was opened."""

    def __init__(self, path: S3Path) -> None:
        found = requests.asked(
            path.bucket, path.key, "read", lambda s3: s3.head_object(Bucket=path.bucket, Key=path.key)
        )
        self.path, self.length, self.tag, self.place = path, int(found["ContentLength"]), str(found["ETag"]), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def size(self) -> int:
        """For Arrow."""
        return self.length

    def tell(self) -> int:
        return self.place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        place = {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.length}[whence] + offset
        if place < 0:
            raise OSError(f"{self.path}: position {place} lies before its beginning")  # as zipfile expects of a file
        self.place = place
        return place

    def read(self, size: int | None = -1) -> bytes:
        stop = self.length if size is None or size < 0 else min(self.length, self.place + size)
        if stop <= self.place:
            return b""
        part = f"bytes={self.place}-{stop - 1}"
        content, _ = requests.get(self.path.bucket, self.path.key, Range=part, IfMatch=self.tag)
        self.place = stop
        return content

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)
