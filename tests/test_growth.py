"""What a cluster may grow to, as a sweep plans with it."""

import json
from pathlib import Path

import pytest
import yaml

from emoray import growth
from emoray.errors import UserError
from emoray.growth import Growth
from emoray.placement import Node

FILE = {
    "max_workers": 5,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}, "max_workers": 0},
        "cpu": {"resources": {"CPU": 16, "memory": 7e10}, "max_workers": 2},
        "gpu": {"resources": {"CPU": 4, "GPU": 1, "memory": 1.4e10}, "max_workers": 4},
        "off": {"resources": {"CPU": 64}, "max_workers": 0},
    },
}


def test_the_most_machines_of_a_file_those_with_gpus_first() -> None:
    found = growth.of(FILE)
    assert found.nodes == (Node(4, 1),) * 4 + (Node(16, 0),)
    assert found.memory == pytest.approx(6e9)
    assert growth.of({**FILE, "max_workers": 99}).nodes == (Node(4, 1),) * 4 + (Node(16, 0),) * 2
    assert growth.of({**FILE, "max_workers": 0}) == Growth((), None)


def test_the_shipped_cluster_file_has_room_for_a_sweep() -> None:
    config = yaml.safe_load((Path(__file__).parents[1] / "cluster" / "gpu.yaml").read_text())
    assert growth.of(config).nodes == (Node(4, 1),) * config["max_workers"]


def test_the_head_counts_beside_what_may_come() -> None:
    head, worker = Node(0, 0), Node(4, 1)
    grows_to = Growth((worker, worker), None)
    assert growth.grown([head], [True], grows_to) == (head, worker, worker)
    assert growth.grown([head, worker], [True, False], grows_to) == (head, worker, worker)
    assert (
        growth.grown([head, worker, worker, worker], [True, False, False, False], grows_to) == (head,) + (worker,) * 3
    )
    assert growth.grown([worker, worker], [True, False], None) == (worker, worker)


def test_where_it_is_read(tmp_path: Path) -> None:
    assert growth.read(tmp_path, {}) is None
    (tmp_path / growth.BY_RAY_UP).write_text(json.dumps(FILE))
    assert growth.read(tmp_path, {}) == growth.of(FILE)
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**FILE, "max_workers": 1}))
    found = growth.read(tmp_path, {growth.VARIABLE: str(other)})
    assert found is not None
    assert len(found.nodes) == 1


@pytest.mark.parametrize("text", ["", "[]", "{max_workers: many}", "{max_workers: 1}", "{max_workers: 1, ["])
def test_a_file_that_tells_nothing_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "nodes.json"
    file.write_text(text)
    with pytest.raises(UserError, match=r"EMORAY_AUTOSCALING_CONFIG: .*nodes\.json tells no node types"):
        growth.read(tmp_path, {growth.VARIABLE: str(file)})
    with pytest.raises(UserError, match="missing"):
        growth.read(tmp_path, {growth.VARIABLE: str(tmp_path / "missing")})
