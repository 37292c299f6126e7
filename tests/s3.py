"""Servers that speak S3, on loopback, for tests."""

import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest

REFUSAL = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@pytest.fixture(scope="module")
def s3_environment() -> Iterator[dict[str, str]]:
    """Run moto's server; yield, and set, the variables by which a user says where the storage is."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    try:
        reset = urllib.request.Request(f"http://127.0.0.1:{port}/moto-api/reset", method="POST")
        urllib.request.urlopen(reset).close()  # its buckets outlive it: they belong to the process
        with _environment(port) as variables:
            yield variables
    finally:
        server.stop()


class SlowServer(ThreadingHTTPServer):
    """Answers every GET with `content` after a while, or with 503; knows how many it answered at once."""

    content = b"0123456789"
    seconds = 0.3
    request_queue_size = 64
    refuses = False
    most_at_once = answered = 0

    def __init__(self) -> None:
        self._at_once, self._lock = 0, threading.Lock()
        super().__init__(("127.0.0.1", 0), _SlowHandler)

    @contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self._at_once, self.answered = self._at_once + 1, self.answered + 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        yield
        with self._lock:
            self._at_once -= 1


class _SlowHandler(BaseHTTPRequestHandler):
    server: SlowServer

    def do_GET(self) -> None:
        with self.server.counted():
            time.sleep(self.server.seconds)
        body = REFUSAL if self.server.refuses else self.server.content
        self.send_response(503 if self.server.refuses else 206)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def slow_s3() -> Iterator[SlowServer]:
    """Run a storage that takes its time."""
    server = SlowServer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with _environment(server.server_port):
            yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def _environment(port: int) -> Iterator[dict[str, str]]:
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",  # botocore's own retries, beside those of s3fs
    }
    filesystem = fsspec.get_filesystem_class("s3")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        filesystem.clear_instance_cache()  # they remember the server of another module
        yield variables
        filesystem.clear_instance_cache()
