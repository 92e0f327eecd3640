"""What to use, in sentences: the first thing on the page.

The one rule to know: the choice was made on validation and selection images, so the sentences report the test score of
what was chosen and never choose by it; and an ensemble whose cross-fitted gain may be chance is not recommended.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from emoray import advice, readings
from emoray.report.run import Interval, Run, interval
from emoray.report.scores import natural, score_title, title
from emoray.report.tables import savings


class Fact(NamedTuple):
    """A figure, what it is, and a line about it."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class Answer:
    """The headline, the sentences under it and the figures beside it."""

    headline: str
    sentences: tuple[str, ...]
    facts: tuple[Fact, ...]


def answer(run: Run) -> Answer:
    members = run.ensemble.get("members") or []
    test = run.ensemble.get("test") or {}
    facts = [*_scores(run, test), *_effort(run)]
    if run.best is None:
        return Answer("No trial has a score yet.", (_without_scores(run),), tuple(facts))
    if not members:
        headline = (
            f"The best trial so far is {run.best.name}: "
            f"{score_title(run)} {plain(natural(run, run.best.score))} on validation."
        )
        sentences = [
            "Nothing has been measured on test images: this run has no ensemble.json, so it was not finalized."
        ]
        return Answer(headline, tuple(sentences), tuple(facts))
    headline = f"Use {advice.what(run.ensemble)}"
    metric = _metric(run, test)
    score = interval((test.get(_used(run)) or {}).get(metric))
    headline += f": {title(metric)} {score.estimate:.3f} on test." if score else "."
    headline = headline.replace("-F1", "\u2011F1")  # Large type on a phone would break the line at this hyphen.
    return Answer(headline, tuple(_sentences(run, members, test, score)), tuple(facts))


def _used(run: Run) -> str:
    """What of `test` holds the scores of the recommendation: `ensemble` or `best_single`."""
    return str(run.ensemble.get("recommended") or "ensemble")


def _metric(run: Run, test: dict[str, Any]) -> str:
    """The sweep's metric, or macro-F1 where test was not scored by it, as by the recall of one class."""
    return run.metric if run.metric in (test.get("ensemble") or {}) else "macro_f1"


def _sentences(run: Run, members: list[dict[str, Any]], test: dict[str, Any], score: Interval | None) -> list[str]:
    if not score:
        return ["No test scores are recorded in this run, so there is no figure that the choice cannot have flattered."]
    sentences = []
    several = readings.told(run.ensemble.get("test_reads") or [])
    if "images" in test:
        measured = f"Measured {'' if several else 'once '}on {test['images']:,} test images"
        unseen = "" if several else " that nothing was chosen on"
        sentences.append(f"{measured}{unseen}; the 95 % interval is {score.low:.3f} to {score.high:.3f}.")
    if several:
        sentences.append(several)
    gain = interval((test.get("gain") or {}).get(_metric(run, test)))
    sentences += [told for told in (advice.why(run.ensemble, signed), advice.better(run.ensemble, signed)) if told]
    if advice.alone(run.ensemble):
        gain = None  # of a model over itself
    if gain and _used(run) == "ensemble" and len(members) > 1:
        sentences.append(_gain(gain, str((test.get("best_single") or {}).get("trial", "the best single model"))))
    elif gain and _used(run) != "ensemble":
        sentences.append(f"On test the gain of the ensemble is {signed(gain.estimate)}, {_bounds(gain)}.")
    return [*sentences, *(run.ensemble.get("notes") or [])]


def _gain(gain: Interval, single: str) -> str:
    if gain.includes_zero:
        return f"On test its gain over the best single model, {single}, is {signed(gain.estimate)}, {_bounds(gain)}."
    if gain.estimate < 0:
        return (
            f"That is {-gain.estimate:.3f} worse than the best single model, {single}, {_bounds(gain)}: "
            "what the selection images promised did not hold on test."
        )
    return f"That is {gain.estimate:.3f} better than the best single model, {single}, {_bounds(gain)}."


def _bounds(gain: Interval) -> str:
    return advice.bounds(gain._asdict(), signed)


def _scores(run: Run, test: dict[str, Any]) -> list[Fact]:
    used, gains = test.get(_used(run)) or {}, test.get("gain") or {}
    facts = []
    for metric in dict.fromkeys([_metric(run, test), "accuracy", "macro_f1"]):
        score = interval(used.get(metric))
        if score:
            facts.append(Fact(f"test {title(metric)}", f"{score.estimate:.3f}", f"{score.low:.3f} to {score.high:.3f}"))
    gain = interval(gains.get(_metric(run, test)))
    if gain and not advice.alone(run.ensemble):
        verdict = "includes zero" if gain.includes_zero else "excludes zero"
        note = f"{signed(gain.low)} to {signed(gain.high)}, {verdict}"
        name = "gain over the best single model" if _used(run) == "ensemble" else "what the ensemble would gain"
        facts.append(Fact(name, signed(gain.estimate), note))
    if not facts and run.best is not None:
        facts.append(Fact(f"best validation {score_title(run)}", plain(natural(run, run.best.score)), run.best.name))
    return facts


def _effort(run: Run) -> list[Fact]:
    rows = savings(run)
    counts: dict[str, int] = {}
    for row in rows:
        for status, n in row.statuses.items():
            counts[status] = counts.get(status, 0) + n
    told = ", ".join(f"{n} {status}" for status, n in counts.items())
    facts = [Fact("trials", f"{len(run.trials):,}", told)] if run.trials else []
    if spent := sum(trial.seconds for trial in run.trials):
        facts.append(Fact("training time", duration(spent), "added up over all trials"))
    planned, saved = sum(row.planned for row in rows), sum(row.saved for row in rows)
    if saved:
        facts.append(Fact("epochs spared by stopping", f"{saved / planned:.0%}", f"{saved:,} of {planned:,}"))
    return facts


def _without_scores(run: Run) -> str:
    failed = sum(trial.status == "failed" for trial in run.trials)
    if not run.trials:
        return "No trial has been started."
    if failed == len(run.trials) == 1:
        return "Its only trial failed; the reason stands under Training."
    if failed == len(run.trials):
        return f"All {failed} trials failed; their reasons stand under Training."
    return f"{len(run.trials) - failed} of {len(run.trials)} trials have not finished an epoch; {failed} failed."


def plain(value: float | None, places: int = 3) -> str:
    """0.612, with a true minus sign; a dash for nothing."""
    return "–" if value is None else f"{value:.{places}f}".replace("-", "−")


def signed(value: float) -> str:
    """+0.012 or −0.003, with a true minus sign."""
    return f"{value:+.3f}".replace("-", "−")


def duration(seconds: float) -> str:
    """48 s, 12 min, 3.4 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"
