"""What a person sees of a search: a display of any number of trials at 80 columns, plain lines."""

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from emoray import cli, config, display, overview, ownership, trials
from emoray.run_folder import RunFolder, write_text
from emoray.studies import Studies
from emoray.trials import TrialTable

SWEEP = """
models: [{name: simple_cnn, trials: TRIALS, dropout: {uniform: [0.1, 0.5]}, width: {normal: [64, 1]}}]
train: {epochs: 9, optimizer: {name: adam, learning_rate: {loguniform: [1e-4, 1e-2]}}}
search: {metric: METRIC, scheduler: {name: asha, grace_epochs: 3}}
"""


def searched(
    tmp_path: Path, count: int, metric: str = "accuracy", screen: display.PlainDisplay | None = None
) -> Studies:
    """A search in which a third has ended and the others run; a `screen` has seen its beginning."""
    text = SWEEP.replace("TRIALS", str(count)).replace("METRIC", metric).replace("width: {normal: [64, 1]}", "depth: 3")
    write_text(tmp_path / "run" / "sweep.yaml", text)
    studies = Studies(config.load(tmp_path / "run" / "sweep.yaml"), TrialTable(RunFolder(tmp_path / "run")))
    if screen is not None:
        screen.update(studies)
    for number in range(count):
        trial = studies.next()
        assert trial is not None
        for epoch in range(1, 3 if number % 3 else 10):
            row = {
                "epoch": epoch,
                "score": (count - number) / 1000 + epoch / 100,
                "seconds": 2.0,
                "images_per_second": 1234.0,
            }
            row |= {"train_loss": 1 / epoch, metric: 0.25, "accuracy": 0.5, "data_wait": 0.27}
            trials.write_history(studies.table.folder.trial(trial.id), [*trial.history, row])
            done = {"status": "finished", "reason": ""} if epoch == 9 else {}
            if studies.record({"trial": trial.id, "row": list(row.items()), **done}):
                break
    studies.table.write()
    return studies


@pytest.fixture(scope="module", params=[2, 12, 200])
def long_or_short(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Studies:
    return searched(tmp_path_factory.mktemp("runs"), request.param)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60), (80, 10)])
def test_the_display_fits_any_terminal(long_or_short: Studies, width: int, height: int) -> None:
    studies, count = long_or_short, len(long_or_short.table.trials)
    console = Console(width=width, height=height, file=io.StringIO(), legacy_windows=False)
    with console.capture() as captured:
        console.print(overview.overview(studies, 3723.0, width, height))
    lines = captured.get().splitlines()
    assert len(lines) <= height
    assert max(len(line) for line in lines) <= width
    text = "\n".join(lines)
    shown = ("1:02:03", "at most", "best accuracy", "dropout 0.", "learning_rate", "1,234", "data wait", "27%")
    for words in (f"/{count} trials", *shown):
        assert words in text, text
    if count == 200:
        assert "more" in text
        assert "epochs saved by early stopping" in text


def test_a_curve_that_is_lost_is_drawn_too() -> None:
    assert overview.sparkline([float("nan"), 0.0, 1.0, float("-inf")], 8) == " ▁█ "


