"""How a score is named and shown on the page.

The one rule to know: trials are ranked by a score of which more is better, so log-loss is negated there; people read it
as it is, where less is better.
"""

from emoray.report.run import Run

TITLES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "log_loss": "log-loss",
    "train_loss": "training loss",
    "train_accuracy": "training accuracy",
}
LOWER = frozenset({"log_loss", "train_loss", "ece", "brier"})
"""The metrics of which less is better."""


def title(metric: str) -> str:
    """A metric's name for people."""
    return TITLES.get(metric, metric.replace("_", " "))


def score_title(run: Run) -> str:
    """The name of the trials' score, as `natural` gives it."""
    return title(run.metric)


def natural(run: Run, score: float | None) -> float | None:
    """A trial's score as people read it: log-loss without its minus sign."""
    return -score if score is not None and run.metric in LOWER else score


def direction(metric: str) -> str:
    """What stands behind the name of a metric on an axis."""
    return ", lower is better" if metric in LOWER else ""


def number(value: float) -> str:
    """A short number for an axis: 0.25, 12, 3e-05."""
    return f"{0 if abs(value) < 1e-12 else value:.4g}".replace("e-0", "e-")
