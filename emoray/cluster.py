"""The Ray cluster that a sweep runs on: started here, or one that is already there."""

import importlib
import logging
import os
import re
import secrets
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from emoray import growth, termination
from emoray.errors import SweepFailed, UserError
from emoray.placement import START_TIMEOUT, Cluster, Node
from emoray.study_settings import Resources

_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",  # an open Ray port or dashboard runs code for whoever reaches it
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # trials without a GPU must not see one: TensorFlow would take it
    "RAY_DEDUP_LOGS": "0",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process for each group: trials look themselves (trial/notice.py)
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # how soon the end of a worker group is seen, and the death of a rank
}


_HANDED_ON = (
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"),
    *("AWS_MAX_ATTEMPTS", "AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"),
)
"""Where S3 is, told to the nodes of a cluster too. Credentials are not: each node has its own."""
_VERSION = re.compile(r"(Ray|Python): (\S+)")
_HEAD = "node:__internal_head__"
REACH_SECONDS = 5.0
WAIT_SECONDS = 60.0
OBJECT_STORE_SHARE = 0.3
"""Of a machine's memory, which Ray gives to its object store."""


def local_resources() -> Cluster:
    """What this machine has, without asking Ray."""
    gpus = len([d for d in Path("/dev").glob("nvidia[0-9]*") if d.name.removeprefix("nvidia").isdecimal()])
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * OBJECT_STORE_SHARE
    return Cluster((Node(len(os.sched_getaffinity(0)), gpus),), memory, None)


@lru_cache
def bundles(resources: Resources, mode: str) -> Any:
    """What a trial asks Ray Tune for; one object for all that ask for the same.

    Several workers have a placement group of their own, which Ray Train makes. Where their number is not
    fixed, Ray Data's tasks take what CPUs there are: the group counts them (group.py).
    """
    from ray import tune

    own = {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}
    head = own if resources.workers == 1 else {"memory": 1.0}  # Tune does not place what asks for nothing
    streams = mode == "stream" and resources.fewest is None
    data = [{"CPU": resources.data_cpus}] * resources.workers if streams else []
    return tune.PlacementGroupFactory([{k: v for k, v in head.items() if v}, *data])


def unplaced(bundles: Sequence[Mapping[str, float]]) -> bool:
    """Whether a placement group of these bundles is waiting for its place."""
    from ray.util import placement_group_table

    groups = placement_group_table().values()
    return any(g["state"] == "PENDING" and [*g["bundles"].values()] == [*bundles] for g in groups)


