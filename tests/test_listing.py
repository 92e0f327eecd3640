"""What `emoray runs`, `show` and `predict` print: runs and trials as text, in a terminal and in a file."""

import fcntl
import json
import os
import pty
import shutil
import struct
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest

from emoray import cli, config, trials
from emoray.run_folder import RunFolder, write_text
from emoray.studies import Studies
from emoray.trials import TrialTable
from tests.test_display import searched


def test_runs_and_their_trials_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    searched(tmp_path, 5, "log_loss")
    assert cli.main(["runs", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "unfinished" in told
    assert "log_loss -0.095" in told
    assert cli.main(["show", str(tmp_path / "run")]) == 0
    assert "simple_cnn-003" in capsys.readouterr().out
    assert cli.main(["show", str(tmp_path / "run"), "simple_cnn-001"]) == 0
    told = capsys.readouterr().out
    assert "curve: up is better" in told
    curve = next(line for line in told.splitlines() if line.startswith("log_loss  ")).split()[1]
    rows = trials.read_history(tmp_path / "run" / "trials" / "simple_cnn-001")
    assert curve[min(range(len(rows)), key=lambda row: -rows[row]["score"])] == "█", "the lowest log-loss is the peak"
    assert "learning_rate" in told
    assert "epoch  train_loss" in told
    assert "data_wait" in told
    assert "0.27" in told


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["runs", "nowhere"], "holds no runs"),
        (["runs", "RUN"], "is a run itself: look at it by 'emoray show'"),
        (["show", "nowhere"], "is no run folder"),
        (["show", "RUN", "simple_cnn-01"], "did you mean 'simple_cnn-001'"),
    ],
)
def test_what_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    searched(tmp_path, 2)
    assert cli.main([str(tmp_path / "run") if word == "RUN" else word for word in arguments]) == 2
    assert reason in capsys.readouterr().err


def test_a_damaged_run_hides_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    searched(tmp_path, 4)
    for number, (file, text) in enumerate(
        [
            ("trials/simple_cnn-001/settings.json", ""),
            ("trials/simple_cnn-001/settings.json", '{"trial": "simple_cnn-001"}'),
            ("trials/simple_cnn-001/history.csv", "epoch,score\nx,y\n"),
            ("trials/simple_cnn-001/end.json", "{}"),
            ("trials/simple_cnn-001/history.csv", ""),
            ("sweep.yaml", "models: ["),
            ("sweep.yaml", ""),
        ]
    ):
        broken = tmp_path / f"broken-{number}"
        shutil.copytree(tmp_path / "run", broken)
        write_text(broken / file, text)
    assert cli.main(["runs", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert [told.count(f"broken-{number} is damaged: ") for number in range(7)] == [1] * 7, told
    assert "unfinished  2/4" in told
    assert cli.main(["show", str(tmp_path / "broken-0")]) == 2
    assert "simple_cnn-001/settings.json" in capsys.readouterr().err
    assert cli.main(["show", str(tmp_path / "broken-4")]) == 0
    shown = capsys.readouterr().out
    assert "simple_cnn-001/history.csv is missing or empty, though the trial has finished" in " ".join(shown.split())


def test_trials_that_are_still_to_come_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    searched(tmp_path, 2)
    more = (tmp_path / "run" / "sweep.yaml").read_text().replace("trials: 2,", "trials: 30,")
    write_text(tmp_path / "run" / "sweep.yaml", more)
    assert cli.main(["runs", str(tmp_path)]) == 0
    assert "unfinished  1/30" in capsys.readouterr().out


@pytest.mark.parametrize("metric", ["balanced_accuracy", "recall_happy", "log_loss"])
def test_a_trial_is_shown_with_what_it_is_selected_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], metric: str
) -> None:
    searched(tmp_path, 2, metric)
    assert cli.main(["show", str(tmp_path / "run"), "simple_cnn-001"]) == 0
    header = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch "))
    assert header.split().count(metric) == 1


