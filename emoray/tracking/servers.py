"""Tracking servers by name (`tracking: {name: mlflow, uri: ...}`)."""

import importlib.util
import logging
import os
import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emoray.errors import UserError
from emoray.studies import Studies
from emoray.tracking.following import Followed, Nothing, TrackedRun, Tracker, flat
from emoray.trial_state import FAILED, STOPPED

_CLOSING_SECONDS = 20.0
_BATCH = 100
"""What MLflow takes of parameters, and a safe number of metrics, in one request."""
_LONGEST = 500
_log = logging.getLogger(__name__)


def none(run: TrackedRun) -> Tracker:
    """No server."""
    return Nothing()


def mlflow(run: TrackedRun, *, uri: str, experiment: str | None = None) -> Tracker:
    """MLflow: a run for each trial with its settings, figures by epoch and end; `pip install 'emoray[mlflow]'`.

    The experiment has the sweep's name where none is given. A resumed sweep goes on in the same runs.
    """
    return _Mlflow(run, uri, experiment or run.sweep)


@dataclass(frozen=True)
class _News:
    """What is new of a trial, taken down at once: the thread that sends it must not see it change."""

    trial: str
    settings: Mapping[str, Any]
    rows: Sequence[Mapping[str, float]]
    status: str
    reason: str
    ended: bool


class _Mlflow:
    """Sends from a thread of its own: a server that is slow or gone costs the search nothing."""

    def __init__(self, run: TrackedRun, uri: str, experiment: str) -> None:
        if importlib.util.find_spec("mlflow") is None:
            raise UserError("tracking: mlflow is not installed; pip install 'emoray[mlflow]'")
        for name, value in (("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"), ("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")):
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self.run, self.uri = run, uri
        self.client = MlflowClient(tracking_uri=uri)
        try:
            found = self.client.get_experiment_by_name(experiment)
            self.experiment = found.experiment_id if found else self.client.create_experiment(experiment)
        except Exception as error:
            raise UserError(f"tracking.uri: no MLflow server answers at {uri} ({_short(error)})") from None
        self.followed = Followed()
        self.runs: dict[str, str] = {}
        self.news: queue.Queue[_News | None] = queue.Queue()
        self.lost: str | None = None
        self.told = False
        self.thread = threading.Thread(target=self._deliver, name="mlflow", daemon=True)
        self.thread.start()

    def update(self, studies: Studies) -> None:
        for trial, rows in self.followed.news(studies):
            news = _News(trial.id, dict(trial.settings), rows, trial.status, trial.reason, trial.ended)
            self.news.put(news)
        if self.lost and not self.told:
            self.told = True
            studies.notices.append(f"tracking: {self.uri} is lost ({self.lost}); the search goes on without it")

    def close(self) -> None:
        self.news.put(None)
        self.thread.join(_CLOSING_SECONDS)

    def _deliver(self) -> None:
        try:
            while (news := self.news.get()) is not None:
                self._send(news)
        except Exception as error:  # whatever a server does, the search must go on
            self.lost = _short(error)
            _log.warning("MLflow at %s: %s", self.uri, self.lost)

    def _send(self, news: _News) -> None:
        from mlflow.entities import Metric, Param

        known = 0
        if news.trial not in self.runs:
            self.runs[news.trial], known = self._begin(news.trial)
            params = [Param(key, str(value)[:_LONGEST]) for key, value in flat(news.settings).items()]
            for i in range(0, 0 if known else len(params), _BATCH):
                self.client.log_batch(self.runs[news.trial], params=params[i : i + _BATCH])
        run = self.runs[news.trial]
        for row in news.rows:
            epoch = int(row["epoch"])
            if epoch <= known:
                continue
            metrics = [Metric(_key(name), float(value), 0, epoch) for name, value in row.items()]
            for i in range(0, len(metrics), _BATCH):
                self.client.log_batch(run, metrics=metrics[i : i + _BATCH])
        self.client.set_tag(run, "emoray.status", news.status)
        if news.ended:
            self.client.set_tag(run, "emoray.reason", news.reason[:_LONGEST])
            status = {FAILED: "FAILED", STOPPED: "KILLED"}.get(news.status, "FINISHED")
            self.client.set_terminated(run, status=status)

    def _begin(self, trial: str) -> tuple[str, int]:
        """The trial's run on the server, and how many epochs of it are there already."""
        tags = {"emoray.run": str(self.run.folder.absolute()), "emoray.trial": trial}
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        found = self.client.search_runs([self.experiment], wanted, max_results=1)
        if found:
            return found[0].info.run_id, int(found[0].data.metrics.get("epoch", 0))
        return self.client.create_run(self.experiment, tags=tags, run_name=trial).info.run_id, 0


def _key(name: str) -> str:
    """MLflow allows letters, digits and _-./ and blanks in a key."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
