"""Watches for EC2 taking this machine back, and drains its Ray node: `python -m emoray.spot --address HEAD:6379`.

EC2 tells a spot machine two minutes before its end, in its metadata; Ray does not look there. A drained node gets no
new work, and what runs on it learns until when it may. Ray itself is only asked in a process of its own (drain.py): a
client that has lost the head may abort its process, and this one has to outlive that.
"""

import argparse
import http.client
import json
import logging
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any

METADATA = "http://169.254.169.254"
POLL_SECONDS = 5.0
"""What EC2's documentation asks for."""
MOST_SECONDS = 60.0
"""Between attempts where the metadata service does not answer."""
ANSWER_SECONDS = 2.0
TOKEN_SECONDS = 21_600
DRAIN_SECONDS = 30.0
"""For Ray to take the request; after that it is asked again."""
REBALANCE, INTERRUPTION = "rebalance", "interruption"

log = logging.getLogger(__name__)


class Metadata:
    """The instance metadata service, version 2: each request has a token, which is fetched anew when it runs out."""

    def __init__(self, url: str = METADATA) -> None:
        self.url = url.rstrip("/")
        self._token: str | None = None
        # Not through a proxy of the environment: the address is of this machine.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str) -> str | None:
        """The text at `latest/meta-data/<path>`; None where there is none. Raises OSError where nobody answers."""
        for attempt in range(2):
            if self._token is None:
                wanted = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
                self._token = self._ask("api/token", wanted, "PUT")
            try:
                return self._ask(f"meta-data/{path}", {"X-aws-ec2-metadata-token": self._token}, "GET")
            except urllib.error.HTTPError as error:
                if error.code == HTTPStatus.NOT_FOUND:
                    return None
                if error.code != HTTPStatus.UNAUTHORIZED or attempt:
                    raise
                self._token = None
        raise AssertionError("the second attempt returns or raises")

    def _ask(self, path: str, headers: dict[str, str], method: str) -> str:
        request = urllib.request.Request(f"{self.url}/latest/{path}", headers=headers, method=method)
        try:
            with self._opener.open(request, timeout=ANSWER_SECONDS) as answer:
                text: str = answer.read(10_000).decode()
        except http.client.HTTPException as error:  # what answers speaks no HTTP
            raise OSError(f"{type(error).__name__}: {error}") from error
        return text


@dataclass(frozen=True)
class Notice:
    """What EC2 has said of this machine. `deadline` is its end in seconds since 1970; of a rebalance, none is known."""

    kind: str
    deadline: float | None

    def __str__(self) -> str:
        if self.deadline is None:
            return "EC2 recommends to leave this machine"
        return f"EC2 takes this machine back at {datetime.fromtimestamp(self.deadline):%H:%M:%S}"


def notice(metadata: Metadata) -> Notice | None:
    """What EC2 has said, the end before a mere recommendation.

    Raises OSError where the metadata service does not answer, ValueError where its answer is none that is known.
    """
    action = metadata.get("spot/instance-action")
    if action is not None:
        return Notice(INTERRUPTION, _seconds(json.loads(action), "time"))
    recommended = metadata.get("events/recommendations/rebalance")
    if recommended is not None:
        _seconds(json.loads(recommended), "noticeTime")
        return Notice(REBALANCE, None)
    return None


def _seconds(told: Any, key: str) -> float:
    written = told.get(key) if isinstance(told, dict) else None
    if not isinstance(written, str):
        raise ValueError(f"{told!r} has no {key}")
    return datetime.fromisoformat(written).timestamp()


def watch(
    metadata: Metadata,
    drain: Callable[[Notice], None],
    ended: threading.Event,
    poll_seconds: float = POLL_SECONDS,
    most_seconds: float = MOST_SECONDS,
) -> None:
    """Ask every `poll_seconds` until the machine's end is told and drained for, or `ended` is set.

    A `drain` that raises OSError is called again. Where the service does not answer, the pauses double up to
    `most_seconds`.
    """
    done: Notice | None = None
    failures = 0
    while True:
        try:
            found = notice(metadata)
            failures = 0
        except (OSError, ValueError, RecursionError) as error:  # the last of brackets without end
            found, failures = None, failures + 1
            if failures == 1:
                log.warning("no answer from %s (%s); asking again", metadata.url, error)
        if found is not None and found != done:
            log.warning("%s: draining its Ray node", found)
            try:
                drain(found)
                done = found
            except (OSError, ValueError) as error:
                log.warning("Ray did not take it (%s); asking again", error)
        if (done is not None and done.kind == INTERRUPTION) or ended.wait(pause(failures, poll_seconds, most_seconds)):
            return


def pause(failures: int, poll_seconds: float, most_seconds: float) -> float:
    """Seconds until the next question after so many that were not answered."""
    return min(poll_seconds * 2 ** min(failures, 10), max(most_seconds, poll_seconds))


def drainer(address: str, metadata: Metadata) -> Callable[[Notice], None]:
    """Drains the Ray node at this machine's own address by `emoray.drain`, in a process of its own."""

    def drain(told: Notice) -> None:
        ip = metadata.get("local-ipv4")
        command = [sys.executable, "-m", "emoray.drain", "--address", address, "--ip", str(ip), "--why", str(told)]
        if told.deadline is not None:
            command += ["--seconds", f"{max(told.deadline - time.time(), 0):.0f}"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=DRAIN_SECONDS)
        except subprocess.SubprocessError as error:
            said = str(getattr(error, "stderr", None) or error).strip().splitlines()
            raise OSError(said[-1] if said else str(error)) from None

    return drain


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m emoray.spot", allow_abbrev=False, description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--address", required=True, help="the cluster's head, such as 10.0.0.5:6379")
    parser.add_argument("--metadata", default=METADATA, help=f"the metadata service (default: {METADATA})")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    metadata = Metadata(arguments.metadata)
    log.info("watching %s for %s (process %d)", metadata.url, arguments.address, os.getpid())
    watch(metadata, drainer(arguments.address, metadata), threading.Event())


if __name__ == "__main__":
    main()
