"""Where the figures of a running search also go: TensorBoard files, an MLflow server, Ray's metrics.

A public function takes a `TrackedRun` and returns a `Tracker` (following.py). Nothing here may hold up a search or end
it: what cannot be delivered is said once and left out.
"""

from emoray import registry, storage
from emoray.config import Sweep
from emoray.run_folder import RunFolder
from emoray.tracking.following import Together, TrackedRun, Tracker
from emoray.tracking.ray_metrics import RayMetrics
from emoray.tracking.tensorboard import TensorBoard

__all__ = ["Together", "Tracker", "check", "trackers"]


def check(sweep: Sweep) -> None:
    """Raises UserError where a sweep's tracking server does not answer: to be asked before a run is begun."""
    registry.build("tracking", sweep.tracking, TrackedRun(sweep.name, storage.at(sweep.storage))).close()


def trackers(sweep: Sweep, folder: RunFolder, tensorboard: bool) -> list[Tracker]:
    """What a sweep is followed by. Raises UserError where its tracking server does not answer."""
    listed: list[Tracker] = [RayMetrics(sweep.name)]
    listed.append(registry.build("tracking", sweep.tracking, TrackedRun(sweep.name, folder.path)))
    return [*listed, TensorBoard(folder.path)] if tensorboard else listed
