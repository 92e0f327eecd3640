"""What a person sees while a sweep runs: a live table on a terminal, plain lines in a log."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from emoray import readings
from emoray.overview import clock, data_wait, natural, overview, waiting
from emoray.placement import Cluster
from emoray.run_folder import RunFolder
from emoray.studies import Studies
from emoray.trial_state import FAILED, Trial

REFRESH_SECONDS = 0.25
SILENT_SECONDS = 60.0
"""After so long without a line, a log gets one that says what is being done."""
LISTED = 8
"""Running trials that such a line names."""


class Display(Protocol):
    """Shows messages and, as a context, the state of the search."""

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

    def say(self, message: str) -> None:
        self.spoke = time.monotonic()
        print(f"[{clock(self.spoke - self.began)}] {message}", flush=True)

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

    def say(self, message: str) -> None:
        self.console.print(message, markup=False)
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
    count = f"{len(failed)} trial{'s' if len(failed) > 1 else ''} failed"
    return (
        f"{count}, {failed[0].id}: {failed[0].reason}; emoray show {folder.path} {failed[0].id} tells more, and "
        "--retry-failed runs what failed again"
    )


def machines(machine: Cluster) -> str:
    """What the sweep runs on, and where to watch it."""
    dashboard = f"; Ray dashboard {machine.dashboard} (its token: ray get-auth-token)" if machine.dashboard else ""
    return f"{machine.cpus:g} CPUs, {machine.gpus:g} GPUs{dashboard}"


def at_once(slots: int, mode: str) -> str:
    """How the trials share the machines."""
    fed = "streamed by Ray Data" if mode == "stream" else "shared in memory"
    return f"{slots} trial{'s' if slots > 1 else ''} at once, images {fed}"


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


def closing(candidates: Sequence[Trial], ensemble: Mapping[str, Any], folder: RunFolder) -> str:
    """The leaderboard, what the ensemble gains, and where the report lies."""
    metric, named = ensemble["metric"], ensemble["method"]
    if ensemble["picked"] != named:
        named = f"{named} ({ensemble['picked']})"
    weights: dict[str, float | None] = {}
    for member in ensemble["candidates"]:  # a trial may stand there twice, once as a soup
        both = (weights.get(member["trial"]), member["weight"])
        weights[member["trial"]] = None if member["weight"] is None else sum(weight or 0.0 for weight in both)
    width = max(len(trial.id) for trial in candidates)
    lines = ["", f"{'rank':>4}  {'trial':<{width}}  {'validation ' + metric:>22}  {'epochs':>6}  {'weight':>6}"]
    for rank, trial in enumerate(candidates, 1):
        score, epochs, weight = natural(trial, metric), len(trial.history), weights[trial.id]
        part = "-" if weight is None else f"{weight:.3f}"
        lines.append(f"{rank:>4}  {trial.id:<{width}}  {score:>22}  {epochs:>6}  {part:>6}")
    if ensemble["recommended"] != "ensemble":
        lines.append(f"weight: part in the fitted {named} ensemble (not recommended)")
    test, several = ensemble["test"], readings.told(ensemble["test_reads"])
    unseen = "" if several else " that nothing was chosen on"
    lines += ["", f"on {test['images']:,} test images{unseen} (95 % intervals):"]
    for shown in dict.fromkeys(["accuracy", metric if metric in test["ensemble"] else "macro_f1"]):
        single, blend, gain = test["best_single"][shown], test["ensemble"][shown], test["gain"][shown]
        lines.append(
            f"  {shown:<18} best single {_interval(single)}   {named} ensemble {_interval(blend)}   "
            f"gain {_interval(gain, '+')}"
        )
    lines += [several] if several else []
    used = ensemble["members"]
    what = f"{used[0].get('name', used[0]['trial'])} alone" if len(used) == 1 else f"the ensemble of {len(used)} models"
    gain = ensemble["methods"][ensemble["method"]]["gain_over_single"]
    lines += ["", f"use {what}: on selection images left out of the fit the ensemble gains {_interval(gain, '+')}"]
    lines += [f"report: {folder.report}"]
    return "\n".join(lines)


def _interval(interval: Mapping[str, float | None], sign: str = "") -> str:
    numbers = [
        f"{interval[key]:{sign}.4f}" if interval[key] is not None else "-" for key in ("estimate", "low", "high")
    ]
    return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"


def under_way(studies: Studies) -> str:
    """What a search does at the moment, in a line."""
    idle = {*waiting(studies), *studies.resting}
    running = [trial for trial in studies.table if not trial.ended and trial not in idle]
    listed = [f"{t.id} in epoch {min(len(t.history) + 1, t.settings['epochs'])}" for t in running[:LISTED]]
    listed += [f"{len(running) - LISTED} more"] if len(running) > LISTED else []
    done = f"{sum(trial.ended for trial in studies.table)}/{studies.total} trials"
    return f"{done}; at work: {', '.join(listed)}" if listed else f"{done}; {len(idle)} waiting"


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
