"""A machine that will be taken away: what Ray knows of it while there is time to save what was trained.

`ray drain-node` and the autoscaler mark a node as draining, with a deadline. Ray Train's own signal
(`ray.train.get_preemption_info`) reaches worker groups only, and those once in five seconds; this asks the same source,
for which there is no public name, from any process of a trial.
"""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import ray
from ray._private.state import state

from emoray.trial.checkpoint import State

ASK_SECONDS = 1.0
AGAIN_SECONDS = 30.0
"""After this the state is saved anew: the machine may have minutes left, and is used to the end."""

logger = logging.getLogger(__name__)


class Ended(Exception):
    """Nobody waits for the rest of the epoch."""


def never() -> bool:
    return False


@dataclass(frozen=True)
class Within:
    """What is asked after each chunk of an epoch: whether a state is `due`, which `save` takes, and whether who wanted
    the epoch has `ended`."""

    due: Callable[[], bool]
    save: Callable[[State], None]
    ended: Callable[[], bool] = never


def seldom(ask: Callable[[], bool]) -> Callable[[], bool]:
    """`ask`, but at most once in ASK_SECONDS, and in between no: chunks may be short, and an answer takes a while."""
    asked = float("-inf")

    def answer() -> bool:
        nonlocal asked
        if time.monotonic() - asked < ASK_SECONDS:
            return False
        asked = time.monotonic()
        return ask()

    return answer


class Notice:
    """Whether one of `nodes` is draining; without any, this process's own."""

    def __init__(self, nodes: Iterable[str] = ()) -> None:
        self.nodes = {*nodes, ray.get_runtime_context().get_node_id()}
        self._asked = self._saved = float("-inf")

    def due(self) -> bool:
        """Whether a state should be saved now: at once when a node begins to drain, and again from time to time."""
        now = time.monotonic()
        if now - self._asked < ASK_SECONDS or now - self._saved < AGAIN_SECONDS:
            return False
        self._asked = now
        try:
            draining = self.nodes & state.get_draining_nodes().keys()
        except Exception as error:  # of gRPC, of Ray, of a node that is ending: training goes on without the answer
            logger.warning("Ray does not say which nodes drain: %s", error)
            return False
        if draining:
            self._saved = now
        return bool(draining)
