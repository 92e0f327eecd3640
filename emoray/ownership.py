"""A run belongs to one process at a time: by a lock on a disk, by a lease on S3, where there are no locks.

The lease is an object that its owner writes anew every few seconds, under the condition that it is still its own. Who
finds one watches it: one that changes has a living owner, one that stands still for `LEASE_SECONDS` is taken over. No
clocks are compared. An owner that finds another's lease ends at once: what it would write is no longer its own.
"""

import fcntl
import json
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO

from emoray import storage
from emoray.errors import Stopped, SweepFailed, UserError
from emoray.s3 import S3Path
from emoray.storage import AnyPath

LEASE_SECONDS = 30.0
RENEW_SECONDS = 5.0
"""Several times within a lease, so that a server that stutters ends no sweep."""
_WATCH_SECONDS = 1.0
_LOOKS, _LOOK_SECONDS = 3, 0.1
"""How often a lock is tried: who only asks whether a run is owned holds it for a moment."""
LOCK, LEASE = ".lock", ".lease.json"


@contextmanager
def of(folder: AnyPath, say: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Own a run. Raises UserError where another process does, SweepFailed where one has taken it over meanwhile.

    `say` is told of a lease that has to be waited for. What is yielded deletes the run, as long as it is owned.
    """
    if isinstance(folder, Path):
        with _locked(folder):
            yield partial(storage.remove, folder)
        return
    lease = _Lease(folder / LEASE)
    lease.take(folder, say)
    try:
        yield lease.remove_run
    except (Stopped, KeyboardInterrupt):
        if lease.lost:
            raise SweepFailed(f"{folder}: another process has taken the run over, and goes on with it") from None
        raise
    finally:
        lease.release()


def is_owned(folder: AnyPath) -> bool:
    """Whether a process is at work on a run; on S3 by when it last showed, as far as the clocks agree."""
    if isinstance(folder, S3Path):
        found = (folder / LEASE).listed()
        return found is not None and time.time() - found.modified < LEASE_SECONDS
    try:
        with (folder / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def check_free(folder: AnyPath) -> None:
    """Raises UserError where another process is at work on a run; nothing is taken."""
    if is_owned(folder):
        raise _owned(folder)


def _owned(folder: AnyPath) -> UserError:
    return UserError(f"another process is at work on {folder}/; wait for its end")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with _opened(folder) as lock:
        for attempt in range(_LOOKS):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == _LOOKS - 1:
                    raise _owned(folder) from None
                time.sleep(_LOOK_SECONDS)
        if not os.fstat(lock.fileno()).st_nlink:
            raise _gone(folder)
        yield


def _opened(folder: Path) -> IO[str]:
    try:
        return (folder / LOCK).open("w")
    except FileNotFoundError:
        raise _gone(folder) from None


def _gone(folder: Path) -> UserError:
    """Its owner was ended before it had begun a trial, and has just deleted it."""
    return UserError(f"{folder}/ is gone: the sweep that had made it was stopped before its first trial")


class _Lease:
    """This process's lease on a run."""

    def __init__(self, path: S3Path) -> None:
        self.path = path
        self.told = {"machine": _machine(), "process": os.getpid(), "owner": os.urandom(8).hex()}
        self.renewed = 0
        self.tag: str | None = None
        self.lost = False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._renew_on, name="lease", daemon=True)

    def take(self, folder: S3Path, say: Callable[[str], None]) -> None:
        """Take the lease, once nobody living holds it."""
        found = self.path.tagged()
        if found is not None and not _is_dead(found[0]):
            say(f"{folder}: its last process has not said goodbye; waiting {LEASE_SECONDS:.0f} s for a sign of it")
            found = self._watched(found)
        self.tag = self.path.write_if(self._content(), found[1] if found else None)
        if self.tag is None:
            raise _owned(folder)
        self._thread.start()

    def release(self) -> None:
        """Give the lease back; one that cannot be given back runs out."""
        self._ending.set()
        self._thread.join()
        if not self.lost:
            with suppress(OSError):
                self.path.unlink()

    def remove_run(self) -> None:
        """Delete the run, but for the lease, which is then given back."""
        for one in () if self.lost else self.path.parent.below():
            if one.path != self.path:
                one.path.unlink()

    def _watched(self, first: tuple[bytes, str]) -> tuple[bytes, str] | None:
        until = time.monotonic() + LEASE_SECONDS
        while time.monotonic() < until:
            time.sleep(_WATCH_SECONDS)
            found = self.path.tagged()
            if found is None:
                return None
            if found != first:
                where = json.loads(found[0])
                raise UserError(
                    f"process {where['process']} on {where['machine'].split()[0]} is at work on "
                    f"{self.path.parent}/; wait for its end"
                )
        return first

    def _renew_on(self) -> None:
        while not self._ending.wait(RENEW_SECONDS):
            with suppress(
                OSError
            ):  # no answer for now: the next time, or its end will be noticed by a write that counts
                if not self._renew():
                    self.lost = True
                    os.kill(os.getpid(), signal.SIGINT)  # the way in which a search ends with all that it has on disk
                    return

    def _renew(self) -> bool:
        found = self.path.tagged()  # some servers know no conditions: who owns it is read first
        if found is None or json.loads(found[0])["owner"] != self.told["owner"]:
            return False
        self.tag = self.path.write_if(self._content(), found[1])
        return self.tag is not None

    def _content(self) -> bytes:
        self.renewed += 1
        return json.dumps({**self.told, "renewed": self.renewed}).encode()


def _machine() -> str:
    """This machine since it was started, and the processes that can be seen: numbers mean the same in no other."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{platform.node()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{platform.node()} {os.urandom(8).hex()}"


def _is_dead(lease: bytes) -> bool:
    """Whether the owner of a lease was a process here that is no more: there is nothing to wait for."""
    told = json.loads(lease)
    return told["machine"] == _machine() and not Path(f"/proc/{told['process']}").exists()
