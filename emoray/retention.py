"""Which checkpoints are kept while a sweep runs: those that can still matter, within `search.storage_limit`.

`best.npz`, and the single epochs beside it that an average is made of, are kept of running trials, of the best
`finalize.keep` and of the best of each study, so that every architecture can be looked into and a damaged file has a
successor: another ended trial cannot come among them any more, since the scores before it are final. `last.npz` is kept
of whatever may go on: running trials, those that reached their last epoch (a resume may give them more) and
those that failed for a reason that may pass.
"""

from collections.abc import Iterable, Sequence

from emoray import storage
from emoray.config import FinalizeSettings, Sweep
from emoray.storage import AnyPath
from emoray.trial_state import CRASH, DATA, ERROR, FAILED, FINISHED, MEMORY, PLACE, Trial, best
from emoray.trials import TrialTable

_MAY_PASS = (MEMORY, DATA, CRASH, PLACE, ERROR)


def tidy(table: TrialTable, ended: Trial, sweep: Sweep) -> list[str]:
    """Delete what can no longer matter now that a trial has ended; returns what a person should be told."""
    before = {trial.id for trial in table if trial.ended} if table.kept is None else table.kept | {ended.id}
    ended_before = [table.trials[id] for id in before]
    exist = storage.each(table.folder.path, lambda trial: table.checkpoint(trial, "best").exists(), ended_before)
    there = [trial for trial, exists in zip(ended_before, exist, strict=True) if exists]
    table.kept = _kept(there, sweep.finalize)
    for trial in there:
        if trial.id not in table.kept and trial.failure not in _MAY_PASS:
            _delete_best(table, trial)
    table.checkpoint(ended, "taken").unlink(missing_ok=True)
    if ended.status != FINISHED and ended.failure not in _MAY_PASS:
        table.checkpoint(ended, "last").unlink(missing_ok=True)
    return [] if sweep.search.storage_limit is None else _within(table, sweep.search.storage_limit)


def dropped(trials: Iterable[Trial], settings: FinalizeSettings) -> set[str]:
    """The trials of a run that was searched under `settings` whose best checkpoint was deleted on purpose."""
    ended = [trial for trial in trials if trial.ended]
    kept = _kept(ended, settings)
    return {trial.id for trial in ended if trial.id not in kept and trial.failure not in _MAY_PASS}


def used(folder: AnyPath) -> int:
    """Bytes of all checkpoints of a run folder's trials."""
    return storage.used(folder / "trials", "*/checkpoint/*.npz")


def _kept(ended: Sequence[Trial], settings: FinalizeSettings) -> set[str]:
    """The ended trials whose best checkpoint may still matter."""
    ordered = sorted(ended, key=lambda trial: (trial.index, trial.study))
    chosen = best(ordered, settings.keep, settings.per_architecture)
    for study in {trial.study for trial in ordered}:
        chosen += best([trial for trial in ordered if trial.study == study], 1)
    return {trial.id for trial in chosen}


def _within(table: TrialTable, limit: int) -> list[str]:
    """Delete what trials that have ended could go on from, the worst first, until what is left is within the limit.

    One that failed then begins anew if it is retried, so its best weights go as well.
    """
    ended = [t for t in table if t.ended and any(table.checkpoint(t, name).exists() for name in _spare(t))]
    for trial in sorted(ended, key=lambda trial: max(trial.curve, default=float("-inf"))):
        if used(table.folder.path) <= limit:
            return []
        table.checkpoint(trial, "last").unlink(missing_ok=True)
        if trial.status == FAILED:
            _delete_best(table, trial)
    taken = used(table.folder.path)
    if taken <= limit or table.over_limit:
        return []
    table.over_limit = True
    return [
        f"checkpoints take {taken / 1e9:.2f} GB, over storage_limit: what is left is of running trials and of the "
        "best, and is needed"
    ]


def _spare(ended: Trial) -> tuple[str, ...]:
    return ("last", "best") if ended.status == FAILED else ("last",)


def _delete_best(table: TrialTable, trial: Trial) -> None:
    best = table.checkpoint(trial, "best")
    best.unlink(missing_ok=True)
    for epoch in best.parent.glob("epoch-*.npz"):
        epoch.unlink(missing_ok=True)
