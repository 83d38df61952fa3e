"""Browsing the sequence, as somebody does it with a keyboard, a mouse, or a link from somebody else."""

import re
import shlex
import subprocess
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect
from tests.chromium import Visit

API = "**/api/v1/fibonacci?*"


def first_row(page: Page) -> str:
    return page.locator(".term").first.inner_text().replace("\n", " ")


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the control with that name has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText || document.activeElement.id") == name:
            return
    raise AssertionError(f"the keyboard never reaches {name}")


def test_page_loads_with_the_first_terms(page: Page) -> None:
    expect(page).to_have_title("The sequence · Fibonacci explorer")
    expect(page.locator(".term")).to_have_count(50)
    assert [row.split()[1] for row in page.locator(".term").all_inner_texts()[:8]] == [
        "0",
        "1",
        "1",
        "2",
        "3",
        "5",
        "8",
        "13",
    ]
    expect(page.locator(".summary")).to_contain_text("Terms 0 to 49")


def test_keyboard_alone_turns_pages(page: Page) -> None:
    expect(page.locator(".term")).to_have_count(50)
    tab_to(page, "Next")
    page.keyboard.press("Enter")
    expect(page.locator(".summary")).to_contain_text("Terms 50 to 99")
    # The focus has stayed where it was: the next page is one key away.
    page.keyboard.press("Enter")
    expect(page.locator(".summary")).to_contain_text("Terms 100 to 149")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".summary")).to_contain_text("Terms 50 to 99")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".summary")).to_contain_text("Terms 100 to 149")
    assert page.url.endswith("#/sequence?page=3&per_page=50")


def test_arrow_keys_in_a_field_move_its_cursor_only(page: Page) -> None:
    expect(page.locator(".summary")).to_contain_text("Terms 0 to 49")
    page.get_by_label("Per page").press("ArrowRight")
    page.get_by_label("Per page").press("ArrowLeft")
    page.get_by_label("Per page").fill("7")
    page.get_by_label("Per page").press("Enter")
    expect(page.locator(".summary")).to_contain_text("Terms 0 to 6 ")


def test_there_is_no_page_before_the_first(page: Page) -> None:
    expect(page.locator(".term")).to_have_count(50)
    previous = page.get_by_role("link", name="Previous").first
    expect(previous).to_have_attribute("aria-disabled", "true")
    page.keyboard.press("ArrowLeft")
    previous.click(force=True)  # as a hand does, which does not know what is disabled
    expect(page.locator(".summary")).to_contain_text("Terms 0 to 49")
    assert "page=0" not in page.url


def test_skip_link_goes_past_the_navigation(page: Page) -> None:
    expect(page.locator(".term")).to_have_count(50)
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    expect(page.locator(".term")).to_have_count(50)


def test_jump_to_an_index_and_find_it_in_the_sequence(page: Page) -> None:
    page.get_by_label("Jump to index").fill("1,000")
    page.get_by_role("button", name="Go").click()
    expect(page.get_by_role("heading", name="F(1,000)")).to_be_visible()
    expect(page.locator(".where")).to_have_text("209 digits")
    expect(page.locator(".piece")).to_contain_text("4346655768 6937456435")
    page.get_by_role("link", name="In the sequence").click()
    expect(page.locator(".summary")).to_contain_text("Terms 1,000 to 1,049")
    expect(page.locator(".marked")).to_contain_text("F(1,000)")
    expect(page.locator(".marked")).to_be_in_viewport()


