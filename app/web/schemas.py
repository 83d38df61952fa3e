"""What answers look like: a JSON Schema (draft 2020-12, as OpenAPI 3.1 has it) for each kind, once.

They say what is there, and leave it open that more may come: a client that checks must not break over a new member.
"""

from typing import Any

from web.jobstore import STATES

Schema = dict[str, Any]


def _natural(meaning: str, minimum: int = 0) -> Schema:
    return {"type": "integer", "minimum": minimum, "description": meaning}


def _reference(meaning: str) -> Schema:
    return {"type": "string", "format": "uri-reference", "description": meaning}


def _time(meaning: str, *others: str) -> Schema:
    return {"type": ["string", *others], "format": "date-time", "description": meaning}


def _record(required: Schema, optional: Schema | None = None) -> Schema:
    return {"type": "object", "required": list(required), "properties": required | (optional or {})}


DIGITS: Schema = {
    "type": "string",
    "pattern": "^(0|[1-9][0-9]*)$",
    "description": "a term, in decimal digits: a string, as most readers of JSON would round a number",
}

PAGE_LINKS = _record(
    {"self": _reference("this page"), "first": _reference("the first page")},
    {"prev": _reference("the page before, if any"), "next": _reference("the page after, if any")},
)

PAGE = _record(
    {
        "page": _natural("number of the page", 1),
        "per_page": _natural("terms on a full page", 1),
        "start": _natural("index of the first term"),
        "count": _natural("number of terms", 1),
        "terms": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/digits"}},
        "links": {"$ref": "#/components/schemas/page-links"},
    }
)

TERM = _record(
    {
        "n": _natural("index of the term"),
        "digits": _natural("number of digits", 1),
        "value": {"$ref": "#/components/schemas/digits"},
    }
)

JOB = _record(
    {
        "id": {
            "type": "string",
            "pattern": "^(0|[1-9][0-9]*)-[1-9][0-9]*$",
            "description": "start and count: the same calculation is the same job",
        },
        "state": {"type": "string", "enum": list(STATES), "description": "what has become of it"},
        "start": _natural("index of the first term"),
        "count": _natural("number of terms", 1),
        "progress": {"type": "number", "minimum": 0, "maximum": 1, "description": "the part that is done"},
        "position": {
            "type": ["integer", "null"],
            "minimum": 1,
            "description": "place in the queue, 1 being the next; null unless queued",
        },
        "submitted": _time("when it was asked for"),
        "started": _time("when a worker took it", "null"),
        "finished": _time("when it ended", "null"),
        "error": {"type": ["string", "null"], "description": "why it failed"},
        "links": _record({"self": _reference("the job")}, {"result": _reference("its terms, once it is done")}),
    }
)

JOBS = _record(
    {
        "page": _natural("number of the page", 1),
        "per_page": _natural("jobs on a full page", 1),
        "total": _natural("number of jobs on all pages"),
        "jobs": {"type": "array", "items": {"$ref": "#/components/schemas/job"}},
        "links": {"$ref": "#/components/schemas/page-links"},
    }
)

REMOVED = _record({"removed": _natural("number of jobs that were removed")})

PROBLEM = _record(
    {
        "type": _reference("about:blank, or /problems/invalid-parameter where a parameter is at fault"),
        "title": {"type": "string", "description": "the kind of problem in words"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599, "description": "the status of the answer"},
        "detail": {"type": "string", "description": "what is wrong this time"},
    },
    {
        "parameter": {"type": "string", "description": "the parameter at fault"},
        "minimum": {"type": "integer", "description": "the least that it may be"},
        "maximum": {"type": "integer", "description": "the most that it may be, given the other parameters"},
    },
)

LIVE = _record({"status": {"const": "ok"}})

# Of the service, with what it leans on, or of the process of the websockets, with what it has open.
READY = _record(
    {"status": {"type": "string", "enum": ["ready", "degraded"]}},
    {
        "dependencies": _record(
            {
                "redis": _record(
                    {"status": {"type": "string", "enum": ["up", "read-only", "down", "off"]}},
                    {"latency_ms": {"type": "number", "minimum": 0}, "error": {"type": "string"}},
                )
            }
        ),
        "streams": _record({"open": _natural("websockets that are open"), "limit": _natural("how many may be", 1)}),
    },
)

SCHEMAS = {
    "digits": DIGITS,
    "page-links": PAGE_LINKS,
    "page": PAGE,
    "term": TERM,
    "job": JOB,
    "jobs": JOBS,
    "removed": REMOVED,
    "problem": PROBLEM,
    "live": LIVE,
    "ready": READY,
}
