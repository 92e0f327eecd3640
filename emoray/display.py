"""What a person sees while a sweep runs: a live table on a terminal, plain lines in a log."""

import shlex
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from emoray.overview import at_work, clock, data_wait, natural, overview, waiting
from emoray.placement import Cluster
from emoray.run_folder import RunFolder
from emoray.studies import Studies
from emoray.text import CODE, counted, width_of, wrapped
from emoray.trial_state import FAILED, Trial

REFRESH_SECONDS = 0.25
SILENT_SECONDS = 60.0
"""After so long without a line, a log gets one that says what is being done."""
LISTED = 8
"""Running trials that such a line names."""


class Display(Protocol):
    """Shows messages and, as a context, the state of the search."""

    @property
    def width(self) -> int | None:
        """The columns that a line may have; None where it may have any number."""

    def say(self, message: str) -> None: ...

    def update(self, studies: Studies) -> None: ...

    def at_work(self) -> AbstractContextManager[object]:
        """While this is open, what was said last is being done: it shows that it goes on."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def on_terminal(plain: bool = False) -> Display:
    """The display for where the output goes."""
    console = Console(highlight=False, soft_wrap=True)
    return PlainDisplay() if plain or not console.is_terminal else LiveDisplay(console)


class PlainDisplay:
    """One line for each epoch and each end of a trial, with the time since the start; a sign of life now and then."""

    def __init__(self) -> None:
        self.began = self.spoke = time.monotonic()
        self.shown = Shown()

    @property
    def width(self) -> int | None:
        return width_of(sys.stdout)

    def say(self, message: str) -> None:
        self.spoke = time.monotonic()
        print(wrapped(f"[{clock(self.spoke - self.began)}] {message}", self.width), flush=True)

    def update(self, studies: Studies) -> None:
        for line in self.shown.news(studies):
            self.say(line)
        if time.monotonic() - self.spoke >= SILENT_SECONDS:
            self.say(under_way(studies))

    @contextmanager
    def at_work(self) -> Iterator[None]:
        ended = threading.Event()
        thread = threading.Thread(target=self._remind, args=[ended], name="signs of life", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _remind(self, ended: threading.Event) -> None:
        began, wait = time.monotonic(), SILENT_SECONDS
        while not ended.wait(wait):
            wait = self.spoke + SILENT_SECONDS - time.monotonic()
            if wait <= 0:
                self.say(f"still at it, for {clock(time.monotonic() - began)}")
                wait = SILENT_SECONDS

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        sys.stdout.flush()


class Shown:
    """How far a display has followed the log of a search."""

    def __init__(self) -> None:
        self.trials = self.notices = 0
        self.epochs: dict[str, int] | None = None
        """The epochs of each trial that were told of, or stood there before."""

    def told(self, studies: Studies) -> list[str]:
        """What the search has to say since the last call."""
        new = studies.notices[self.notices :]
        self.notices += len(new)
        return new

    def news(self, studies: Studies) -> Iterator[str]:
        """A line for each epoch and each end of a trial since the last call, and what the search has to say."""
        if self.epochs is None:
            self.epochs = {trial.id: len(trial.history) for trial in studies.table}
        new = studies.table.log[self.trials :]
        self.trials += len(new)
        for name in dict.fromkeys(new):
            trial = studies.table.trials[name]
            for row in trial.history[self.epochs.get(name, 0) :]:
                yield _epoch(trial, row, studies.sweep.search.metric)
            self.epochs[name] = len(trial.history)
            if trial.ended:
                yield _end(trial, studies)
        yield from self.told(studies)


class LiveDisplay:
    """A table of the running trials that is redrawn in place, below lines that stay."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.began = time.monotonic()
        self.drawn = 0.0
        self.shown = Shown()
        self.live: Live | None = None
        self.said = ""
        self.status: tuple[Progress, TaskID] | None = None

    @property
    def width(self) -> int | None:
        return self.console.size.width

    def say(self, message: str) -> None:
        self.console.print(wrapped(message, self.width), markup=False)
        self.said = message.partition("\n")[0]
        if self.status is not None:
            status, task = self.status
            status.reset(task, description=self.said)

    def update(self, studies: Studies) -> None:
        for notice in self.shown.told(studies):
            self.say(notice)
        now = time.monotonic()
        if self.live is None or now - self.drawn < REFRESH_SECONDS:
            return
        self.drawn = now
        size = self.console.size
        self.live.update(overview(studies, now - self.began, size.width, size.height), refresh=True)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
        status = Progress(SpinnerColumn(), text, TimeElapsedColumn(), console=self.console, transient=True)
        self.status = status, status.add_task(self.said, total=None)
        try:
            with status:
                yield
        finally:
            self.status = None

    def __enter__(self) -> Self:
        self.live = Live(console=self.console, auto_refresh=False, transient=False)
        self.live.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None


