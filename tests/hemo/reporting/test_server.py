"""The server of a live page: what it answers, to whom, and where it listens."""

import gzip
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import hemo
import hemo.reporting.server
from hemo.config.report import WatchConfig
from hemo.errors import ConfigError
from hemo.reporting.live import LiveStudy
from hemo.reporting.server import Watch, _is_loopback, _listening, _without_port


@pytest.fixture
def watch(make_record, tmp_path) -> Iterator[Watch]:
    make_record({"name": "only"}, many=True)
    with hemo.watch(records=str(tmp_path / "records"), port=0, refresh_s=0.05, bootstrap_samples=10) as watch:
        yield watch


def ask(watch: Watch, path: str, *, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(watch.url.split("/")[2], timeout=20)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, dict(answer.headers), answer.read()
    connection.close()
    return found


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_page_and_the_progress_are_all_there_is(watch):
    wait_for(lambda: json.loads(ask(watch, "/now.json")[2])["version"])
    status, headers, page = ask(watch, "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b'"name":"only"' in page
    assert b"connect-src 'self'" in page
    assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
    status, headers, now = ask(watch, "/now.json?x=1")
    assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert json.loads(now)["version"].encode() in page
    for path in ("/record.json", "/../etc/passwd", "/index.html"):
        assert ask(watch, path)[::2] == (404, b"hemo watch has / and /now.json\n")
    assert ask(watch, "/", method="POST")[0] == 501


def test_a_page_is_sent_in_gzip_to_who_takes_it(watch):
    wait_for(lambda: json.loads(ask(watch, "/now.json")[2])["version"])
    page = ask(watch, "/")[2]
    headers, packed = ask(watch, "/", **{"Accept-Encoding": "gzip, br"})[1:]
    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed) == page
    assert len(packed) < len(page) / 2
    status, headers, nothing = ask(watch, "/", method="HEAD")
    assert (status, int(headers["Content-Length"]), nothing) == (200, len(page), b"")


def test_another_sites_name_is_refused(watch):
    """As a page of that site would ask, once its name points to loopback."""
    for host in ("evil.example", "evil.example:8410", "127.0.0.1.evil.example", "10.0.0.5:8410", ""):
        status, _, text = ask(watch, "/now.json", Host=host)
        assert (status, text) == (421, b"hemo watch is not served under this name\n")
    for host in ("localhost:9999", "LOCALHOST", "127.0.0.1", "[::1]:80", "127.8.8.8"):
        assert ask(watch, "/now.json", Host=host)[0] == 200


def test_an_open_address_knows_addresses_and_the_machines_names(tmp_path):
    config = WatchConfig(records=str(tmp_path), host="0.0.0.0", port=0)
    server = _listening(config, LiveStudy(config))
    server.server_close()
    known = {name: server.knows(name) for name in ("10.0.0.5:8410", socket.gethostname(), "[fe80::1]", "evil.example")}
    assert list(known.values()) == [True, True, True, False]


@pytest.mark.parametrize(
    ("host", "name", "loopback"),
    [("localhost:80", "localhost", True), ("[::1]:80", "::1", True), ("[::1]", "::1", True), ("a.b", "a.b", False)],
)
def test_names_without_port(host, name, loopback):
    assert _without_port(host) == name
    assert _is_loopback(name) == loopback


def test_a_port_that_is_taken_and_a_host_that_is_none_are_one_line(watch, tmp_path):
    port = int(watch.url.split(":")[-1].strip("/"))
    with pytest.raises(ConfigError, match=rf"port: {port} of 127.0.0.1 cannot be had \(Address already in use\); give"):
        hemo.watch(records=str(tmp_path), port=port)
    for host in ("no host", "192.0.2.1"):
        with pytest.raises(ConfigError, match=rf"host: '{host}' is no address of this machine \("):
            hemo.watch(records=str(tmp_path), host=host, port=0)


def test_a_defect_in_reading_ends_the_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(LiveStudy, "look", lambda _: 1 / 0)
    with hemo.watch(records=str(tmp_path), port=0) as watch, pytest.raises(ZeroDivisionError):
        watch.wait()


def test_after_its_end_nobody_listens(tmp_path):
    with hemo.watch(records=str(tmp_path), port=0) as watch:
        assert watch._repr_html_().count(watch.url) == 2
        waiting = threading.Thread(target=watch.wait)
        waiting.start()
        watch.stop()
        waiting.join(timeout=20)
        assert not waiting.is_alive()
    assert not [thread for thread in threading.enumerate() if thread.name == "hemo watch reader"]
    with pytest.raises(ConnectionRefusedError):
        ask(watch, "/")
