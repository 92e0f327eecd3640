"""What a person sees while a sweep runs: a live table on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.live import Live

from emoray import readings
from emoray.overview import clock, data_wait, natural, overview
from emoray.placement import Cluster
from emoray.run_folder import RunFolder
from emoray.studies import Studies
from emoray.trial_state import FAILED, Trial

REFRESH_SECONDS = 0.25


class Display(Protocol):
    """Shows messages and, as a context, the state of the search."""

    def say(self, message: str) -> None: ...

    def update(self, studies: Studies) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def on_terminal(plain: bool = False) -> Display:
    """The display for where the output goes."""
    console = Console(highlight=False, soft_wrap=True)
    return PlainDisplay() if plain or not console.is_terminal else LiveDisplay(console)


class PlainDisplay:
    """One line for each epoch and each end of a trial, with the time since the start."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.shown = Shown()

    def say(self, message: str) -> None:
        print(f"[{clock(time.monotonic() - self.began)}] {message}", flush=True)

    def update(self, studies: Studies) -> None:
        for line in self.shown.news(studies):
            self.say(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        sys.stdout.flush()


class Shown:
    """How far a display has followed the log of a search."""

    def __init__(self) -> None:
        self.trials = self.notices = 0

    def told(self, studies: Studies) -> list[str]:
        """What the search has to say since the last call."""
        new = studies.notices[self.notices :]
        self.notices += len(new)
        return new

    def news(self, studies: Studies) -> Iterator[str]:
        """A line for each trial that has got on since the last call, and what the search has to say."""
        new = studies.table.log[self.trials :]
        self.trials += len(new)
        for trial in dict.fromkeys(new):
            yield _line(studies.table.trials[trial], studies)
        yield from self.told(studies)


class LiveDisplay:
    """A table of the running trials that is redrawn in place, below lines that stay."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.began = time.monotonic()
        self.drawn = 0.0
        self.shown = Shown()
        self.live: Live | None = None

    def say(self, message: str) -> None:
        self.console.print(message, markup=False)

    def update(self, studies: Studies) -> None:
        for notice in self.shown.told(studies):
            self.say(notice)
        now = time.monotonic()
        if self.live is None or now - self.drawn < REFRESH_SECONDS:
            return
        self.drawn = now
        size = self.console.size
        self.live.update(overview(studies, now - self.began, size.width, size.height), refresh=True)

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


def _line(trial: Trial, studies: Studies) -> str:
    metric = studies.sweep.search.metric
    if trial.ended:
        told = f" {metric} {natural(trial, metric)} at epoch {int(trial.best['epoch'])}" if trial.best else ""
        why = f" ({trial.reason})" if trial.reason else ""
        ended = sum(other.ended for other in studies.table)
        return f"{trial.id} {trial.status}{why}:{told or ' no score'}   {ended}/{studies.total} trials"
    row = trial.history[-1]
    score = -row["score"] if metric == "log_loss" else row["score"]
    waits = f", data wait {data_wait(row)}" if data_wait(row) else ""
    return (
        f"{trial.id} epoch {len(trial.history)}/{trial.settings['epochs']} {metric} {score:.4f} "
        f"loss {row['train_loss']:.4f} {row['images_per_second']:,.0f} images/s{waits}"
    )
