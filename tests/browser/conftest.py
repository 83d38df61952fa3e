"""A real Chromium, and the service it looks at: one that is started here, or the one that --base-url names."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cable import Cable, free_port, listening
from playwright.sync_api import Browser, Page, expect, sync_playwright
from visit import Visit

import web

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

# Of a machine with others on it, rather than of the page.
PATIENCE = 30_000

# What Chromium would do besides showing the page; it must talk to nobody else.
ARGUMENTS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("browser")
    group.addoption("--base-url", help="test this service (default: one that is started here)")
    group.addoption(
        "--screenshots",
        type=Path,
        default=os.environ.get("SCREENSHOTS", ROOT / ".cache" / "screenshots"),
        help="folder for screenshots (default: $SCREENSHOTS or .cache/screenshots)",
    )


@pytest.fixture(scope="session")
def base_url(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the URL of the service under test."""
    if given := pytestconfig.getoption("--base-url"):
        yield given.rstrip("/")
        return
    port = free_port()
    folder = tmp_path_factory.mktemp("service")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FIBONACCI_", "REDIS_"))}
    environment["PYTHONPATH"] = f"{Path(web.__file__).parents[1]}:{HERE}"
    command = [sys.executable, "-m", "gunicorn", "--no-control-socket", "--worker-class=gthread", "--threads=32"]
    command += [f"--bind=127.0.0.1:{port}", "fake:application()"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        assert listening(port, process), (folder / "log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def cable(base_url: str) -> Iterator[Cable]:
    """Give a way to the service that can be cut."""
    with Cable(base_url) as cable:
        yield cable


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Give the browser that the tests share."""
    binary = shutil.which("chromium")
    if binary is None:
        pytest.fail("chromium is missing: install the package chromium")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, headless=True, args=ARGUMENTS)
        yield browser
        browser.close()


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
        kind = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "no-preference"} | kind
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
