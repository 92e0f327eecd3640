"""What to use and why, in the words that terminal, page and model card share; from ensemble.json alone.

The one rule: nothing is compared with itself. Where one model is all that there is to use, a sentence says so, and no
gain is told.
"""

from collections.abc import Callable, Mapping
from typing import Any

from emoray.blend import Blend

Ensemble = Mapping[str, Any]
Signed = Callable[[float], str]


def what(ensemble: Ensemble) -> str:
    """`lenet-001 alone` or `the ensemble of 3 models`."""
    members = ensemble["members"]
    if len(members) == 1:
        return f"{members[0].get('name') or members[0]['trial']} alone"
    return f"the ensemble of {len(members)} models"


def method(ensemble: Ensemble) -> str:
    """The method that was fitted, and what it picked where it chooses among others."""
    named, picked = str(ensemble.get("method")), ensemble.get("picked")
    return named if picked in (None, named) else f"{named} ({picked})"


def alone(ensemble: Ensemble) -> str:
    """Why one model is all that there is to use; empty where there is an ensemble to compare it with."""
    candidates, members = ensemble.get("candidates") or [], ensemble.get("members") or []
    if len(members) != 1:
        return ""
    name = members[0].get("name") or members[0].get("trial")
    if len(candidates) == 1:
        kept = (ensemble.get("finalize") or {}).get("keep") == 1
        why = ", as finalize.keep is 1" if kept else ""
        return f"{name} is used alone: it is the only candidate{why}, so there is nothing to combine."
    methods = ensemble.get("methods") or {}
    used = [_used(methods.get(one) or {}) for one in (ensemble.get("method"), "single")]
    if used[0] is None or used[0] != used[1] or len(used[0]) != 1:
        return ""
    return (
        f"{name} is used alone: {method(ensemble)}, the method that was fitted, gives all its weight to it, the best "
        f"of {len(candidates)} candidates on the selection images."
    )


def why(ensemble: Ensemble, signed: Signed) -> str:
    """Why the ensemble is recommended, or why not: its gain on selection images that it was not fitted to."""
    if told := alone(ensemble):
        return told
    gain = ((ensemble.get("methods") or {}).get(ensemble.get("method")) or {}).get("gain_over_single") or {}
    if not _known(gain):
        return ""
    named, used = method(ensemble), _fitted(ensemble)
    told = f"its gain over the best single model is {signed(gain['estimate'])}, {bounds(gain, signed)}"
    if ensemble.get("use", "auto") != "auto":
        return f"That was asked for. On selection images that the {named} ensemble was not fitted to, {told}."
    if ensemble.get("recommended", "ensemble") == "ensemble":
        several = len(ensemble.get("members") or []) > 1
        chosen = f"It is the {named} ensemble, chosen" if several else "It was chosen"
        return f"{chosen} because on selection images that it was not fitted to, {told}."
    of = f"of {len(used)} models" if len(used) != 1 else f"gives all its weight to {used[0]} and"
    return f"The {named} ensemble {of} is not recommended: on selection images that it was not fitted to, {told}."


def bounds(gain: Mapping[str, float], signed: Signed) -> str:
    """The interval of a gain, and whether it may be none."""
    verdict = "includes" if gain["low"] <= 0 <= gain["high"] else "excludes"
    return f"with an interval of {signed(gain['low'])} to {signed(gain['high'])}, which {verdict} zero"


def better(ensemble: Ensemble, signed: Signed) -> str:
    """A method that is surely better than what is used, and the setting to change; empty where there is none."""
    found = ensemble.get("better") or {}
    gain = found.get("gain") or {}
    if not _known(gain):
        return ""
    return (
        f"{found['method']} is surely better: on selection images that neither was fitted to, it gains "
        f"{signed(gain['estimate'])} over what is used, {bounds(gain, signed)}; finalize.ensemble={found['method']} "
        "chooses it."
    )


def _known(gain: Mapping[str, Any]) -> bool:
    return all(isinstance(gain.get(key), int | float) for key in ("estimate", "low", "high"))


def _fitted(ensemble: Ensemble) -> list[str]:
    """The models that the fitted ensemble consists of, recommended or not."""
    candidates = ensemble.get("candidates") or []
    used = _used((ensemble.get("methods") or {}).get(ensemble.get("method")) or {})
    if used is None:
        return [str(one.get("name")) for one in candidates if one.get("weight")]
    return [str(candidates[m].get("name")) if m < len(candidates) else "" for m in used]


def _used(entry: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The candidates that a method uses; None where its fit is not recorded."""
    return Blend.from_json(entry["blend"]).used if entry.get("blend") else None
