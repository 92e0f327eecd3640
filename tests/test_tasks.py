"""Tasks on the cluster: what they get of its machines."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]
PROGRAM = """
import os, sys, time
from pathlib import Path

import ray

from emoray import tasks
from emoray.study_settings import Resources


def seen(number, meeting):
    (meeting / str(number)).touch()
    while len(list(meeting.iterdir())) < 2:  # both at once, or one after the other might get the same
        time.sleep(0.05)
    return os.environ.get("CUDA_VISIBLE_DEVICES")


ray.init(address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
print(tasks.run(seen, [(number, Path(sys.argv[1])) for number in range(2)], [Resources(cpus_per_worker=1)] * 2))
ray.shutdown()
"""

DYING = """
import sys, threading, time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from emoray import tasks


def seen(folder, head):
    node = ray.get_runtime_context().get_node_id()
    (folder / node).touch()
    while node != head or not (folder / "dead").exists():  # the other node's has no end but its death
        time.sleep(0.05)
    return node


cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)
folder = Path(sys.argv[1])


def kill():
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.05)
    cluster.remove_node(second, allow_graceful=False)
    (folder / "dead").touch()


thread = threading.Thread(target=kill)
thread.start()
head = ray.get_runtime_context().get_node_id()
found = tasks.on_each_node(seen, folder, head)
thread.join()
print(list(found.values()) == [head])
ray.shutdown()
cluster.shutdown()
"""


def test_a_node_that_dies_while_it_is_asked_is_left_out(tmp_path: Path) -> None:
    """Both have one address here, as nodes of a test have, so the results are told apart by what they say."""
    (tmp_path / "seen").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", DYING, str(tmp_path / "seen")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "True" in done.stdout.splitlines(), done.stdout  # beside what Ray has to say of it


def test_tasks_take_a_gpu_each_where_some_are_free(tmp_path: Path) -> None:
    """The trials asked for none; the two GPUs are Ray's word for it, there is no device."""
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(meeting)], env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] in ("['0', '1']", "['1', '0']")