def in_terminal(command: list[str], columns: int, folder: Path) -> list[str]:
    """The lines that a command prints in a terminal of so many columns, to which it writes all that it has to say."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
        os.execve(sys.executable, [sys.executable, "-m", "emoray.cli", *command], environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    said = b""
    with suppress(OSError):  # the end of what a terminal gives
        while part := os.read(terminal, 65536):
            said += part
    os.close(terminal)
    os.waitpid(process, 0)
    return said.decode().replace("\r", "").splitlines()


@pytest.mark.parametrize("columns", [80, 120])
def test_a_real_terminal_gets_lines_that_fit_it(tmp_path: Path, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(cli.__file__).parents[1]))
    searched(tmp_path, 3)
    shutil.move(tmp_path / "run", tmp_path / "runs" / "with a space")
    shown = in_terminal(["show", "with a space"], columns, tmp_path)
    assert any("simple_cnn-001" in line for line in shown)
    assert max(map(len, shown)) <= columns
    told = in_terminal(["show", str(tmp_path / "with a spade")], columns, tmp_path)
    assert len(told) > 1
    whole = (
        f"error: {tmp_path}/with a spade is no run folder: {tmp_path}/with a spade/sweep.yaml is missing; did you mean"
    )
    assert " ".join(told) == f"{whole} runs/with a space?"


def finalized(folder: Path, name: str, soup: bool) -> None:
    """A run's ensemble.json and report, in which the second trial, or its soup, is the best single model."""
    folder = folder / "run"
    ids = [f"{name}-00{number}" for number in (1, 2)]
    listed = [{"name": one, "trial": one, "selection": 0.3, "weight": 0.5, "files": ["a"]} for one in ids]
    listed += [{"name": f"{ids[1]}-soup", "trial": ids[1], "selection": 0.7, "weight": None, "files": ["a", "b", "c"]}]
    told = {"candidates": listed, "test": {"best_single": {"trial": listed[2 if soup else 1]["name"]}}}
    told |= {"searched": trials.restore(RunFolder(folder)).reached()}
    write_text(folder / "ensemble.json", json.dumps(told))
    write_text(folder / "report.html", "")


