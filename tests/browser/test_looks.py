"""What every view owes its visitors: to fit, to be read, to be named, and to keep to its own host."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cable import Cable
from playwright.sync_api import Page, Request, expect
from tests.chromium import Visit

JOB = {
    "id": "150000000-1",
    "state": "running",
    "start": 150_000_000,
    "count": 1,
    "progress": 0.618,
    "position": None,
    "submitted": "2026-11-22T04:00:00Z",
    "started": "2026-11-22T04:00:03Z",
    "finished": None,
    "error": None,
    "links": {},
}
JOBS = [
    JOB,
    JOB | {"id": "20000000-1", "start": 20_000_000, "state": "queued", "progress": 0, "position": 2, "started": None},
    JOB | {"id": "1000-400", "start": 1000, "count": 400, "state": "done", "finished": "2026-11-22T04:00:04Z"},
    JOB | {"id": "30000000-1", "start": 30_000_000, "state": "failed", "error": "The time limit was reached."},
]
LIST = {"page": 1, "per_page": 20, "total": len(JOBS), "links": {}, "jobs": JOBS}


def show_jobs(page: Page) -> None:
    page.route("**/api/v1/jobs?*", lambda route: route.fulfill(json=LIST))
    page.route(f"**/api/v1/jobs/{JOB['id']}", lambda route: route.fulfill(json=JOB))


def streamed(page: Page) -> None:
    page.get_by_role("button", name="Start").click()
    expect(page.locator(".streamstate .badge")).to_have_text("Complete")


def streams(page: Page) -> None:
    page.get_by_role("button", name="Start").click()
    page.wait_for_function("() => Number(document.querySelector('.stream').dataset.terms) > 4000")


def calculated(page: Page) -> None:
    page.get_by_role("radio", name="A range").check()
    page.get_by_label("From index").fill("1000")
    page.get_by_label("Terms", exact=True).fill("400")
    page.get_by_role("button", name="Start the job").click()
    expect(page.locator(".result .term").first).to_be_visible()


def opened(page: Page) -> None:
    page.get_by_role("button", name="Digits of F(9,995)", exact=True).click()


def nothing(page: Page) -> None:
    """Leave the view as it comes."""


# A view's name, its address, what shows that it is there, and what is done to it first.
VIEWS: dict[str, tuple[str, str, Callable[[Page], None]]] = {
    "sequence": ("", ".term", nothing),
    "sequence-deep": ("sequence?page=2000&per_page=5&n=9996", ".marked", opened),
    "sequence-large": ("sequence?page=1000&per_page=1000", ".notice", nothing),
    "error": ("sequence?page=0", ".complaint:not(:empty)", nothing),
    "problem": ("job?id=5-12345", ".notice.bad", nothing),
    "term-none": ("term", ".examples", nothing),
    "term": ("term?n=20578", ".piece", nothing),
    "stream-none": ("stream", ".empty", nothing),
    "stream": ("stream?start=0&count=3000", ".empty", streamed),
    "stream-live": ("stream?count=endless", ".empty", streams),
    "jobs": ("jobs", ".job", nothing),
    "job-running": (f"job?id={JOB['id']}", ".job progress", nothing),
    "job-done": ("jobs", ".job", calculated),
}

EACH = pytest.mark.parametrize("view", VIEWS)

# Controls and parts without a name for those who do not see them; ids used twice count, as names refer to ids.
NAMELESS = """() => [
  ...[...document.querySelectorAll(CONTROLS)].filter((node) => {
    const labels = [...(node.labels ?? [])].map((label) => label.textContent).join("");
    const label = node.getAttribute("aria-label") ?? labels;
    const text = ["A", "BUTTON", "FIELDSET"].includes(node.tagName) ? node.textContent : "";
    return node.checkVisibility() && !(label + text).trim();
  }).map((node) => node.outerHTML.slice(0, 80)),
  ...[...document.querySelectorAll("[id]")].map((node) => node.id)
    .filter((id, index, all) => all.indexOf(id) !== index),
]""".replace("CONTROLS", "'a, button, input, select, progress, nav, section, form, fieldset, [role=img]'")

# Every text with the colour that it has and the one that lies behind it, where the two are closer than WCAG's AA.
FAINT = """() => {
  const channels = (color) => color.match(/[0-9.]+/g).map(Number);
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const color = channels(getComputedStyle(node).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const faint = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !node.checkVisibility()) continue;
    if (node.closest("[aria-disabled], .unseen, noscript")) continue;
    const [a, b] = [light(channels(getComputedStyle(node).color)), light(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.push(`${texts.currentNode.data.slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return faint;
}"""

# Controls that a hand cannot well meet on a phone.
SMALL = """() => [...document.querySelectorAll("a, button, input:not([type=radio]), select")]
  .filter((node) => node.checkVisibility() && !node.closest(".skip, p"))
  .map((node) => [node, node.getBoundingClientRect()])
  .filter(([, box]) => box.height < 24 || box.width < 24)
  .map(([node]) => node.outerHTML.slice(0, 80))"""


@pytest.fixture
def show(open_page: Callable[..., Page], visit: Visit, base_url: str, cable: Cable) -> Callable[..., Page]:
    """Return a function that opens one of VIEWS."""
    # A stream stands still when so much has come: the tests' own link to the browser sees all of it, and falls behind.
    cable.hold_after(3_000_000)

    def shown(view: str, **kind: Any) -> Page:
        visit.expected.append("status of 40[04]")
        hash, sign, do = VIEWS[view]
        origin = cable.origin if view == "stream-live" else base_url
        page = open_page(f"/#/{hash}", origin, before=show_jobs if view.startswith("job") else None, **kind)
        expect(page.locator(sign).first).to_be_visible()
        do(page)
        return page

    return shown


@EACH
def test_view_fits_can_be_read_and_names_its_controls(show: Callable[..., Page], screenshots: Path, view: str) -> None:
    page = show(view, reduced_motion="reduce")
    for width in (1280, 360):
        page.set_viewport_size({"width": width, "height": 800})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of its two
            page.screenshot(path=screenshots / f"{view}-{width}-{scheme}.png", full_page=view != "sequence")
            assert page.evaluate(FAINT) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(SMALL) == []
    assert page.evaluate(NAMELESS) == []
    assert page.get_by_role("heading", level=1).count() == 1
    assert page.locator("#views [aria-current='page']").count() == 1


def test_what_has_no_name_or_is_faint_or_small_would_be_found(page: Page) -> None:
    expect(page.locator(".term")).to_have_count(50)
    page.evaluate(
        """() => {
            const faint = document.createElement("span");
            faint.className = "faint";
            faint.textContent = "faint";
            faint.style.color = "#bbb";
            faint.style.backgroundColor = "#fff";
            const button = document.createElement("button");
            button.style.minHeight = button.style.height = "20px";
            document.querySelector("main").append(faint, button, document.createElement("input"));
        }"""
    )
    assert page.evaluate(FAINT) == ["faint: 1.92"]
    assert len(page.evaluate(SMALL)) == 2
    assert len(page.evaluate(NAMELESS)) == 2


OUTLINE = """() => {
  const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
  return [outlineStyle, outlineWidth];
}"""


def test_focus_can_be_seen(page: Page) -> None:
    expect(page.locator(".term")).to_have_count(50)
    seen = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        style = page.evaluate(OUTLINE)
        seen.add(tuple(style))
    assert seen == {("solid", "2px")}


def test_nothing_moves_for_those_who_asked_for_that(open_page: Callable[..., Page]) -> None:
    page = open_page(reduced_motion="reduce")
    moving = """[...document.querySelectorAll("*")].filter((node) => getComputedStyle(node).transitionDuration !== "0s"
        || getComputedStyle(node).animationName !== "none").length"""
    assert page.evaluate(moving) == 0
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate(moving) > 0


def test_files_are_kept_for_ever_and_the_page_is_not(open_page: Callable[..., Page]) -> None:
    kept: dict[str, str] = {}

    def note(request: Request) -> None:
        kept[request.url.rpartition("/")[2]] = request.response().headers["cache-control"]

    page = open_page(before=lambda page: page.on("requestfinished", note))
    page.wait_for_load_state("networkidle")
    assert kept.pop("") == "no-cache"
    files = {name: policy for name, policy in kept.items() if name.endswith((".js", ".css", ".svg"))}
    assert len(files) >= 11
    assert set(files.values()) == {"public, max-age=31536000, immutable"}


def test_policy_stops_what_does_not_belong_here(open_page: Callable[..., Page], visit: Visit) -> None:
    visit.expected.append("Content Security Policy")
    page = open_page()
    expect(page.locator(".term")).to_have_count(50)
    page.evaluate(
        """() => {
            window.stopped = new Set();
            document.addEventListener("securitypolicyviolation", (event) => stopped.add(event.effectiveDirective));
            const script = document.createElement("script");
            script.textContent = "window.hacked = true";
            const form = document.createElement("form");
            document.body.append(script, form);
            document.body.setAttribute("style", "color: red");
            new Image().src = "data:image/png;base64,AAAA";
            form.requestSubmit();
            fetch("http://192.0.2.1/").catch(() => {});
        }"""
    )
    for directive in ("connect-src", "form-action", "img-src", "script-src-elem", "style-src-attr"):
        page.wait_for_function("directive => stopped.has(directive)", arg=directive)
    assert page.evaluate("window.hacked") is None


def test_api_answers_only_where_it_was_asked(page: Page, base_url: str) -> None:
    # The fixture checks the hosts; here, that it sees requests at all.
    asked = []
    page.on("request", lambda request: "/api/" in request.url and asked.append(request.url))
    page.get_by_role("link", name="Next").first.click()
    expect(page.locator(".summary")).to_contain_text("Terms 50 to 99")
    assert asked == [f"{base_url}/api/v1/fibonacci?page=2&per_page=50"]
