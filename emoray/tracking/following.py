"""Following a search: which epochs and ends are new since the last look."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from emoray.storage import AnyPath
from emoray.studies import Studies


@dataclass(frozen=True)
class TrackedRun:
    """The run that is tracked: its sweep's name and its folder."""

    sweep: str
    folder: AnyPath


class Tracker(Protocol):
    """Takes the figures of a search elsewhere."""

    def update(self, studies: Studies) -> None:
        """Something may have changed; called often, and never to be waited for."""

    def close(self) -> str | None:
        """The search is over; deliver what is left, within seconds. Returns what a person should be told."""


class Nothing:
    """Tracks nothing."""

    def update(self, studies: Studies) -> None:
        pass

    def close(self) -> str | None:
        return None


class Together:
    """Several watchers as one."""

    def __init__(self, watchers: Sequence[Any]) -> None:
        self.watchers = watchers

    def update(self, studies: Studies) -> None:
        for watcher in self.watchers:
            watcher.update(studies)


@dataclass(frozen=True)
class News:
    """What is new of a trial, taken down at once: the thread that delivers it must not see it change."""

    trial: str
    settings: Mapping[str, Any]
    rows: Sequence[Mapping[str, float]]
    epochs: int
    status: str
    reason: str
    ended: bool
    best: Mapping[str, float] | None
    moment: float = field(default_factory=time.time)


class Delivery:
    """Does its calls in order in a thread of its own: a place that is slow or gone costs the search nothing.

    What a call raises ends the delivery, and is told once.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self.calls: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self.lost: str | None = None
        self.told = False
        self.thread = threading.Thread(target=self._deliver, name=f"delivery to {place}", daemon=True)
        self.thread.start()

    def put(self, call: Callable[[], None]) -> None:
        if self.lost is None:
            self.calls.put(call)

    def trouble(self) -> str | None:
        """Why nothing is delivered any more, the first time that it is asked for."""
        if self.lost is None or self.told:
            return None
        self.told = True
        return f"tracking: {self.place} is lost ({self.lost}); the search goes on without it"

    def close(self, seconds: float) -> str | None:
        """Wait so long for what is left; returns what a person should be told of it."""
        self.calls.put(None)
        self.thread.join(seconds)
        if self.thread.is_alive():
            return f"tracking: {self.place} is slow, and has not got the last {self.calls.qsize()} of its updates"
        return self.trouble()

    def _deliver(self) -> None:
        try:
            while (call := self.calls.get()) is not None:
                call()
        except Exception as error:  # whatever a server or a disk does, the search must go on
            self.lost = " ".join(f"{type(error).__name__}: {error}".split())[:200]


class Followed:
    """How far a tracker has followed the trials of a search."""

    def __init__(self) -> None:
        self.place: int | None = None
        self.rows: dict[str, int] = {}

    def news(self, studies: Studies) -> Iterator[News]:
        """Of the trials that have got on since the last call, what is new; at first, of all that there are."""
        names = list(studies.table.trials) if self.place is None else studies.table.log[self.place :]
        self.place = len(studies.table.log)
        for name in dict.fromkeys(names):
            trial = studies.table.trials[name]
            new = trial.history[self.rows.get(name, 0) :]
            self.rows[name] = len(trial.history)
            told = (trial.status, trial.reason, trial.ended, trial.best)
            yield News(trial.id, dict(trial.settings), new, len(trial.history), *told)


def flat(settings: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Nested settings as one level: `optimizer.learning_rate`."""
    listed: dict[str, Any] = {}
    for key, value in settings.items():
        at = f"{place}.{key}" if place else str(key)
        if isinstance(value, Mapping):
            listed |= flat(value, at)
        elif isinstance(value, list):
            listed |= flat({str(i): inner for i, inner in enumerate(value)}, at)
        else:
            listed[at] = value
    return listed
