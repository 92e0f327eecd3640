"""The class that Ray Tune runs: one epoch a step, reused from trial to trial, at home in the run folder.

Each epoch is on disk before it is reported: `checkpoint/last.npz` first, then history.csv. A trial that is started
again, after its process or the whole sweep was killed, goes on from there; Tune's own checkpoints are not needed.
`checkpoint/within.npz` holds a later state, in the middle of an epoch, where the machine was about to be taken away.
"""

import gc
import json
import logging
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from ray import tune
from ray.util.placement_group import get_current_placement_group

from emoray import storage
from emoray.data.stream import DataShare
from emoray.study_settings import Resources
from emoray.trial import checkpoint, failures
from emoray.trial.checkpoint import State
from emoray.trial.data import TrialData
from emoray.trial.notice import Notice, Within
from emoray.trial.threads import use_threads
from emoray.trial_state import NOT_FINITE
from emoray.trials import write_history

if TYPE_CHECKING:
    from emoray.trial.group import Group, RemotePlayer
    from emoray.trial.player import Player


logger = logging.getLogger(__name__)


class TrialRunner(tune.Trainable):
    """Trains the trial that its config describes.

    The config has "trial", "settings", "metric", "soup", "folder", "resources", "mode" and "takes_over_at", the epoch
    after which it goes on from another trial's weights. With one worker the trial is played in this process, with
    several by a worker group that stays for the next trial. A step returns {"trial", "row", "parameters", "done",
    "status", "reason", "failure", "error"}: an exception is a result too, told with its traceback, so that only the
    death of the process is left for the driver to notice. Where a worker's process has died, a step returns at once
    with "lost", what to tell of it; the next one waits on for the same epoch.
    """

    player: "Player | RemotePlayer | None" = None
    group: "Group | None" = None
    data: TrialData | None = None
    notice: Notice | None = None
    saved_within = False
    """Whether there is, or may be, a state in the middle of the next epoch in the run folder."""

    def __repr__(self) -> str:
        """What Ray's dashboard calls the process: by the trial that it was started for."""
        return f"TrialRunner({self.trial})"

    def setup(self, config: dict[str, Any], data: list[Any] | None = None) -> None:
        """`data` holds one ObjectRef to the `TrialData`: bare, Tune would resolve it for each trial anew."""
        self.shared, self.notice = data, Notice()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._end_player()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        try:
            if self.player is None:
                self.player = self._player()
            return self._epoch(self.player)
        except failures.RanksDied as died:
            return {"trial": self.trial, "lost": str(died), "done": False}
        except Exception as error:
            failed = {"trial": self.trial, "done": True, "status": "failed", "error": traceback.format_exc()}
            return failed | failures.told(error)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        pass  # every epoch that was reported is in the run folder

    def load_checkpoint(self, checkpoint_dir: str | dict | None) -> None:
        pass  # `step` finds it there

    def cleanup(self) -> None:
        self._end_player()
        self._end_group()

    def _begin(self, config: dict[str, Any]) -> None:
        self.told: Mapping[str, Any] = config
        self.trial: str = config["trial"]
        self.folder = storage.at(config["folder"])
        self.resources: Resources = config["resources"]
        self.player = None

    def _end_player(self) -> None:
        if self.player is not None:
            self.player.close()
            self.player = None
            gc.collect()  # compiled functions are cycles: without this, memory grows from trial to trial

    def _end_group(self) -> None:
        if self.group is not None:
            self.group.close()
            self.group = None

    def _player(self) -> "Player | RemotePlayer":
        player = self._remote_player() if self.resources.workers > 1 else self._own_player()
        storage.clear(self.folder)
        best = self.folder / "checkpoint" / "best.npz"
        if (state := self._saved()) is not None:
            player.load(state, checkpoint.read(best) if best.exists() else None)
        return player

    def _saved(self) -> State | None:
        """The state that the run folder has of the trial: in the middle of its next epoch, before it, or none."""
        last, within = (self.folder / "checkpoint" / f"{name}.npz" for name in ("last", "within"))
        state = checkpoint.read(last) if last.exists() else None
        epoch = len(state.meta["history"]) if state is not None else 0
        self.saved_within = within.exists()
        if self.saved_within:
            later = checkpoint.read(within)
            settings = json.loads(json.dumps(self.told["settings"]))
            if len(later.meta["history"]) == epoch and later.meta["settings"] == settings:
                return later
        if state is not None and self.told.get("takes_over_at") == epoch:
            # another trial's weights, under its own history
            return State(checkpoint.read(last.with_name("taken.npz")).arrays, state.meta)
        return state

    def _save_within(self, state: State) -> None:
        try:
            checkpoint.write(self.folder / "checkpoint" / "within.npz", state)
        except OSError as error:  # it can only save what would be trained anew
            logger.warning("%s: its state within an epoch could not be saved: %s", self.trial, error)
        self.saved_within = True

    def _own_player(self) -> "Player":
        from emoray.trial.player import Player  # Keras, which the driver that names this class must not import

        if self.data is None:
            import ray

            assert self.shared is not None
            use_threads(self.resources.cpus_per_worker)
            self.data = ray.get(self.shared[0])
        return Player(self.told["settings"], self.told["metric"], self.data, share=self._share())

    def _remote_player(self) -> "RemotePlayer":
        from emoray.trial.group import Group, RemotePlayer

        if self.group is not None and (self.group.resources != self.resources or not self.group.alive):
            self._end_group()
        if self.group is None:
            assert self.shared is not None
            self.group = Group(self.resources, self.shared, self._share())
        return RemotePlayer(self.told["settings"], self.told["metric"], self.group)

    def _share(self) -> DataShare | None:
        """The CPUs for Ray Data in the trial's placement group: the bundles after the first (search.py)."""
        if self.told["mode"] != "stream":
            return None
        if self.resources.fewest is not None:
            return DataShare(self.resources.data_cpus)
        return DataShare(self.resources.data_cpus, get_current_placement_group(), bundle=1)

    def _epoch(self, player: "Player | RemotePlayer") -> dict[str, Any]:
        if len(player.history) < player.epochs and not player.stop_reason():
            best = player.best
            player.play(Within(self.notice.due, self._save_within) if self.notice else None)
            # The best first: were `last` there without it, a restart would never write it.
            if player.best is not None and player.best is not best:
                checkpoint.write(self.folder / "checkpoint" / "best.npz", player.best)
            state = player.state()
            checkpoint.write(self.folder / "checkpoint" / "last.npz", state)
            if self.saved_within:
                (self.folder / "checkpoint" / "within.npz").unlink(missing_ok=True)
                self.saved_within = False
            scores = [row["score"] for row in player.history]
            checkpoint.keep_epochs(self.folder / "checkpoint", state, scores, self.told.get("soup", 0))
        write_history(self.folder, player.history)
        row = list(player.history[-1].items())  # pairs: Tune flattens mappings for some of its listeners
        result = {"trial": self.trial, "row": row, "parameters": player.parameters, "done": False}
        reason = player.stop_reason()
        if not np.isfinite(player.history[-1]["train_loss"]):
            result |= {"done": True, "status": "failed", "reason": reason, "failure": NOT_FINITE}
        elif len(player.history) >= player.epochs:
            result |= {"done": True, "status": "finished", "reason": ""}
        elif reason:
            result |= {"done": True, "status": "stopped", "reason": reason}
        return result
