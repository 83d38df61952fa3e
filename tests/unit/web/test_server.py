"""The service behind its real server, gunicorn: starts, answers odd requests, drains, and refuses wrong settings."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import web

APP = str(Path(web.__file__).parents[1])
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("FIBONACCI_", "REDIS_"))}


class Server:
    """A server process that listens on *port*."""

    def __init__(self, command: list[str], port: int, log: Path, settings: dict[str, str] | None = None) -> None:
        self.port = port
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=APP,
                env=ENVIRONMENT | (settings or {}),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        for _ in range(1_000):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except ConnectionRefusedError:
                time.sleep(0.01)
            else:
                return
        raise RuntimeError("the server did not listen within 10 seconds: " + self.log())

    def ask(self, request: bytes) -> bytes:
        """Return the whole answer to *request*, as bytes: no client library in between that tidies it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(request)
            connection.settimeout(30)
            return b"".join(iter(lambda: connection.recv(65_536), b""))

    def get(self, target: bytes, headers: bytes = b"") -> bytes:
        return self.ask(b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%b\r\n" % (target, headers))

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def gunicorn(*options: str) -> list[str]:
    return ["gunicorn", "--no-control-socket", "--worker-class=gthread", "--threads=2", *options, "web:create_app()"]


@contextmanager
def running(command: list[str], port: int, log: Path, settings: dict[str, str] | None = None) -> Iterator[Server]:
    server = Server(command, port, log, settings)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait(10)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a gunicorn that the tests share."""
    port = free_port()
    with running(gunicorn(f"--bind=127.0.0.1:{port}"), port, tmp_path_factory.mktemp("gunicorn") / "log") as server:
        yield server


@pytest.fixture(scope="module")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a ``python -m web`` that the tests share."""
    port = free_port()
    with running(["web", f"--port={port}"], port, tmp_path_factory.mktemp("web") / "log") as server:
        yield server


def test_sigterm_lets_a_running_request_finish(tmp_path: Path) -> None:
    port = free_port()
    request = b"GET /api/v1/fibonacci/10000000 HTTP/1.1\r\nHost: x\r\n\r\n"
    with (
        running(gunicorn(f"--bind=127.0.0.1:{port}"), port, tmp_path / "log") as server,
        socket.create_connection(("127.0.0.1", port), timeout=30) as connection,
    ):
        connection.sendall(request)
        answer = connection.recv(65_536)  # the head is sent before the calculation begins
        server.process.send_signal(signal.SIGTERM)
        while chunk := connection.recv(65_536):
            answer += chunk
        assert server.process.wait(20) == 0
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert body.endswith(b'"}\n')
    assert b"Content-Length: %d" % len(body) in head


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/api/v1/fibonacci/%ff", 400),
        (b"/api/v1/fibonacci/%00", 400),
        (b"/api/v1/fibonacci?page=%ff", 400),
        (b"/api/v1/fibonacci?%00=1", 400),
        (b"/%ff", 400),
        (b"/%00", 400),
        (b"/api/v1/fibonacci?page=" + b"9" * 9_000, 400),
        (b"/" + b"a" * 9_000, 404),
    ],
)
def test_odd_targets_are_problems(standalone: Server, target: bytes, status: int) -> None:
    answer = standalone.get(target)
    assert answer.startswith(b"HTTP/1.1 %d" % status)
    assert b"Content-Type: application/problem+json" in answer


@pytest.mark.parametrize("target", [b"/api/v1/fibonacci/\xff", b"/api/v1/fibonacci?page=\xff", b"/\xff"])
def test_bytes_that_no_url_may_have_do_not_pass_the_server(server: Server, target: bytes) -> None:
    assert server.get(target).startswith(b"HTTP/1.1 400 ")


def test_body_of_a_get_is_refused_and_the_connection_goes_on(server: Server) -> None:
    answer = server.ask(
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"400", b"400", b"200"]


def test_head_sends_the_length_and_nothing_else(server: Server) -> None:
    answer = server.ask(b"HEAD /api/v1/fibonacci?per_page=5 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"\r\nContent-Length: 220\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


def test_wrong_setting_ends_the_start_with_the_line_and_without_traceback() -> None:
    environment = ENVIRONMENT | {"FIBONACCI_MAX_PER_PAGE": "5000"}
    for command in (gunicorn("--bind=127.0.0.1:0"), gunicorn("--bind=127.0.0.1:0", "--preload"), ["web"]):
        ended = subprocess.run(
            [sys.executable, "-m", *command], cwd=APP, env=environment, capture_output=True, text=True, timeout=30
        )
        assert ended.returncode == 4
        assert "FIBONACCI_MAX_PER_PAGE is 5000; it must be an integer from 100 to 2000" in ended.stderr
        assert "Traceback" not in ended.stderr


def test_service_by_itself_serves_and_ends_cleanly_on_ctrl_c(tmp_path: Path) -> None:
    port = free_port()
    with running(["web", f"--port={port}"], port, tmp_path / "log") as alone:
        assert b'"terms":["0","1","1","2","3"]' in alone.get(b"/api/v1/fibonacci?page=1&per_page=5")
        assert b'"redis": {"status": "off"}' in alone.get(b"/readyz")
        assert alone.stop(signal.SIGINT) == 0
        assert "Traceback" not in alone.log()


@pytest.mark.parametrize("arguments", [["--port=0"], ["--port=x"], ["--port=65536"], ["--unknown"]])
def test_wrong_argument_of_the_command_is_refused(arguments: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "web", *arguments], cwd=APP, env=ENVIRONMENT, capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == 2
    assert arguments[0].split("=")[0] in ended.stderr
