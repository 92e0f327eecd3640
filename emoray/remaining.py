"""What a run has still to do under a file that may have changed since it began. Pure, on studies and trials."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from emoray import notation, space
from emoray.study_settings import Study
from emoray.trial_state import Trial, signature

_OWN = ("study", "trials", "epochs", "workers", "cpus_per_worker", "gpus_per_worker", "data_cpus")
"""Of a model's entry, what is no setting that a trial keeps."""


def room(study: Study, trials: Iterable[Trial]) -> float:
    """How many trials a study can have, those of an earlier space that lie outside of its own included."""
    holds = space.size(study.space)
    return holds if math.isinf(holds) else holds + sum(not _within(study, trial) for trial in trials)


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What another file changes for the trials of a run, in a sentence each; both as `Sweep.resolved` tells them.

    Another range or choice in place of one is not told: new trials are drawn from it, and nothing was fixed.
    """
    old, new = _entries(before), _entries(after)
    told = [
        f"{name} is no longer in the file: its trials are kept, and get no more epochs"
        for name in old
        if name not in new
    ]
    found: dict[str, list[str]] = {}
    for name in (name for name in new if name in old):
        for difference in _differences(old[name], new[name], ""):
            found.setdefault(difference, []).append(name)
    if found:
        listed = "; ".join(f"{', '.join(names)}: {difference}" for difference, names in found.items())
        told.append(f"changed for new trials alone, those that were begun keep theirs: {listed}")
    return told


def _within(study: Study, trial: Trial) -> bool:
    """Whether what a trial began with could be drawn from its study's space."""
    settings, drawn = trial.first

    def recall(place: str, sampler: space.Sampler) -> Any:
        value = drawn[place]
        if isinstance(sampler, space.Range) and value not in (sampler.values() or ()):
            raise ValueError
        return value

    try:
        again = space.draw(study.space, recall)
    except (KeyError, ValueError):
        return False
    return signature({**again, "epochs": 0, "seed": 0}) == signature(settings)


def _entries(tree: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    listed = [entry for entry in tree.get("models") or () if isinstance(entry, Mapping)]
    return {str(entry.get("study")): {key: entry[key] for key in entry if key not in _OWN} for entry in listed}


def _differences(old: Any, new: Any, place: str) -> Iterator[str]:
    """Where two pieces of a file differ, but for samplers in the place of samplers."""
    if old == new or (notation.is_sampler(old) and notation.is_sampler(new)):
        return
    plain = [isinstance(one, Mapping) and not notation.is_sampler(one) for one in (old, new)]
    if all(plain) and old.get("name") == new.get("name"):
        for key in (key for key in new if key in old):  # another emoray wrote those that only one of them has
            yield from _differences(old[key], new[key], f"{place}.{key}" if place else key)
    else:
        yield f"{place or 'model'} {_shown(old)} -> {_shown(new)}"


def _shown(value: Any) -> str:
    return value["name"] if isinstance(value, Mapping) and "name" in value else notation.shown(value)
