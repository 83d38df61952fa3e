"""The live stream: started, watched, paused, cut and resumed."""

import re
from collections.abc import Callable
from contextlib import closing

from cable import Cable
from playwright.sync_api import Locator, Page, WebSocket, WebSocketRoute, expect
from tests.chromium import Visit
from websocket import create_connection

DONE = "Complete"


def state(page: Page) -> Locator:
    return page.locator(".streamstate .badge")


def figure(page: Page, name: str) -> Locator:
    """Return the place of a figure, which is drawn with the next frame: a moment after the state is told."""
    return page.locator(".figures div", has=page.get_by_text(name, exact=True)).locator("dd")


def wait_for_terms(page: Page, least: int) -> None:
    page.wait_for_function("least => Number(document.querySelector('.stream').dataset.terms) >= least", arg=least)


def wait_for_end(page: Page, socket: WebSocket) -> None:
    while not socket.is_closed():  # the time limit of the test ends this
        page.evaluate("new Promise(requestAnimationFrame)")


def test_stream_waits_to_be_started(open_page: Callable[..., Page]) -> None:
    page = open_page("/#/stream?start=7&count=40")
    expect(state(page)).to_have_text("Not started")
    expect(page.get_by_label("From index")).to_have_value("7")
    expect(page.get_by_label("Terms", exact=True)).to_have_value("40")
    expect(page.get_by_text("Press Start")).to_be_visible()
    expect(page.get_by_role("button", name="Stop")).to_have_attribute("aria-disabled", "true")


def test_stream_draws_every_term_and_every_batch(open_page: Callable[..., Page], base_url: str) -> None:
    page = open_page("/#/stream?start=0&count=3000")
    page.get_by_role("button", name="Start").click()
    expect(state(page)).to_have_text(DONE)
    expect(figure(page, "terms")).to_have_text("3,000")
    expect(figure(page, "digits now")).to_have_text("627")
    assert re.search("[0-9] [kM]B", figure(page, "received").inner_text())
    digits, times = (
        page.get_by_role("img", name="Digits per term").all(),
        page.get_by_role("img", name="Time per batch").all(),
    )
    expect(digits[0]).to_have_attribute("aria-label", "Digits per term: now 627 digits, n = 0 to 2,999")
    # The line goes up from the left to the right, over the whole width.
    points = re.findall(r"([0-9.]+) ([0-9.]+)", digits[0].locator(".stroke").get_attribute("d") or "")
    assert 100 < len(points) <= 512
    assert [float(x) for x, _ in points] == sorted(float(x) for x, _ in points)
    assert float(points[0][1]) > 159 > 10 > float(points[-1][1])
    assert float(points[-1][0]) == 600
    assert (times[0].locator(".stroke").get_attribute("d") or "").count("M") >= 1
    expect(page.locator(".latest .index").first).to_have_text("F(2,999)")
    assert page.locator(".latest .term").count() == 8
    # What is shown can be had again, from here and from a link.
    expect(page.locator(".line code")).to_have_text(f"ws{base_url[4:]}/api/v1/stream?start=0&count=3000")
    assert page.url.endswith("#/stream?start=0&count=3000")


def test_pause_resume_and_stop(open_page: Callable[..., Page]) -> None:
    sockets: list[str] = []
    page = open_page(
        "/#/stream?start=0&count=endless", before=lambda page: page.on("websocket", lambda ws: sockets.append(ws.url))
    )
    expect(page.get_by_label("Terms", exact=True)).to_have_value("")
    page.get_by_role("button", name="Start").click()
    wait_for_terms(page, 500)
    page.get_by_role("button", name="Pause").click()
    expect(state(page)).to_have_text("Paused")
    page.evaluate("new Promise(requestAnimationFrame)")
    terms = int(figure(page, "terms").inner_text().replace(",", ""))
    page.get_by_role("button", name="Resume").click()
    wait_for_terms(page, terms + 1)
    page.get_by_role("button", name="Stop").click()
    expect(state(page)).to_have_text("Not started")
    # It went on where it had paused: no term twice, none left out.
    assert [re.sub(".*/stream", "", url) for url in sockets] == ["?start=0", f"?start={terms}"]


def test_stream_goes_on_where_the_connection_was_cut(
    open_page: Callable[..., Page], cable: Cable, visit: Visit
) -> None:
    visit.expected.append("WebSocket connection to")
    sockets: list[str] = []
    page = open_page(
        "/#/stream?start=0&count=6000",
        origin=cable.origin,
        before=lambda page: page.on("websocket", lambda ws: sockets.append(ws.url)),
    )
    expect(state(page)).to_have_text("Not started")
    # Of nearly four megabytes.
    cable.cut_after(500_000)
    page.get_by_role("button", name="Start").click()
    expect(state(page)).to_have_text("Reconnecting")
    wait_for_terms(page, 1)
    expect(page.locator(".why")).to_contain_text("Going on from F(")
    cable.plugged = True
    expect(state(page)).to_have_text(DONE)
    # Each term came once: the page refuses a frame that does not continue the one before.
    expect(figure(page, "terms")).to_have_text("6,000")
    assert len(sockets) >= 2
    start = int(re.findall(r"start=([0-9]+)", sockets[-1])[0])
    assert 0 < start < 6000
    assert sockets[-1].endswith(f"count={6000 - start}")


