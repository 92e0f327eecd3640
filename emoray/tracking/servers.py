"""Tracking servers by name (`tracking: {name: mlflow, uri: ...}`)."""

import importlib.util
import os
from functools import partial

from emoray.errors import UserError
from emoray.studies import Studies
from emoray.tracking.following import Delivery, Followed, News, Nothing, TrackedRun, Tracker, flat
from emoray.trial_state import FAILED, FINISHED, RUNNING, STOPPED, UNFINISHED

_CLOSING_SECONDS = 20.0
_BATCH = 100
"""What MLflow takes of parameters, and a safe number of metrics, in one request."""
_LONGEST = 500
_STATES = {FAILED: "FAILED", STOPPED: "KILLED", UNFINISHED: "KILLED", FINISHED: "FINISHED"}
"""What MLflow calls the ends of trials."""
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two lines at the end of each trial, across the display
}


def none(run: TrackedRun) -> Tracker:
    """No server."""
    return Nothing()


def mlflow(run: TrackedRun, *, uri: str, experiment: str | None = None) -> Tracker:
    """MLflow: a run for each trial with its settings, figures by epoch and end; `pip install 'emoray[mlflow]'`.

    The experiment has the sweep's name where none is given. A resumed sweep goes on in the same runs.
    """
    return _Mlflow(run, uri, experiment or run.sweep)


class _Mlflow:
    """A run for each trial, found again by its tags."""

    def __init__(self, run: TrackedRun, uri: str, experiment: str) -> None:
        if importlib.util.find_spec("mlflow") is None:
            raise UserError("tracking: mlflow is not installed; pip install 'emoray[mlflow]'")
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self.run = run
        self.client = MlflowClient(tracking_uri=uri)
        try:
            found = self.client.get_experiment_by_name(experiment)
            self.experiment = found.experiment_id if found else self.client.create_experiment(experiment)
        except Exception as error:
            raise UserError(f"tracking.uri: no MLflow server answers at {uri} ({_short(error)})") from None
        self.followed = Followed()
        self.runs: dict[str, str] = {}
        self.states: dict[str, str] = {}
        """What the server knows of each trial: its status."""
        self.delivery = Delivery(uri)

    def update(self, studies: Studies) -> None:
        for news in self.followed.news(studies):
            self.delivery.put(partial(self._send, news))
        if trouble := self.delivery.trouble():
            studies.notices.append(trouble)

    def close(self) -> str | None:
        self.delivery.put(self._leave)
        return self.delivery.close(_CLOSING_SECONDS)

    def _send(self, news: News) -> None:
        from mlflow.entities import Metric

        known = 0 if news.trial in self.runs else self._begin(news)
        run, moment = self.runs[news.trial], int(news.moment * 1000)
        for row in news.rows:
            epoch = int(row["epoch"])
            metrics = [Metric(_key(name), float(value), moment, epoch) for name, value in row.items()]
            for i in range(0, 0 if epoch <= known else len(metrics), _BATCH):
                self.client.log_batch(run, metrics=metrics[i : i + _BATCH])
        self._tell_state(news.trial, news.status, news.reason)

    def _begin(self, news: News) -> int:
        """Find the trial's run on the server, or begin one; returns how many epochs of it are there already.

        A trial that was begun anew, since its loss was lost, has fewer: its curve would be drawn over the old one.
        """
        from mlflow.entities import Param

        tags = {"emoray.run": str(self.run.folder.absolute()), "emoray.trial": news.trial}
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        for found in self.client.search_runs([self.experiment], wanted):
            known = int(found.data.metrics.get("epoch", 0))
            if known <= news.epochs:
                self.runs[news.trial], self.states[news.trial] = found.info.run_id, found.data.tags["emoray.status"]
                return known
            self.client.delete_run(found.info.run_id)
        tags["emoray.status"] = RUNNING
        run = self.client.create_run(self.experiment, tags=tags, run_name=news.trial).info.run_id
        self.runs[news.trial], self.states[news.trial] = run, RUNNING
        params = [Param(key, str(value)[:_LONGEST]) for key, value in flat(news.settings).items()]
        for i in range(0, len(params), _BATCH):
            self.client.log_batch(run, params=params[i : i + _BATCH])
        return 0

    def _leave(self) -> None:
        """Trials that go on only when the sweep is resumed do not run: nobody would end them on the server."""
        for trial in [trial for trial, status in self.states.items() if status == RUNNING]:
            self._tell_state(trial, UNFINISHED, "")

    def _tell_state(self, trial: str, status: str, reason: str) -> None:
        """Tell how a trial stands, where the server does not know: an end that is told again gets another time."""
        if status == self.states[trial]:
            return
        self.states[trial] = status
        run = self.runs[trial]
        self.client.set_tag(run, "emoray.status", status)
        self.client.set_tag(run, "emoray.reason", reason[:_LONGEST])
        if status == RUNNING:
            self.client.update_run(run, status="RUNNING")
        else:
            self.client.set_terminated(run, status=_STATES[status])


def _key(name: str) -> str:
    """MLflow allows letters, digits and _-./ and blanks in a key."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
