"""A server of one page: it answers GET with what a `LiveStudy` shows, and takes nothing from whom it answers."""

import errno
import gzip
import ipaddress
import socket
import threading
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from hemo.config.report import WatchConfig
from hemo.errors import ConfigError
from hemo.reporting.live import LiveStudy

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",  # beside the policy in the page
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
IDLE_TIMEOUT_S = 30.0
"""After which a connection without a request is closed."""
SIGNALS_S = 0.2
"""Between two looks for a signal."""


class Watch:
    """A page that is served while its records are looked at again and again; a context manager.

    One thread reads and renders, another one serves what was rendered last: a slow bucket or a long computation
    keeps no browser waiting.
    """

    def __init__(self, config: WatchConfig) -> None:
        """Begin to serve.

        Raises:
            ConfigError: If the address or the port cannot be had.
            SourceError: If `config.data` is no training set and no shards.
        """
        self._study = LiveStudy(config)
        self._server = _listening(config, self._study)
        self._refresh_s, self._fault = config.refresh_s, list[BaseException]()
        self._ending = threading.Event()
        self._reader = threading.Thread(target=self._look, name="hemo watch reader", daemon=True)
        self._reader.start()
        threading.Thread(target=self._server.serve_forever, name="hemo watch server", daemon=True).start()

    @property
    def url(self) -> str:
        """Where the page is."""
        address, port = self._server.server_address[:2]
        name = socket.gethostname() if ipaddress.ip_address(str(address)).is_unspecified else str(address)
        return f"http://{f'[{name}]' if ':' in name else name}:{port}/"

    def stop(self) -> None:
        """Let `wait` return."""
        self._ending.set()

    def wait(self) -> None:
        """Wait until `stop` is called.

        Raises:
            Exception: What ended the reading, if that was a defect.
            KeyboardInterrupt: At Ctrl-C.
        """
        # in short waits: Polars lets the system resume a wait that Ctrl-C interrupts, so Python would not see it
        while not self._ending.wait(SIGNALS_S):
            pass
        if self._fault:
            raise self._fault[0]

    def close(self) -> None:
        """End serving at once, and reading when what is being read is done: seconds for some hundred trials.

        A thread that still imports or computes while the interpreter ends can hold it forever.
        """
        self.stop()
        self._server.shutdown()
        self._server.server_close()
        self._reader.join()
        self._study.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Watch({self.url})"

    def _repr_html_(self) -> str:
        """Return a link for notebooks."""
        return f'<a href="{self.url}" target="_blank" rel="noopener">{self.url}</a>'

    def _look(self) -> None:
        try:
            while not self._ending.is_set():
                self._study.look()
                self._ending.wait(self._refresh_s)
        except BaseException as error:
            self._fault.append(error)
            self.stop()


def _listening(config: WatchConfig, study: LiveStudy) -> "_Server":
    """Return a server that has its port.

    Raises:
        ConfigError: If there is none to have.
    """
    try:
        family = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0][0]
        return _Server(config, family, study)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if not isinstance(error, OSError) or isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise ConfigError(f"host: {config.host!r} is no address of this machine ({reason})") from error
        cure = "give another --port, or 0 for any free one"
        raise ConfigError(f"port: {config.port} of {config.host} cannot be had ({reason}); {cure}") from error


class _Server(ThreadingHTTPServer):
    """Serves a live study to its own host names."""

    def __init__(self, config: WatchConfig, family: socket.AddressFamily, study: LiveStudy) -> None:
        self.address_family, self.study = family, study
        super().__init__((config.host, config.port), _Handler, bind_and_activate=False)
        try:
            self.server_bind()
            self.server_activate()
        except BaseException:
            self.server_close()
            raise
        self._open = not _is_loopback(config.host)
        self._names = {"localhost", config.host.lower()}
        if self._open:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    def knows(self, host: str) -> bool:
        """Return whether a request's Host header names this server.

        A page of another site can make a browser ask a loopback address under that site's name (DNS rebinding), but
        not under an address: on loopback only its names are known, elsewhere any address and the machine's names.
        """
        name = _without_port(host.lower())
        return name in self._names or (_is_address(name) if self._open else _is_loopback(name))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that went away."""


def _without_port(host: str) -> str:
    """Return `name` of `name:port`, and `::1` of `[::1]:port`."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _is_loopback(name: str) -> bool:
    return name.lower() == "localhost" or (_is_address(name) and ipaddress.ip_address(name).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "hemo", ""
    timeout = IDLE_TIMEOUT_S

    def do_GET(self) -> None:
        shown = self.server.study.shown
        contents = {"/": ("text/html", shown.page), "/now.json": ("application/json", shown.now)}
        path = self.path.partition("?")[0]
        if not self.server.knows(self.headers.get("Host", "")):
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, "text/plain", b"hemo watch is not served under this name\n")
        elif path not in contents:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"hemo watch has / and /now.json\n")
        else:
            self._answer(HTTPStatus.OK, *contents[path])

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            content = compressed(content)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of requests."""


@lru_cache(maxsize=4)
def compressed(content: bytes) -> bytes:
    """Return content in gzip: pages shrink to a third, which a tunnel to a remote machine needs."""
    return gzip.compress(content, 5, mtime=0)
