"""Whether a trial goes on after an epoch, by its settings and its history alone."""

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
    scores = [row["score"] for row in history]
    if registry.build("stopping", rule, scores[quiet:]):
        return f"{rule['name']}: no better since epoch {int(np.argmax(scores)) + 1}"
    return ""
