"""``GET /api/v1/openapi.json``: the API in OpenAPI 3.1, made of what the service checks requests with.

For people the same at ``/api/docs``, see ``web.docs``.
"""

import json
from typing import Any

from flask import Blueprint, Response

from web import docs
from web.contract import ENDED_STATE, JOBS_PAGE, JOBS_PER_PAGE, SOME_STATE, Contract
from web.files import REVALIDATED, File
from web.health import LIVENESS, READINESS
from web.jobs import MAX_BODY_BYTES
from web.later import PATH as JOBS
from web.pages import PATH as PAGES
from web.parameters import Choice, Natural, query
from web.schemas import SCHEMAS
from web.stream import PATH as STREAM

PATH, DOCS = "/api/v1/openapi.json", "/api/docs"

# What a part of the document is made of.
Part = dict[str, Any]

DESCRIPTION = """\
The Fibonacci sequence, F(0) = 0, F(1) = 1: in pages, term by term, as a live stream, and by jobs where it takes long.

A number has one spelling: decimal digits without sign, space or leading zero. An unknown or repeated parameter \
is a 400, and so is a body where none belongs. Whatever can be asked for with GET can be asked for with HEAD; any \
other method is a 405 that names those there are. Every error is a problem (RFC 9457), and every answer names its \
request in X-Request-ID.

Terms never change. Where an answer has an ETag, If-None-Match gets a 304 without a body as long as it is current."""

TAGS = [
    {"name": "terms", "description": "the sequence"},
    {"name": "jobs", "description": "long calculations: asked for, watched, cancelled and read"},
    {"name": "stream", "description": "the sequence over a websocket"},
    {"name": "description", "description": "this document"},
    {"name": "internal", "description": "for the load balancer; networks outside may not get there"},
]

HEADERS: Part = {
    "X-Request-ID": ("names the request in the log", {"type": "string"}),
    "ETag": ("strong: the same tag, the same bytes", {"type": "string"}),
    "Cache-Control": ("who may keep it, and for how long", {"type": "string"}),
    "Vary": ("the request's headers that the bytes depend on", {"type": "string"}),
    "Link": ("the links of the body, by relation (RFC 8288)", {"type": "string"}),
    "Location": ("the job that will have it", {"type": "string", "format": "uri-reference"}),
    "Retry-After": ("when to ask again, in seconds", {"type": "integer", "minimum": 0}),
    "Upgrade": ("what to upgrade to", {"const": "websocket"}),
    "Sec-WebSocket-Version": ("the version of the protocol", {"const": "13"}),
}

# Of what may be kept, and of what tells of this moment.
KEPT, FRESH = ("ETag", "Cache-Control", "Vary"), ("Cache-Control",)


def resource(contract: Contract) -> Blueprint:
    """Return the document and its page, both made here, once."""
    blueprint = Blueprint("openapi", __name__)
    description = document(contract)
    machines = File.of("openapi.json", (json.dumps(description, ensure_ascii=False) + "\n").encode())
    people = File.of("docs.html", docs.page(description, PATH).encode())

    @blueprint.get(PATH)
    def openapi() -> Response:
        query()
        return machines.answer(REVALIDATED)

    # A page for people, like the explorer: a query does no harm.
    @blueprint.get(DOCS)
    def documentation() -> Response:
        return people.answer(REVALIDATED)

    return blueprint


