"""The status page as a browser shows it: to fit, to be read, to be named, and to need nothing but itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route
from test_looks import FAINT, NAMELESS, SMALL
from tests.script import load

FILES = Path(__file__).parents[2] / "salt" / "states" / "status_page" / "files"
NOW, DAY, HOUR = 1_795_405_230, 86_400, 3_600  # 2026-11-23 03:40:30 UTC
COMPONENTS = [
    {"name": name, "title": title, "item": f"{name}.ok", "alerts": {"jobs-wait": []} if name == "job" else {}}
    for name, title in (("page", "Pages"), ("websocket", "A live stream with a long name"), ("job", "Jobs"))
]
SETTINGS = {
    "name": "An app",
    "path": "/status-page",
    "library": str(FILES),
    "seconds": 30,
    "patience": 180,
    "days": 90,
    "components": COMPONENTS,
    "show_alerts": False,
    "maintenance": [{"title": "New disks", "from": "2026-12-01 01:00", "until": "2026-12-01 03:00"}],
}


def facts(down: bool) -> dict[str, Any]:
    """Return what Zabbix says: three months with a bad day, and now."""
    begun = NOW // DAY * DAY
    bad = {begun - 4 * DAY: 0.4, begun - 30 * DAY: 0.98}
    hours = [[begun - n * DAY, 240, bad.get(begun - n * DAY, 1.0)] for n in range(1, 87)]
    looks = [[NOW - 5 - n * 15, not (down and n < 30)] for n in range(200)]
    good = [[when, True] for when, _ in looks]
    alert = {"alert": "jobs-wait", "name": "Jobs wait", "since": NOW - 3 * HOUR, "roles": ["hosts"]}
    return {
        "asked": NOW,
        "looks": {"page.ok": looks, "websocket.ok": good, "job.ok": good},
        "hours": {"page.ok": hours, "websocket.ok": hours[:40], "job.ok": hours},
        "alerts": [alert] if down else [],
        "out": down,
    }


# How it is, and when: what Zabbix said, and the seconds that have passed since.
VIEWS = {"well": (False, 0), "down": (True, 0), "old": (True, 1000)}


@pytest.fixture
def show(open_page: Callable[..., Page]) -> Callable[[str], Page]:
    """Return a function that opens the page as it is in one of VIEWS, with the headers that nginx gives it."""

    def shown(view: str) -> Page:
        down, passed = VIEWS[view]
        renderer = load(FILES / "render-status-page")
        told = renderer.status(SETTINGS, facts(down), NOW + passed)
        body = renderer.page(FILES, told, SETTINGS, NOW + passed)
        policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"

        def answer(route: Route) -> None:
            route.fulfill(
                body=body, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": policy}
            )

        return open_page("/status-page", before=lambda page: page.route("**/status-page", answer))

    return shown


@pytest.mark.parametrize("view", VIEWS)
def test_page_fits_can_be_read_and_names_its_parts(show: Callable[[str], Page], screenshots: Path, view: str) -> None:
    page = show(view)
    for width in (1280, 360):
        page.set_viewport_size({"width": width, "height": 800})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of its two
            page.screenshot(path=screenshots / f"status-page-{view}-{width}-{scheme}.png", full_page=True)
            assert page.evaluate(FAINT) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(SMALL) == []
    assert page.evaluate(NAMELESS) == []
    assert page.get_by_role("heading", level=1).count() == 1
    # The style has come through the policy.
    assert page.evaluate("getComputedStyle(document.querySelector('.days')).display") == "flex"
    assert page.locator(".days").first.locator("i").count() == 90


def test_what_is_told_can_be_found_by_those_who_do_not_see_it(show: Callable[[str], Page]) -> None:
    page = show("down")
    assert page.get_by_role("img", name="Availability of Pages over 90 days").count() == 1
    assert page.get_by_role("heading", name="Pages: out of service").count() == 1
    assert page.get_by_role("heading", name="Jobs: impaired").count() == 1
    assert page.get_by_role("region", name="Planned maintenance").get_by_text("New disks").count() == 1
    assert page.get_by_role("link", name="status.json").get_attribute("href") == "/status-page/status.json"


def test_days_with_failures_are_listed_on_demand(show: Callable[[str], Page]) -> None:
    page = show("well")
    day = page.get_by_text("2026-11-19: 40 %").first
    assert not day.is_visible()
    page.get_by_text("Days with failures").first.click()
    assert day.is_visible()