def test_plain_lines_come_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each epoch, that of the last too, and for each end of a trial, though both come together."""
    screen = display.PlainDisplay()
    studies = searched(tmp_path, 4, screen=screen)
    capsys.readouterr()
    studies.notices.append("lenet-001: its process died; it goes on from epoch 3")
    screen.update(studies)
    told = [line.partition("] ")[2] for line in capsys.readouterr().out.splitlines()]
    epochs = [f"{trial.id} epoch {n + 1}/9" for trial in studies.table for n in range(len(trial.history))]
    assert [" ".join(line.split()[:3]) for line in told if " epoch " in line and "images/s" in line] == epochs
    assert "simple_cnn-001 epoch 9/9 accuracy 0.0940 loss 0.1111 1,234 images/s, data wait 27%" in told
    ends = [line for line in told if " trials" in line]
    assert [line.split()[:2] for line in ends] == [["simple_cnn-001", "finished:"], ["simple_cnn-004", "stopped"]]
    assert len(told) == len(epochs) + len(ends) + 1
    assert "goes on from epoch 3" in told[-1]
    screen.update(studies)
    assert capsys.readouterr().out == ""


def test_epochs_of_an_earlier_start_are_not_told_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = searched(tmp_path, 4)
    resumed = Studies(before.sweep, trials.restore(before.table.folder))
    screen = display.PlainDisplay()
    screen.update(resumed)
    trial = resumed.next()
    assert trial is not None
    row = {**trial.history[-1], "epoch": len(trial.history) + 1}
    resumed.record({"trial": trial.id, "row": list(row.items())})
    screen.update(resumed)
    assert f"] {trial.id} epoch 3/9" in capsys.readouterr().out.splitlines()[0]


def test_a_log_that_is_silent_gets_a_sign_of_life(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    studies = searched(tmp_path, 4)
    screen = display.PlainDisplay()
    screen.update(studies)
    capsys.readouterr()
    screen.update(studies)
    assert capsys.readouterr().out == "", "nothing is new, and it has not been silent for long"
    monkeypatch.setattr(display, "SILENT_SECONDS", 0.3)
    time.sleep(0.4)
    for _ in range(3):
        screen.update(studies)
    (told,) = capsys.readouterr().out.splitlines()
    assert told.endswith("2/4 trials; at work: simple_cnn-002 in epoch 3, simple_cnn-003 in epoch 3")
    screen.say("predicting")
    with screen.at_work():
        time.sleep(0.75)
    told, *lives = capsys.readouterr().out.splitlines()
    assert told.endswith("predicting")
    assert len(lives) == 2
    assert lives[0].endswith("still at it, for 00:00")
    time.sleep(0.4)
    assert capsys.readouterr().out == "", "what has ended gives no sign of life"


def test_a_terminal_shows_what_is_being_done() -> None:
    shown = io.StringIO()
    screen = display.LiveDisplay(Console(file=shown, force_terminal=True, width=80, legacy_windows=False))
    screen.say("predicting selection and test with [5] checkpoints")
    with screen.at_work():
        time.sleep(0.3)
        screen.say("fitting")
        time.sleep(0.3)
    told = shown.getvalue()
    assert told.count("predicting selection and test with [5] checkpoints") > 1, "as a line, and beside its clock"
    assert told.count("fitting") > 1
    assert "0:00:00" in told


def test_what_a_resume_would_do_is_planned_and_not_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    searched(tmp_path / "runs", 4)
    run, file = tmp_path / "runs" / "run", tmp_path / "run.yaml"
    text = config.dump(config.load(run / "sweep.yaml", ["name=run"], str(tmp_path / "runs")))
    write_text(run / "sweep.yaml", text)
    write_text(run / "trials" / "simple_cnn-001" / "checkpoint" / "last.npz", "more epochs can follow")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    planned = ["sweep", str(file), "--storage", str(tmp_path / "runs"), "--dry-run", "--resume"]
    for changed, told in (
        (text.replace("trials: 4", "trials: 6"), "2 ended, 2 go on, 2 new"),
        (text.replace("epochs: 9", "epochs: 12"), "1 ended, 3 go on, 0 new"),
    ):
        file.write_text(changed)
        assert cli.main(planned) == 0
        assert f"resume     {run}/: {told}" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    file.write_text(text.replace("seed: 0", "seed: 5"))
    assert cli.main(planned) == 2
    assert "was measured under other settings" in capsys.readouterr().err
    file.write_text(text)
    with ownership.of(run, print):
        assert cli.main(planned) == 2
    assert "another process is at work" in capsys.readouterr().err
    assert cli.main([*planned, "--set", "name=never"]) == 2
    assert "there is no run of 'never'" in capsys.readouterr().err


def test_what_is_drawn_is_told_apart_and_whole(tmp_path: Path) -> None:
    text = """
models: [{name: simple_cnn, dropout: {uniform: [0.1, 0.5]}, depth: {choice: [2, 3]}, width: {choice: [16, 32]}}]
train:
  optimizer: {name: adam, learning_rate: {loguniform: [1e-4, 1e-2]}}
  augment: [{name: rotate, degrees: {uniform: [5, 20]}}, {name: shear, degrees: {uniform: [1, 9]}}]
"""
    write_text(tmp_path / "run" / "sweep.yaml", text)
    studies = Studies(config.load(tmp_path / "run" / "sweep.yaml"), TrialTable(RunFolder(tmp_path / "run")))
    trial = studies.next()
    assert trial is not None
    row = {"epoch": 1, "score": 0.5, "seconds": 1.0, "images_per_second": 5.0, "train_loss": 1.0}
    studies.record({"trial": trial.id, "row": list(row.items())})
    told = overview.drawn(trial, studies.sweep)
    assert len(told) == len(trial.drawn) == 6
    assert sorted(name for name in told if name.endswith("degrees")) == ["augment[0].degrees", "augment[1].degrees"]
    console = Console(width=80, file=io.StringIO())
    with console.capture() as captured:
        console.print(overview.overview(studies, 1.0, 80))
    lines = captured.get().splitlines()
    shown = " ".join(lines)
    assert all(f"{name} {value}" in shown for name, value in told.items()), shown
    assert max(len(line) for line in lines) <= 80


def pbt(tmp_path: Path) -> Studies:
    text = """
