"""``/api/v1/jobs``: long calculations, asked for, watched, cancelled and read."""

import json
from typing import Any

from flask import Blueprint, Response, request
from werkzeug.exceptions import (
    BadRequest,
    LengthRequired,
    NotFound,
    RequestEntityTooLarge,
    ServiceUnavailable,
    UnsupportedMediaType,
)

from web import later
from web.answers import answer
from web.contract import ENDED_STATE, JOBS_PAGE, JOBS_PER_PAGE, SOME_STATE, Contract
from web.health import fresh
from web.jobstore import ENDED, Job, Jobs, parse_id
from web.later import PATH, Results
from web.pages import document as page_document
from web.pagination import Page
from web.parameters import query
from web.problems import InvalidParameter

# More than a request for a job can need.
MAX_BODY_BYTES = 1_024


def resource(contract: Contract, jobs: Jobs | None) -> Blueprint:
    """Return the resources; without *jobs* each is a 503."""
    blueprint = Blueprint("jobs", __name__, url_prefix=PATH)

    def there() -> Jobs:
        if jobs is None:
            raise ServiceUnavailable("There are no jobs here: the service runs without Redis.")
        return jobs

    def found(id: str) -> Job:
        job = there().get(id) if parse_id(id) else None
        if job is None:
            raise NotFound("There is no such job; it may have expired.")
        return job

    @blueprint.post("")
    def submit() -> Response:
        query()
        start, count = _range_asked_for(contract)
        return later.accepted(there().submit(start, count))

    @blueprint.get("")
    def index() -> Response:
        values = query("page", "per_page", "state")
        page = Page(JOBS_PAGE.of(values), JOBS_PER_PAGE.of(values))
        state = SOME_STATE.of(values) if "state" in values else None
        total, listed = there().page(page.number, page.per_page, state)
        return fresh(_index_document(page, total, listed, state))

    @blueprint.delete("")
    def remove_all() -> Response:
        # Said in words: a DELETE of the collection that forgets its argument must not remove anything.
        state = ENDED_STATE.of(query("state"))
        return fresh({"removed": there().delete_all(state)})

    @blueprint.get("/<string:id>")
    def job(id: str) -> Response:
        query()
        return fresh(later.document(found(id)))

    @blueprint.delete("/<string:id>")
    def cancel_or_remove(id: str) -> Response:
        query()
        before = found(id)
        if there().delete(before.id) in ENDED:
            return Response(status=204, headers={"Cache-Control": "no-store"})
        return fresh(later.document(found(id)))

    @blueprint.get("/<string:id>/result")
    def result(id: str) -> Response:
        job = found(id)
        if job.state != "done":
            raise NotFound(f"There is no result: the job is {job.state}.")
        page, links = _result_page(job, contract)
        return answer(page_document(page, links), Results(there(), job), links)

    return blueprint


def _range_asked_for(contract: Contract) -> tuple[int, int]:
    """Return start and count that the request's body asks for; raise what is wrong with it."""
    if request.mimetype != "application/json":
        raise UnsupportedMediaType('The body must be application/json, such as {"n": 20000000}.')
    if "Transfer-Encoding" in request.headers:
        raise LengthRequired("The body must come with its length.")
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise RequestEntityTooLarge(f"The body may have {MAX_BODY_BYTES} bytes at the most.")
    members = _members(request.get_data())
    known = ("n",) if "n" in members else ("start", "count")
    for name in known:
        if name not in members:
            raise InvalidParameter(name, 'The body must have either "n", or "start" and "count".')
    for name in members:
        if name not in known:
            raise InvalidParameter(name, "There is no such member; known here: " + ", ".join(known) + ".")
    if "n" in members:
        return contract.job_n.checked(members["n"]), 1
    start = contract.job_start.checked(members["start"])
    return start, contract.job_count(start).checked(members["count"])


def _members(text: bytes) -> dict[str, Any]:
    def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) < len(pairs):
            raise BadRequest("The body names a member twice.")
        return members

    try:
        members = json.loads(text, object_pairs_hook=without_doubles)
    except (ValueError, RecursionError):
        raise BadRequest("The body is not JSON.") from None
    if not isinstance(members, dict):
        raise BadRequest("The body must be a JSON object.")
    return members


def _index_document(page: Page, total: int, listed: list[Job], state: str | None) -> dict[str, Any]:
    chosen = f"&state={state}" if state else ""
    pages = page.links(PATH, has_next=page.number * page.per_page < total)
    links = {relation: link + chosen for relation, link in pages.items()}
    jobs = [later.document(job) for job in listed]
    return {"page": page.number, "per_page": page.per_page, "total": total, "jobs": jobs, "links": links}


def _result_page(job: Job, contract: Contract) -> tuple[Page, dict[str, str]]:
    """Return the page of *job*'s result that the query asks for, and the references from it by relation."""
    values = query("page", "per_page")
    per_page = contract.result_per_page.of(values)
    numbers = contract.result_page(job.count, per_page)
    page = Page(numbers.of(values), per_page, job.start, job.start + job.count)
    return page, page.links(f"{PATH}/{job.id}/result", has_next=page.number < numbers.maximum)
