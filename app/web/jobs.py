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

from fibonacci import digits
from web import later
from web.answers import answer
from web.chunks import terms_length
from web.health import fresh
from web.jobstore import ENDED, STATES, Job, Jobs, parse_id
from web.later import PATH, Results
from web.pages import document as page_document
from web.pagination import DEFAULT_PER_PAGE, ENVELOPE_BYTES, Page, last_for_which
from web.parameters import choice, natural, query
from web.problems import InvalidParameter
from web.settings import Settings

# More than a request for a job can need.
MAX_BODY_BYTES = 1_024

# Jobs on a page of them, and pages: beyond any backlog.
MAX_JOBS_PER_PAGE, MAX_JOBS_PAGE = 100, 1_000_000


def resource(settings: Settings, jobs: Jobs | None) -> Blueprint:
    """Return the resources, within the limits of *settings*; without *jobs* each is a 503."""
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
        start, count = _range_asked_for(settings)
        return later.accepted(there().submit(start, count))

    @blueprint.get("")
    def index() -> Response:
        values = query("page", "per_page", "state")
        per_page = natural("per_page", values.get("per_page", ["20"]), 1, MAX_JOBS_PER_PAGE)
        page = Page(natural("page", values.get("page", ["1"]), 1, MAX_JOBS_PAGE), per_page)
        state = choice("state", values["state"], STATES) if "state" in values else None
        total, listed = there().page(page.number, page.per_page, state)
        return fresh(_index_document(page, total, listed, state))

    @blueprint.delete("")
    def remove_all() -> Response:
        # Said in words: a DELETE of the collection that forgets its argument must not remove anything.
        state = choice("state", query("state").get("state", []), ENDED)
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
        page, links = _result_page(job, settings)
        return answer(page_document(page, links), Results(there()), links)

    return blueprint


def _range_asked_for(settings: Settings) -> tuple[int, int]:
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
    largest = largest_index(settings)
    if "n" in members:
        return _integer("n", members["n"], 0, largest), 1
    start = _integer("start", members["start"], 0, largest)
    most = last_for_which(
        lambda count: terms_length(start, count) + ENVELOPE_BYTES <= settings.job_max_bytes, largest + 1 - start
    )
    return start, _integer("count", members["count"], 1, max(most, 1))


def largest_index(settings: Settings) -> int:
    """Return the largest index that a job calculates: within the limit of indices and of bytes."""
    return last_for_which(lambda n: digits(n) + ENVELOPE_BYTES <= settings.job_max_bytes, settings.job_max_index)


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


def _integer(name: str, value: object, minimum: int, maximum: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        detail = f"{name} must be an integer from {minimum} to {maximum}."
        raise InvalidParameter(name, detail, minimum, maximum)
    return value


def _index_document(page: Page, total: int, listed: list[Job], state: str | None) -> dict[str, Any]:
    def link(number: int) -> str:
        return page.at(number).link(PATH) + (f"&state={state}" if state else "")

    links = {"self": link(page.number), "first": link(1)}
    if page.number > 1:
        links["prev"] = link(page.number - 1)
    if page.number * page.per_page < total:
        links["next"] = link(page.number + 1)
    jobs = [later.document(job) for job in listed]
    return {"page": page.number, "per_page": page.per_page, "total": total, "jobs": jobs, "links": links}


def _result_page(job: Job, settings: Settings) -> tuple[Page, dict[str, str]]:
    """Return the page of *job*'s result that the query asks for, and the references from it by relation."""
    values = query("page", "per_page")
    per_page = natural("per_page", values.get("per_page", [str(DEFAULT_PER_PAGE)]), 1, settings.max_per_page)
    last = -(-job.count // per_page)
    page = Page(natural("page", values.get("page", ["1"]), 1, last), per_page, job.start, job.start + job.count)
    pages = {"self": page, "first": page.at(1)}
    if page.number > 1:
        pages["prev"] = page.at(page.number - 1)
    if page.number < last:
        pages["next"] = page.at(page.number + 1)
    path = f"{PATH}/{job.id}/result"
    return page, {relation: target.link(path) for relation, target in pages.items()}
