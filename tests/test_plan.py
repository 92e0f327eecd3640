"""The plan of a sweep: what it says, what it doubts, what it refuses, all with numbers."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest

from emoray import config, forecast, plan, schedulers
from emoray.cluster import local_resources
from emoray.data import sources
from emoray.errors import UserError
from emoray.placement import Cluster, Node

SWEEP = """
data: {faces: 600}
models:
  - {name: lenet, trials: 9}
  - {name: simple_cnn, trials: 3, width: {choice: [16, 32]}, dropout: {uniform: [0.1, 0.5]}}
train: {epochs: 27, batch_size: {choice: [16, 32, 64]}}
search: {scheduler: {name: asha, grace_epochs: 3}, price_per_hour: 2.5}
"""


@dataclass(frozen=True)
class Cost:
    epoch_seconds: float = 10.0
    images_per_second: float = 100.0
    parameters: int = 1000
    best_bytes: int = 4_000_000
    last_bytes: int = 12_000_000


EIGHT = Cluster((Node(8, 0),), 5e9, None)
TWO_STREAMING = "{workers: 2, cpus_per_worker: 0.75, data_cpus: 0.25, epochs: 2}"


def sweep_of(tmp_path: Path, text: str = SWEEP) -> config.Sweep:
    (tmp_path / "sweep.yaml").write_text(text)
    return config.load(tmp_path / "sweep.yaml", storage=str(tmp_path / "runs"))


def described(sweep: config.Sweep, machine: Cluster) -> str:
    return plan.describe(sweep, machine, sources.find(sweep.data, sweep.seed))


def test_a_single_trial_is_told_of_as_one(tmp_path: Path) -> None:
    text = "models: [{name: lenet, trials: 2}]\ntrain: {epochs: 2}\nsearch: {algorithm: optuna}\n"
    (tmp_path / "sweep.yaml").write_text(text)
    told = described(config.load(tmp_path / "sweep.yaml"), local_resources())
    assert "lenet: of 2 trials 1 is run, since its space holds 1 setting" in told
    assert ": 1 trial at once" in told


def test_the_plan_says_what_will_be_done(tmp_path: Path) -> None:
    told = described(sweep_of(tmp_path), local_resources())
    for words in (
        "lenet: 9 trials of up to 27 epochs, 1 CPU each, from a space of 3 settings",
        "simple_cnn: 3 trials of up to 27 epochs, 1 CPU each, from a space of infinitely many settings",
        "model.dropout: uniform 0.1, 0.5",
        "judged after epochs 3, 9",
        "6 trials, 162 epochs; about 42 epochs are expected with asha",
        "since a trial takes 1 CPU",
        "lenet: of 9 trials 3 are run, since its space holds 3 settings",
    ):
        assert words in told, told


@pytest.mark.parametrize(
    ("change", "doubt"),
    [
        (
            ("grace_epochs: 3", "grace_epochs: 27"),
            "asha never judges: it would have to before the last of 27 epochs, and has no rung there",
        ),
        (("{name: asha, grace_epochs: 3}", "{name: pbt, interval_epochs: 3}"), ""),
        (("{name: asha, grace_epochs: 3}", "{name: median, min_trials: 8}"), "median needs 9 trials or more"),
        (
            ("asha, grace_epochs: 3", "hyperband, grace_epochs: 9"),
            "lenet: 2 of hyperband's 3 brackets never judge: they have no rung before the last of 27 epochs",
        ),
        (("price_per_hour: 2.5", "algorithm: optuna"), "are among optuna's first 8, which are drawn at random"),
        (("price_per_hour: 2.5", "max_concurrent: 1"), ""),
        (
            ("epochs: 27,", "epochs: 12, schedule: {name: cosine, warmup_epochs: 9},"),
            "asha never judges: it would have to before the last of 12 epochs and after the 9 of its schedule in which "
            "nothing is judged, and has no rung there",
        ),
        (
            (
                "trials: 3, width: {choice: [16, 32]}, dropout: {uniform: [0.1, 0.5]}",
                "trials: 4, width: {choice: [16, 32]}",
            ),
            "simple_cnn: grid runs 4 of 6 points, the first in the file's order",
        ),
    ],
)
def test_what_is_hardly_meant_is_doubted(tmp_path: Path, change: tuple[str, str], doubt: str) -> None:
    if "pbt" in change[1]:
        with pytest.raises(UserError, match="pbt cannot take the space of simple_cnn"):
            sweep_of(tmp_path, SWEEP.replace(*change))
        return
    text = SWEEP.replace(*change)
    if "grid" in doubt:
        text = text.replace("search: {", "search: {algorithm: grid, ")
    doubts = list(forecast.doubts(sweep_of(tmp_path, text), 1, "memory", 0, EIGHT))
    assert any((doubt or "leaves 7 of 8 CPUs idle") in told for told in doubts), doubts


def test_the_plan_tells_the_limit_and_counts_one_as_one(tmp_path: Path) -> None:
    text = "models: [{name: lenet, trials: 1}]\ndata: {faces: 2000, limit: 1500}\ntrain: {epochs: 1}\n"
    text += "finalize: {keep: 1}\n"
    told = described(sweep_of(tmp_path, text), Cluster((Node(1, 0),), 5e9, None))
    assert "2,000 images, used as 48x48 grey, shared in memory, at most 1,500 of them to train on\n" in told
    for words in ("up to 1 epoch,", "at most    1 trial, 1 epoch\n", "1 running trial are", "   best checkpoint, ens"):
        assert words in told, told


def test_the_plan_names_no_setting_of_another_sampler(tmp_path: Path) -> None:
    text = (
        "models: [{name: simple_cnn, dropout: {uniform: [0.1, 0.5]}}]\n"
        "search: {algorithm: {name: optuna, sampler: X}}\n"
        "train: {optimizer: {name: adam, learning_rate: {uniform: [0.001, 0.1]}}}\n"
    )
    assert "multivariate" not in described(sweep_of(tmp_path, text.replace("X", "cmaes")), EIGHT)
    assert "multivariate True" in described(sweep_of(tmp_path, text.replace("X", "tpe")), EIGHT)


def test_trials_that_a_study_may_get_of_others_count(tmp_path: Path) -> None:
    text = (
        "models: [{name: lenet, trials: 3}, {name: vgg10, trials: 3}]\n"
        "search: {scheduler: {name: median, min_trials: 4}, share: SHARE}\n"
        "train: {epochs: 9, optimizer: {name: adam, learning_rate: {uniform: [0.001, 0.1]}}}\n"
    )
    found = {}
    for share in ("equal", "best"):
        sweep = sweep_of(tmp_path, text.replace("SHARE", share))
        found[share] = [told for told in forecast.doubts(sweep, 1, "memory", 0, EIGHT) if "median needs 5" in told]
    assert [len(told) for told in found.values()] == [2, 0]


def test_the_plan_counts_what_ray_data_takes(tmp_path: Path) -> None:
    models = "[{name: simple_cnn, dropout: {uniform: [0.1, 0.5]}}]"
    text = f"models: {models}\ndata: {{mode: stream}}\ntrain: {TWO_STREAMING}\n"
    told = described(sweep_of(tmp_path, text), EIGHT)
    assert "8 CPUs and 0 GPUs: 4 trials at once, since a trial takes 2 CPUs" in told
    told = described(sweep_of(tmp_path, text + "search: {max_concurrent: 1}"), EIGHT)
    assert "search.max_concurrent 1 leaves 6 of 8 CPUs idle" in told
    told = described(sweep_of(tmp_path, text + "search: {max_concurrent: 2}"), EIGHT)
    assert "idle" not in told, "half of the CPUs are taken"


def test_what_the_object_store_cannot_hold_is_doubted(tmp_path: Path) -> None:
    small = dataclasses.replace(EIGHT, memory=1e6)
    text = f"models: [lenet]\ndata: {{faces: 1000, mode: MODE}}\ntrain: {TWO_STREAMING}\n"
    told = described(sweep_of(tmp_path, text.replace("MODE", "memory")), small)
    assert "data.mode: the training images take 1.59 MB and a node's object store holds 1 MB" in told
    told = described(sweep_of(tmp_path, text.replace("MODE", "stream")), small)
    assert "8 workers stream on a node at once and buffer 1.61 GB, of which its object store holds 1 MB" in told
    for mode in ("memory", "stream"):
        assert "object store" not in described(sweep_of(tmp_path, text.replace("MODE", mode)), EIGHT)


def test_a_csv_is_planned_by_its_size(tmp_path: Path) -> None:
    """As many images are counted when they are prepared, of which as many are trained on."""
    image = " ".join(str(pixel * 7 % 256) for pixel in range(2304))
    (tmp_path / "faces.csv").write_text("emotion,pixels\n" + f"3,{image}\n" * 400)
    sweep = sweep_of(tmp_path, f"models: [lenet]\ndata: {{path: {tmp_path}/faces.csv, mode: auto}}\n")
    training = 400 * 0.85 * 0.9 * 0.9 * 2304
    just, too_little = (Cluster((Node(2, 0),), training / 0.4 * by, None) for by in (1.05, 0.95))
    assert "about 400 images, used as 48x48 grey, shared in memory" in described(sweep, just)
    assert "about 400 images, used as 48x48 grey, streamed by Ray Data" in described(sweep, too_little)
    limited = dataclasses.replace(sweep, data=dataclasses.replace(sweep.data, limit=100))
    assert "shared in memory" in described(limited, too_little)


def test_expected_epochs_follow_the_rungs() -> None:
    asha = {"name": "asha", "grace_epochs": 3, "reduction_factor": 3}
    assert schedulers.expected_epochs(asha, 27) == pytest.approx(3 + 6 / 3 + 18 / 9)
    assert schedulers.expected_epochs({"name": "none"}, 27) == 27
    assert schedulers.expected_epochs({"name": "median", "grace_epochs": 3}, 27) is None
    hyperband = {"name": "hyperband", "grace_epochs": 3, "reduction_factor": 3, "brackets": 3}
    one, two, three = 7, 9 + 18 / 3, 27
    assert schedulers.expected_epochs(hyperband, 27) == pytest.approx((3 * one + 1.5 * two + three) / 5.5)


def test_hours_money_and_disk_from_what_was_measured(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    costs = {study.name: Cost() for study in sweep.studies}
    likely, most = forecast.hours(sweep, costs, slots=1)
    assert most == pytest.approx(162 * 10 / 3600)
    assert likely == pytest.approx(42 * 10 / 3600)
    one = 27 * 10 / 3600
    assert forecast.hours(sweep, costs, slots=100) == pytest.approx((one, one)), "no trial is split"
    needed, taken = forecast.disk(sweep, costs, slots=2)
    assert needed == 6 * 4_000_000 + 2 * 2 * 12_000_000 + 2 * 4_000_000
    assert taken == needed + 4 * 12_000_000
    told = plan.measured(sweep, costs, 2)
    assert "lenet: 10.0 s an epoch, 100 images/s, 1,000 parameters, in the middle of its space\n" in told
    assert "money      about 0." in told


def test_figures_of_several_workers_are_said_to_be_reckoned(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "models: [lenet, {name: simple_cnn, workers: 2}]\n")
    told = plan.measured(sweep, {study.name: Cost() for study in sweep.studies}, 1).splitlines()
    assert [line.endswith("; for 2 workers, reckoned from one") for line in told[:2]] == [False, True]


def test_what_has_no_room_is_refused(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, SWEEP.replace("price_per_hour: 2.5", "storage_limit: 50 MB"))
    costs = {study.name: Cost() for study in sweep.studies}
    with pytest.raises(UserError, match=r"search.storage_limit: 50 MB is too little.* take 80 MB"):
        plan.measured(sweep, costs, 2)
    with pytest.raises(UserError, match=r"has 1 MB free and the checkpoints that are needed take 80 MB"):
        forecast.check_disk(sweep_of(tmp_path), 80_000_000, 1_000_000)


def test_what_a_limit_allows_is_the_most(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, SWEEP.replace("price_per_hour: 2.5", "storage_limit: 100 MB"))
    costs = {study.name: Cost() for study in sweep.studies}
    assert forecast.disk(sweep, costs, slots=2) == (80_000_000, 100_000_000)


def test_nothing_is_judged_within_a_warm_up(tmp_path: Path) -> None:
    warm = SWEEP.replace("epochs: 27,", "epochs: 27, schedule: {name: cosine, warmup_epochs: 4},")
    told = described(sweep_of(tmp_path, warm), local_resources())
    assert "judged after epochs 9\n" in told, told
    assert "about 90 epochs are expected with asha" in told, told  # each: 9 and a third of 18
    either = "schedule: {choice: [{name: constant}, {name: constant, warmup_epochs: 4}]},"
    sweep = sweep_of(tmp_path, SWEEP.replace("epochs: 27,", f"epochs: 27, {either}"))
    assert forecast.judged(sweep, sweep.studies[0]) == [[3, 9]], "some of its trials are judged early"
    assert forecast.expected_epochs(sweep, sweep.studies[0]) == pytest.approx(6 * (7 + 15) / 2)


def test_what_a_price_comes_to_is_told_by_measuring(tmp_path: Path) -> None:
    told = described(sweep_of(tmp_path, SWEEP), local_resources())
    assert "money      at 2.5 an hour; --measure tells how much" in told, told


def test_shares_of_too_few_trials_are_told(tmp_path: Path) -> None:
    text = (
        "models: [{name: lenet, trials: 1}, {name: simple_cnn, trials: 1}]\ndata: {faces: 300}\nsearch: {share: best}\n"
    )
    told = described(sweep_of(tmp_path, text), local_resources())
    assert "share      2 trials for all 2 studies in proportion, and none is left for the better ones" in told, told


def test_the_better_studies_may_be_the_costly_ones(tmp_path: Path) -> None:
    text = SWEEP.replace("trials: 3, width", "trials: 3, epochs: 60, width")
    told = described(sweep_of(tmp_path, text.replace("price_per_hour: 2.5", "share: best")), local_resources())
    assert "share      6 trials for all 2 studies in proportion, then 6 trials for the best 1" in told, told
    assert "12 trials, 720 epochs; about" in told, told
    assert "are expected with asha and equal shares" in told, told
    sweep = sweep_of(tmp_path, text.replace("price_per_hour: 2.5", "share: best"))
    costs = {"lenet": Cost(), "simple_cnn": Cost(last_bytes=1)}
    assert forecast.hours(sweep, costs, slots=1)[1] == pytest.approx(720 * 10 / 3600)
    assert forecast.disk(sweep, costs, slots=1)[1] > 12 * 12_000_000


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "search: {algorithm: {name: optuna, sampler: cmaes}}",
            "cmaes cannot take the space of lenet: batch_size is a",
        ),
        ("search: {storage_limit: much}", "it must be bytes, or a size such as 20 GB"),
        ("tracking: {name: mlflow}", "mlflow needs 'uri'"),
    ],
)
def test_what_a_search_cannot_do_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        sweep_of(tmp_path, f"models: [lenet]\ntrain: {{batch_size: {{choice: [16, 32]}}}}\n{text}\n")


def test_gp_is_refused_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"torch, which is not installed: pip install 'emoray\[gp\]', or use tpe"):
        sweep_of(tmp_path, "models: [lenet]\nsearch: {algorithm: {name: optuna, sampler: gp}}\n")
