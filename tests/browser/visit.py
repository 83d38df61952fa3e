"""What a test's pages do besides what they show."""

import re

from playwright.sync_api import Page


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
