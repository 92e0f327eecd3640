"""A cluster of two nodes on this machine, the head without CPUs: joined, refused, and drained for real."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import emoray
from emoray import spot
from emoray.spot import Metadata
from tests.test_spot import Service, serving

WORKER = "127.0.0.2"
HOLD = """
import sys, time, ray
from ray._private.state import state

ray.init(address=sys.argv[1], log_to_driver=False)

@ray.remote(num_cpus=1)
class Busy:
    def hold(self):
        return True

busy = Busy.remote()
ray.get(busy.hold.remote())
print("busy", flush=True)
for line in sys.stdin:
    print(*[f"{node}:{end}" for node, end in state.get_draining_nodes().items()], flush=True)
"""


@pytest.fixture(scope="module")
def running() -> Iterator[SimpleNamespace]:
    """The address of a cluster whose head has no CPU and whose only worker has two, and says that it has a GPU."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    worker = cluster.add_node(num_cpus=2, num_gpus=1, node_ip_address=WORKER)
    yield SimpleNamespace(address=cluster.address, worker=worker.node_id)
    cluster.shutdown()


def say(driver: "subprocess.Popen[str]") -> str:
    assert driver.stdin is not None
    assert driver.stdout is not None
    driver.stdin.write("?\n")
    driver.stdin.flush()
    return driver.stdout.readline().strip()


JOIN = """
import json, os, sys
from pathlib import Path
import emoray
from emoray import cluster, sweep
from emoray.errors import UserError
from ray._common.usage import usage_constants, usage_lib
from ray._private import ray_constants
from ray._raylet import GcsClient

def join():
    try:
        with cluster.connected(sys.argv[1], [], print) as there:
            print([node.cpus for node in there.nodes])
            sweep._check_nodes(Path("runs"))
    except UserError as error:
        print(error)

def write(metadata):
    place = (usage_constants.CLUSTER_METADATA_KEY, json.dumps(metadata).encode(), True)
    client.internal_kv_put(*place, namespace=ray_constants.KV_NAMESPACE_CLUSTER)

join()
os.environ["EMORAY_AUTOSCALING_CONFIG"] = sys.argv[2]
join()
client = GcsClient(address=sys.argv[1])
truth = usage_lib.get_cluster_metadata(client)
write({**truth, "ray_version": "2.59.0", "python_version": "3.10.1"})
join()
write(truth)
emoray.__version__ = "0.0.9"
join()
"""


@pytest.mark.ray
@pytest.mark.timeout(400)
def test_a_cluster_is_joined_may_grow_and_is_refused_with_other_versions(
    running: SimpleNamespace, tmp_path: Path
) -> None:
    file = tmp_path / "nodes.yaml"
    file.write_text(
        "max_workers: 3\nhead_node_type: head\n"
        "available_node_types: {head: {resources: {CPU: 0}}, cpu: {resources: {CPU: 16}, max_workers: 9}}\n"
    )
    command = [sys.executable, "-c", JOIN, running.address, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    joined, grown, refused, _, other = done.stdout.splitlines() or [done.stderr] * 5
    assert sorted(json.loads(joined)) == [0, 2], done.stderr
    assert json.loads(grown) == [0, 16, 16, 16]
    assert "the cluster runs Ray 2.59.0 on Python 3.10.1, and here is Ray" in refused
    assert other.endswith(f"cannot run emoray 0.0.9 (it has {emoray.__version__}); install the same on all nodes")


@pytest.mark.ray
@pytest.mark.timeout(400)
def test_a_sweep_is_planned_for_the_cluster_that_it_names(running: SimpleNamespace, tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    command = [sys.executable, "-m", "emoray.sweep", str(file), "--address", running.address, "--dry-run"]
    told = []
    for gpus in ("1", "2"):
        file.write_text(f"models: [lenet]\ntrain: {{gpus_per_worker: {gpus}}}\nsearch: {{trials: 3}}\n")
        told.append(subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1]))
    assert told[0].returncode == 0, told[0].stderr
    assert "2 CPUs and 1 GPUs: 1 trial at once, since a trial takes 1 GPU" in told[0].stdout
    assert told[1].returncode == 2
    assert "a trial asks for 2 GPUs and there is 1" in told[1].stderr


@pytest.mark.ray
@pytest.mark.timeout(400)
def test_an_address_without_a_node_is_told(running: SimpleNamespace) -> None:
    command = [sys.executable, "-m", "emoray.drain", "--address", running.address, "--ip", "127.0.0.9"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], env=os.environ.copy())
    assert (done.returncode, done.stderr) == (2, "error: there is no live Ray node at 127.0.0.9\n")


@pytest.mark.ray
@pytest.mark.timeout(400)
def test_the_node_of_a_spot_machine_is_drained_on_its_notice(running: SimpleNamespace) -> None:
    """Last of its module: the worker is gone afterwards."""
    with (
        serving(Service()) as service,
        subprocess.Popen(
            [sys.executable, "-c", HOLD, running.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as driver,
    ):
        assert driver.stdout is not None
        assert driver.stdout.readline() == "busy\n"
        assert say(driver) == ""
        service.says["local-ipv4"] = WORKER
        metadata = Metadata(service.url)
        watcher = threading.Thread(
            target=spot.watch, args=(metadata, spot.drainer(running.address, metadata), threading.Event(), 0.2)
        )
        watcher.start()
        service.recommend()
        limit = time.monotonic() + 30
        while say(driver) != f"{running.worker}:0":  # draining, and no end is known
            assert time.monotonic() < limit
            time.sleep(0.2)
        end = service.interrupt(120)
        watcher.join(30)
        assert not watcher.is_alive(), "the end is drained for, so there is nothing left to watch"
        node, _, deadline = say(driver).partition(":")
        assert node == running.worker
        assert int(deadline) / 1000 == pytest.approx(end, abs=3)
        assert driver.stdin is not None
        driver.stdin.close()
