"""How a sweep ends on the terminal: the leaderboard, the scores on test, what to use and why, where the report lies."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from emoray import advice, leaderboard, readings
from emoray.overview import natural
from emoray.run_folder import RunFolder
from emoray.text import CODE, in_columns, wrapped
from emoray.trial_state import Trial


def closing(
    candidates: Sequence[Trial], ensemble: Mapping[str, Any], folder: RunFolder, width: int | None = None
) -> str:
    """The last lines of a sweep. `candidates` are best first by validation; no line but a command is over `width`."""
    told = [*_leaderboard(candidates, ensemble, width), "", *_on_test(ensemble, width), ""]
    told.append(advice.alone(ensemble) or f"use {advice.what(ensemble)}. {advice.why(ensemble, _signed)}")
    told += [line for line in [advice.better(ensemble, _signed)] if line]
    kept = [wrapped(line, width) for line in ("", *told)]
    if better := ensemble.get("better"):
        kept.append(f"{CODE}emoray finalize {_quoted(folder)} --set finalize.ensemble={better['method']}")
    return "\n".join([*kept, "report:", f"{CODE}{folder.report}"])


def _leaderboard(candidates: Sequence[Trial], ensemble: Mapping[str, Any], width: int | None) -> Iterator[str]:
    metric, listed = ensemble["metric"], leaderboard.lines(candidates, ensemble)
    rows = [("rank", "model", "validation", "selection ", "epochs", "weight")]
    for line in listed:
        averaged = line.rank is None
        score, epochs = ("", f"{line.averaged}") if averaged else (natural(line.trial, metric), len(line.trial.history))
        weight = "-" if line.weight is None else f"{line.weight:.3f}"
        rows.append((f"{line.rank or ''}", line.name, score, line.score, f"{epochs}", weight))
    yield f"{metric} of the candidates:"
    yield in_columns(rows, width, names=1, right=(0, 2, 3, 4, 5))
    if len(listed) > 1:
        yield leaderboard.WHY
    if any(line.rank is None for line in listed):
        yield "soup: the mean of the weights of its trial's best epochs, so many of them; it has no validation score."
    if ensemble["recommended"] != "ensemble" and not advice.alone(ensemble):
        yield f"weight: part in the fitted {advice.method(ensemble)} ensemble (not recommended)"


def _on_test(ensemble: Mapping[str, Any], width: int | None) -> Iterator[str]:
    test, several = ensemble["test"], readings.told(ensemble["test_reads"])
    unseen = "" if several else " that nothing was chosen on"
    yield f"on {test['images']:,} test images{unseen}, with 95 % intervals:"
    metric = ensemble["metric"]
    shown = list(dict.fromkeys(["accuracy", metric if metric in test["ensemble"] else "macro_f1"]))
    rows = [("", *(f" {name}" for name in shown))]
    if advice.alone(ensemble):
        rows.append((test["best_single"]["trial"], *(f" {_interval(test['best_single'][name])}" for name in shown)))
    else:
        rows.append(("best single model", *(f" {_interval(test['best_single'][name])}" for name in shown)))
        named = f"{advice.method(ensemble)} ensemble"
        rows.append((named, *(f" {_interval(test['ensemble'][name])}" for name in shown)))
        rows.append(("gain", *(_interval(test["gain"][name], "+") for name in shown)))
    yield in_columns(rows, width)
    if several:
        yield several


def _interval(interval: Mapping[str, float | None], sign: str = "") -> str:
    numbers = [
        f"{interval[key]:{sign}.4f}" if interval[key] is not None else "-" for key in ("estimate", "low", "high")
    ]
    return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"


def _signed(value: float) -> str:
    return f"{value:+.4f}"


def _quoted(folder: RunFolder) -> str:
    return shlex.quote(str(folder.path))
