"""A sweep on three nodes on which nodes, workers, trials' processes and the driver die at random.

EMORAY_KILLS (`make chaos` sets 30) is how often. Unless it is set, two things die, the data are in memory only, and the
result is not compared with an untouched sweep's.
"""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.keras, pytest.mark.timeout(3600)]
LONG = "EMORAY_KILLS" in os.environ
KILLS = int(os.environ.get("EMORAY_KILLS", "2"))
MODES = ["memory", "stream"] if LONG else ["memory"]


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What the program saw, which starts a cluster of its own."""
    command = [sys.executable, "-m", "tests.chaos", "--kills", str(KILLS // len(MODES)), "--modes", *MODES]
    command += [] if LONG else ["--trials", "1", "--alone"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-20_000:]
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(seen, indent=1), done.stderr)
    return seen


@pytest.mark.parametrize("mode", MODES)
def test_the_sweep_ends_as_if_nothing_had_died(told: dict[str, Any], mode: str) -> None:
    """That no epoch on disk was ever lost, and no ended trial changed, the program looks at all along."""
    assert sum(told[mode]["killed"].values()) == KILLS // len(MODES), "the sweep was too short for it"
    assert told[mode]["trials"] == {"finished": 6 if LONG else 2}
    assert told[mode]["each_once"]
    assert told[mode].get("same", not LONG), "settings, scores and losses of each epoch are those of an untouched sweep"
    assert not told[mode]["tracebacks"]


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_left_behind(told: dict[str, Any], mode: str) -> None:
    assert told[mode]["left"] == {"actors": [], "placement_groups": [], "held": {}, "temporary": []}
    assert told["processes_left"] == []
