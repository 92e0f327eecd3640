"""Several workers for one trial after the other: a worker group of Ray Train that outlives the trials it trains.

The group belongs to the trial's actor. It is given orders ("this job, these settings, this state, train one epoch") by
way of a mailbox; every rank runs a `Player`, rank 0 answers. A rank that dies takes the group down; it is started
again, by Ray Train with as many ranks or, where their number is not fixed, here with as many as fit. The order, still
open, is then played from the state that it carries.
"""

import contextlib
import dataclasses
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import ray
from ray.train import RunConfig, ScalingConfig, UserCallback
from ray.train.v2.api.config import FailureConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from emoray.data.stream import DataShare
from emoray.placement import START_TIMEOUT, Node, shortage
from emoray.study_settings import Resources
from emoray.trial import failures, room, scratch
from emoray.trial.backend import KerasConfig
from emoray.trial.checkpoint import State
from emoray.trial.ending import stop_reason
from emoray.trial.failures import NoPlace, RanksDied, WorkersFailed
from emoray.trial.mailbox import Dead, Mailbox
from emoray.trial.notice import Within
from emoray.trial.serving import Order, serve

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 60.0
"""Ranks that have only just been started come to their mailbox when TensorFlow is imported."""
ATTEMPTS = 4
"""How often a group is started that never comes to its mailbox, and an order given to a mailbox that dies."""
RESERVE_SECONDS = 15.0
"""For what was counted as free to be had, before it is counted anew: a dead node is counted until Ray misses it."""
GROW_SECONDS = 60.0
"""More ranks, which take some seconds to start, are worth it where an epoch takes longer than this."""


