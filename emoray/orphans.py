"""Processes of Ray Train's that outlive what they were started for, on a cluster that outlives the sweep.

For each worker group Ray Train starts a detached actor that frees the group's places should its controller be killed.
It does, and then cannot end: it asks to from a thread, where Ray 2.60 does not listen. So one is left behind for each
trial of several workers, and each driver, that was killed.
"""

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import ray
from ray._private.state import state
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_CLEANER = "PlacementGroupCleaner"
SECONDS = 10.0


def end() -> None:
    """End those of this driver, whose trials must have ended, and of drivers that are gone. Trouble is let be."""
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
