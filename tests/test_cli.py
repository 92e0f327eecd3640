"""What the command line says after Ctrl-C: how to go on, where there is something to go on with."""

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
