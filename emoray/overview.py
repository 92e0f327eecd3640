"""The state of a search as a person wants it: counts, the best so far with its settings, what runs, time left.

It fits any terminal from 80 columns on, and its height, however many trials there are.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean as mean

from rich.console import Group
from rich.table import Table
from rich.text import Text

from emoray import space
from emoray.config import Sweep
from emoray.studies import Studies
from emoray.text import counted, shortened
from emoray.trial_state import FAILED, FINISHED, RUNNING, STOPPED, UNFINISHED, Trial

SHOWN = 12
"""Running trials that are shown where there is room."""
_BARS = "▁▂▃▄▅▆▇█"
_CURVE = 3
"""The column of the curves among those of the running trials."""
_NAME = 12
"""What is kept of a name however little room there is."""
_OTHER_LINES = 9
"""Of a terminal's height, what is not left for running trials."""


def overview(studies: Studies, elapsed: float, width: int, height: int = 24) -> Group:
    """The lines that the live display draws, for a terminal of `width` columns and `height` rows."""
    trials, metric = list(studies.table), studies.sweep.search.metric
    lines: list[Text | Table] = [_line(text, "bold") for text in _heads(studies, trials, elapsed)]
    best = best_trial(trials)
    if best is not None:
        lines.append(_line(_best(best, metric, width), "green"))
        told = [f"{name} {value}" for name, value in drawn(best, studies.sweep).items()]
        lines += [_line(text, "dim") for text in _two_lines(told or ["nothing is drawn in its study"], width)]
    idle = waiting(studies)
    mine = (trial for trial in trials if not trial.ended and trial not in studies.resting)
    running = sorted(mine, key=lambda trial: trial in idle)
    room = max(1, min(SHOWN, height - _OTHER_LINES))
    if running:
        lines.append(_table(running[:room], metric, width))
    if len(running) > room:
        lines.append(_line(f"and {len(running) - room} more", "dim"))
    return Group(*lines)


def best_trial(trials: Iterable[Trial]) -> Trial | None:
    """The trial with the highest score; failed ones do not count."""
    scored = [trial for trial in trials if trial.history and trial.status != FAILED]
    return max(scored, key=lambda trial: max(trial.curve), default=None)


def natural(trial: Trial, metric: str) -> str:
    """A trial's best score as the metric is usually written: log-loss is positive, lower is better."""
    if not trial.history or max(trial.curve) == -math.inf:
        return ""
    score = max(trial.curve)
    return f"{-score if metric == 'log_loss' else score:.4f}"


def sparkline(values: Sequence[float], width: int) -> str:
    """The last values as a row of bars; what is no number is a blank."""
    values = list(values)[-width:]
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[int((value - low) * scale)] if math.isfinite(value) else " " for value in values)


def waiting(studies: Studies) -> list[Trial]:
    """Trials that have not ended and do not train now: they wait for a place, or for the others of their round."""
    return [*studies.waiting, *(studies.rounds.paused if studies.rounds is not None else ())]


def at_work(studies: Studies) -> list[Trial]:
    """Trials that train now."""
    idle = {*waiting(studies), *studies.resting}
    return [trial for trial in studies.table if not trial.ended and trial not in idle]


def standing(studies: Studies) -> str:
    """How many trials have ended, go on and are still to come, and what they cost at most, before any is given out."""
    go_on = waiting(studies)
    done = f"{sum(trial.ended for trial in studies.table)} ended, {len(go_on)} go on, {studies.remaining.in_all} new"
    beyond = sum(len(trial.history) >= studies.studies[trial.study].epochs for trial in go_on)
    epochs = to_spend(studies, dict.fromkeys(studies.studies, 1.0))
    told = f"{done}: at most {counted(epochs, 'epoch')} more"
    if beyond == 1:
        told += "; 1 of those that go on has all epochs of the present limit, or more, and ends where it is"
    elif beyond:
        told += f"; {beyond} of those that go on have all epochs of the present limit, or more, and end where they are"
    return told


def to_spend(studies: Studies, cost: Mapping[str, float]) -> float:
    """What the epochs that are still to be trained cost at most, by what one of each study costs."""
    todo = [t for t in studies.table if t.study in cost and not t.ended and t not in studies.resting]
    begun = sum(cost[t.study] * max(0, t.settings["epochs"] - len(t.history)) for t in todo)
    whole = {name: study.epochs * cost[name] for name, study in studies.studies.items()}
    if studies.sweep.search.share == "best":  # whose they will be is not known: the costliest's at most
        return begun + studies.remaining.in_all * max(whole.values())
    return begun + sum(studies.remaining.of(name) * whole[name] for name in whole)


