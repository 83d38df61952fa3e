"""Pages of running hosts in a real Chromium."""

from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page
from tests.chromium import PATIENCE, SIZE, Visit


class Looking:
    """Somebody's browser: what he opens in it, each page by itself, and what they did besides (`visit`).

    A page gets what its own site has, and nothing else: lab hosts have no way out, and nobody is to wait for that.
    """

    def __init__(self, browser: Browser) -> None:
        self.visit = Visit()
        self._browser = browser
        self._open: list[BrowserContext] = []

    def at(self, url: str, width: int = SIZE["width"], height: int = SIZE["height"]) -> Page:
        """Open a page, as one who was never there."""
        context = self._browser.new_context(viewport={"width": width, "height": height})
        self._open.append(context)
        context.set_default_timeout(PATIENCE)
        site = urlsplit(url).hostname
        context.route(lambda asked: urlsplit(asked).hostname != site, lambda route: route.abort())
        page = context.new_page()
        self.visit.watch(page)
        page.goto(url)
        return page

    def close(self) -> None:
        for context in self._open:
            context.close()

    @staticmethod
    def said(page: Page, limit: int = 1000) -> str:
        """Return where a page is and the beginning of what it says: for messages of tests that fail."""
        main = page.locator("main")
        text = (main.first if main.count() else page.locator("body")).inner_text()
        return f"{page.url}: {' '.join(text.split())[:limit]}"
