"""Trials that find no place while nothing runs: the sweep tells so and ends, instead of waiting for ever."""

from pathlib import Path

import pytest

from emoray import config, search
from emoray.errors import SweepFailed
from emoray.placement import START_TIMEOUT
from emoray.run_folder import RunFolder
from emoray.studies import Studies
from emoray.trial_state import RUNNING
from emoray.trials import TrialTable
from tests.training import faces_of


class Onlooker:
    def update(self, studies: Studies) -> None:
        """Shows nothing."""


@pytest.mark.ray
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("train", "mode", "told"),
    [
        (
            "cpus_per_worker: 2",
            "memory",
            "2 CPUs found no place in 2 s: too few CPUs are free: 1 CPU on one node",
        ),
        (
            "workers: 2, cpus_per_worker: 0.1, data_cpus: 0.7",
            "stream",
            r"a trial of 0.7 CPUs \+ 0.7 CPUs found",
        ),
    ],
)
def test_a_sweep_that_finds_no_place_ends_with_what_is_short(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: str, mode: str, told: str
) -> None:
    """One of two CPUs is somebody else's."""
    import dataclasses

    import ray

    monkeypatch.setenv(START_TIMEOUT, "2")
    taken = ray.util.placement_group([{"CPU": 1}])
    ray.get(taken.ready())
    (tmp_path / "sweep.yaml").write_text(f"models: [{{name: lenet, trials: 1}}]\ntrain: {{epochs: 1, {train}}}\n")
    table = TrialTable(RunFolder(tmp_path / "run"))
    data = dataclasses.replace(faces_of(203), mode=mode)
    try:
        with pytest.raises(SweepFailed, match=told) as caught:
            search.run(config.load(tmp_path / "sweep.yaml"), table, data, 1, Onlooker())
    finally:
        ray.util.remove_placement_group(taken)
    assert str(caught.value).endswith("; make room and go on with --resume")
    assert table.trials["lenet-001"].status == RUNNING, "it goes on with the next start"