def document(contract: Contract) -> Part:
    """Return the OpenAPI document of a service with *contract*."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Fibonacci", "version": "1", "summary": "The Fibonacci sequence", "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "tags": TAGS,
        "paths": _terms(contract) | _jobs(contract) | _stream(contract) | _description() | _health(),
        "components": {
            "schemas": SCHEMAS,
            "headers": {
                name: {"description": meaning, "required": True, "schema": schema}
                for name, (meaning, schema) in HEADERS.items()
            },
            "responses": {"unchanged": _answer("The client has the current bytes already; no body.", None, *KEPT)},
            "links": {
                "job": _link("getJob", "how far the job is"),
                "end": _link("endJob", "to cancel or remove the job"),
                "result": _link("getResult", "the terms, once the job is done"),
            },
        },
    }


def _terms(contract: Contract) -> Part:
    limits = contract.limits
    promised: Part = {}
    if contract.has_jobs:
        above = f"Above index {contract.settings.inline_limit} it takes a job: ask again, or watch that job."
        promised = {"202": _promise(above), "503": _come_again("No job can be had, or this one has failed.")}
    pages = _operation(
        "getPage",
        "terms",
        "A page of terms",
        f"The terms in order, per_page of them on each page. A body has at most {limits.page_bytes} bytes: far out in "
        "the sequence pages have to be smaller, and the refusal says how small.",
        {
            "200": _answer("The page.", "page", *KEPT, "Link"),
            "304": _unchanged(),
            "400": _problem("A parameter is out of its bounds, which the answer has."),
        }
        | promised,
        [_query(limits.number_parameter, 3), _query(limits.size_parameter, 10)],
    )
    term = _operation(
        "getTerm",
        "terms",
        "One term",
        "F(n), and how many digits it has.",
        {
            "200": _answer("The term.", "term", *KEPT),
            "304": _unchanged(),
            "400": _problem("n is no number, or out of its bounds."),
        }
        | promised,
        [_path(contract.n.name, contract.n.schema, contract.n.meaning, 100)],
    )
    return {PAGES: {"get": pages}, PAGES + "/{n}": {"get": term}}


def _jobs(contract: Contract) -> Part:
    unavailable = {"503": _come_again("Redis does not answer, or the service runs without it.")}
    name = _path("id", SCHEMAS["job"]["properties"]["id"], "the job's id", f"{_example(contract)}-1")
    none = {"400": _problem("There is no such parameter."), "404": _problem("There is no such job, or no longer.")}
    submit = _operation(
        "submitJob",
        "jobs",
        "Ask for a calculation",
        "The same calculation is the same job, whoever asks for it; one that has failed or was cancelled begins anew. "
        f"A result has at most {contract.settings.job_max_bytes} bytes: the further out a range, the fewer its terms.",
        {
            "202": _promise("The job, queued or as far as it is."),
            "400": _problem("The body is no such object, or a member is out of its bounds."),
            "411": _problem("The body comes without its length."),
            "413": _problem(f"The body has more than {MAX_BODY_BYTES} bytes."),
            "415": _problem("The body is not application/json."),
            "503": _come_again("As many jobs wait as may wait, or there is no Redis to keep them."),
        },
    ) | {"requestBody": _range(contract)}
    index = _operation(
        "listJobs",
        "jobs",
        "The jobs",
        "The newest first; those that wait in the order of their queue, with state=queued.",
        {
            "200": _answer("A page of jobs.", "jobs", *FRESH),
            "400": _problem("A parameter is out of its bounds."),
        }
        | unavailable,
        [_query(JOBS_PAGE, 1), _query(JOBS_PER_PAGE, 20), _query(SOME_STATE, "done")],
    )
    remove = _operation(
        "removeJobs",
        "jobs",
        "Remove jobs that have ended",
        "All that are in one state, with their results.",
        {
            "200": _answer("How many there were.", "removed", *FRESH),
            "400": _problem("The state is missing, or none that a job ends in."),
        }
        | unavailable,
        [_query(ENDED_STATE, "cancelled") | {"required": True}],
    )
    job = _operation(
        "getJob",
        "jobs",
        "A job",
        "How far it is, and where its result will be.",
        {"200": _answer("The job.", "job", *FRESH, links=("end", "result"))} | none | unavailable,
        [name],
    )
    end = _operation(
        "endJob",
        "jobs",
        "Cancel or remove a job",
        "One that waits or runs is cancelled, and stays in the list as such; one that has ended is removed.",
        {
            "200": _answer("The job, cancelled.", "job", *FRESH),
            "204": _answer("The job had ended; it is removed, with its result.", None, *FRESH),
        }
        | none
        | unavailable,
        [name],
    )
    most = contract.job_count().maximum
    result = _operation(
        "getResult",
        "jobs",
        "The result of a job",
        "Its terms in pages, counted from the first term of the job.",
        {
            "200": _answer("The page.", "page", *KEPT, "Link"),
            "202": _promise("The result has expired just now, and is calculated again."),
            "304": _unchanged(),
            "400": _problem("A parameter is out of its bounds."),
            "404": _problem("There is no such job, or it is not done."),
        }
        | unavailable,
        [name, _query(contract.result_page(most, 1), 1), _query(contract.result_per_page, 10)],
    )
    return {
        JOBS: {"get": index, "post": submit, "delete": remove},
        JOBS + "/{id}": {"get": job, "delete": end},
        JOBS + "/{id}/result": {"get": result},
    }


def _stream(contract: Contract) -> Part:
    count = _query(contract.stream_count(), 1_000)
    del count["schema"]["default"]  # it depends on start
    stream = _operation(
        "openStream",
        "stream",
        "Terms over a websocket",
        'Each message is JSON in a text frame, {"start":S,"terms":["…",…]}; the last is {"done":true,"next":N}, and '
        "close code 1000. Whatever ends it before, ask again from the first term that is missing; 1012 says that the "
        "server restarts. Clients have nothing to send. What is wrong with the question is said before the upgrade.",
        {
            "101": {"description": "The websocket is open.", "headers": _headers("Upgrade")},
            "400": _problem("A parameter is out of its bounds."),
            "426": _problem("The request asks for no websocket (RFC 6455).", "Upgrade", "Sec-WebSocket-Version"),
            "503": _come_again("As many streams are open as may be, or the server stops."),
        },
        [_query(contract.stream_start, 0), count],
    )
    return {STREAM: {"get": stream}}


def _description() -> Part:
    wrong = {"304": _unchanged(), "400": _problem("There is no such parameter.")}
    openapi = _answer("OpenAPI 3.1.", None, *KEPT) | {"content": {"application/json": {"schema": {"type": "object"}}}}
    page = _answer("HTML.", None, *KEPT) | {"content": {"text/html": {"schema": {"type": "string"}}}}
    return {
        PATH: {"get": _operation("getDescription", "description", "This document", "", {"200": openapi} | wrong)},
        DOCS: {
            "get": _operation(
                "getDocumentation",
                "description",
                "This document for people",
                "",
                {"200": page, "304": _unchanged()},
            )
        },
    }


def _health() -> Part:
    live = {"200": _answer("It lives.", "live", *FRESH)}
    ready = {"200": _answer("It takes requests; what does not work is named.", "ready", *FRESH)}
    return {
        LIVENESS: {"get": _operation("getLiveness", "internal", "Whether the process lives", "", live)},
        READINESS: {"get": _operation("getReadiness", "internal", "Whether it takes requests", "", ready)},
    }


def _operation(
    id: str, tag: str, summary: str, description: str, responses: Part, parameters: list[Part] | None = None
) -> Part:
    operation: Part = {"operationId": id, "tags": [tag], "summary": summary}
    if description:
        operation["description"] = description
    if parameters:
        operation["parameters"] = parameters
    return operation | {"responses": dict(sorted(responses.items()))}


def _query(parameter: Natural | Choice, example: int | str) -> Part:
    return {
        "name": parameter.name,
        "in": "query",
        "description": parameter.meaning,
        "schema": dict(parameter.schema),
        "example": example,
    }


def _path(name: str, schema: Part, meaning: str, example: int | str) -> Part:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": meaning,
        "schema": schema,
        "example": example,
    }


def _range(contract: Contract) -> Part:
    def members(*parameters: Natural) -> Part:
        return {
            "type": "object",
            "required": [each.name for each in parameters],
            "properties": {each.name: each.schema | {"description": each.meaning} for each in parameters},
            "additionalProperties": False,
        }

    schema = {"oneOf": [members(contract.job_n), members(contract.job_start, contract.job_count())]}
    examples = {
        "term": {"summary": "one term", "value": {"n": _example(contract)}},
        "range": {"summary": "a range", "value": {"start": 100, "count": 50}},
    }
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}}


def _example(contract: Contract) -> int:
    """Return an index that takes a job for some seconds, where the bounds allow it: who copies it shall see one run."""
    return min(20_000_000, contract.job_n.maximum)


def _answer(meaning: str, schema: str | None, *headers: str, links: tuple[str, ...] = ()) -> Part:
    answer: Part = {"description": meaning, "headers": _headers("X-Request-ID", *headers)}
    if schema:
        answer["content"] = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    if links:
        answer["links"] = {link: {"$ref": f"#/components/links/{link}"} for link in links}
    return answer


def _promise(meaning: str) -> Part:
    return _answer(meaning, "job", *FRESH, "Location", "Retry-After", links=("job", "end", "result"))


def _unchanged() -> Part:
    return {"$ref": "#/components/responses/unchanged"}


def _problem(meaning: str, *headers: str) -> Part:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/problem"}}}
    return _answer(meaning, None, *FRESH, *headers) | {"content": content}


def _come_again(meaning: str) -> Part:
    # Not where coming again does not help, without Redis or after a failure.
    problem = _problem(meaning)
    problem["headers"]["Retry-After"] = {
        "description": "when to ask again, in seconds, where that may help",
        "schema": HEADERS["Retry-After"][1],
    }
    return problem


def _headers(*names: str) -> Part:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _link(operation: str, meaning: str) -> Part:
    return {"operationId": operation, "parameters": {"id": "$response.body#/id"}, "description": meaning}
