"""TensorBoard files, a folder for each trial: `tensorboard --logdir RUN/tensorboard`."""

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from emoray import storage
from emoray.storage import AnyPath
from emoray.studies import Studies
from emoray.tracking.following import Delivery, Followed, News, flat

FOLDER = "tensorboard"
_UPLOAD_SECONDS = 30.0
_CLOSING_SECONDS = 60.0


class TensorBoard:
    """Writes every epoch's figures, and at a trial's end its settings with its best score.

    On S3, where nothing can be appended to, files grow on this machine and are put there anew from time to time.
    """

    def __init__(self, folder: AnyPath) -> None:
        """A trial's folder is written anew from its history when a run is resumed, so that no epoch comes twice."""
        self.folder = folder / FOLDER
        self.followed = Followed()
        self.delivery = Delivery(f"{self.folder}/")
        self.writers: dict[str, Any] = {}
        self.uploaded = time.monotonic()
        self._made = (
            None if isinstance(self.folder, Path) else tempfile.TemporaryDirectory(prefix="emoray-tensorboard-")
        )

    def update(self, studies: Studies) -> None:
        for news in self.followed.news(studies):
            self.delivery.put(partial(self._write, news))
        if self._made and time.monotonic() - self.uploaded > _UPLOAD_SECONDS:
            self.delivery.put(self._upload_all)
            self.uploaded = time.monotonic()
        if trouble := self.delivery.trouble():
            studies.notices.append(trouble)

    def close(self) -> str | None:
        self.delivery.put(self._close_all)
        return self.delivery.close(_CLOSING_SECONDS)

    def _write(self, news: News) -> None:
        writer = self._writer(news.trial)
        for row in news.rows:
            for name, value in row.items():
                if name != "epoch":
                    writer.add_scalar(name, value, int(row["epoch"]))
        writer.flush()
        if news.ended:
            self._end(news)

    def _upload_all(self) -> None:
        for trial in self.writers:
            self._upload(trial)

    def _close_all(self) -> None:
        for trial in list(self.writers):
            self.writers.pop(trial).close()
            self._upload(trial)
        if self._made:
            self._made.cleanup()

    def _here(self, trial: str) -> Path:
        return (Path(self._made.name) if self._made else Path(str(self.folder))) / trial

    def _writer(self, trial: str) -> Any:
        if trial not in self.writers:
            from tensorboardX import SummaryWriter  # without TensorFlow, which the driver does not import

            for left in (self._here(trial), self.folder / trial):
                storage.remove(left)
            self.writers[trial] = SummaryWriter(str(self._here(trial)))
        return self.writers[trial]

    def _end(self, news: News) -> None:
        writer = self.writers.pop(news.trial)
        settings = {key: v if isinstance(v, int | float | str) else str(v) for key, v in flat(news.settings).items()}
        if news.best is not None:
            writer.add_hparams(settings, {"best_score": news.best["score"]}, name="settings")
        writer.close()
        self._upload(news.trial)

    def _upload(self, trial: str) -> None:
        if not self._made:
            return
        here = self._here(trial)
        for file in here.rglob("*"):
            if file.is_file():
                storage.copy(file, self.folder / trial / file.relative_to(here).as_posix())
