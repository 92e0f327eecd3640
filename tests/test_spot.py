"""The spot watcher against a stand-in for EC2's metadata service, over HTTP, and against a real Ray cluster."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest

from emoray import spot
from emoray.spot import Metadata, Notice


class Service:
    """What EC2's metadata service does, with what it is told to say; counts what it is asked."""

    def __init__(self) -> None:
        self.says: dict[str, str] = {}
        self.tokens: list[str] = []
        self.asked: list[str] = []
        self.failing = 0
        self.url = ""

    def answer(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        self.asked.append(f"{method} {path}")
        if self.failing:
            self.failing -= 1
            return 503, ""
        if path == "/latest/api/token":
            if method != "PUT" or not headers.get("x-aws-ec2-metadata-token-ttl-seconds", "").isdecimal():
                return 400, ""
            self.tokens.append(f"token-{len(self.tokens)}")
            return 200, self.tokens[-1]
        if not self.tokens or headers.get("x-aws-ec2-metadata-token") != self.tokens[-1]:
            return 401, ""
        text = self.says.get(path.removeprefix("/latest/meta-data/"))
        return (404, "") if text is None else (200, text)

    def interrupt(self, seconds: float) -> float:
        end = (datetime.now(UTC) + timedelta(seconds=seconds)).replace(microsecond=0)
        self.says["spot/instance-action"] = json.dumps({"action": "terminate", "time": f"{end:%Y-%m-%dT%H:%M:%S}Z"})
        return end.timestamp()

    def recommend(self) -> None:
        told = {"noticeTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}Z"}
        self.says["events/recommendations/rebalance"] = json.dumps(told)


@contextmanager
def serving(service: Service) -> Iterator[Service]:
    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            headers = {key.lower(): value for key, value in self.headers.items()}
            status, text = service.answer(self.command, self.path, headers)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_PUT = _any

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    service.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    with serving(Service()) as one:
        yield one


def test_nothing_is_said_then_a_recommendation_then_the_end(service: Service) -> None:
    metadata = Metadata(service.url)
    assert spot.notice(metadata) is None
    service.recommend()
    assert spot.notice(metadata) == Notice(spot.REBALANCE, None)
    end = service.interrupt(120)
    assert spot.notice(metadata) == Notice(spot.INTERRUPTION, end), "the end counts more than a recommendation"
    assert service.tokens == ["token-0"], "one token serves many questions"


def test_a_token_that_has_run_out_is_fetched_anew(service: Service) -> None:
    metadata = Metadata(service.url)
    spot.notice(metadata)
    service.tokens.append("another")
    end = service.interrupt(120)
    assert spot.notice(metadata) == Notice(spot.INTERRUPTION, end)


def test_a_proxy_of_the_environment_is_not_asked(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert spot.notice(Metadata(service.url)) is None


def watched(service: Service, drained: list[Notice], refusals: int = 0, poll: float = 0.02) -> threading.Thread:
    refused = [OSError("the head is away")] * refusals

    def drain(told: Notice) -> None:
        if refused:
            raise refused.pop()
        drained.append(told)

    ended = threading.Event()
    thread = threading.Thread(target=spot.watch, args=(Metadata(service.url), drain, ended, poll, 0.1), daemon=True)
    thread.ended = ended  # type: ignore[attr-defined]
    thread.start()
    return thread


def until(condition: object, seconds: float = 10) -> None:
    limit = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < limit, "it has not happened"
        time.sleep(0.005)


def test_each_notice_is_drained_for_once_and_the_end_ends_it(service: Service) -> None:
    drained: list[Notice] = []
    thread = watched(service, drained)
    service.recommend()
    until(lambda: len(drained) == 1)
    asked = len(service.asked)
    until(lambda: len(service.asked) > asked + 4)
    assert drained == [Notice(spot.REBALANCE, None)], "the same recommendation again is no news"
    end = service.interrupt(120)
    thread.join(10)
    assert not thread.is_alive()
    assert drained[1:] == [Notice(spot.INTERRUPTION, end)]


def test_a_drain_that_failed_and_a_service_that_is_away_are_tried_again(service: Service) -> None:
    drained: list[Notice] = []
    service.failing = 4
    service.interrupt(120)
    thread = watched(service, drained, refusals=3)
    thread.join(10)
    assert not thread.is_alive()
    assert len(drained) == 1


@pytest.mark.parametrize("answer", ["", "no JSON", "[]", "[" * 9_000, '{"action": "terminate"}', '{"time": "soon"}'])
def test_an_answer_that_is_none_ends_nothing(service: Service, answer: str) -> None:
    drained: list[Notice] = []
    service.says["spot/instance-action"] = answer
    thread = watched(service, drained)
    until(lambda: len(service.asked) > 4)
    assert not drained
    service.interrupt(120)
    thread.join(10)
    assert len(drained) == 1


def test_it_waits_between_questions_however_the_service_fares(service: Service) -> None:
    thread = watched(service, [], poll=0.1)
    time.sleep(0.55)
    asked_awake = len(service.asked)
    service.failing = 10**6
    time.sleep(0.55)
    thread.ended.set()  # type: ignore[attr-defined]
    thread.join(5)
    assert not thread.is_alive(), "it ends when it is told to"
    assert asked_awake <= 1 + 2 * 7, "a token, and two questions a round"
    assert len(service.asked) - asked_awake <= 7
    assert [spot.pause(n, 5, 60) for n in (0, 1, 2, 3, 4, 99)] == [5, 10, 20, 40, 60, 60]


@contextmanager
def babbling(answer: bytes) -> Iterator[str]:
    """The address of a server that takes a request and says the same to each."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(answer)

    server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "answer", [b"", b"no HTTP\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b"HTTP/1.1 x\r\n\r\n"]
)
def test_what_speaks_no_http_is_asked_again(answer: bytes, service: Service) -> None:
    with babbling(answer) as address:
        metadata, drained = Metadata(address), list[Notice]()
        with pytest.raises((OSError, ValueError)):
            spot.notice(metadata)
        watcher = threading.Thread(
            target=spot.watch, args=(metadata, drained.append, threading.Event(), 0.02, 0.1), daemon=True
        )
        watcher.start()
        watcher.join(0.2)
        assert watcher.is_alive(), "it asks on"
        service.interrupt(120)
        metadata.url = service.url
        watcher.join(10)
    assert len(drained) == 1


def test_nobody_at_the_address_is_no_end() -> None:
    with pytest.raises(OSError, match="refused"):
        spot.notice(Metadata("http://127.0.0.1:9"))
