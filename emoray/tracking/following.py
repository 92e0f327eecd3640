"""Following a search: which epochs and ends are new since the last look."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from emoray.storage import AnyPath
from emoray.studies import Studies
from emoray.trial_state import Trial


@dataclass(frozen=True)
class TrackedRun:
    """The run that is tracked: its sweep's name and its folder."""

    sweep: str
    folder: AnyPath


class Tracker(Protocol):
    """Takes the figures of a search elsewhere."""

    def update(self, studies: Studies) -> None:
        """Something may have changed; called often, and never to be waited for."""

    def close(self) -> None:
        """The search is over; deliver what is left, within seconds."""


class Nothing:
    """Tracks nothing."""

    def update(self, studies: Studies) -> None:
        pass

    def close(self) -> None:
        pass


class Together:
    """Several watchers as one."""

    def __init__(self, watchers: Sequence[Any]) -> None:
        self.watchers = watchers

    def update(self, studies: Studies) -> None:
        for watcher in self.watchers:
            watcher.update(studies)


class Followed:
    """How far a tracker has followed the trials of a search."""

    def __init__(self) -> None:
        self.place: int | None = None
        self.rows: dict[str, int] = {}

    def news(self, studies: Studies) -> Iterator[tuple[Trial, list[Mapping[str, float]]]]:
        """The trials that have got on since the last call, with their new epochs; at first, all that there are."""
        names = list(studies.table.trials) if self.place is None else studies.table.log[self.place :]
        self.place = len(studies.table.log)
        for name in dict.fromkeys(names):
            trial = studies.table.trials[name]
            new = trial.history[self.rows.get(name, 0) :]
            self.rows[name] = len(trial.history)
            yield trial, list(new)


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