class Group:
    """A worker group that waits for orders. `size` is how many ranks it was last started with."""

    def __init__(self, resources: Resources, data: list[Any], share: DataShare | None) -> None:
        """`data` holds one ObjectRef to the `TrialData`; the ranks' bundles for Ray Data follow `share.bundle`."""
        self.resources, self.size = resources, resources.workers
        self.unplaced = False
        """Whether it has ended because its ranks found no place."""
        self._data, self._share = data, share
        self._node: str = ray.get_runtime_context().get_node_id()
        # On the trial's own node: on another, that one's death would take the trial with it.
        here = NodeAffinitySchedulingStrategy(self._node, soft=False)
        actor: Any = ray.remote(Mailbox)
        self.mailbox: Any = actor.options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()
        self._scratch = scratch.folder()
        self._timeout = float(os.environ.get(START_TIMEOUT, "60"))
        self._generation = 0
        self._closing = False
        gpus = resources.gpus_per_worker
        self._each = {"CPU": resources.cpus_per_worker} | ({"GPU": gpus} if gpus else {})
        # The tasks of a fixed number of ranks have their places in the trial's own placement group (cluster.py).
        self._data_cpus = share.cpus if share is not None and resources.fewest is not None else 0
        self._thread = threading.Thread(target=self._fit, name="worker group", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        """Send the ranks home; when this returns, their resources are free. A second time changes nothing."""
        self._closing = True
        with contextlib.suppress(ray.exceptions.RayError):  # where the mailbox is gone, so are they
            ray.get(self.mailbox.close.remote("the trial has ended"))
        self._thread.join(CLOSE_SECONDS)
        ray.kill(self.mailbox)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def grow(self) -> None:
        """Between two orders: start anew with more ranks, where their number is not fixed and more would fit."""
        if self.size < self.resources.workers and self._places():
            self._generation += 1
            with contextlib.suppress(ray.exceptions.RayActorError):  # its ranks have gone home with the mailbox
                ray.get(self.mailbox.regroup.remote(self._generation))

    def _fit(self) -> None:
        """Have ranks at the mailbox until it is closed."""
        why, fruitless, arrived = "the workers have ended", 0, 0
        while not self._closing:
            try:
                self.size = self._count()
            except TimeoutError:
                self.unplaced, why = True, self._shortage()
                break
            try:
                with _waiting_for_places(self._timeout if self.resources.fewest is None else RESERVE_SECONDS):
                    self._trainer().fit()
            except SystemExit:  # Ray's way of ending a call in a process that is ending
                return
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                if _found_no_place(error) and self.resources.fewest is None:
                    self.unplaced, why = True, self._shortage()
                    break
                logger.info("the worker group ended: %s", why)
            standing = self._standing()
            if standing is None or standing[0]:
                break
            fruitless = fruitless + 1 if standing[1] == arrived else 0
            arrived = standing[1]
            if fruitless == ATTEMPTS:
                break
        with contextlib.suppress(ray.exceptions.RayError):  # where the mailbox is gone, so is whoever would ask
            ray.get(self.mailbox.close.remote(why))

    def _count(self) -> int:
        """How many ranks to start now. Raises TimeoutError where the fewest that will do find no place."""
        if self.resources.fewest is None:
            return self.resources.workers
        return min(room.settled(self._places, self.resources.least, self._timeout), self.resources.workers)

    def _places(self) -> int:
        if self._closing:
            raise TimeoutError
        return room.places(room.free(), {**self._each, "CPU": self._each["CPU"] + self._data_cpus})

    def _trainer(self) -> DataParallelTrainer:
        told = {"mailbox": self.mailbox, "generation": self._generation, "node": self._node, "data": self._data}
        told |= {"cpus": self.resources.cpus_per_worker, "share": self._share}
        # Where the number of ranks is not fixed, they are counted anew after each loss.
        retries = -1 if self.resources.fewest is None else 0
        failure = FailureConfig(max_failures=retries, max_preemption_failures=retries, controller_failure_limit=0)
        callbacks: list[Any] = [_Deaths(self.mailbox)]
        gpus = self.resources.gpus_per_worker > 0
        return DataParallelTrainer(
            serve,
            train_loop_config=told,
            backend_config=KerasConfig(),
            scaling_config=ScalingConfig(num_workers=self.size, use_gpu=gpus, resources_per_worker=self._each),
            run_config=RunConfig(
                name=uuid.uuid4().hex,  # a name that was used before would be resumed
                storage_path=str(self._scratch),
                failure_config=failure,
                callbacks=callbacks,
            ),
        )

    def _standing(self) -> tuple[bool, int] | None:
        """Whether the mailbox is closed, and how often a rank has come to it; None where it is gone."""
        for _ in range(ATTEMPTS):
            try:
                standing: tuple[bool, int] = ray.get(self.mailbox.standing.remote())
            except ray.exceptions.RayActorError:  # it is being started again, unless this process is ending
                time.sleep(1)
            else:
                return standing
        return None

    def _shortage(self) -> str:
        least, each = self.resources.least, Node(self._each["CPU"] + self._data_cpus, self._each.get("GPU", 0))
        asked = f"{least} workers of {each} each" if least > 1 else f"a worker of {each}"
        asked += f", {self._data_cpus:g} of them for Ray Data," if self._data_cpus else ""
        return f"{asked} could not be placed: {shortage([each] * least, room.nodes(room.free()))}"


@contextlib.contextmanager
def _waiting_for_places(seconds: float) -> Iterator[None]:
    """Ray Train reads from this process's variables how long the ranks that it starts may wait for a place."""
    before = os.environ.get(START_TIMEOUT)
    os.environ[START_TIMEOUT] = str(seconds)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(START_TIMEOUT, None)
        else:
            os.environ[START_TIMEOUT] = before


def _found_no_place(error: Exception) -> bool:
    return type(getattr(error, "controller_failure", None)).__name__ == "WorkerGroupStartupTimeoutError"


class _Deaths(UserCallback):
    """Tells the mailbox what ranks died of: Ray Train starts them again without a word to who waits for them."""

    def __init__(self, mailbox: Any) -> None:
        self.mailbox = mailbox

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        causes = {rank: getattr(error, "health_check_failure", None) for rank, error in worker_exceptions.items()}
        dead = [rank for rank, cause in causes.items() if cause is not None]
        told = [f"{type(causes[rank]).__name__}: {causes[rank]}".partition("\n")[0] for rank in dead]
        self.mailbox.lost.remote("; ".join(dict.fromkeys(told)), dead)


class RemotePlayer:
    """A `Player` that is played by a group: the same history, states and endings."""

    def __init__(self, settings: Mapping[str, Any], metric: str, group: Group) -> None:
        self.settings, self.metric, self.group = settings, metric, group
        self.epochs: int = settings["epochs"]
        self.history: list[dict[str, float]] = []
        self.best: State | None = None
        self.parameters: int | None = None
        self._job = uuid.uuid4().hex
        self._last: State | None = None
        self._open: Order | None = None
        """The order of an epoch that was left when ranks died; they go on with it."""

    def load(self, last: State, best: State | None) -> None:
        self._last, self.best = last, best
        self.history = list(last.meta["history"])

    def state(self) -> State:
        assert self._last is not None, "no epoch has been played"
        return self._last

    def play(self, within: Within | None = None) -> dict[str, float]:
        """Have the group train and validate one epoch; returns its row of the history.

        The ranks know themselves when a state in the middle of it is due; `within` takes it. Raises RanksDied as soon
        as that is known; called again, it waits on for the epoch.
        """
        order = self._open or self._order()
        way, self._open = "ask" if self._open is None else "wait", order
        while isinstance(answer := self._asked(way, order), State):
            if within is not None:
                within.save(answer)
            way, order = "go_on", dataclasses.replace(order, last=[ray.put(answer)])
            self._open = order
        if isinstance(answer, Dead):
            raise RanksDied(str(answer))
        self._open = None
        if "failure" in answer:
            raise WorkersFailed(answer)
        self._last, self.parameters = answer["state"], answer["parameters"]
        self.best = answer["best"] or self.best
        self.history = list(self._last.meta["history"])
        return self.history[-1]

    def _order(self) -> Order:
        """The order of the next epoch. More ranks are started before it, where they are worth it."""
        if not self.history or self.history[-1]["seconds"] > GROW_SECONDS:
            self.group.grow()
        # In references: only a rank that has to begin anew, or was started again, fetches them.
        last = [ray.put(self._last)] if self._last is not None else []
        return Order(self._job, self.settings, self.metric, len(self.history), last)

    def _asked(self, way: str, order: Order) -> Any:
        """The mailbox's answer to `ask`, `go_on` or `wait`."""
        for _ in range(ATTEMPTS):
            mailbox = self.group.mailbox
            try:
                return ray.get(getattr(mailbox, way).remote(order))
            except ray.exceptions.RayTaskError as error:  # the mailbox was closed
                why = str(error.cause)
                raise (NoPlace(why) if self.group.unplaced else WorkersFailed(failures.died(why))) from None
            except ray.exceptions.RayActorError:  # it died: its ranks go home, and come again to a new one
                way = "ask"
                time.sleep(1)
        raise WorkersFailed(failures.died(f"the process that orders go through died {ATTEMPTS} times in an epoch"))

    @property
    def scores(self) -> list[float]:
        return [row["score"] for row in self.history]

    def stop_reason(self) -> str:
        return stop_reason(self.settings, self.history)

    def close(self) -> None:
        """Nothing of this trial is left to end: the group's players end with the next trial's first order."""
