"""How often test has been scored: a list in ensemble.json that every other finalization of a run goes on with.

The one rule: a score on test that was chosen among several flatters, so each reading under other settings is counted,
and what the run says of its test scores depends on the count.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from emoray import storage
from emoray.run_folder import RunFolder

UNKNOWN: Mapping[str, Any] = {"time": None, "finalize": None, "checkpoints": None}
"""A reading of which nothing is known but that it was: by an ensemble.json without the list, or one that is damaged."""


def added(folder: RunFolder, settings: Mapping[str, Any], checkpoints: Sequence[str]) -> list[dict[str, Any]]:
    """What the run has noted, with this reading where it is of other settings or other checkpoints than those."""
    noted = _noted(folder)
    new = {"finalize": dict(settings), "checkpoints": list(checkpoints)}
    if any(new == {key: one.get(key) for key in new} for one in noted):
        return noted
    return [*noted, {"time": datetime.now(UTC).isoformat(timespec="seconds"), **new}]


def told(readings: Sequence[Any]) -> str:
    """A sentence about test that was scored more than once; nothing where it was not."""
    if len(readings) < 2:
        return ""
    return (
        f"Test has been scored under {len(readings)} different settings, of finalize or by other checkpoints: "
        "the best of those scores flatters."
    )


def _noted(folder: RunFolder) -> list[dict[str, Any]]:
    text = storage.text(folder.ensemble)
    if not text:
        return []
    try:
        found = json.loads(text)["test_reads"]
    except (ValueError, KeyError, TypeError):
        return [dict(UNKNOWN)]
    return [dict(one) if isinstance(one, dict) else dict(UNKNOWN) for one in found] if isinstance(found, list) else []