def test_reload_of_the_service_is_told_and_survived(open_page: Callable[..., Page]) -> None:
    passed: list[str | bytes] = []

    def restarting(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        if passed:
            return

        def first(message: str | bytes) -> None:
            if passed:
                return
            passed.append(message)
            socket.send(message)
            socket.close(code=1012, reason="service restart")
            server.close()

        server.on_message(first)
        # Or its end would be passed on, too, and sometimes first.
        server.on_close(lambda code, reason: None)

    page = open_page(
        "/#/stream?start=0&count=3000", before=lambda page: page.route_web_socket(re.compile("/stream"), restarting)
    )
    told = page.locator(".why")
    page.evaluate(
        """() => { window.told = []; new MutationObserver(() => told.push(document.querySelector(".why").textContent))
            .observe(document.querySelector(".why"), { childList: true }); }"""
    )
    page.get_by_role("button", name="Start").click()
    expect(state(page)).to_have_text(DONE)
    expect(figure(page, "terms")).to_have_text("3,000")
    assert any("The service restarts. Going on from F(" in text for text in page.evaluate("told"))
    expect(told).to_have_text("")


def test_wrong_start_is_refused_next_to_its_field(open_page: Callable[..., Page]) -> None:
    page = open_page("/#/stream")
    field = page.get_by_label("From index")
    field.fill("minus one")
    field.press("Enter")
    expect(page.get_by_text("It must be a number from 0 on, in digits.")).to_be_visible()
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")


def test_refusal_before_the_upgrade_is_asked_for_its_reason(open_page: Callable[..., Page], visit: Visit) -> None:
    visit.expected.append("status of 400")
    problem = {
        "type": "/problems/invalid-parameter",
        "title": "Invalid parameter",
        "status": 400,
        "parameter": "start",
        "detail": "start is too far out.",
        "minimum": 0,
        "maximum": 1234,
    }

    def refusing(page: Page) -> None:
        # All that a browser tells of a refused websocket.
        page.add_init_script(
            "WebSocket = class { constructor() { setTimeout(() => this.onclose({ code: 1006 })); } close() {} };"
        )
        answer = {"status": 400, "json": problem, "content_type": "application/problem+json"}
        page.route("**/api/v1/stream?*", lambda route: route.fulfill(**answer))

    page = open_page("/#/stream?start=999999&count=5", before=refusing)
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text("start is too far out. It may be from 0 to 1234.")).to_be_visible()
    expect(state(page)).to_have_text("Stopped")


def test_frame_that_does_not_continue_is_refused(open_page: Callable[..., Page]) -> None:
    def gap(socket: WebSocketRoute) -> None:
        socket.send('{"start":0,"terms":["0","1"]}')
        socket.send('{"start":3,"terms":["2"]}')

    page = open_page(
        "/#/stream?start=0&count=50", before=lambda page: page.route_web_socket(re.compile("/stream"), gap)
    )
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("heading", name="A strange frame")).to_be_visible()
    expect(page.get_by_text("not the continuation at F(2)")).to_be_visible()


def test_long_stream_keeps_a_bounded_page(open_page: Callable[..., Page]) -> None:
    frames = 300

    def flood(socket: WebSocketRoute) -> None:
        for number in range(frames):
            terms = ",".join([f'"{"7" * 400}"'] * 50)
            socket.send(f'{{"start":{number * 50},"terms":[{terms}]}}')
        socket.send(f'{{"done":true,"next":{frames * 50}}}')

    page = open_page(
        f"/#/stream?start=0&count={frames * 50}",
        before=lambda page: page.route_web_socket(re.compile("/stream"), flood),
    )
    page.get_by_role("button", name="Start").click()
    expect(state(page)).to_have_text(DONE)
    expect(figure(page, "terms")).to_have_text(f"{frames * 50:,}")
    assert page.locator(".latest .term").count() == 8
    assert page.evaluate("document.documentElement.outerHTML.length") < 40_000


def test_leaving_the_view_ends_the_connection(open_page: Callable[..., Page]) -> None:
    page = open_page("/#/stream?count=endless")
    with page.expect_websocket() as opened:
        page.get_by_role("button", name="Start").click()
    wait_for_terms(page, 1)
    page.get_by_role("link", name="Sequence").click()
    wait_for_end(page, opened.value)
    expect(page.locator(".term")).to_have_count(50)
    page.go_back()
    expect(state(page)).to_have_text("Not started")


def test_stream_rests_while_nobody_looks(open_page: Callable[..., Page]) -> None:
    def look(page: Page, hidden: str) -> None:
        page.evaluate(
            f"Object.defineProperty(document, 'hidden', {{ configurable: true, get: () => {hidden} }});"
            "document.dispatchEvent(new Event('visibilitychange'));"
        )

    page = open_page("/#/stream?count=endless")
    with page.expect_websocket() as opened:
        page.get_by_role("button", name="Start").click()
    wait_for_terms(page, 1)
    look(page, "true")
    wait_for_end(page, opened.value)
    expect(page.locator(".why")).to_have_text("while this tab is hidden")
    terms = page.evaluate("Number(document.querySelector('.stream').dataset.terms)")
    look(page, "false")
    wait_for_terms(page, terms + 1)
    expect(state(page)).to_have_text("Live")


def test_full_service_is_asked_again_after_the_time_that_it_says(
    open_page: Callable[..., Page], visit: Visit, narrow: str
) -> None:
    visit.expected += ["status of 503", "Unexpected response code: 503"]
    page = open_page("/#/stream?start=20000&count=100", origin=narrow)
    # It reads nothing, and so its stream goes on.
    with closing(create_connection(f"ws{narrow[4:]}/api/v1/stream?start=20000", timeout=60)):
        page.get_by_role("button", name="Start").click()
        expect(state(page)).to_have_text("Reconnecting")
        expect(page.locator(".why")).to_have_text(
            "As many streams are open as may be open. Going on from F(20,000) in 5 s."
        )
    expect(state(page)).to_have_text(DONE)
