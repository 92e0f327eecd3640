"""How a sweep comes to its Ray cluster: the token, and the sentence where it is not let in."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from emoray import cluster
from emoray.cluster import refusal
from emoray.errors import SweepFailed, UserError

MISMATCH = """Version mismatch: The cluster was started with:
    Ray: 2.59.1
    Python: 3.11.9
This process on node 10.0.0.7 was started with:
    Ray: 2.60.0
    Python: 3.12.4
"""


def test_versions_that_differ_are_told_in_a_sentence() -> None:
    told = refusal("10.0.0.5:6379", RuntimeError(MISMATCH))
    assert told == (
        "--address 10.0.0.5:6379: the cluster runs Ray 2.59.1 on Python 3.11.9, and here is Ray 2.60.0 on "
        "Python 3.12.4; install the same here, or submit the sweep as a job, which runs there"
    )
    only_python = MISMATCH.replace("2.59.1", "2.60.0")
    assert "the cluster runs Ray 2.60.0 on Python 3.11.9, and" in refusal("auto", RuntimeError(only_python))


def test_a_token_that_is_missing_or_another_is_told() -> None:
    missing = refusal("auto", RuntimeError("RAY_AUTH_TOKEN_PATH is set but file cannot be opened: /x. Ensure that"))
    assert missing.startswith("Ray's token cannot be read (RAY_AUTH_TOKEN_PATH is set but file cannot be opened: /x)")
    other = refusal("10.0.0.5:6379", ConnectionError("Failed to connect to Ray cluster at 10.0.0.5:6379"))
    assert "no Ray cluster, or one with another token" in other
    assert "no Ray cluster answers there" in refusal(
        "auto", ConnectionError("Could not find any running Ray instance.")
    )
    assert refusal(None, RuntimeError("no room")) == "Ray does not start on this machine (no room)"


@pytest.mark.parametrize("address", ["local", "ray://127.0.0.1:10001", "http://127.0.0.1:8265", "10.0.0.5", ":x"])
def test_what_is_no_address_of_a_cluster_is_refused(address: str) -> None:
    with pytest.raises(UserError, match=f"--address {address}: it must be 'auto' or HOST:PORT"):
        cluster._reach(address)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that is not the user's, and no token in the environment."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_token_is_made_for_its_owner_alone(home: Path) -> None:
    before = os.umask(0)  # the least careful of users
    try:
        cluster._ensure_token()
    finally:
        os.umask(before)
    token = home / ".ray" / "auth_token"
    assert mode(token) == 0o600
    assert mode(token.parent) == 0o700
    made = token.read_text()
    assert len(made) == 64
    cluster._ensure_token()
    assert token.read_text() == made


def test_a_token_that_others_can_read_is_kept_from_them(home: Path) -> None:
    token = home / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("made by `ray get-auth-token --generate`")
    token.chmod(0o644)
    cluster._ensure_token()
    assert mode(token) == 0o600


def test_a_token_of_the_environment_is_left_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "other"))
    cluster._ensure_token()
    assert list(home.iterdir()) == []


def test_ray_that_was_imported_too_early_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray  # noqa: F401

    monkeypatch.delenv("RAY_AUTH_MODE")
    with (
        pytest.raises(UserError, match="set RAY_AUTH_MODE=token before"),
        cluster.connected(None, [], print),
    ):
        pass


@pytest.mark.ray
@pytest.mark.timeout(180)
def test_ray_that_is_too_slow_to_start_is_told_in_a_sentence(tmp_path: Path) -> None:
    """Ray's own delay, for its tests: the node is not known before Ray has given up on it, as on a machine too busy."""
    slow = os.environ | {"RAY_testing_asio_delay_us": "NodeInfoGcsService.grpc_server.RegisterNode=90000000:90000000"}
    words = ["sweep", "sweeps/quickstart.yaml", "--plain", "--storage", str(tmp_path), "--set", "data.faces=300"]
    done = subprocess.run(
        [sys.executable, "-m", "emoray.cli", *words],
        cwd=Path(__file__).parents[1],
        env=slow,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    told = done.stderr.splitlines(keepends=True)[-1]  # Ray tells of the delay before
    assert re.fullmatch(
        r"failed: Ray did not start within \d+ seconds: this machine may be busy, or short of memory; try again when "
        r"it is less so \(The current node timed out during startup\..*\)\n",
        told,
    ), done.stderr
    assert "Traceback" not in done.stderr
    assert "starting Ray" in done.stdout
    assert not list(tmp_path.glob("quickstart*")), "and no run was begun"


def test_what_ends_a_command_whose_ray_does_not_start() -> None:
    late = Exception("The current node timed out during startup.")
    assert isinstance(cluster.not_started(None, late, 31.6), SweepFailed)
    assert "within 32 seconds" in str(cluster.not_started(None, late, 31.6))
    assert isinstance(cluster.not_started(None, TimeoutError("no node"), 30), SweepFailed)
    other = cluster.not_started(None, Exception("no dashboard"), 3)
    assert isinstance(other, UserError)
    assert str(other) == "Ray does not start on this machine (no dashboard)"
    assert isinstance(cluster.not_started("auto", late, 30), UserError)