models: [{name: lenet, trials: 6}]
train: {epochs: 8, optimizer: {name: adam, learning_rate: {loguniform: [1e-4, 1e-2]}}}
search: {metric: accuracy, scheduler: {name: pbt, interval_epochs: 2}}
"""
    write_text(tmp_path / "run" / "sweep.yaml", text)
    return Studies(config.load(tmp_path / "run" / "sweep.yaml"), TrialTable(RunFolder(tmp_path / "run")))


def test_trials_that_wait_for_their_round_are_not_running(tmp_path: Path) -> None:
    studies = pbt(tmp_path)
    for number in range(4):
        trial = studies.next()
        assert trial is not None
        for epoch in (1, 2) if number < 3 else (1,):
            row = {"epoch": epoch, "score": 0.5, "seconds": 10.0, "images_per_second": 5.0, "train_loss": 1.0}
            studies.record({"trial": trial.id, "row": list(row.items())})
    assert len(overview.waiting(studies)) == 3
    console = Console(width=80, file=io.StringIO())
    with console.capture() as captured:
        console.print(overview.overview(studies, 1.0, 80))
    assert "0/6 trials  1 running · 3 waiting" in captured.get()
    assert overview.time_left(studies) == pytest.approx(10.0 * (3 * 6 + 7 + 2 * 8)), "one trains, for all of them"


def test_the_time_left_counts_on_the_costliest_study(tmp_path: Path) -> None:
    text = """
models: [{name: lenet, trials: 4, epochs: 2}, {name: simple_cnn, trials: 4, epochs: 20}]
train: {optimizer: {name: adam, learning_rate: {loguniform: [1e-4, 1e-2]}}}
search: {metric: accuracy, share: best}
"""
    write_text(tmp_path / "run" / "sweep.yaml", text)
    studies = Studies(config.load(tmp_path / "run" / "sweep.yaml"), TrialTable(RunFolder(tmp_path / "run")))
    trial = studies.next()
    assert trial is not None
    row = {"epoch": 1, "score": 0.5, "seconds": 10.0, "images_per_second": 5.0, "train_loss": 1.0}
    studies.record({"trial": trial.id, "row": list(row.items())})
    assert overview.time_left(studies) == pytest.approx(10.0 * (1 + 7 * 20))


LONG = "a_narrow_simple_cnn_with_a_drawn_dropout_and_flips_of_grey_faces"


@pytest.mark.parametrize("width", [80, 120])
def test_trials_of_a_study_with_a_long_name_keep_their_numbers(tmp_path: Path, width: int) -> None:
    text = (
        SWEEP.replace("TRIALS", "6")
        .replace("METRIC", "balanced_accuracy")
        .replace("width: {normal: [64, 1]}", "depth: 3")
    )
    write_text(tmp_path / "run" / "sweep.yaml", text.replace("trials: 6,", f"trials: 6, study: {LONG},"))
    studies = Studies(config.load(tmp_path / "run" / "sweep.yaml"), TrialTable(RunFolder(tmp_path / "run")))
    for _ in range(6):
        trial = studies.next()
        assert trial is not None
        row = {"epoch": 1, "score": 0.5, "seconds": 1.0, "images_per_second": 12_345.0, "train_loss": 1.0}
        studies.record({"trial": trial.id, "row": list((row | {"data_wait": 0.01}).items())})
    console = Console(width=width, file=io.StringIO())
    with console.capture() as captured:
        console.print(overview.overview(studies, 1.0, width))
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= width
    for number in range(1, 7):
        (line,) = (line for line in lines if f"-{number:03d} " in line)
        assert line.split()[1:3] == ["1/9", "0.5000"]
        assert line.split()[-2:] == ["12,345", "1%"]
    assert any(line.startswith("best ") and "-001, epoch 1" in line for line in lines)


def test_what_is_said_breaks_at_spaces_and_commands_stand_alone(tmp_path: Path) -> None:
    studies = searched(tmp_path, 4)
    trial = next(trial for trial in studies.table if not trial.ended)
    reason = "a reason of many words that does not fit into one line of a terminal of eighty columns"
    studies.record({"trial": trial.id, "status": "failed", "reason": reason})
    console = Console(width=80, file=io.StringIO(), force_terminal=True, soft_wrap=True, highlight=False)
    screen = display.LiveDisplay(console)
    with console.capture() as captured:
        screen.say(display.failures(studies.table, RunFolder(tmp_path / "a folder with a name that is long" / "run")))
    *lines, command = captured.get().splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 80
    assert f"1 trial failed, {trial.id}: {reason}; --retry-failed runs" in " ".join(lines)
    assert command == f"    emoray show '{tmp_path}/a folder with a name that is long/run' {trial.id}"
