"""Prepared data on S3: there as a whole or not at all, readable from every node, with no lock.

A job prepares on its own disk and uploads to a folder of a name that nobody else has; then `<fingerprint>.json`, which
names that folder, is written if there is none yet. Who is second takes what the first has made. What is read is copied
to the reader's disk once (`storage.near`), under that name, so a copy can never be of something else.
"""

import json
import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emoray import storage
from emoray.data import store
from emoray.data.store import Prepared
from emoray.errors import UserError
from emoray.s3 import S3Path

_ABANDONED_SECONDS = 86_400.0
"""After so long without a new file, an upload that nothing names is a dead one's."""


def prepare(
    cache: S3Path, fingerprint: str, build: Callable[[Path], Prepared], waiting: Callable[[], None]
) -> Prepared:
    """The data in `cache`, or else what `build` makes in a folder on this machine, put there."""
    prepared = read(cache, fingerprint)
    if prepared is not None:
        return prepared
    folder = storage.cache() / fingerprint
    store.remove_leftovers(folder.parent)
    with store.exclusive(folder, waiting):
        return read(cache, fingerprint) or _publish(store.read(folder) or build(folder), cache, fingerprint)


def read(cache: S3Path, fingerprint: str) -> Prepared | None:
    """What is prepared on S3; None where nothing is. Raises UserError for a file that is none of this project's."""
    told = storage.text(_pointer(cache, fingerprint))
    if not told:
        return None
    try:
        found: dict[str, Any] = json.loads(told)
        folder, manifest = str(found["folder"]), dict(found["manifest"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{_pointer(cache, fingerprint)} cannot be read ({error}); delete it") from None
    if not re.fullmatch(rf"{re.escape(fingerprint)}-[0-9a-f]{{16}}", folder):  # it names a folder on this machine too
        raise UserError(
            f"{_pointer(cache, fingerprint)} names {folder!r}, which is no folder of prepared data; delete it"
        )
    return Prepared(str(cache / folder), manifest)


def _publish(prepared: Prepared, cache: S3Path, fingerprint: str) -> Prepared:
    local, name = Path(prepared.folder), f"{fingerprint}-{secrets.token_hex(8)}"
    remote = cache / name
    files = sorted(local.iterdir())
    for _ in storage.each(remote, lambda file: storage.copy(file, remote / file.name), files):
        pass
    os.rename(local, storage.cache() / name)  # this machine's copy: it need not fetch what it has made
    pointer = json.dumps({"folder": name, "manifest": prepared.manifest}, indent=1).encode()
    if _pointer(cache, fingerprint).write_if(pointer, None) is None:
        remote.remove_below()
        storage.remove(storage.cache() / name)
    published = read(cache, fingerprint)
    assert published is not None, "it was written, or was there"
    _remove_abandoned(cache, fingerprint, published)
    return published


def _pointer(cache: S3Path, fingerprint: str) -> S3Path:
    return cache / f"{fingerprint}.json"


def _remove_abandoned(cache: S3Path, fingerprint: str, published: Prepared) -> None:
    for folder in cache.folders():
        if not folder.name.startswith(f"{fingerprint}-") or str(folder) == published.folder:
            continue
        if max((one.modified for one in folder.below()), default=0.0) < time.time() - _ABANDONED_SECONDS:
            folder.remove_below()
