"""What the tests of the service share besides fixtures."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from werkzeug.test import TestResponse

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

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(10)
            self._process = None