def drawn(trial: Trial, sweep: Sweep) -> dict[str, str]:
    """What was drawn for a trial's best epoch, by names that tell them apart; nothing where its space is gone."""
    study = next((study for study in sweep.studies if study.name == trial.study), None)
    found: dict[str, str] = {}
    values = trial.at_best[1]

    def recall(place: str, sampler: space.Sampler) -> object:
        value = values[place]
        shown = sampler.quantile(value) if isinstance(sampler, space.Normal) else value
        found[place] = f"{shown:.3g}" if isinstance(shown, float) else str(shown)
        return value

    try:
        if study is not None:
            space.draw(study.space, recall)
    except (KeyError, ValueError):
        return {}
    last = Counter(place.rpartition(".")[2] for place in found)
    short = {place: place.rpartition(".")[2] for place in found}
    return {short[place] if last[short[place]] == 1 else place: shown for place, shown in found.items()}


def saved_epochs(trials: Iterable[Trial]) -> int:
    """The epochs that early stopping has saved."""
    return sum(trial.settings["epochs"] - len(trial.history) for trial in trials if trial.status == STOPPED)


def time_left(studies: Studies) -> float | None:
    """Seconds that the search needs if nothing more is stopped early; None before there is anything to go by."""
    running = max(1, len(at_work(studies)))
    rows = [row["seconds"] for trial in studies.table for row in trial.history]
    if not rows:
        return None
    of = {
        name: [row["seconds"] for trial in studies.table.of(name) for row in trial.history] for name in studies.studies
    }
    return to_spend(studies, {name: mean(own or rows) for name, own in of.items()}) / running


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 02:03."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


def data_wait(row: Mapping[str, float]) -> str:
    """The share of an epoch's training that was spent waiting for data; empty where nobody measured it."""
    return f"{row['data_wait']:.0%}" if "data_wait" in row else ""


def counts(trials: Sequence[Trial], at_work: bool = True) -> Mapping[str, int]:
    """Trials by status; `at_work` is whether a process is, on their run."""
    shown = Counter(trial.shown(at_work) for trial in trials)
    return {status: shown[status] for status in (FINISHED, STOPPED, FAILED, RUNNING if at_work else UNFINISHED)}


def _heads(studies: Studies, trials: Sequence[Trial], elapsed: float) -> Iterable[str]:
    known, idle, rest = dict(counts(trials)), len(waiting(studies)), len(studies.resting)
    known |= {RUNNING: known[RUNNING] - idle - rest, "waiting": idle, UNFINISHED: rest}
    listed = " · ".join(f"{count} {status}" for status, count in known.items() if count)
    yield f"{sum(trial.ended for trial in trials)}/{studies.total} trials  {listed}"
    left, saved = time_left(studies), saved_epochs(trials)
    told = [clock(elapsed)]
    if left is not None:
        told.append(f"at most {clock(left)} left")
    if saved:
        told.append(f"{saved} epochs saved by early stopping")
    yield "  ".join(told)


def _best(trial: Trial, metric: str, width: int) -> str:
    told, epoch = f"best {metric} {natural(trial, metric)}  ", f", epoch {int((trial.best or {}).get('epoch', 0))}"
    return f"{told}{shortened(trial.id, max(_NAME, width - len(told) - len(epoch)))}{epoch}"


def _two_lines(parts: Sequence[str], width: int) -> list[str]:
    """Parts side by side below the line that they belong to, on a second line where one does not hold them."""
    lines = ["  "]
    for part in parts:
        if len(lines) == 1 and len(lines[0].rstrip()) and len(lines[0]) + len(part) > width:
            lines.append("  ")
        lines[-1] += f"{part}  "
    return [line.rstrip() for line in lines]


def _line(text: str, style: str) -> Text:
    return Text(text, style=style, overflow="ellipsis", no_wrap=True)


def _table(running: Sequence[Trial], metric: str, width: int) -> Table:
    """The running trials; what a line has no room for is taken from the curves, then from the middle of the names."""
    heads = ("trial", "epoch", metric, "curve", "images/s", "data wait")
    rows = []
    for trial in running:
        rate = f"{trial.history[-1]['images_per_second']:,.0f}" if trial.history else ""
        waits = data_wait(trial.history[-1]) if trial.history else ""
        epochs = f"{len(trial.history)}/{trial.settings['epochs']}"
        rows.append((trial.id, epochs, natural(trial, metric), "", rate, waits))
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    left = width - sum(widths) + widths[_CURVE] - 2 * (len(heads) - 1)
    curve = min(60, max(6, left))
    name = max(_NAME, widths[0] - max(0, curve - left))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in heads:
        table.add_column(head, justify="left" if head in ("trial", "curve") else "right", no_wrap=True)
    for trial, row in zip(running, rows, strict=True):
        table.add_row(shortened(row[0], name), *row[1:_CURVE], sparkline(trial.curve, curve), *row[_CURVE + 1 :])
    return table