@contextmanager
def connected(address: str | None, paths: Sequence[Path], say: Callable[[str], None]) -> Iterator[Cluster]:
    """Ray, started on this machine or joined at `address`; `paths` go on the import path of its processes.

    Where a cluster has to grow first, it is told by `say` and waited for. Raises UserError where there is no cluster at
    the address, or one that has no CPUs and will have none.
    """
    _before_ray()
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault(START_TIMEOUT, "600" if address else "60")  # a cluster may have to grow
    if address:
        _reach(address)
    else:
        _ensure_token()
    import ray

    of_ray = (ConnectionError, TimeoutError, RuntimeError, ValueError, ray.exceptions.RayError)
    logging.getLogger("ray").setLevel(logging.ERROR)
    python_path = os.pathsep.join([*(str(path) for path in paths), *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = {name: os.environ[name] for name in _ENVIRONMENT} | {"PYTHONPATH": python_path}
    variables |= {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    variables[START_TIMEOUT] = os.environ[START_TIMEOUT]
    options: dict[str, Any]
    if address:
        options = {"runtime_env": {"env_vars": variables}}
    else:  # a cluster that is started here inherits them, and can use the processes that it starts with
        os.environ |= variables
        options = {"include_dashboard": True, "dashboard_host": "127.0.0.1"}
    meanwhile = threading.Thread(target=_import_what_comes_next, name="imports")
    meanwhile.start()
    began = time.monotonic()
    try:
        with termination.apart_from_ray():
            context = ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:
        if type(error) is not Exception and not isinstance(error, of_ray):  # Ray raises plain ones too
            raise
        raise not_started(address, error, time.monotonic() - began) from None
    finally:
        meanwhile.join()
    try:
        machines = _machines(
            growth.read(Path.home()) if address else None,
            f"http://{context.dashboard_url}" if context.dashboard_url else None,
        )
        if not ray.cluster_resources().get("CPU"):
            _wait_for_first(machines, say)
        yield machines
    finally:
        if address:
            from emoray import orphans

            orphans.end()
        ray.shutdown()


def not_started(address: str | None, error: Exception, seconds: float) -> UserError | SweepFailed:
    """What ends a command whose Ray gave up after so long: no mistake of the user's where it was only too slow."""
    slow = isinstance(error, TimeoutError) or re.search(r"timed?[ -]?out", str(error), re.IGNORECASE)
    if address is None and slow:
        return SweepFailed(
            f"Ray did not start within {seconds:.0f} seconds: this machine may be busy, or short of memory; try again "
            f"when it is less so ({_told(error)})"
        )
    return UserError(refusal(address, error))


def refusal(address: str | None, error: Exception) -> str:
    """Why Ray let nobody in, in a sentence."""
    text = " ".join(str(error).split())
    why = _told(error)
    told = dict.fromkeys(_VERSION.findall(text))
    if "mismatch" in text.lower() and len(told) > 2:
        there, here = re.split(r"This process", text, maxsplit=1)
        of = [" on ".join(f"{name} {version}" for name, version in _VERSION.findall(part)) for part in (there, here)]
        return (
            f"--address {address}: the cluster runs {of[0]}, and here is {of[1]}; install the same here, or submit the "
            "sweep as a job, which runs there"
        )
    if "token" in text.lower():
        why = text.partition(". ")[0]
        return f"Ray's token cannot be read ({why}); it stands in ~/.ray/auth_token, or where RAY_AUTH_TOKEN_PATH says"
    if address is None:
        return f"Ray does not start on this machine ({why})"
    if address == "auto":
        return f"--address {address}: no Ray cluster answers there ({why})"
    return (
        f"--address {address}: what listens there is no Ray cluster, or one with another token than the one in "
        f"~/.ray/auth_token or RAY_AUTH_TOKEN_PATH ({why})"
    )


def _told(error: Exception) -> str:
    """What Ray says, in a line of a length that people read."""
    return " ".join(str(error).split())[:300]


def _import_what_comes_next() -> None:
    """Import what the driver needs later and what needs no Ray, while Ray starts and the driver only waits."""
    for name in ("pandas", "pyarrow.parquet", "scipy.optimize", "sklearn.linear_model", "optuna", "matplotlib.figure"):
        importlib.import_module(name)


def _machines(grows_to: growth.Growth | None, dashboard: str | None) -> Cluster:
    """The nodes that are there, and those that may come."""
    import ray

    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    alive = [Node(each.get("CPU", 0), each.get("GPU", 0)) for each in found]
    memory = min(each.get("object_store_memory", 0) for each in found)
    if grows_to is not None and grows_to.memory is not None:
        memory = min(memory, grows_to.memory)
    return Cluster(growth.grown(alive, [_HEAD in each for each in found], grows_to), memory, dashboard)


def _wait_for_first(machines: Cluster, say: Callable[[str], None]) -> None:
    """Wait until there is a CPU: Ray Data would wait for ever without asking for one.

    A task that needs one asks for it, and no longer than this process lives.
    """
    import ray

    if not machines.cpus:
        raise UserError(
            "the cluster has no CPUs for trials, and nothing tells that it will grow: start a worker, or name the file "
            f"of its node types in {growth.VARIABLE}"
        )
    say("no machine with CPUs is there yet: asking the cluster for the first")
    asked = ray.remote(num_cpus=1)(_nothing).remote()
    while not ray.wait([asked], timeout=WAIT_SECONDS)[0]:
        say("still waiting for the first machine; `ray status` on the head tells why")


def _nothing() -> None:
    """A task that only has to find a place."""


def _reach(address: str) -> None:
    """Refuse an address where nothing listens, which Ray would try for minutes, and what is none.

    To Ray `local` is a new cluster, without a token of its own, and `ray://` a client that has no part in the cluster.
    """
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or "/" in host:
        raise UserError(f"--address {address}: it must be 'auto' or HOST:PORT, such as 10.0.0.5:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"--address {address}: no Ray cluster answers there ({error})") from None


def _before_ray() -> None:
    """Refuse a process whose Ray was imported before its authentication was set: it has read the environment then."""
    if "ray" in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        raise UserError(
            "Ray was imported here before its authentication was set: set RAY_AUTH_MODE=token before "
            "`import ray`, or start the sweep by `python -m emoray.sweep`"
        )


def _ensure_token() -> None:
    """Make the user's Ray token where there is none, and keep it from others: Ray makes it readable for everyone."""
    path = Path.home() / ".ray" / "auth_token"
    if any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        return
    try:
        if path.exists():
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                path.chmod(0o600)
            return
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    except FileExistsError:
        pass  # another sweep was faster
    except OSError as error:
        raise UserError(f"Ray's token cannot be written to {path}: {error.strerror}; set RAY_AUTH_TOKEN_PATH") from None
