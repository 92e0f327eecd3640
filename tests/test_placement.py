"""How many trials run at once, and what is said where one does not fit."""

import dataclasses
import re
from pathlib import Path

import pytest

from emoray import config, forecast, placement
from emoray.errors import UserError
from emoray.placement import Cluster, Node
from emoray.trial import room

LAPTOP = Cluster((Node(2, 0),), 5e9, None)
ONE_GPU_ALONE = Cluster((Node(4, 0), Node(1, 1)), 5e9, None)
TWO_NODES = Cluster((Node(4, 1), Node(4, 1)), 5e9, None)


def sweep(tmp_path: Path, train: str, data: str = "mode: memory") -> config.Sweep:
    file = tmp_path / "sweep.yaml"
    file.write_text(f"models: [lenet]\ndata: {{{data}}}\ntrain: {{{train}}}\n")
    return config.load(file)


@pytest.mark.parametrize(
    ("cluster", "train", "mode", "at_once"),
    [
        (LAPTOP, "workers: 1", "memory", 2),
        (LAPTOP, "workers: 1", "stream", 1),
        (LAPTOP, "workers: 2", "memory", 1),
        (LAPTOP, "workers: 2, cpus_per_worker: 0.75, data_cpus: 0.25", "stream", 1),
        (LAPTOP, "cpus_per_worker: 0.1", "memory", 20),
        (TWO_NODES, "workers: 2, gpus_per_worker: 1", "memory", 1),
        (TWO_NODES, "gpus_per_worker: 0.5", "memory", 4),
        (TWO_NODES, "cpus_per_worker: 3", "memory", 2),
        (TWO_NODES, "workers: 3, cpus_per_worker: 2", "memory", 1),
        (TWO_NODES, "workers: [1, 3], cpus_per_worker: 2", "memory", 1),
        (TWO_NODES, "workers: [1, 2], cpus_per_worker: 2", "memory", 2),
        (TWO_NODES, "workers: [1, 9], gpus_per_worker: 1", "memory", 1),
        (LAPTOP, "workers: [1, 4]", "stream", 1),
    ],
)
def test_trials_are_counted_by_the_nodes_that_hold_their_workers(
    tmp_path: Path, cluster: Cluster, train: str, mode: str, at_once: int
) -> None:
    assert placement.slots(sweep(tmp_path, train), cluster, mode) == at_once


