"""What the scoreboard costs: the service under gunicorn, with its hooks and with gunicorn's own, in turn.

Both sides are one process, which is told to change between rounds: two would differ by where their memory happens to
lie as much as by the hooks. Counted is the time that the worker spends on the processor for each request. Where the
processor is what limits throughput, its share is the share of throughput; and what else runs disturbs it less.
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
REQUESTS, ROUNDS = 50, 200
CALLS = 100_000
# In memory, as /run is.
MEMORY = "/dev/shm"  # noqa: S108
WANTED = 0.98

CONFIGURATION = """
import sys
sys.path.append({library!r})
import gunicorn_scoreboard as ours
from gunicorn import config as usual
from gunicorn_scoreboard import on_starting, post_fork, when_ready

bind = "unix:{folder}/gunicorn.sock"
worker_class = "gthread"
threads = 8
keepalive = 60
control_socket_disable = True
ours.configure(folder="{folder}/scoreboard", minimum=1, maximum=1, up=1, up_after=5, down=0, down_after=60)
before = dict(ours=ours.pre_request, usual=usual.PreRequest.default)
after = dict(ours=ours.post_request, usual=usual.PostRequest.default)
side = "ours"

def pre_request(worker, request):
    global side
    if request.path == "/change":
        side = request.query
    before[side](worker, request)

def post_request(worker, request, environ, response):
    after[side](worker, request, environ, response)
"""


class Server:
    """The service, with one worker, and what its requests take."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self._master = process.pid
        self._connection = http.client.HTTPConnection("localhost")
        until = time.monotonic() + 30
        while True:
            self._connection.sock = socket.socket(socket.AF_UNIX)
            try:
                self._connection.sock.connect(str(folder / "gunicorn.sock"))
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
            else:
                return

    def measure(self, path: str, side: str) -> float:
        """Return the seconds of the processor that a request of *path* took, on average."""
        # Whatever the app says to what it does not know.
        self._ask(f"/change?{side}")
        before = self._spent()
        for _ in range(REQUESTS):
            if (status := self._ask(path)) != 200:
                raise SystemExit(f"{path}: {status}")
        return (self._spent() - before) / REQUESTS

    def _ask(self, path: str) -> int:
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        response.read()
        return response.status

    def _spent(self) -> float:
        (worker,) = Path(f"/proc/{self._master}/task/{self._master}/children").read_text().split()
        # In nanoseconds; the process's own total comes in ticks of ten milliseconds.
        tasks = Path(f"/proc/{worker}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """Run the service."""
    with tempfile.TemporaryDirectory(prefix="bench-scoreboard-", dir=MEMORY) as place:
        folder = Path(place)
        (folder / "scoreboard").mkdir()
        file = folder / "gunicorn.conf.py"
        file.write_text(CONFIGURATION.format(folder=folder, library=str(HOOKS.parent)))
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("FIBONACCI_", "REDIS_"))}
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-B", "-m", "gunicorn", "--config", str(file), "web:create_app()"],
                cwd=ROOT / "app",
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            yield Server(folder, process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(40)


def tables() -> Iterator[Table]:
    """Measure all; yield table by table."""
    rows = []
    with serving() as server:
        for name, path in PATHS.items():
            sides: dict[str, list[float]] = {"ours": [], "usual": []}
            for number in range(ROUNDS):
                # Neither is always the one that comes after the other.
                for side in sorted(sides, reverse=bool(number % 2)):
                    sides[side].append(server.measure(path, side))
            ours, usual = (statistics.median(times) for times in sides.values())
            ratio = usual / ours
            verdict = "yes" if ratio >= WANTED else "NO"
            rows.append([name, duration(ours), "no scoreboard", duration(usual), f"{ratio:.3f}", f"{WANTED}", verdict])
    about = "Time of the processor for a request, medians. The ratio is the share of throughput that is left."
    yield Table(about, ["case", "ours", "against", "takes", "ratio", "wanted", "met"], rows)
    alone = [["before and after a request", duration(_hooks())]]
    yield Table("The two hooks alone.", ["case", "takes"], alone)


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
    with tempfile.TemporaryDirectory(prefix="bench-hooks-", dir=MEMORY) as folder:
        hooks.board = hooks.OwnBoard(folder, worker)
        began = time.process_time()
        for _ in range(CALLS):
            hooks.pre_request(worker, request)
            hooks.post_request(worker, request, {}, response)
        return (time.process_time() - began) / CALLS
