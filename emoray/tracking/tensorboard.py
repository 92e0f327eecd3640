"""TensorBoard files, a folder for each trial: `tensorboard --logdir RUN/tensorboard`."""

import tempfile
import time
from pathlib import Path
from typing import Any

from emoray import storage
from emoray.storage import AnyPath
from emoray.studies import Studies
from emoray.tracking.following import Followed, flat
from emoray.trial_state import Trial

FOLDER = "tensorboard"
_UPLOAD_SECONDS = 30.0


class TensorBoard:
    """Writes every epoch's figures, and at a trial's end its settings with its best score.

    On S3, where nothing can be appended to, files grow on this machine and are put there anew from time to time.
    """

    def __init__(self, folder: AnyPath) -> None:
        """A trial's folder is written anew from its history when a run is resumed, so that no epoch comes twice."""
        self.folder = folder / FOLDER
        self.followed = Followed()
        self.writers: dict[str, Any] = {}
        self.uploaded = time.monotonic()
        self._made = (
            None if isinstance(self.folder, Path) else tempfile.TemporaryDirectory(prefix="emoray-tensorboard-")
        )

    def update(self, studies: Studies) -> None:
        for trial, rows in self.followed.news(studies):
            writer = self._writer(trial)
            for row in rows:
                for name, value in row.items():
                    if name != "epoch":
                        writer.add_scalar(name, value, int(row["epoch"]))
            writer.flush()
            if trial.ended:
                self._end(trial)
        if self._made and time.monotonic() - self.uploaded > _UPLOAD_SECONDS:
            for trial_id in self.writers:
                self._upload(trial_id)
            self.uploaded = time.monotonic()

    def close(self) -> None:
        for trial in list(self.writers):
            self.writers.pop(trial).close()
            self._upload(trial)
        if self._made:
            self._made.cleanup()

    def _here(self, trial: str) -> Path:
        return (Path(self._made.name) if self._made else Path(str(self.folder))) / trial

    def _writer(self, trial: Trial) -> Any:
        if trial.id not in self.writers:
            from tensorboardX import SummaryWriter  # without TensorFlow, which the driver does not import

            for left in (self._here(trial.id), self.folder / trial.id):
                storage.remove(left)
            self.writers[trial.id] = SummaryWriter(str(self._here(trial.id)))
        return self.writers[trial.id]

    def _end(self, trial: Trial) -> None:
        writer = self.writers.pop(trial.id)
        settings = {key: v if isinstance(v, int | float | str) else str(v) for key, v in flat(trial.settings).items()}
        if trial.best is not None:
            writer.add_hparams(settings, {"best_score": trial.best["score"]}, name="settings")
        writer.close()
        self._upload(trial.id)

    def _upload(self, trial: str) -> None:
        if not self._made:
            return
        here = self._here(trial)
        for file in here.rglob("*"):
            if file.is_file():
                storage.copy(file, self.folder / trial / file.relative_to(here).as_posix())
