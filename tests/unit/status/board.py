"""A real gunicorn with the scoreboard's hooks, and an app whose requests last as long as a test wants."""

import http.client
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
HOOKS = ROOT / "salt" / "states" / "gunicorn" / "files" / "gunicorn_scoreboard.py"
SERVICE = ROOT / "salt" / "states" / "gunicorn_status" / "files" / "gunicorn_status.py"

APP = """
import errno, os, resource, time

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/slow":
        time.sleep(0.2)
    if path == "/raise":
        raise RuntimeError("as asked")
    if path.startswith("/raise/"):
        raise OSError(getattr(errno, path[7:]), "as asked")
    if path == "/no-more-files":
        # Those that are open stay; the next connection is one too many.
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    if path.startswith("/wait/"):
        while not os.path.exists("go"):
            time.sleep(0.02)
    start_response("503 Service Unavailable" if path == "/fail" else "200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""

CONFIGURATION = """
import sys
sys.path.append({library!r})
import gunicorn_scoreboard
from gunicorn_scoreboard import *
gunicorn_scoreboard.configure(**{policy!r})
bind = "unix:{folder}/gunicorn.sock"
worker_class = "gthread"
control_socket_disable = True
{settings}
"""


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = sys.modules.setdefault(path.stem, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


scoreboard = load(HOOKS)


class Connection(http.client.HTTPConnection):
    """To a unix socket."""

    def __init__(self, path: Path, timeout: float = 30) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(path: Path, target: str, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
    connection = Connection(path)
    try:
        connection.request(method, target)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


class Gunicorn:
    """One that runs in *folder*."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], log: Path) -> None:
        self.folder = folder
        self.boards = folder / "scoreboard"
        self.socket = folder / "gunicorn.sock"
        self.process = process
        self._log = log

    def get(self, target: str) -> int:
        return ask(self.socket, target)[0].status

    def board(self) -> Any:
        return scoreboard.read(self.boards)

    def ready(self, workers: int) -> bool:
        """Whether there are so many workers, all of them at work."""
        found = self.board().workers
        return len(found) == workers and not any(worker.starting for worker in found)

    def let_go(self) -> None:
        """End the requests that wait."""
        (self.folder / "go").touch()

    def log(self) -> str:
        return self._log.read_text()


@contextmanager
def running(
    folder: Path, ready: int | None = 2, policy: dict[str, Any] | None = None, app: str = "app:app", **settings: Any
) -> Iterator[Gunicorn]:
    """Run gunicorn until the block ends; *ready* is how many workers it begins with."""
    # A worker that has just been forked does not hear the signal.
    settings = {"workers": 2, "threads": 4, "graceful_timeout": 5} | settings
    (folder / "scoreboard").mkdir(exist_ok=True)
    workers = settings["workers"]
    bounds = {"minimum": workers, "maximum": workers, "up": 0.8, "up_after": 5, "down": 0.3, "down_after": 60}
    told = {"folder": str(folder / "scoreboard")} | bounds | (policy or {})
    lines = "\n".join(f"{name} = {value!r}" for name, value in settings.items())
    (folder / "app.py").write_text(APP)
    configuration = folder / "gunicorn.conf.py"
    configuration.write_text(
        CONFIGURATION.format(library=str(HOOKS.parent), policy=told, folder=folder, settings=lines)
    )
    log = folder / "log"
    command = [sys.executable, "-B", "-m", "gunicorn", "--config", str(configuration), app]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
    gunicorn = Gunicorn(folder, process, log)
    try:
        if ready is not None:
            eventually(lambda: gunicorn.ready(ready))
        yield gunicorn
    finally:
        gunicorn.let_go()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            process.kill()


@contextmanager
def status(
    folder: Path, *instances: tuple[str, Path, Path, int], silent: int = 10, starting: int = 60
) -> Iterator[Path]:
    """Run the service that tells; its socket."""
    listen = folder / "status.sock"
    command = [sys.executable, "-B", str(SERVICE), "--silent", str(silent), "--starting", str(starting)]
    command += ["--listen", str(listen)]
    for instance in instances:
        command += ["--instance", *map(str, instance)]
    # As on a host, where both lie in one folder.
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(HOOKS.parent)})
    try:
        eventually(lambda: ask(listen, "/status")[0].status == 200)
        yield listen
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()


def eventually(holds: Callable[[], Any], deadline: float = 30) -> Any:
    """Return what *holds* gives as soon as that is true."""
    until, last = time.monotonic() + deadline, None
    while time.monotonic() < until:
        try:
            if last := holds():
                return last
        except (OSError, ValueError) as error:
            last = error
        time.sleep(0.05)
    raise AssertionError(f"not within {deadline} s; at the last look: {last!r}")
