"""The websocket: through the proxies against straight from gunicorn, in batches against one message for each term."""

import itertools
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench.lab import base_url, path_on_host
from tests.bench.tables import Comparison, Run, Table, ratios

TITLE = "The websocket"

APP = Path(__file__).resolve().parents[2] / "app"
QUERY = "start=0&count=10000"
# Websockets that are open, threads that read them, and how long each load lasts.
READERS, READ_BY, LOAD_SECONDS = 500, 10, 6
HANDSHAKE = (
    "GET /api/v1/stream?{query} HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)

# The same code, with a message for each term.
ONE_BY_ONE = """
from web import create_stream_app, stream
stream.batches = lambda start, terms, size: ((n + 1, stream.message(n, [term])) for n, term in enumerate(terms, start))
application = create_stream_app()
"""

# Each a different one for a while.
PAGES = """
local page = 0
request = function()
    page = page % 1000 + 1
    return wrk.format("GET", "/api/v1/fibonacci?per_page=10&page=" .. page)
end
"""
FRAME_BYTES = 64 * 2**10


def tables() -> Iterator[Table]:
    """Measure all; yield table by table."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as folder:
        yield ratios(
            "10,000 terms from 0 to one client, from the handshake to the close.",
            comparisons(folder),
            time.perf_counter,
        )
    yield beside_readers()


def comparisons(folder: str) -> Iterator[Comparison]:
    """Yield what has to be met."""
    host, straight = urlsplit(base_url()).hostname, path_on_host("/run/gunicorn-stream.sock")
    proxied = whole(lambda: socket.create_connection((host, 80), 30))
    direct = whole(lambda: unix(straight))
    yield Comparison("through HAProxy and nginx", proxied, "straight from gunicorn", direct, 0.6, 11)
    servers = []
    try:
        for name in ("one_by_one:application", "web:create_stream_app()"):
            servers.append(start(folder, name))
        batched, single = (whole(lambda path=path: unix(path)) for _, path in reversed(servers))
        yield Comparison("in batches of 64 KiB", batched, "a message for each term", single, 3, 11)
    finally:
        for process, _ in servers:
            process.terminate()
            process.wait(30)


def start(folder: str, callable: str) -> tuple["subprocess.Popen[bytes]", str]:
    """Start a gunicorn for *callable*; return it and its socket when it listens."""
    path = f"{folder}/{callable.partition(':')[0]}.sock"
    (Path(folder) / "one_by_one.py").write_text(ONE_BY_ONE)
    command = [sys.executable, "-m", "gunicorn", "--no-control-socket", "--worker-class=gthread", "--threads=8"]
    environment = {"PYTHONPATH": f"{APP}:{folder}", "PATH": os.environ["PATH"], "FIBONACCI_LOG_LEVEL": "ERROR"}
    process = subprocess.Popen([*command, f"--bind=unix:{path}", "--log-level=error", callable], env=environment)
    deadline = time.monotonic() + 60
    while True:
        try:
            unix(path).close()
            return process, path
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            time.sleep(0.05)


def unix(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(30)
    connection.connect(path)
    return connection


def whole(connect: Callable[[], socket.socket]) -> Run:
    """Return what reads a whole stream and throws it away."""

    def run() -> int:
        buffer, received = bytearray(2**18), 0
        with connect() as connection:
            connection.sendall(HANDSHAKE.format(query=QUERY).encode())
            last = b""
            while not last.endswith(b"\x88\x02\x03\xe8"):  # the close frame, code 1000
                size = connection.recv_into(buffer)
                if not size:
                    raise RuntimeError("the stream broke off")
                received += size
                last = (last + bytes(memoryview(buffer)[max(size - 4, 0) : size]))[-4:]
        return received

    return run


def beside_readers() -> Table:
    """Measure pages alone and beside many websockets, each read a frame a second."""
    alone, beside = [], []
    _p99()  # nginx has the pages from then on
    for _ in range(5):
        alone.append(_p99())
        with readers():
            beside.append(_p99())
    slower = statistics.median(beside) / statistics.median(alone)
    row = [f"{READERS} websockets", f"{statistics.median(alone):.3g} ms", f"{statistics.median(beside):.3g} ms"]
    row += [f"{slower:.3g}", "3", "yes" if slower <= 3 else "NO"]
    about = (
        "The 99th percentile of pages (wrk, 4 connections, a thousand different ones), alone and while websockets are\n"
        "open, each reading a frame a second, evenly spread, by readers that leave the cores to whoever wants\n"
        "them (nice 19); at most so many times slower."
    )
    return Table(about, ["beside", "p99 alone", "p99 beside", "ratio", "wanted", "met"], [row])


@contextmanager
def readers() -> Iterator[None]:
    """Keep READERS websockets open, each reading a frame a second, evenly spread; fail where one is let down."""
    address = (urlsplit(base_url()).hostname, 80)
    stop, failures, frames = threading.Event(), [], [0] * READ_BY
    connections = [socket.create_connection(address, 30) for _ in range(READERS)]

    def read(turn: int) -> None:
        # They would be on machines of their own: what they need of this one's cores is not the host's to lose.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        due = time.monotonic() + turn / READERS
        for connection in itertools.cycle(connections[turn::READ_BY]):
            if stop.wait(max(0.0, due - time.monotonic())):
                return
            due += READ_BY / READERS
            wanted = FRAME_BYTES
            while wanted > 0:
                got = len(connection.recv(wanted))
                wanted -= got
                if not got:
                    failures.append("a stream broke off")
                    return
            frames[turn] += 1

    for connection in connections:
        connection.sendall(HANDSHAKE.format(query="start=1000").encode())
    threads = [threading.Thread(target=read, args=(turn,)) for turn in range(READ_BY)]
    for thread in threads:
        thread.start()
    try:
        while sum(frames) < READERS and not failures:  # until all have begun
            time.sleep(0.1)
        before, began = sum(frames), time.monotonic()
        yield
        rate = (sum(frames) - before) / (time.monotonic() - began)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for connection in connections:
            connection.close()
    if failures:
        raise SystemExit(failures[0])
    if rate < 0.95 * READERS:
        raise SystemExit(f"{READERS} websockets were read {rate:.0f} frames a second")


def _p99() -> float:
    """Return the 99th percentile of pages in milliseconds."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(PAGES)
        script.flush()
        command = ["wrk", "--threads=1", "--connections=4", f"--duration={LOAD_SECONDS}s", "--latency"]
        told = subprocess.run(
            [*command, f"--script={script.name}", base_url()], stdout=subprocess.PIPE, text=True, check=True
        ).stdout
    if "Non-2xx" in told:
        raise SystemExit(told)
    value, unit = re.findall(r"99% +([0-9.]+)(us|ms|s)\b", told)[0]
    return float(value) * {"us": 0.001, "ms": 1.0, "s": 1_000.0}[unit]
