"""Jobs: asked for, watched, ended, and their results."""

import json
import re
import secrets
import shlex
import subprocess
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, Route, expect
from tests.chromium import Visit

DOCUMENT: dict[str, Any] = {
    "id": "20000000-1",
    "state": "queued",
    "start": 20_000_000,
    "count": 1,
    "progress": 0,
    "position": 3,
    "submitted": "2026-11-22T04:00:00Z",
    "started": None,
    "finished": None,
    "error": None,
    "links": {"self": "/api/v1/jobs/20000000-1"},
}


def scripted(*documents: dict[str, Any]) -> Callable[[Page], None]:
    """Return what makes a page see a job go through *documents*, one a question; the last one stays."""
    left = [DOCUMENT | document for document in documents]

    def answer(route: Route) -> None:
        route.fulfill(json=left.pop(0) if len(left) > 1 else left[0])

    return lambda page: page.route("**/api/v1/jobs/20000000-1", answer)


def test_range_is_calculated_and_its_result_opens(page: Page) -> None:
    page.get_by_role("link", name="Jobs").click()
    page.get_by_role("radio", name="A range").check()
    page.get_by_label("From index").fill("20,000")
    page.get_by_label("Terms", exact=True).fill("120")
    line = page.locator(".order .line code")
    expect(line).to_contain_text("""--data '{"start":20000,"count":120}'""")
    command = shlex.split(line.inner_text())
    page.get_by_role("button", name="Start the job").click()
    expect(page.get_by_role("heading", name="A job")).to_be_visible()
    expect(page.get_by_text("F(20,000) to F(20,119)", exact=True)).to_be_visible()
    expect(page.locator(".job .badge")).to_have_text("done")
    expect(page.locator(".summary")).to_contain_text("Terms 20,000 to 20,049")
    page.get_by_role("link", name="Next").first.click()
    expect(page.locator(".summary")).to_contain_text("Terms 20,050 to 20,099")
    page.get_by_role("link", name="Next").first.click()
    expect(page.locator(".summary")).to_contain_text("Terms 20,100 to 20,119")
    expect(page.get_by_role("link", name="Next").first).to_have_attribute("aria-disabled", "true")
    page.reload()
    expect(page.locator(".summary")).to_contain_text("Terms 20,100 to 20,119")
    # The curl line asked for the same job.
    told = subprocess.run(
        [*command, "--silent", "--fail"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert json.loads(told)["id"] in page.url


def test_large_term_is_calculated_as_a_job_and_then_shown(open_page: Callable[..., Page]) -> None:
    page = open_page("/#/term?n=10000019")
    expect(page.locator(".where")).to_have_text("Digits 1 to 1,000 of 2,089,881")


def test_running_job_is_cancelled_and_removed(page: Page) -> None:
    # Ten seconds or more. Another one each time: a service that is there already may have kept a result.
    n = 200_000_000 - secrets.randbelow(1_000_000)
    name = f"F({n:,})"
    page.get_by_role("link", name="Jobs").click()
    page.get_by_label("Index", exact=True).fill(str(n))
    page.get_by_role("button", name="Start the job").click()
    expect(page.get_by_role("heading", name="A job")).to_be_visible()
    expect(page.locator(".job .badge")).to_have_text("running")
    page.get_by_role("link", name="All jobs").click()
    card = page.locator(".job", has=page.get_by_role("link", name=name, exact=True))
    card.get_by_role("button", name=f"Cancel {name}").click()
    expect(card.locator(".badge")).to_have_text("cancelled")
    card.get_by_role("button", name=f"Remove {name}").click()
    expect(card).to_have_count(0)


def test_job_tells_its_place_in_the_queue_its_progress_and_its_end(open_page: Callable[..., Page]) -> None:
    steps = (
        {},
        {"position": 1},
        {"state": "running", "position": None, "progress": 0.42},
        {"state": "failed", "error": "out of time <b>"},
    )
    told = "() => ['.badge', '.words'].map((part) => document.querySelector(`.job ${part}`)?.textContent)"
    page = open_page("/#/job?id=20000000-1", before=scripted(*steps))
    for expected in (["queued", "number 3 in the queue"], ["queued", "next in the queue"], ["running", "42 %"]):
        page.wait_for_function(f"expected => JSON.stringify(({told})()) === JSON.stringify(expected)", arg=expected)
    expect(page.locator(".job .badge")).to_have_text("failed")
    expect(page.locator(".job .facts").first).to_contain_text("out of time <b>")
    expect(page.get_by_role("button", name="Remove F(20,000,000)")).to_be_visible()


def test_restart_of_the_service_does_not_end_the_watch(open_page: Callable[..., Page], visit: Visit) -> None:
    visit.expected.append("status of 502")
    answers = [
        {"json": DOCUMENT},
        {"status": 502, "body": "gone"},
        {"json": DOCUMENT | {"state": "cancelled", "position": None}},
    ]

    def answer(route: Route) -> None:
        route.fulfill(**(answers.pop(0) if len(answers) > 1 else answers[0]))

    page = open_page("/#/job?id=20000000-1", before=lambda page: page.route("**/api/v1/jobs/20000000-1", answer))
    expect(page.get_by_text("Status 502; asking again.")).to_be_visible()
    expect(page.locator(".job .badge")).to_have_text("cancelled")
    expect(page.get_by_text("asking again")).to_have_count(0)


def test_wrong_index_is_refused_next_to_its_field(page: Page, visit: Visit) -> None:
    visit.expected.append("status of 400")
    page.get_by_role("link", name="Jobs").click()
    field = page.get_by_label("Index", exact=True)
    field.fill("999999999999")
    page.get_by_role("button", name="Start the job").click()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(page.locator(f"#{field.get_attribute('aria-describedby')}")).to_contain_text(
        re.compile("from [0-9]+ to [0-9]+")
    )


def test_full_backlog_is_told_with_the_time_to_wait(page: Page, visit: Visit) -> None:
    visit.expected.append("status of 503")
    problem = {"type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": "The backlog is full."}
    kind = {"content_type": "application/problem+json", "headers": {"Retry-After": "30"}}
    page.get_by_role("link", name="Jobs").click()
    page.route("**/api/v1/jobs", lambda route: route.fulfill(status=503, json=problem, **kind))
    page.get_by_label("Index", exact=True).fill("20000000")
    page.get_by_role("button", name="Start the job").click()
    expect(page.get_by_text("The backlog is full.")).to_be_visible()
    expect(page.get_by_text("The service asks for 30 s of patience.")).to_be_visible()


def test_unknown_job_is_told(open_page: Callable[..., Page], visit: Visit) -> None:
    visit.expected.append("status of 40[04]")
    page = open_page("/#/job?id=5-12345")
    expect(page.get_by_role("heading", name=re.compile("Not Found|Invalid"))).to_be_visible()


def test_ended_jobs_of_one_kind_are_removed_together(open_page: Callable[..., Page]) -> None:
    jobs = [DOCUMENT | {"id": f"{n}-1", "start": n, "state": "failed", "error": "no"} for n in (20_000_000, 20_000_001)]
    removed: list[str] = []

    def answer(route: Route) -> None:
        if route.request.method == "DELETE":
            removed.append(route.request.url)
            route.fulfill(json={"removed": len(jobs)})
            jobs.clear()
        else:
            route.fulfill(json={"page": 1, "per_page": 20, "total": len(jobs), "jobs": jobs, "links": {}})

    page = open_page("/#/jobs", before=lambda page: page.route("**/api/v1/jobs?*", answer))
    expect(page.locator(".job")).to_have_count(2)
    expect(page.get_by_role("button", name=re.compile("Remove all"))).to_have_count(0)
    page.get_by_label("State").select_option("failed")
    page.get_by_role("button", name="Remove all failed").click()
    expect(page.get_by_text("No job is failed.")).to_be_visible()
    assert [url.partition("?")[2] for url in removed] == ["state=failed"]


def test_what_goes_wrong_in_removing_all_is_told_until_it_is_tried_again(
    open_page: Callable[..., Page], visit: Visit
) -> None:
    visit.expected.append("status of 503")
    problem = {"type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": "Redis is away."}
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(route.request.method)
        if route.request.method == "GET":
            # A job that runs has the list asked for often.
            jobs = [DOCUMENT | {"state": "running", "progress": 0.1}]
            route.fulfill(json={"page": 1, "per_page": 20, "total": 1, "jobs": jobs, "links": {}})
        elif asked.count("DELETE") == 1:
            route.fulfill(status=503, json=problem, content_type="application/problem+json")
        else:
            route.fulfill(json={"removed": 0})

    page = open_page("/#/jobs?state=failed", before=lambda page: page.route("**/api/v1/jobs?*", answer))
    remove = page.get_by_role("button", name="Remove all failed")
    remove.click()
    told = page.get_by_text("Redis is away.")
    expect(told).to_be_visible()
    for _ in range(2):
        with page.expect_response(lambda response: response.request.method == "GET" and "/jobs?" in response.url):
            pass
    page.evaluate("new Promise(requestAnimationFrame)")
    expect(told).to_be_visible()
    remove.click()
    expect(told).to_have_count(0)
