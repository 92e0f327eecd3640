"""From trials to the classifier that a user ships: candidates, their predictions, the ensemble, the report.

Everything that is chosen here is chosen on the selection split; test is scored for what was chosen, and each time that
it is under other settings is noted. It needs the run folder and a Ray cluster, and can run again alone.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emoray import (
    candidates,
    crossfit,
    illustrations,
    metrics,
    predictions,
    readings,
    registry,
    report,
    trials,
    verdict,
    versions,
)
from emoray.candidates import Candidate, Choice
from emoray.config import FinalizeSettings, Sweep
from emoray.errors import SweepFailed, UserError
from emoray.held_out import HeldOut, identical
from emoray.inside import jobs
from emoray.run_folder import RunFolder, write_csv, write_json
from emoray.text import counted
from emoray.trial_state import Trial

FOLDS = 5
METHODS = ("single", "uniform", "greedy", "log_loss", "cma_es", "stacking")
"""Compared in every run, beside the one that the sweep file names."""
COLUMNS = (
    *("rank", "trial", "checkpoint", "study", "model", "score"),
    *("selection_accuracy", "selection_macro_f1", "selection_log_loss"),
    *("weight", "temperature", "parameters", "epochs", "seconds"),
)


@dataclass(frozen=True)
class Result:
    """What finalize found: the trials of the candidates, best first by validation, and the content of ensemble.json."""

    candidates: Sequence[Trial]
    ensemble: Mapping[str, Any]


def run(
    folder: RunFolder,
    sweep: Sweep,
    held_out: HeldOut,
    progress: Callable[[str], None],
    searched: FinalizeSettings | None = None,
) -> Result:
    """Choose, predict, weigh, report. `searched` are the settings of the search, where they are not the sweep's.

    Raises SweepFailed where no trial has a checkpoint, UserError where none of them can be used.
    """
    table = trials.restore(folder)
    table.write(at_work=False)  # the report reads it, and what came with the folder may be anything
    choice = candidates.choose(table, sweep, searched)
    if not choice.candidates and not choice.left_out:
        raise SweepFailed(candidates.why_none(table))
    predicted = predictions.collect(choice.candidates, folder, held_out, sweep.finalize.tta, progress)
    left_out = choice.left_out + predicted.left_out
    if not predicted.candidates:
        raise UserError(candidates.why_none_usable(left_out))
    for one in left_out:
        progress(f"left out: {one.name}: {one.reason}")
    notes = _notes(choice, sweep.finalize, searched or sweep.finalize)
    for note in notes:
        progress(note)
    progress("fitting the ensemble on the selection split")
    ensemble = _plain(_ensemble(folder, sweep, held_out, predicted))
    ensemble |= {"left_out": [vars(one) for one in left_out], "notes": notes, "searched": table.reached()}
    ensemble["test_reads"] = readings.added(folder, ensemble["finalize"], [c.name for c in predicted.candidates])
    write_json(folder.ensemble, ensemble)
    _write_leaderboard(folder, predicted.candidates, ensemble)
    progress("looking inside a model of each study")
    for warning in jobs.look(predicted, table, sweep, held_out, ensemble["members"], progress):
        progress(warning)
    progress("writing the report")
    illustrations.write(folder, held_out, ensemble)
    report.model_card.write(folder.path)
    report.write(folder.path)
    trials_of = {candidate.trial.id: candidate.trial for candidate in predicted.candidates}
    return Result(list(trials_of.values()), ensemble)


def _notes(choice: Choice, settings: FinalizeSettings, searched: FinalizeSettings) -> list[str]:
    """What was asked for and cannot be had, since the search has not kept it."""
    notes = []
    if choice.not_kept:
        notes.append(
            f"The checkpoints of {counted(choice.not_kept, 'trial')} were not kept: the search keeps those of the best "
            f"{searched.keep} and of the best of each study."
        )
    if settings.soup > max(1, searched.soup):
        kept = f"the {searched.soup} best epochs" if searched.soup > 1 else "the best epoch alone"
        notes.append(
            f"finalize.soup is {settings.soup}, and the search kept the weights of {kept}: "
            "it has to be set before training."
        )
    return notes


def _ensemble(
    folder: RunFolder,
    sweep: Sweep,
    held_out: HeldOut,
    predicted: predictions.Predicted,
) -> dict[str, Any]:
    """The content of ensemble.json: fitted on selection, then scored once on test."""
    selection, classes = held_out.load("selection"), held_out.classes
    pool, method = predicted.probabilities["selection"], str(sweep.finalize.ensemble["name"])
    methods = {name: {"name": name} for name in METHODS} | {method: dict(sweep.finalize.ensemble)}
    bound = {name: registry.bind("ensemble", settings) for name, settings in methods.items()}
    metric = metrics.by_index(sweep.search.metric, classes)
    groups = identical(selection.images)
    fitted = crossfit.evaluate(pool, selection.labels, bound, metric, folds=FOLDS, seed=sweep.seed, groups=groups)
    identities = [candidate.identity(folder) for candidate in predicted.candidates]
    told = verdict.ensemble(fitted, method, sweep.finalize.use, identities, sweep.search.metric)
    shown = method if told["recommended"] == verdict.ENSEMBLE else "single"
    test = predicted.probabilities["test"]
    return {
        **told,
        "finalize": vars(sweep.finalize),
        "seed": sweep.seed,
        "versions": versions.installed(),
        "tta": sweep.finalize.tta,
        "classes": classes,
        "fingerprint": held_out.fingerprint,
        "selection_groups": int(groups.max()) + 1,
        "comparison": verdict.members(pool, selection.labels, identities, sweep.seed, groups),
        "label_issues": verdict.labels_in_doubt(selection, fitted.out_of_fold[shown], classes),
        "test": verdict.test(fitted, told, test, held_out.load("test"), classes, sweep.seed),
    }


def _write_leaderboard(folder: RunFolder, chosen: Sequence[Candidate], ensemble: Mapping[str, Any]) -> None:
    rows = []
    listed = zip(chosen, ensemble["candidates"], ensemble["comparison"]["listed"], strict=True)
    for rank, (candidate, member, scores) in enumerate(listed, start=1):
        rows.append(
            {
                **candidate.trial.row(),
                "rank": rank,
                "checkpoint": candidate.kind,
                "score": max(candidate.trial.curve),
                **{f"selection_{metric}": scores[metric] for metric in ("accuracy", "macro_f1", "log_loss")},
                "weight": member["weight"],
                "temperature": member["temperature"],
            }
        )
    write_csv(folder.leaderboard, COLUMNS, rows)


def _plain(value: Any) -> Any:
    """Plain JSON: NumPy's numbers as Python's, and null for what is not a number."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
