"""Ray's own metrics of a sweep, for the dashboard and Prometheus: counts by state, best scores, rate, epochs."""

import time

from ray.util.metrics import Gauge

from emoray.overview import best_trial, counts
from emoray.studies import Studies

_SECONDS = 2.0


class RayMetrics:
    """Gauges `emoray_*` with the sweep's name as a tag."""

    def __init__(self, sweep: str) -> None:
        self.tags = {"sweep": sweep}
        self.told = 0.0
        self.studies: Studies | None = None
        self.trials = Gauge("emoray_trials", "Trials by status.", ("sweep", "status"))
        self.best = Gauge("emoray_best_score", "Best score so far, higher is better.", ("sweep", "study"))
        self.rate = Gauge("emoray_images_per_second", "Images that all running trials train on.", ("sweep",))
        self.epochs = Gauge("emoray_epochs", "Epochs that have been trained.", ("sweep", "study"))

    def update(self, studies: Studies) -> None:
        self.studies = studies
        now = time.monotonic()
        if now - self.told >= _SECONDS:
            self.told = now
            self._tell(studies)

    def close(self) -> str | None:
        if self.studies is not None:  # the last ends came too soon after the figures that were told last
            self._tell(self.studies)
        return None

    def _tell(self, studies: Studies) -> None:
        trials = list(studies.table)
        for status, count in counts(trials).items():
            self.trials.set(count, {**self.tags, "status": status})
        running = [trial for trial in trials if not trial.ended and trial.history]
        self.rate.set(sum(trial.history[-1]["images_per_second"] for trial in running), self.tags)
        for name in studies.studies:
            own = studies.table.of(name)
            tags = {**self.tags, "study": name}
            self.epochs.set(sum(len(trial.history) for trial in own), tags)
            best = best_trial(own)
            if best is not None and best.best is not None:
                self.best.set(best.best["score"], tags)
