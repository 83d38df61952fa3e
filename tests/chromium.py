"""Debian's Chromium as tests drive it, and what a page did besides what it shows."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

# In milliseconds: of a machine with others on it, rather than of the page.
PATIENCE = 30_000
SIZE = {"width": 1280, "height": 900}

# What Chromium would do besides showing the page; it must talk to nobody else.
ARGUMENTS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--no-sandbox",
]


@contextmanager
def launched(*arguments: str) -> Iterator[Browser]:
    """Give a Chromium, until the block ends."""
    binary = shutil.which("chromium")
    if binary is None:
        pytest.fail("chromium is missing: install the package chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, headless=True, args=[*ARGUMENTS, *arguments])
        yield browser
        browser.close()


class Visit:
    """What a page did besides what it shows."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.hosts: set[str] = set()
        # Chromium itself writes to the console when an answer is an error, caught or not.
        self.expected: list[str] = []

    def watch(self, page: Page) -> None:
        page.on("console", lambda message: message.type in ("error", "warning") and self.errors.append(message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.hosts.add(re.sub(r"^(\w+://[^/]*).*", r"\1", request.url)))
        page.on("websocket", lambda socket: self.hosts.add(re.sub(r"^ws(s?://[^/]*).*", r"http\1", socket.url)))

    def unexpected(self) -> list[str]:
        return [error for error in self.errors if not any(re.search(known, error) for known in self.expected)]
