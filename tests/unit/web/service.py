"""What the tests of the service share besides fixtures."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import redis
from werkzeug.test import TestResponse

import web

APP = Path(web.__file__).parent.parent

Log = Callable[[], list[dict[str, Any]]]


def problem(response: TestResponse, status: int = 400) -> dict[str, Any]:
    """Return the problem that *response* must be, in every respect that all problems share."""
    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    assert "ETag" not in response.headers
    document: dict[str, Any] = json.loads(response.data)
    assert document["status"] == status
    assert {"type", "title", "detail"} <= set(document)
    return document


class RedisServer:
    """A redis-server of our own on a unix socket, which can be stopped and started."""

    def __init__(self, binary: str, directory: Path) -> None:
        self.socket = directory / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.client = redis.Redis(unix_socket_path=str(self.socket))
        self._command = [binary, "--port", "0", "--unixsocket", str(self.socket), "--save", "", "--dir", str(directory)]
        self._process: subprocess.Popen[bytes] | None = None

    def options(self, *options: str) -> None:
        """Add options to the next start."""
        self._command += options

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        for _ in range(500):
            try:
                self.client.ping()
            except redis.RedisError:
                time.sleep(0.01)
            else:
                return
        raise RuntimeError("redis-server did not answer within 5 seconds")

    def stop(self, signal: int = SIGTERM) -> None:
        if self._process:
            self._process.send_signal(signal)
            self._process.wait(10)
            self._process = None


class Worker:
    """A Celery worker of our own, whose log is a file."""

    def __init__(self, log: Path, redis_url: str, settings: dict[str, Any], *options: str) -> None:
        self._path = log
        environment = {"REDIS_URL": redis_url, "PATH": os.environ["PATH"], "PYTHONPATH": str(APP)}
        environment |= {name: os.environ[name] for name in ("AUTOSCALE_KEEPALIVE",) if name in os.environ}
        environment |= {f"FIBONACCI_{name.upper()}": str(value) for name, value in settings.items()}
        command = [sys.executable, "-m", "celery", "--app", "web.worker", "worker", "--queues", "short,long"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat", "--hostname", f"{log.stem}@%h"]
        self._log = log.open("wb")
        self._process = subprocess.Popen(
            [*command, *options], env=environment, cwd=log.parent, stdout=self._log, stderr=subprocess.STDOUT
        )
        until(lambda: any(" ready." in line["message"] for line in self.log()), 30)

    @property
    def pid(self) -> int:
        return self._process.pid

    def log(self) -> list[dict[str, Any]]:
        """Return the lines so far, parsed; the banner, which is for people, left out."""
        lines = self._path.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"time"')]

    def calculated(self) -> list[str]:
        """Return the ids of the jobs that it has calculated, as its log has them: a job is done before that says so."""
        return [line["job"] for line in self.log() if line["message"] == "job calculated"]

    def children(self) -> list[int]:
        told = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in told.split()]

    def end(self, signal: int = SIGTERM, deadline: float = 60) -> None:
        self._process.send_signal(signal)
        self._process.wait(deadline)
        self._log.close()

    def kill(self) -> None:
        """End it and its children at once, whatever state they are in."""
        if self._process.poll() is None:
            children = self.children()
            self._process.kill()
            self._process.wait(10)
            for pid in children:
                with suppress(ProcessLookupError):
                    os.kill(pid, SIGKILL)


def until(holds: Callable[[], Any], deadline: float = 60) -> Any:
    """Return what *holds* gives as soon as that is true; fail after *deadline* seconds."""
    end = time.monotonic() + deadline
    while not (told := holds()):
        assert time.monotonic() < end, f"not within {deadline} seconds"
        time.sleep(0.05)
    return told
