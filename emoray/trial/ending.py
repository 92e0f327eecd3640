"""Whether a trial goes on after an epoch, by its settings and its history alone."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emoray import registry
from emoray.trial_state import quiet_epochs


def stop_reason(settings: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> str:
    """Why training should end after the last epoch; empty to go on."""
    if not history:
        return ""
    if not np.isfinite(history[-1]["train_loss"]):
        return f"the loss was not finite in epoch {len(history)}"
    rule = settings["early_stopping"]
    quiet = quiet_epochs(settings["schedule"], settings["epochs"])
    if registry.build("stopping", rule, comparable(history[quiet:])):
        return f"{rule['name']}: no better since epoch {int(np.argmax([row['score'] for row in history])) + 1}"
    return ""


def comparable(history: Sequence[Mapping[str, float]]) -> list[float]:
    """The scores by which a trial may be stopped: those that are the best so far, or at a rate not above the best's.

    After a restart of its schedule a trial looks bad without being so, until the rate has come down again.
    """
    scores: list[float] = []
    best, rate = -math.inf, math.inf
    for row in history:
        if row["score"] > best:
            best, rate = row["score"], row["learning_rate"]
        elif row["learning_rate"] > rate:
            continue
        scores.append(row["score"])
    return scores
