"""Folders for what Ray insists on writing, which nobody reads; those of processes that were killed are removed."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "emoray-scratch-"


def folder() -> Path:
    """A new folder of this process, after those have been removed whose processes are gone."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = left.name.removeprefix(_PREFIX).partition("-")[0]
        with contextlib.suppress(OSError):
            if owner.isdecimal() and not _alive(int(owner)) and left.stat().st_uid == os.getuid():
                shutil.rmtree(left)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
