"""What the scoreboard costs: the service under gunicorn with its hooks and without, in turn, one request after another.

Counted is the time that the worker's process spends on the processor for each request. Where the processor is what
limits throughput, its share is the share of throughput; and what else runs on the machine does not disturb it.
"""

import contextlib
import http.client
import importlib.util
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.bench.tables import Table, duration

TITLE = "What the scoreboard costs"

ROOT = Path(__file__).resolve().parents[2]
HOOKS = ROOT / "salt" / "states" / "gunicorn" / "files" / "gunicorn_scoreboard.py"
# The smallest answer there is, and a usual page.
PATHS = {"the smallest answer": "/api/v1/fibonacci/10", "a page of 100 terms": "/api/v1/fibonacci?page=1&per_page=100"}
REQUESTS, ROUNDS = 500, 15
CALLS = 100_000
WANTED = 0.98

CONFIGURATION = """
bind = "unix:{folder}/gunicorn.sock"
workers = 1
threads = 8
worker_class = "gthread"
keepalive = 60
control_socket_disable = True
"""
WITH_HOOKS = """
import sys
sys.path.append({library!r})
import gunicorn_scoreboard
from gunicorn_scoreboard import *
gunicorn_scoreboard.configure(
    folder="{folder}/scoreboard", minimum=1, maximum=1, up=1, up_after=5, down=0, down_after=60
)
"""


class Side:
    """A gunicorn with one worker, and what its requests took."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self._socket = folder / "gunicorn.sock"
        self._master = process.pid
        self._connection = self._connected()

    def _connected(self) -> http.client.HTTPConnection:
        until = time.monotonic() + 30
        connection = http.client.HTTPConnection("localhost")
        while True:
            connection.sock = socket.socket(socket.AF_UNIX)
            try:
                connection.sock.connect(str(self._socket))
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
            else:
                return connection

    def measure(self, path: str) -> float:
        """Return the seconds of the processor that a request of *path* took, on average."""
        before = self._spent()
        for _ in range(REQUESTS):
            self._connection.request("GET", path)
            response = self._connection.getresponse()
            response.read()
            if response.status != 200:
                raise SystemExit(f"{path}: {response.status}")
        return (self._spent() - before) / REQUESTS

    def _spent(self) -> float:
        (worker,) = Path(f"/proc/{self._master}/task/{self._master}/children").read_text().split()
        # In nanoseconds; the process's own total comes in ticks of ten milliseconds.
        tasks = Path(f"/proc/{worker}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


@contextlib.contextmanager
def serving(name: str, configuration: str) -> Iterator[Side]:
    """Run the service with *configuration*."""
    with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as place:
        folder = Path(place)
        (folder / "scoreboard").mkdir()
        file = folder / "gunicorn.conf.py"
        file.write_text(configuration.format(folder=folder, library=str(HOOKS.parent)))
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("FIBONACCI_", "REDIS_"))}
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "--config", str(file), "web:create_app()"],
                cwd=ROOT / "app",
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            yield Side(folder, process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(40)


def tables() -> Iterator[Table]:
    """Measure all; yield table by table."""
    rows = []
    with serving("with", CONFIGURATION + WITH_HOOKS) as ours, serving("without", CONFIGURATION) as other:
        for name, path in PATHS.items():
            for side in (ours, other):
                side.measure(path)
            pairs = [(ours.measure(path), other.measure(path)) for _ in range(ROUNDS)]
            told, untold = (statistics.median(times) for times in zip(*pairs, strict=True))
            ratio = untold / told
            verdict = "yes" if ratio >= WANTED else "NO"
            rows.append([name, duration(told), "no hooks", duration(untold), f"{ratio:.3f}", f"{WANTED}", verdict])
    about = (
        "Time of the processor for a request: medians of rounds in turn. The ratio is the share of throughput that is left."
    )
    yield Table(about, ["case", "ours", "against", "takes", "ratio", "wanted", "met"], rows)
    yield Table("The two hooks of a request alone.", ["case", "takes"], [["before and after a request", duration(_hooks())]])


def _hooks() -> float:
    """Return the seconds of the processor for both hooks of one request."""
    specification = importlib.util.spec_from_file_location("gunicorn_scoreboard", HOOKS)
    assert specification
    assert specification.loader
    hooks: Any = importlib.util.module_from_spec(specification)
    sys.modules["gunicorn_scoreboard"] = hooks
    specification.loader.exec_module(hooks)
    worker = SimpleNamespace(cfg=SimpleNamespace(threads=8), log=None)
    request = SimpleNamespace(method="GET", path="/api/v1/fibonacci")
    response = SimpleNamespace(status="200 OK", status_code=200, headers_sent=True)
    with tempfile.TemporaryDirectory(prefix="bench-hooks-") as folder:
        hooks.board = hooks.OwnBoard(folder, worker)
        began = time.process_time()
        for _ in range(CALLS):
            hooks.pre_request(worker, request)
            hooks.post_request(worker, request, {}, response)
        return (time.process_time() - began) / CALLS
