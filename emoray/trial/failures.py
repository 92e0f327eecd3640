"""What an exception in a trial, or its workers' end, means: no memory, a full disk, no place, unreadable data, ..."""

import errno
from collections.abc import Mapping
from typing import Any

from emoray.trial_state import CRASH, DATA, DISK, ERROR, MEMORY, PLACE

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


class NoPlace(Exception):
    """A trial's workers found no place; says what they asked for and what was free."""


class RanksDied(Exception):
    """Processes of a trial's workers have died, which is no failure: they are started again, and go on."""


class WorkersFailed(Exception):
    """A trial's workers failed. `told` is what the first of them that did has told, with its traceback as `error`."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        super().__init__(told["reason"])
        self.told = dict(told)


def told(error: BaseException) -> dict[str, Any]:
    """`failure`, one of the kinds in trial_state.py, and `reason`, the error in a line; of workers `error` too."""
    if isinstance(error, WorkersFailed):
        return error.told
    reason = f"{type(error).__name__}: {error}".partition("\n")[0][:300]
    links = list(_chain(error))
    full = next((link for link in links if isinstance(link, OSError) and link.errno in _DISK), None)
    if full is not None:
        return {"failure": DISK, "reason": f"{full.filename or 'the disk'}: {full.strerror}"}
    if any(_is_memory(link) for link in links):
        return {"failure": MEMORY, "reason": f"out of memory: {reason}"}
    if isinstance(error, NoPlace):
        return {"failure": PLACE, "reason": str(error)}
    unreadable = any(isinstance(link, OSError) for link in links)
    return {"failure": DATA if unreadable else ERROR, "reason": reason}


def died(why: str) -> dict[str, Any]:
    """The same of processes that have died, by what Ray says of their end."""
    return {"failure": MEMORY if "OutOfMemory" in why else CRASH, "reason": why.partition("\n")[0][:300]}


def _chain(error: BaseException | None) -> Any:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_memory(error: BaseException) -> bool:
    """TensorFlow's error for a GPU or a host allocation, by name: this module must not import it."""
    return isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"