def test_deep_link_restores_the_view_and_back_and_forward_work(open_page: Callable[..., Page]) -> None:
    page = open_page("/#/sequence?page=21&per_page=10&n=205")
    expect(page.locator(".summary")).to_contain_text("Terms 200 to 209")
    expect(page.locator(".marked")).to_contain_text("F(205)")
    page.get_by_role("link", name="Next").first.click()
    expect(page.locator(".summary")).to_contain_text("Terms 210 to 219")
    page.get_by_role("link", name="Term", exact=True).click()
    expect(page.get_by_role("heading", name="Which term?")).to_be_visible()
    expect(page.get_by_role("heading", name="A term")).to_be_focused()
    page.go_back()
    expect(page.locator(".summary")).to_contain_text("Terms 210 to 219")
    expect(page.get_by_label("Page", exact=True)).to_have_value("22")
    page.go_back()
    expect(page.locator(".summary")).to_contain_text("Terms 200 to 209")
    page.go_forward()
    expect(page.locator(".summary")).to_contain_text("Terms 210 to 219")
    page.reload()
    expect(page.locator(".summary")).to_contain_text("Terms 210 to 219")


def test_error_stands_by_its_field_with_the_bounds(page: Page, visit: Visit) -> None:
    visit.expected.append("status of 400")
    field = page.get_by_label("Per page")
    field.fill("0")
    field.press("Enter")
    expect(page.get_by_text(re.compile("per_page must be an integer from 1 to [0-9]+"))).to_be_visible()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_be_focused()
    described = field.get_attribute("aria-describedby")
    expect(page.locator(f"#{described}")).to_contain_text("Invalid parameter")
    expect(page.locator(".term")).to_have_count(0)
    field.fill("5")
    field.press("Enter")
    expect(page.locator(".term")).to_have_count(5)
    expect(field).not_to_have_attribute("aria-invalid", "true")


def test_page_beyond_the_last_offers_the_last(open_page: Callable[..., Page], visit: Visit) -> None:
    visit.expected.append("status of 400")
    page = open_page("/#/sequence?page=99999999&per_page=1000")
    expect(page.get_by_text(re.compile("page must be an integer from 1 to"))).to_be_visible()
    expect(page.get_by_role("link", name=re.compile("^Last page: [0-9,]+$"))).to_be_visible()


def test_term_that_is_no_number_is_refused_kindly(open_page: Callable[..., Page], visit: Visit) -> None:
    visit.expected.append("status of 400")
    page = open_page("/#/term?n=eleven")
    expect(page.get_by_label("Index")).to_have_value("eleven")
    expect(page.get_by_text(re.compile("n must be an integer from 0 to"))).to_be_visible()


def test_large_page_is_not_loaded_unasked(open_page: Callable[..., Page]) -> None:
    page = open_page("/#/sequence?page=1000&per_page=1000")
    expect(page.get_by_role("heading", name=re.compile("This page is large: about 20[0-9] MB"))).to_be_visible()
    expect(page.locator(".term")).to_have_count(0)
    page.get_by_role("link", name=re.compile("Show [0-9]+ per page")).click()
    expect(page.locator(".index").first).to_contain_text("F(999,0")
    assert re.search(r"per_page=9\b", page.url)


def test_page_of_twenty_megabytes_loads_when_asked_for_and_leaves_the_page_alive(
    open_page: Callable[..., Page],
) -> None:
    page = open_page("/#/sequence?page=101&per_page=1000")
    page.get_by_role("button", name=re.compile("Load 2[0-9].* MB")).click()
    expect(page.locator(".term")).to_have_count(1000)
    assert page.evaluate("document.body.textContent.length") < 200_000


def test_list_opens_a_term_where_it_stands(open_page: Callable[..., Page]) -> None:
    page = open_page("/#/sequence?page=2000&per_page=5")
    value = page.get_by_role("button", name="Digits of F(9,997)", exact=True)
    value.click()
    expect(value).to_have_attribute("aria-expanded", "true")
    reader = page.get_by_role("region", name="Digits of F(9,997)", exact=True)
    expect(reader.get_by_text("Digits 1 to 1,000 of 2,089")).to_be_visible()
    reader.get_by_role("button", name="Last").click()
    expect(reader.get_by_text("Digits 2,001 to 2,089 of 2,089")).to_be_visible()
    reader.get_by_label("From digit").fill("9999")
    reader.get_by_role("button", name="Show").click()
    expect(reader.get_by_text("There are the digits 1 to 2,089.")).to_be_visible()
    value.click()
    expect(reader).to_have_count(0)


