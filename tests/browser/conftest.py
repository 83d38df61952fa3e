"""A real Chromium, and the service it looks at: one that is started here, or the one that --base-url names."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from cable import Cable, free_port, listening
from playwright.sync_api import Browser, Page, expect
from tests.chromium import PATIENCE, SIZE, Visit, launched

from service import APP, RedisServer, Worker

ROOT = Path(__file__).parents[2]

SETTINGS = ("FIBONACCI_", "REDIS_", "STREAM_")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}

# In seconds; what is enough for Redis on a machine of its own is not on one that is full of browsers.
REDIS_TIMEOUT = 5.0


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("browser")
    group.addoption("--base-url", help="test this service (default: one that is started here)")
    group.addoption(
        "--screenshots",
        type=Path,
        default=os.environ.get("SCREENSHOTS", ROOT / ".cache" / "screenshots"),
        help="folder for screenshots (default: $SCREENSHOTS or .cache/screenshots)",
    )


@contextmanager
def serving(folder: Path, **environment: str) -> Iterator[str]:
    """Run the service by itself, HTTP and websockets in one process; give its URL."""
    port = free_port()
    log = folder / "service.log"
    command = [sys.executable, "-m", "web", f"--port={port}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=ENVIRONMENT | {"PYTHONPATH": str(APP), **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        assert listening(port, process), log.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        # Not to be waited for: a browser that was killed may have left a stream.
        process.kill()
        process.wait(30)


@pytest.fixture(scope="session")
def base_url(pytestconfig: pytest.Config) -> Iterator[str]:
    """Give the URL of the service under test: the whole of it, with a Redis and a worker of its own."""
    if given := pytestconfig.getoption("--base-url"):
        yield given.rstrip("/")
        return
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.fail("redis-server is missing: install the package redis-server")
    # A short path, for a unix socket's must be below 108 bytes.
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="web-", dir="/tmp")))
        redis = RedisServer(binary, folder)
        stack.callback(redis.stop)
        redis.start()
        worker = Worker(folder / "worker.log", redis.url, {"redis_timeout": REDIS_TIMEOUT}, "--concurrency", "2")
        stack.callback(worker.kill)
        settings = {"REDIS_URL": redis.url, "FIBONACCI_REDIS_TIMEOUT": str(REDIS_TIMEOUT)}
        yield stack.enter_context(serving(folder, **settings))


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[str]:
    """Give the URL of a service of our own that has room for a single stream."""
    with serving(tmp_path, STREAM_CONNECTIONS="1") as url:
        yield url


@pytest.fixture
def cable(base_url: str) -> Iterator[Cable]:
    """Give a way to the service that can be cut."""
    with Cable(base_url) as cable:
        yield cable


@pytest.fixture(scope="session")
def browser(base_url: str) -> Iterator[Browser]:
    """Give the browser that the tests share."""
    expect.set_options(timeout=PATIENCE)
    # As if every installation had TLS: over plain HTTP there is no clipboard API, which one test does without.
    with launched(f"--unsafely-treat-insecure-origin-as-secure={base_url}") as browser:
        yield browser


@pytest.fixture
def visit() -> Visit:
    """Return what this test's pages did."""
    return Visit()


@pytest.fixture
def open_page(browser: Browser, base_url: str, visit: Visit) -> Iterator[Callable[..., Page]]:
    """Give a function that opens the explorer; every test fails that leaves an error or goes to another host."""
    contexts = []
    origins = {base_url}

    def opened(
        path: str = "/", origin: str = base_url, before: Callable[[Page], None] | None = None, **kind: Any
    ) -> Page:
        origins.add(origin)
        kind = {"viewport": SIZE, "reduced_motion": "no-preference"} | kind
        context = browser.new_context(**kind)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        visit.watch(page)
        if before:
            before(page)
        page.goto(origin + path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert visit.unexpected() == []
    assert visit.hosts - {"blob:", "data:"} <= origins


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    """Return the explorer as somebody sees it who has just come."""
    return open_page()


@pytest.fixture(scope="session")
def screenshots(pytestconfig: pytest.Config) -> Path:
    """Return the folder for screenshots."""
    folder = Path(pytestconfig.getoption("--screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
