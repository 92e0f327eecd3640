"""Fixtures shared by all layers of tests."""

import atexit
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emoray.s3 import S3Path, requests
from tests import s3_server as s3

# Ray's token authentication is on, with a token of the tests' own: the user's is neither used nor made. Ray reads both
# when it is first imported, which the collection of tests does before any fixture runs.
_TOKEN = Path(tempfile.mkdtemp(prefix="emoray-tests-")) / "token"
_TOKEN.touch(mode=0o600)
_TOKEN.write_text(secrets.token_hex(32))
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(_TOKEN)}
# Nor are the user's keys for AWS, which would lead out of this machine.
for _name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[_name]
os.environ |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": str(_TOKEN.with_name("aws"))}
os.environ |= {"AWS_SHARED_CREDENTIALS_FILE": os.environ["AWS_CONFIG_FILE"]}
# A shell has what it runs in the background ignore Ctrl-C, and what that starts; here Ctrl-C is under test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
atexit.register(shutil.rmtree, _TOKEN.parent, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with FER2013 and ImageNet weights; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("EMORAY_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data is not at {folder}; name its folder in EMORAY_DATA")
    return folder


@pytest.fixture
def witness() -> Iterator[Path]:
    """A file outside that nothing may make or change."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder, "witness")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium for all tests that open a page."""
    from tests.browser import chrome

    driver = chrome(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 40 trials in 9 studies, more than there are colours, with names that mean harm; tests only read it."""
    from emoray import report
    from tests.run_folder import EMOTIONS, EVIL, LONG, build

    classes = (*EMOTIONS[:4], EVIL, LONG)
    folder = build(tmp_path_factory.mktemp("runs") / "hostile", studies=9, trials=40, epochs=12, classes=classes)
    report.write(folder)
    return folder


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local Ray cluster of two CPUs for all tests that need one."""
    import ray

    # With the dashboard, as in a sweep: without it Ray Train frees no places of a controller that was killed.
    ray.init(address="local", num_cpus=2, include_dashboard=True, dashboard_host="127.0.0.1", log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """An S3 server on loopback, for all tests: its address."""
    with s3.server() as address:
        yield address


@pytest.fixture
def s3_bucket(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Path]:
    """A bucket of the test's own on that server, which the environment names."""
    for name, value in s3.environment(s3_server, tmp_path).items():
        monkeypatch.setenv(name, value)
    requests._client.cache_clear()
    bucket = S3Path(s3.bucket_name())
    requests.client().create_bucket(Bucket=bucket.bucket)
    yield bucket
    requests._client.cache_clear()


@pytest.fixture
def s3_proxy(s3_bucket: S3Path, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[s3.Proxy]:
    """A proxy before the server, by which the environment now leads to it."""
    proxy = s3.Proxy(s3_server)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.address)
    requests._client.cache_clear()
    yield proxy
    proxy.close()
