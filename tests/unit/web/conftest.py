"""The service as its tests see it: a test client, a real Redis, and a way to read the log."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from flask.testing import FlaskClient

from service import Log, RedisServer
from web import create_app
from web.settings import Settings


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Log:
    """Return a function that gives the log's objects since it was last asked."""
    return lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def make_client() -> Callable[..., FlaskClient]:
    """Return a function that makes a client of a service with the given settings."""

    def make(**settings: Any) -> FlaskClient:
        return create_app(Settings(**settings)).test_client()

    return make


@pytest.fixture
def client(make_client: Callable[..., FlaskClient]) -> FlaskClient:
    """Return a client of the service as it is without any setting."""
    return make_client()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Give a folder whose path is short: a unix socket's must be below 108 bytes, wherever pytest keeps its own."""
    with TemporaryDirectory(prefix="web-", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def redis_server(short_path: Path) -> Iterator[RedisServer]:
    """Give a running Redis; a missing binary is a failure, since a skipped test would hide what it guards."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.fail("redis-server is missing: install the package redis-server")
    server = RedisServer(binary, short_path)
    server.start()
    yield server
    server.stop()
