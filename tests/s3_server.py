"""An S3 server on loopback, and a proxy before it that makes requests fail: what the tests of storage run against."""

import contextlib
import http.client
import http.server
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

FAIL, BUSY, HANG, CUT, DROP, LOSE = "500", "503", "hang", "cut", "drop", "lose"
"""Two answers; no answer in time; half of the answer's content; closed before it is passed on, and after."""
ANSWERS = {
    FAIL: (500, "InternalError"),
    BUSY: (503, "SlowDown"),
    "501": (501, "NotImplemented"),
    "403": (403, "AccessDenied"),
    "301": (301, "PermanentRedirect"),
    "400": (400, "ExpiredToken"),
}
Plan = Callable[[str, str], str | None]
"""Method and path of a request to what is done with it; None: it is passed on."""


@contextmanager
def server() -> Iterator[str]:
    """moto's S3 over HTTP: its address."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        running.stop()


class Proxy:
    """Passes requests on to `server`, but for those that its plan makes fail; counts them all."""

    def __init__(self, server: str) -> None:
        self.target = server.removeprefix("http://")
        self.plan: Plan = lambda method, path: None
        self.seen: list[tuple[str, str, str | None]] = []
        self.hang_seconds = 2.0
        self.knows_conditions = True
        self._lock = threading.Lock()
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                proxy.handle(self)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fails(self, *faults: str | None, method: str | None = None, path: str = "") -> None:
        """The next requests of this method and with this in their path meet these faults, one each."""
        left = list(faults)

        def plan(used: str, where: str) -> str | None:
            if left and (method is None or used == method) and path in where:
                return left.pop(0)
            return None

        self.plan = plan

    def handle(self, request: http.server.BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        with self._lock:
            fault = self.plan(request.command, request.path)
            if not self.knows_conditions and request.command == "PUT" and "If-" in str(request.headers):
                fault = "501"
            self.seen.append((request.command, request.path, fault))
        request.close_connection = True
        if fault == HANG:
            time.sleep(self.hang_seconds)
        if fault in (HANG, DROP):
            return
        if fault in ANSWERS:
            self._refuse(request, *ANSWERS[fault])
            return
        status, headers, content = self._passed_on(request, body)
        if fault == LOSE:
            return
        request.send_response(status)
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "server", "date"):
                request.send_header(name, value)
        length = {name.lower(): value for name, value in headers}.get("content-length", str(len(content)))
        request.send_header("Content-Length", length)
        request.send_header("Connection", "close")
        request.end_headers()
        with contextlib.suppress(OSError):  # it has given up waiting
            request.wfile.write(content[: len(content) // 2] if fault == CUT else content)

    def _passed_on(self, request: Any, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.target, timeout=60)
        headers = {name: value for name, value in request.headers.items() if name.lower() != "expect"}
        connection.request(request.command, request.path, body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, answer.getheaders(), content

    @staticmethod
    def _refuse(request: Any, status: int, code: str) -> None:
        content = (
            f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>told so</Message>"
            "<Region>eu-west-1</Region></Error>"
        ).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/xml")
        request.send_header("Content-Length", str(len(content)))
        request.send_header("x-amz-bucket-region", "eu-west-1")
        request.send_header("Connection", "close")  # or the next request may go out on a connection that is closing
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)


def environment(address: str, folder: Any) -> dict[str, str]:
    """What boto3 goes by: this server, keys of no one's, and nothing of the user's own."""
    return {
        "AWS_ENDPOINT_URL_S3": address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(folder / "aws-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "aws-credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "EMORAY_CACHE": str(folder / "cache"),
    }


def bucket_name() -> str:
    return f"emoray-{secrets.token_hex(6)}"
