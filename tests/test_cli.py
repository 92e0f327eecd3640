"""What the command line says after Ctrl-C or SIGTERM: how to go on, where there is something to go on with."""

import os
import signal
import time
from typing import Any

import pytest

from emoray import cli, sweep
from emoray.errors import Stopped


@pytest.mark.parametrize(
    ("stop", "arguments", "told"),
    [
        (Stopped, ["x.yaml"], "what was trained is kept. Go on with:\n    emoray sweep x.yaml --resume"),
        (Stopped, ["x.yaml", "--resume", "--plain"], "Go on with:\n    emoray sweep x.yaml --plain --resume"),
        (Stopped, ["--retry-failed", "x.yaml"], "Go on with:\n    emoray sweep x.yaml --resume"),
        (KeyboardInterrupt, ["x.yaml"], "stopped; nothing was trained"),
        (KeyboardInterrupt, ["x.yaml", "--resume"], "Go on with:\n    emoray sweep x.yaml --resume"),
        (KeyboardInterrupt, ["x.yaml", "--retry-failed"], "Go on with:\n    emoray sweep x.yaml --retry-failed"),
    ],
)
def test_a_sweep_that_was_stopped_tells_how_it_goes_on(
    stop: type, arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything was begun, failed trials still are failed; after, `--resume` goes on with them."""

    def interrupted(arguments: sweep.Arguments) -> None:
        raise stop

    monkeypatch.setattr(sweep, "run", interrupted)
    assert cli.main(["sweep", *arguments]) == 130
    said = capsys.readouterr().err.rstrip()
    assert said.startswith("stopped; ") or said.startswith("\nstopped; ")
    assert said.endswith(told)


def test_other_commands_just_stop(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "finalize_again", interrupted)
    assert cli.main(["finalize", "runs/x"]) == 130
    assert capsys.readouterr().err.strip() == "stopped"


@pytest.mark.parametrize("on_interrupt", [signal.default_int_handler, signal.SIG_IGN])
@pytest.mark.parametrize("error", [Stopped, None])
def test_a_sweep_that_is_terminated_ends_as_after_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], on_interrupt: Any, error: type | None
) -> None:
    """Also where Ctrl-C is ignored, as it is of what a script has put into the background."""

    def terminated(arguments: sweep.Arguments) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        except KeyboardInterrupt:
            if error is not None:
                raise error from None
            raise

    monkeypatch.setattr(sweep, "run", terminated)
    before = signal.getsignal(signal.SIGTERM), signal.signal(signal.SIGINT, on_interrupt)
    try:
        assert cli.main(["sweep", "x.yaml"]) == 143
        assert signal.getsignal(signal.SIGTERM) == before[0]
    finally:
        signal.signal(signal.SIGINT, before[1])
    told = capsys.readouterr().err
    assert ("emoray sweep x.yaml --resume" if error else "stopped; nothing was trained") in told


def test_an_option_is_known_by_its_whole_name_only(capsys: pytest.CaptureFixture[str]) -> None:
    """A part of it would stand in the command that is told after Ctrl-C, and mean something else there."""
    for arguments in (["sweep", "x.yaml", "--retry"], ["sweep", "x.yaml", "--res"], ["finalize", "x", "--add", "auto"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert ended.value.code == 2
        assert f"unrecognized arguments: {arguments[2]}" in capsys.readouterr().err
