"""Several workers for a trial: they do what one would, survive their deaths, and leave nothing behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emoray.data.augmentation import pipeline
from emoray.data.batches import Epochs, share
from emoray.study_settings import Resources
from emoray.trial.data import TrialData
from emoray.trial_state import CRASH, DATA, MEMORY
from tests.training import IMAGES, data, player, settings, timeless

__all__ = ["data"]  # the fixture
TWO = Resources(workers=2)
PLAIN = {
    "model": {"name": "lenet"},
    "optimizer": {"name": "adam", "learning_rate": 0.002, "ema": 0.9, "clip_norm": 0.5},
}


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_shares_hold_a_batch_once_and_never_tear_a_pair(batch: int, world: int) -> None:
    shares = [share(batch, rank, world) for rank in range(world)]
    assert [place for first, last in shares for place in range(first, last)] == list(range(batch))
    assert all(first % 2 == 0 or first == batch for first, _ in shares)


@pytest.mark.keras
@pytest.mark.parametrize("sampler", [False, True])
def test_workers_together_see_what_one_sees(data: TrialData, sampler: bool) -> None:
    """The same pixels and mixed labels for the same seed and epoch, whoever makes them."""
    augment = pipeline([{"name": "flip"}, {"name": "rotate"}, {"name": "mixup"}])
    row_weights = np.linspace(0.2, 1.8, IMAGES) if sampler else None

    def epochs(rank: int, world: int) -> Epochs:
        place = {"rank": rank, "world": world, "row_weights": row_weights}
        return Epochs(data.images, data.targets, data.rows, batch_size=50, pipeline=augment, seed=3, **place)

    one, three = epochs(0, 1), [epochs(rank, 3) for rank in range(3)]
    for epoch in range(2):
        for number in range(len(one.parts)):
            whole, parts = one.chunk(epoch, number), [each.chunk(epoch, number) for each in three]
            weight = np.concatenate([part.labels for part in parts], axis=1)
            images = np.concatenate([part.images for part in parts], axis=1)
            shown = weight[0].sum(-1) > 0  # a worker without a share has one image without a label
            assert np.array_equal(images[:, shown], whole.images)
            assert np.array_equal(weight[:, shown], whole.labels)


@pytest.mark.keras
def test_ranks_draw_different_dropout_masks_and_a_state_brings_them_back(data: TrialData) -> None:
    from emoray.trial.player import Player
    from emoray.trial.ranks import Ranks

    def random_states(played: Any) -> list[tuple[int, ...]]:
        states = [v for v in played.program.model.variables if v.path.endswith("seed_generator_state")]
        return [tuple(int(n) for n in v.numpy()) for v in states]

    ranks = [Player(settings(), "accuracy", data, Ranks(rank, 2)) for rank in range(2)]
    assert random_states(ranks[0]), "the model has dropout"
    assert all(a != b for a, b in zip(*map(random_states, ranks), strict=True))
    before = random_states(ranks[1])
    ranks[1].load(ranks[0].state(), None)
    assert random_states(ranks[1]) == before


@pytest.fixture(scope="module")
def group(ray_cluster: None, data: TrialData) -> Iterator[Any]:
    import ray

    from emoray.trial.group import Group

    group = Group(TWO, [ray.put(data)], None)
    yield group
    group.close()


def remote(group: Any, **changes: Any) -> Any:
    from emoray.trial.group import RemotePlayer

    return RemotePlayer(settings(**changes), "accuracy", group)


def through_deaths(player: Any, within: Any = None) -> dict[str, float]:
    """An epoch that is waited for again after each death of a rank, as a trial's next step does."""
    from emoray.trial.failures import RanksDied

    while True:
        with contextlib.suppress(RanksDied):
            row: dict[str, float] = player.play(within)
            return row


def workers() -> list[int]:
    """The processes of this test's ranks."""
    return of_raylet("RayTrainWorker")


def of_raylet(title: str) -> list[int]:
    """The children of this process's own raylet that have `title` in theirs."""
    import ray

    socket = ray._private.worker.global_worker.node.raylet_socket_name
    told = {int(path.parent.name): cmdline(path) for path in Path("/proc").glob("[0-9]*/cmdline")}
    (raylet,) = [process for process, line in told.items() if f"--raylet_socket_name={socket}" in line]
    return [process for process, line in told.items() if title in line and parent(process) == raylet]