def test_term_of_two_million_digits_stays_out_of_the_document(page: Page) -> None:
    page.goto(page.url.split("#")[0] + "#/term?n=10000000")
    expect(page.get_by_text("Digits 1 to 1,000 of 2,089,877")).to_be_visible()
    page.get_by_role("button", name="Last", exact=True).click()
    expect(page.locator(".where")).to_have_text("Digits 2,089,001 to 2,089,877 of 2,089,877")
    expect(page.locator(".piece")).to_have_text(re.compile("0546875$"))
    assert page.evaluate("document.documentElement.outerHTML.length") < 20_000


def test_page_stays_usable_while_a_large_term_loads_and_drops_it_when_left(page: Page) -> None:
    expect(page.locator(".term")).to_have_count(50)
    held: list[Route] = []
    page.route("**/api/v1/fibonacci/10000000", lambda route: held.append(route))
    page.evaluate("location.hash = '#/term?n=10000000'")
    expect(page.get_by_text("about 2.09 MB")).to_be_visible()
    page.get_by_label("Index").fill("5")
    page.get_by_label("Index").press("Enter")
    expect(page.locator(".piece")).to_have_text("5")
    (late,) = held
    late.abort()
    page.wait_for_load_state("networkidle")
    expect(page.locator(".piece")).to_have_text("5")


