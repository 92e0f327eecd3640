"""Work on the cluster: one Ray task for each job, in parallel, whose failure costs its own result and no other's."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from emoray.errors import UserError
from emoray.s3 import RemoteError
from emoray.study_settings import Resources

DEATH_SECONDS = 15.0
"""How long after a task was lost Ray may take to see that its node is dead."""


def run(work: Callable[..., Any], jobs: Sequence[Sequence[Any]], resources: Sequence[Resources]) -> list[Any]:
    """`work(*job)` for each job, with its resources: results in order, an exception in the place of one that failed.

    A job that asks for more than the machines have gets what there is, since a run may be finalized on a smaller
    machine than it was trained on: a trial's GPU speeds its predictions up and does not change them. So a job that asks
    for none gets a GPU where one is free.

    Raises RemoteError where a job could not read or write on S3: that says nothing of the job.
    """
    there = ray.cluster_resources()
    spare = 1 if ray.available_resources().get("GPU", 0) >= 1 else 0  # a GPU that others keep would be waited for
    remote = ray.remote(work)
    references = []
    for job, own in zip(jobs, resources, strict=True):
        cpus = min(own.cpus_per_worker, there.get("CPU", 1))
        gpus = min(own.gpus_per_worker or spare, there.get("GPU", 0))
        references.append(remote.options(num_cpus=cpus, num_gpus=gpus, max_retries=2).remote(*job))
    results = [_result(reference) for reference in references]
    for result in results:
        if isinstance(result, RemoteError):
            raise result
    return results


def on_each_node(work: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """`work(*arguments)` once on every machine of the cluster: its result, or what it raised, by the node's address.

    A machine that dies meanwhile is left out: it is no part of the cluster any more.
    """
    remote = ray.remote(work)
    references = {}
    for identity, address in _alive().items():
        here = NodeAffinitySchedulingStrategy(identity, soft=False)
        # Nothing is asked for: a head on which nothing may train has no CPU to give.
        options = remote.options(num_cpus=0, max_retries=2, scheduling_strategy=here)
        references[identity, address] = options.remote(*arguments)
    results = {node: _result(reference) for node, reference in references.items()}
    died = {node for (node, _), result in results.items() if isinstance(result, ray.exceptions.RayError)}
    deadline = time.monotonic() + DEATH_SECONDS
    while not died.isdisjoint(there := _alive()) and time.monotonic() < deadline:  # Ray may not know it yet
        time.sleep(0.2)
    gone = died - there.keys()
    return {address: result for (node, address), result in results.items() if node not in gone}


def _alive() -> dict[str, str]:
    """The addresses of the nodes that are there, by their ids."""
    return {str(node["NodeID"]): str(node["NodeManagerAddress"]) for node in ray.nodes() if node["Alive"]}


def reason(error: Exception) -> str:
    """A failure in a sentence."""
    if isinstance(error, UserError):
        return str(error)
    return f"{type(error).__name__}: {error}".partition("\n")[0][:300]


def _result(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return error.cause if isinstance(error.cause, Exception) else error
    except ray.exceptions.RayError as error:  # its process was killed, again and again
        return error
