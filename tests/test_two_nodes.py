"""A trial on two workers, each on a node of its own, one of which is lost in the middle of an epoch.

What takes minutes more, nodes that are called back and ranges of workers, is tried by `make chaos`.
"""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.keras, pytest.mark.timeout(900)]
ALL = "EMORAY_KILLS" in os.environ
long = pytest.mark.skipif(not ALL, reason="takes minutes: `make chaos` runs it")


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What the program beside this file saw, which starts a cluster of its own."""
    command = [sys.executable, "-m", "tests.two_nodes", *(["all"] if ALL else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


def test_a_node_that_dies_changes_nothing_when_another_takes_its_place(told: dict[str, Any]) -> None:
    assert told["nodes"] == 2, "a worker on each"
    assert told["killed"] == {"same": True, "error": "None"}


@long
def test_a_node_that_is_called_back_gives_time_to_save_the_epoch_so_far(told: dict[str, Any]) -> None:
    """And what goes on from there ends with the same bits."""
    seen = told["called_back"]
    assert (seen["same"], seen["error"]) == (True, "None")
    assert seen["saved"]
    assert all(chunks >= 1 for chunks in seen["saved"])


@long
@pytest.mark.parametrize("way", ["elastic", "elastic_streamed"])
def test_a_range_of_workers_goes_on_with_what_is_left_and_grows_again(told: dict[str, Any], way: str) -> None:
    assert told[way] == {"workers": [2, 1, 2], "error": "None"}
