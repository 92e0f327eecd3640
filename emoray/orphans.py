"""What Ray Train leaves behind when a process of it is killed: places that stay taken, and processes.

A worker group's places belong to its controller, an actor, and Ray frees them only when the whole driver has ended. Ray
Train starts a detached actor for each group that is to free them earlier, should the controller be killed. In Ray 2.60
it does not always, and never ends: it asks to from a thread, where nobody listens.
"""

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import ray
from ray._private.state import state
from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # type: ignore[attr-defined]
from ray.util.placement_group import PlacementGroup, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_CLEANER = "PlacementGroupCleaner"
SECONDS = 10.0


def free_places() -> None:
    """Free the places of this driver's worker groups whose controllers are dead."""
    ours = bytes.fromhex(ray.get_runtime_context().get_job_id())
    for told in state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(told)
        by_actor = len(group.creator_actor_id) > 0 and not ray.ActorID(group.creator_actor_id).is_nil()
        gone = group.creator_actor_dead and group.state != PlacementGroupTableData.REMOVED
        if by_actor and gone and not group.is_detached and group.creator_job_id == ours:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))


def end() -> None:
    """End the cleaners of this driver, whose trials have ended, and of drivers that are gone. Trouble is let be."""
    from ray.util.state import list_actors

    context = ray.get_runtime_context()
    ours = {context.get_job_id(), *(job["JobID"] for job in state.job_table() if job["IsDead"])}
    with contextlib.suppress(Exception):  # of the state API, which a cluster may do without
        wanted: list[Any] = [("class_name", "=", _CLEANER), ("state", "=", "ALIVE")]
        found = list_actors(context.gcs_address, filters=wanted, limit=1000, timeout=int(SECONDS))
        ended = [_end_on(actor.node_id, actor.pid) for actor in found if actor.job_id in ours]
        ray.wait(ended, num_returns=len(ended), timeout=SECONDS)


def _end_on(node: Any, process: Any) -> Any:
    place = NodeAffinitySchedulingStrategy(node, soft=False)
    task: Any = ray.remote(num_cpus=0)(_kill)
    return task.options(scheduling_strategy=place).remote(process)


def _kill(process: int) -> None:
    with contextlib.suppress(OSError):  # it has just ended
        if f"ray::{_CLEANER}".encode() in Path(f"/proc/{process}/cmdline").read_bytes():
            os.kill(process, signal.SIGKILL)