def test_whole_term_can_be_copied_and_saved(open_page: Callable[..., Page], tmp_path: object) -> None:
    page = open_page("/#/term?n=20000", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy all digits of F(20,000)").click()
    expect(page.get_by_text("Copied", exact=True)).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert len(copied) == 4180
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save all digits").click()
    assert saved.value.suggested_filename == "fibonacci-20000.txt"
    assert saved.value.path().read_text() == copied


def test_copying_works_over_plain_http_where_there_is_no_clipboard_api(open_page: Callable[..., Page]) -> None:
    def insecure(page: Page) -> None:
        page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")

    page = open_page("/#/term?n=20000", before=insecure)
    page.get_by_role("button", name="Copy all digits of F(20,000)").click()
    expect(page.get_by_text("Copied", exact=True)).to_be_visible()
    page.goto(page.url.split("#")[0] + "#/sequence")
    field = page.get_by_label("Jump to index")
    field.focus()
    page.keyboard.press("Control+v")
    # A field takes 64 characters of what was copied.
    expect(field).to_have_value(re.compile("^[0-9]{64}$"))


@pytest.mark.parametrize("hash", ["#/sequence?page=3&per_page=5", "#/term?n=77"])
def test_curl_line_gives_what_is_shown(open_page: Callable[..., Page], hash: str) -> None:
    page = open_page(f"/{hash}")
    line = page.locator(".line code")
    expect(line).to_contain_text("curl --compressed ")
    expect(page.locator(".list .term, .piece").first).to_be_visible()
    command = shlex.split(line.inner_text())
    told = subprocess.run(
        [*command, "--silent", "--fail"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    with page.expect_response(lambda response: "/api/" in response.url) as answer:
        page.reload()
    assert told == answer.value.text()


def test_link_cannot_smuggle_a_command_into_the_curl_line(open_page: Callable[..., Page], visit: Visit) -> None:
    visit.expected.append("status of 400")
    page = open_page("/#/term?n=" + "1%27;touch%20hacked;echo%20%27")
    expect(page.locator(".line code")).to_contain_text("curl")
    command = shlex.split(page.locator(".line code").inner_text())
    assert len(command) == 3
    assert command[2].endswith("/api/v1/fibonacci/1%27%3Btouch%20hacked%3Becho%20%27")


def test_link_cannot_smuggle_markup_into_the_page(page: Page, visit: Visit) -> None:
    visit.expected += ["status of 40[04]"]
    evil = "%3Cimg%20src=x%20onerror=document.title=%27hacked%27%3E"
    views = ["sequence?page={}", "term?n={}", "stream?start={}&count={}", "job?id={}", "jobs?state={}", "{}"]
    for view in views:
        page.evaluate("hash => { location.hash = hash }", "#/" + view.replace("{}", evil))
        page.wait_for_load_state("networkidle")
        expect(page.locator("h1")).to_be_visible()
        assert page.locator("main img").count() == 0
        assert "hacked" not in page.title()


def test_answer_cannot_smuggle_markup_into_the_page(open_page: Callable[..., Page]) -> None:
    evil = "<img src=x onerror=\"document.title='hacked'\">"
    terms = [evil, evil * 40]
    answer = {
        "page": 1,
        "per_page": 2,
        "start": 0,
        "count": 2,
        "terms": terms,
        "links": {"next": "javascript:alert(1)"},
    }
    page = open_page(before=lambda page: page.route(API, lambda route: route.fulfill(json=answer)))
    expect(page.locator(".term")).to_have_count(2)
    page.locator("button.value").click()
    expect(page.locator(".piece")).to_contain_text("<img")
    assert page.locator("main img").count() == 0
    assert page.locator("a[href^='javascript']").count() == 0
    assert "hacked" not in page.title()


def test_lost_network_is_told_and_the_way_back_is_one_button(page: Page, visit: Visit) -> None:
    visit.expected.append("ERR_INTERNET_DISCONNECTED")
    expect(page.locator(".term")).to_have_count(50)
    page.context.set_offline(True)
    page.get_by_role("link", name="Next").first.click()
    expect(page.get_by_role("heading", name="No connection")).to_be_visible()
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".summary")).to_contain_text("Terms 50 to 99")


def test_full_service_is_asked_again_when_it_says(open_page: Callable[..., Page], visit: Visit) -> None:
    visit.expected.append("status of 503")
    problem = {"type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": "Too much at once."}
    kind = {"content_type": "application/problem+json", "headers": {"Retry-After": "1"}}
    busy = [True]

    def once(page: Page) -> None:
        page.route(
            API,
            lambda route: route.fulfill(status=503, json=problem, **kind) if busy.pop() else route.continue_(),
            times=1,
        )

    page = open_page(before=once)
    expect(page.get_by_text("Too much at once.")).to_be_visible()
    # Nobody presses anything.
    expect(page.locator(".summary")).to_contain_text("Terms 0 to 49")
    expect(page.get_by_text("Too much at once.")).to_have_count(0)


def test_strange_answer_is_told_rather_than_shown(page: Page) -> None:
    strange: list[str] = []

    def answer(route: Route) -> None:
        if strange:
            route.fulfill(status=200, content_type="application/json", body=strange.pop())
        else:
            route.continue_()

    page.route(API, answer)
    for body in ("<html>Bad gateway</html>", "", "[]", "null", '{"page":1}', '{"terms":[1,2]}'):
        strange.append(body)
        page.get_by_role("button", name="Show").click()
        expect(page.get_by_role("heading", name="A strange answer")).to_be_visible()
        page.get_by_role("button", name="Show").click()
        expect(page.locator(".notice")).to_have_count(0)
        expect(page.locator(".term")).to_have_count(50)


def test_slow_answer_of_a_page_left_behind_changes_nothing(page: Page) -> None:
    expect(page.locator(".term")).to_have_count(50)
    held: list[Route] = []
    page.route("**/api/v1/fibonacci?page=2*", lambda route: held.append(route))
    page.get_by_role("link", name="Next").first.click()
    page.wait_for_url("**page=2*")
    page.goto(page.url.replace("page=2&", "page=3&"))
    expect(page.locator(".summary")).to_contain_text("Terms 100 to 149")
    for route in held:
        route.abort()
    page.evaluate("new Promise((resolve) => setTimeout(resolve))")
    expect(page.locator(".summary")).to_contain_text("Terms 100 to 149")
    expect(page.locator(".notice")).to_have_count(0)