@pytest.mark.parametrize(
    ("cluster", "train", "mode", "told"),
    [
        (LAPTOP, "workers: 3", "memory", "a trial asks for 3 CPUs (3 x 1) and there are 2; lower workers or cpus_per"),
        (LAPTOP, "cpus_per_worker: 2", "stream", "asks for 3 CPUs (1 x 2 for workers, 1 x 1 for Ray Data)"),
        (LAPTOP, "workers: [3, 8]", "memory", "a trial asks for 3 CPUs (3 x 1) and there are 2; lower workers or"),
        (LAPTOP, "gpus_per_worker: 1", "memory", "a trial asks for 1 GPU and there are 0; lower gpus_per_worker"),
        (TWO_NODES, "cpus_per_worker: 6", "memory", "a worker asks for 6 CPUs and no node has more than 4"),
        (TWO_NODES, "workers: 2, cpus_per_worker: 3, data_cpus: 1", "stream", None),
        (TWO_NODES, "workers: 3, cpus_per_worker: 2.6", "memory", "(3 x 2.6 CPUs) do not fit on the nodes"),
        (ONE_GPU_ALONE, "gpus_per_worker: 1, cpus_per_worker: 2", "memory", "(1 x 2 CPUs and 1 GPU) do not fit on"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_numbers(
    tmp_path: Path, cluster: Cluster, train: str, mode: str, told: str | None
) -> None:
    if told is None:
        assert placement.slots(sweep(tmp_path, train), cluster, mode) == 1
        return
    with pytest.raises(UserError, match=re.escape(told)):
        placement.slots(sweep(tmp_path, train), cluster, mode)


@pytest.mark.parametrize(
    ("cluster", "train", "mode", "told"),
    [
        (
            TWO_NODES,
            "workers: 3, cpus_per_worker: 2.1, data_cpus: 0.2",
            "stream",
            "models.lenet: the workers of a trial (3 x 2.1 CPUs) and those for Ray Data (3 x 0.2 CPUs) do not fit on "
            "the nodes that there are; lower workers, cpus_per_worker or data_cpus",
        ),
        (
            ONE_GPU_ALONE,
            "cpus_per_worker: 2, data_cpus: 1, gpus_per_worker: 1",
            "stream",
            "models.lenet: the workers of a trial (1 x 2 CPUs and 1 GPU) and those for Ray Data (1 x 1 CPU) do not "
            "fit on the nodes that there are; lower cpus_per_worker, gpus_per_worker or data_cpus",
        ),
        (
            TWO_NODES,
            "workers: 3, cpus_per_worker: 2.5",
            "memory",
            "models.lenet: the workers of a trial (3 x 2.5 CPUs) do not fit on the nodes that there are; "
            "lower workers or cpus_per_worker",
        ),
        (
            TWO_NODES,
            "cpus_per_worker: 1, data_cpus: 6",
            "stream",
            "models.lenet: Ray Data for a worker asks for 6 CPUs and no node has more than 4; lower data_cpus",
        ),
        (
            TWO_NODES,
            "cpus_per_worker: 5",
            "memory",
            "models.lenet: a worker asks for 5 CPUs and no node has more than 4; lower cpus_per_worker",
        ),
        (
            TWO_NODES,
            "workers: 2, cpus_per_worker: 3, data_cpus: 1.5",
            "stream",
            "models.lenet: a trial asks for 9 CPUs (2 x 3 for workers, 2 x 1.5 for Ray Data) and there are 8; "
            "lower workers, cpus_per_worker or data_cpus or use a larger machine",
        ),
    ],
)
def test_a_refusal_names_what_can_be_lowered(
    tmp_path: Path, cluster: Cluster, train: str, mode: str, told: str
) -> None:
    with pytest.raises(UserError) as caught:
        placement.slots(sweep(tmp_path, train), cluster, mode)
    assert str(caught.value) == told


@pytest.mark.parametrize(("train", "workers"), [("workers: [1, 3]", 2), ("workers: [1, 2]", 2), ("workers: 1", 1)])
def test_a_trial_starts_with_as_many_workers_as_fit(tmp_path: Path, train: str, workers: int) -> None:
    (study,) = sweep(tmp_path, train).studies
    assert placement.workers(study.resources, LAPTOP, "memory") == workers


@pytest.mark.parametrize(
    ("parts", "free", "told"),
    [
        ([Node(9, 0)] * 2, [Node(2, 0)], "too few CPUs are free: 2 CPUs on one node"),
        ([Node(1, 1)] * 2, [Node(4, 1), Node(8, 0), Node(0, 0)], "too few GPUs are free: 4 CPUs and 1 GPU on one node, "
         "8 CPUs on another"),
        ([Node(3, 0)], [Node(2, 0), Node(2, 0)], "too few CPUs are free: 2 CPUs on one node, 2 CPUs on another"),
        ([Node(2, 1)], [Node(4, 0), Node(1, 1)], "too few CPUs and GPUs on one node are free: 1 CPU and 1 GPU on one "
         "node, 4 CPUs on another"),
        ([Node(2, 1)], [Node(0, 0)], "too few CPUs and GPUs are free: none at all"),
        ([Node(2, 0)], [Node(1, 0)] * 9, "too few CPUs are free: 1 CPU on one node, 1 CPU on another, 1 CPU on "
         "another, 1 CPU on another and no more than that on 5 others"),
        ([Node(2, 0)], [Node(2, 0)], "there is room only now: 2 CPUs on one node"),
    ],
)  # fmt: skip
def test_a_shortage_names_what_is_short_node_by_node(parts: list[Node], free: list[Node], told: str) -> None:
    assert placement.shortage(parts, free) == told


def test_free_places_are_counted_by_the_node() -> None:
    free = {"a": {"CPU": 3.0, "GPU": 1.0, "memory": 1e9}, "b": {"CPU": 1.9999999}, "c": {}}
    assert room.places(free, {"CPU": 1.0}) == 5
    assert room.places(free, {"CPU": 2.0}) == 2
    assert room.places(free, {"CPU": 0.1 + 0.2}) == 16
    assert room.places(free, {"CPU": 1.0, "GPU": 0.5}) == 2


def test_free_nodes_are_told_in_round_numbers() -> None:
    free = {"a": {"CPU": 0.9999999, "GPU": 1.0, "memory": 1e9}, "b": {}}
    assert [str(node) for node in room.nodes(free)] == ["1 CPU and 1 GPU", "0 CPUs"]


def test_a_count_that_still_moves_is_waited_for() -> None:
    counted = iter([4, 0, 1, 3, 3, 3, 3])
    assert room.settled(lambda: next(counted), 1, 5) == 3
    with pytest.raises(TimeoutError):
        room.settled(lambda: 1, 2, 0.1)


def test_data_that_fit_are_kept_in_memory_and_others_streamed(tmp_path: Path) -> None:
    auto = sweep(tmp_path, "workers: 1", "mode: auto")
    small = dataclasses.replace(LAPTOP, memory=100e6)
    assert placement.mode(auto, 66e6, LAPTOP) == "memory"
    assert placement.mode(auto, 66e6, small) == "stream"


def test_memory_that_cannot_hold_the_data_is_refused(tmp_path: Path) -> None:
    small = dataclasses.replace(LAPTOP, memory=100e6)
    mode = placement.mode(sweep(tmp_path, "workers: 1"), 66e9, small)
    with pytest.raises(UserError) as caught:
        forecast.check_memory(mode, 66e9, small)
    assert str(caught.value) == (
        "data.mode: the training images take 66 GB and a node's object store holds 100 MB: memory is too little for "
        "them; use stream"
    )
    forecast.check_memory(mode, 100e6, small)
    forecast.check_memory("stream", 66e9, small)