def failures(table: Iterable[Trial], folder: RunFolder) -> str:
    """How many trials failed, the first of them with its reason, and what to do; nothing where none did."""
    failed = [trial for trial in table if trial.status == FAILED]
    if not failed:
        return ""
    told = f"{len(failed)} trials failed, the first, " if len(failed) > 1 else "1 trial failed, "
    more = f"{CODE}emoray show {shlex.quote(str(folder.path))} {failed[0].id}"
    return (
        f"{told}{failed[0].id}: {failed[0].reason}; --retry-failed runs what failed again, and this tells more:\n{more}"
    )


def machines(machine: Cluster) -> str:
    """What the sweep runs on, and where to watch it."""
    dashboard = f"; Ray dashboard {machine.dashboard} (its token: ray get-auth-token)" if machine.dashboard else ""
    return f"{machine.cpus:g} CPUs, {machine.gpus:g} GPUs{dashboard}"


def at_once(slots: int, mode: str) -> str:
    """How the trials share the machines."""
    fed = "streamed by Ray Data" if mode == "stream" else "shared in memory"
    return f"{counted(slots, 'trial')} at once, images {fed}"


def about(manifest: Mapping[str, Any]) -> str:
    """The data in a line, and what of it is not used."""
    parts = [f"{name} {split['images']:,}" for name, split in manifest["splits"].items()]
    told = [f"data: {', '.join(parts)} images of {len(manifest['classes'])} classes"]
    bad = sum(manifest["quarantined"].values())
    if bad:
        told.append(f"{bad:,} could not be used, listed with reasons in data/quarantine.csv")
    leaks = manifest["leaks"]
    leaked = {key: count for key, count in leaks.items() if count and key != "dropped_from_train"}
    if leaked:
        listed = ", ".join(f"{count:,} of {name}" for name, count in leaked.items())
        what = (
            f"{leaks['dropped_from_train']:,} copies dropped from training" if leaks["dropped_from_train"] else "kept"
        )
        told.append(f"images that occur in another split too: {listed} ({what}; see data.leaks)")
    return "; ".join(told)


def under_way(studies: Studies) -> str:
    """What a search does at the moment, in a line."""
    running = at_work(studies)
    listed = [f"{t.id} in epoch {min(len(t.history) + 1, t.settings['epochs'])}" for t in running[:LISTED]]
    listed += [f"{len(running) - LISTED} more"] if len(running) > LISTED else []
    done = f"{sum(trial.ended for trial in studies.table)}/{studies.total} trials"
    return f"{done}; at work: {', '.join(listed)}" if listed else f"{done}; {len(waiting(studies))} waiting"


def _end(trial: Trial, studies: Studies) -> str:
    metric = studies.sweep.search.metric
    told = f" {metric} {natural(trial, metric)} at epoch {int(trial.best['epoch'])}" if trial.best else ""
    why = f" ({trial.reason})" if trial.reason else ""
    ended = sum(other.ended for other in studies.table)
    return f"{trial.id} {trial.status}{why}:{told or ' no score'}   {ended}/{studies.total} trials"


def _epoch(trial: Trial, row: Mapping[str, float], metric: str) -> str:
    score = -row["score"] if metric == "log_loss" else row["score"]
    waits = f", data wait {data_wait(row)}" if data_wait(row) else ""
    return (
        f"{trial.id} epoch {int(row['epoch'])}/{trial.settings['epochs']} {metric} {score:.4f} "
        f"loss {row['train_loss']:.4f} {row['images_per_second']:,.0f} images/s{waits}"
    )