def cmdline(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # it has just ended
        return ""


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.ray
@pytest.mark.keras
@pytest.mark.timeout(400)
def test_two_workers_take_the_steps_of_one(data: TrialData, group: Any) -> None:
    """Class weights, MixUp, an averaged model, and gradients that are clipped after they are summed."""
    one, two = player(data, **PLAIN), remote(group, **PLAIN)
    for _ in range(2):  # 14 steps
        one.play(), two.play()
    for ours, theirs in zip(timeless(one.history), timeless(two.history), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    assert two.parameters == one.parameters
    assert two.best.meta["epoch"] == one.best.meta["epoch"]
    for mine, other in ((one.state(), two.state()), (one.best, two.best)):
        assert mine.arrays.keys() == other.arrays.keys()
        for a, b in [pair for kind in mine.arrays for pair in zip(mine.arrays[kind], other.arrays[kind], strict=True)]:
            assert np.allclose(a, b, atol=1e-6)


@pytest.mark.ray
@pytest.mark.keras
@pytest.mark.timeout(400)
def test_a_killed_worker_costs_an_epoch_and_changes_nothing(data: TrialData, group: Any) -> None:
    """With dropout and batch norm: the ranks agree at the end of each epoch, or the trial would fail."""
    from emoray.trial.failures import RanksDied

    unbroken, broken = remote(group, seed=8), remote(group, seed=8)
    for _ in range(2):
        unbroken.play()
    broken.play()
    os.kill(workers()[1], signal.SIGKILL)
    with pytest.raises(RanksDied, match=r"the process of its worker [01] died"):
        broken.play()
    through_deaths(broken)
    assert timeless(broken.history) == timeless(unbroken.history)
    for a, b in zip(unbroken.state().arrays["model"], broken.state().arrays["model"], strict=True):
        assert np.array_equal(a, b)


@pytest.mark.ray
@pytest.mark.keras
@pytest.mark.timeout(400)
def test_an_error_on_a_worker_is_told(group: Any) -> None:
    """What kind of failure it is, and in the words of the error, as one of the trial's own process would be."""
    from emoray.trial import failures

    for model, failure, reason in (
        ("hungry", MEMORY, "out of memory: MemoryError: no room for 7 kernels"),
        ("unreadable", DATA, "FileNotFoundError: [Errno 2] No such file or directory: '/no/such/file'"),
    ):
        with pytest.raises(failures.WorkersFailed) as caught:
            remote(group, model={"name": f"tests.fatal_models.{model}"}).play()
        told = failures.told(caught.value)
        assert (told["failure"], told["reason"]) == (failure, reason)
        assert "fatal_models.py" in told["error"], "the traceback on the worker"


@pytest.mark.ray
@pytest.mark.timeout(400)
def test_workers_that_find_no_place_are_an_error(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from emoray.trial.failures import NoPlace
    from emoray.trial.group import Group

    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "3")
    for resources in (Resources(workers=2, cpus_per_worker=9), Resources(workers=8, fewest=2, cpus_per_worker=9)):
        impossible = Group(resources, [ray.put(None)], None)
        with pytest.raises(NoPlace, match=r"2 workers of 9 CPUs each could not be placed: too few CPUs are free"):
            remote(impossible).play()
        impossible.close()


@pytest.mark.ray
@pytest.mark.keras
@pytest.mark.timeout(900)
def test_groups_that_are_ended_early_end_at_once_and_leave_nothing(tmp_path: Path) -> None:
    """At different moments of their start and in mid-epoch, in a cluster of their own; ten with `make chaos`."""
    more = ["all"] if "EMORAY_KILLS" in os.environ else []
    done = subprocess.run([sys.executable, "-m", "tests.ended_groups", tmp_path, *more], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["groups"], told["alive"]) == (10 if more else 3, 0)
    assert all(chunks < told["epoch"] / 4 for chunks in told["chunks"]), told
    assert told["left"] == {"actors": [], "placement_groups": [], "processes": []}


@pytest.mark.ray
@pytest.mark.keras
@pytest.mark.timeout(400)
def test_a_group_that_ends_leaves_nothing(data: TrialData, group: Any) -> None:
    """The last of those that share the group: it ends it."""
    import ray

    group.close()
    ended = time.monotonic()
    while ray.available_resources().get("CPU", 0) < 2 or workers():
        assert time.monotonic() - ended < 10, ray.available_resources()
        time.sleep(0.1)
    states = [entry["state"] for entry in ray.util.placement_group_table().values()]
    assert set(states) <= {"REMOVED"}


@pytest.mark.ray
@pytest.mark.keras
@pytest.mark.timeout(400)
def test_workers_that_die_again_and_again_are_told_as_dead(data: TrialData, group: Any) -> None:
    """Last of its module: a group of its own needs the place of the one that the others share."""
    import ray

    from emoray.trial import failures
    from emoray.trial.group import Group

    group.close()
    fated = Group(TWO, [ray.put(data)], None)
    with pytest.raises(failures.WorkersFailed, match=r"died 4 times in the same epoch \(ActorDiedError") as caught:
        through_deaths(remote(fated, model={"name": "tests.fatal_models.deadly"}))
    assert failures.told(caught.value)["failure"] == CRASH
    fated.close()