def test_a_run_all_of_whose_trials_failed_has_nothing_to_finalize(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text(tmp_path / "run" / "sweep.yaml", "models: [{name: lenet, trials: 1}]")
    studies = Studies(config.load(tmp_path / "run" / "sweep.yaml"), TrialTable(RunFolder(tmp_path / "run")))
    trial = studies.next()
    assert trial is not None
    studies.record({"trial": trial.id, "status": "failed", "reason": "no"})
    assert cli.main(["runs", str(tmp_path)]) == 0
    assert "run  failed  1/1" in capsys.readouterr().out


def ended(tmp_path: Path) -> Studies:
    """A search all of whose trials have ended."""
    studies = searched(tmp_path, 4)
    for trial in list(studies.table):
        if not trial.ended:
            studies.record({"trial": trial.id, "status": "finished", "reason": ""})
    return studies


def test_a_run_that_was_searched_and_not_finalized_is_told_from_one_that_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    studies = ended(tmp_path)

    def listed() -> str:
        assert cli.main(["runs", str(tmp_path)]) == 0
        return capsys.readouterr().out

    assert "not finalized  4/4" in listed()
    assert "`emoray finalize RUN` chooses and writes the report" in listed()
    assert cli.main(["show", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    assert f"    emoray finalize {tmp_path / 'run'}\n" in shown
    assert "selection" not in shown
    finalized(tmp_path, "simple_cnn", soup=False)
    assert "finished  4/4" in listed()
    assert "not finalized" not in listed()
    (tmp_path / "run" / "report.html").unlink()  # as where it was stopped before that was written
    assert cli.main(["show", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    assert "* chosen as the best single model" in shown
    assert "its finalize did not end" in shown
    assert "nothing was chosen" not in shown
    write_text(tmp_path / "run" / "report.html", "")
    file = tmp_path / "run" / "sweep.yaml"
    more = file.read_text().replace("trials: 4", "trials: 5")
    write_text(file, more)
    assert "finished  4/4" in listed(), "an extension that was not begun changes nothing"
    further = Studies(config.load(file), trials.restore(studies.table.folder))
    trial = further.next()
    assert trial is not None
    assert "unfinished  4/5" in listed()
    further.record({"trial": trial.id, "status": "failed", "reason": "nothing"})
    assert "not finalized  5/5" in listed(), "the report is of four trials"
    assert cli.main(["show", str(tmp_path / "run")]) == 0
    assert "More was trained since the best were chosen" in capsys.readouterr().out
    (tmp_path / "run" / "ensemble.json").write_text("[")
    assert "not finalized  5/5" in listed()


@pytest.mark.parametrize("soup", [False, True])
def test_the_leaderboard_of_a_finalized_run_shows_what_was_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], soup: bool
) -> None:
    ended(tmp_path)
    finalized(tmp_path, "simple_cnn", soup)
    assert cli.main(["show", str(tmp_path / "run")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    (averaged,) = (line for line in lines if line[:1] == ["simple_cnn-002-soup"])
    assert averaged == ["simple_cnn-002-soup", "0.7000*" if soup else "0.7000", "3", "averaged"]
    (second,) = (line for line in lines if line[1:2] == ["simple_cnn-002"])
    assert second[3] == ("0.3000" if soup else "0.3000*")
    assert any(line[:2] == ["*", "chosen"] for line in lines)
    write_text(tmp_path / "run" / "ensemble.json", '{"candidates": [{"trial": "simple_cnn-002"}]}')
    assert cli.main(["show", str(tmp_path / "run")]) == 0
    assert "simple_cnn-002" in capsys.readouterr().out, "a damaged ensemble.json hides no trial"


def test_a_run_is_found_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    searched(tmp_path, 2)
    shutil.copytree(tmp_path / "run", tmp_path / "runs" / "mine")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["show", "mine"]) == 0
    assert capsys.readouterr().out.startswith("runs/mine: ")
    assert cli.main(["show", "run"]) == 0
    assert capsys.readouterr().out.startswith("run: "), "what is named by its path comes first"
    for command in (["show", "mime"], ["finalize", "mime"], ["predict", "mime", "a.png"]):
        assert cli.main(command) == 2
        assert "did you mean runs/mine?" in capsys.readouterr().err
    assert cli.main(["show", "other"]) == 2
    assert "'emoray runs' lists those that there are" in capsys.readouterr().err


def test_of_many_files_that_cannot_be_used_a_terminal_gets_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(cli.__file__).parents[1]))
    run = tmp_path / "runs" / "mine"
    write_text(run / "ensemble.json", json.dumps({"classes": ["a", "b"]}))
    write_text(run / "sweep.yaml", "models: [lenet]")
    write_text(run / "data" / "manifest.json", json.dumps({"image_shape": [48, 48, 1], "classes": ["a", "b"]}))
    bad = [f"bad {number}.png" for number in range(30)]
    for name in bad:
        (tmp_path / name).write_text("no image")
    lines = in_terminal(["predict", "mine", *bad], 80, tmp_path)
    assert lines[:2] == ["file,label,confidence,a,b", "error: 30 of 30 files could not be used:"]
    assert [line.partition(":")[0] for line in lines[2:7]] == [f"  {name}" for name in bad[:5]]
    assert lines[7].startswith("  and 25 more; ")
    assert "2> unusable.txt" in lines[7]
    monkeypatch.chdir(tmp_path)
    assert cli.main(["predict", "mine", *bad]) == 2
    told = capsys.readouterr().err
    assert all(f"\n  {name}: " in told for name in bad), "a file gets all of them"
    assert "more" not in told
