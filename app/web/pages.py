"""``GET /api/v1/fibonacci``: the sequence in pages."""

import json

from flask import Blueprint, Response

from web.answers import answer
from web.contract import Contract
from web.documents import Document
from web.jobstore import Jobs
from web.later import Results
from web.pagination import Page
from web.store import Store

PATH = "/api/v1/fibonacci"


def resource(contract: Contract, store: Store, jobs: Jobs | None) -> Blueprint:
    """Return the resource; *store* is its cache, *jobs* calculate what takes long."""
    blueprint = Blueprint("pages", __name__)
    limits = contract.limits

    @blueprint.get(PATH)
    def pages() -> Response:
        page = limits.page_asked_for()
        links = limits.links(page, PATH)
        is_long = page.start + page.count - 1 > contract.settings.inline_limit
        return answer(document(page, links), Results(jobs) if jobs and is_long else store, links)

    return blueprint


def document(page: Page, links: dict[str, str]) -> Document:
    """Return the JSON of *page*."""
    numbers = {"page": page.number, "per_page": page.per_page, "start": page.start, "count": page.count}
    head = json.dumps(numbers, separators=(",", ":")).removesuffix("}") + ',"terms":["'
    tail = '"],"links":' + json.dumps(links, separators=(",", ":")) + "}\n"
    return Document(head.encode(), page.start, page.count, tail.encode())
