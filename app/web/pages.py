"""``GET /api/v1/fibonacci``: the sequence in pages."""

import json

from flask import Blueprint, Response

from web.answers import answer
from web.documents import Document
from web.pagination import Limits, Page
from web.settings import Settings
from web.store import Store

PATH = "/api/v1/fibonacci"


def resource(settings: Settings, store: Store) -> Blueprint:
    """Return the resource, within the limits of *settings*, with *store* as its cache."""
    blueprint = Blueprint("pages", __name__)
    limits = Limits(settings.max_per_page, settings.inline_limit, settings.max_page_bytes)

    @blueprint.get(PATH)
    def pages() -> Response:
        page = limits.page_asked_for()
        links = limits.links(page, PATH)
        return answer(document(page, links), store, links)

    return blueprint


def document(page: Page, links: dict[str, str]) -> Document:
    """Return the JSON of *page*."""
    numbers = {"page": page.number, "per_page": page.per_page, "start": page.start, "count": page.per_page}
    head = json.dumps(numbers, separators=(",", ":")).removesuffix("}") + ',"terms":["'
    tail = '"],"links":' + json.dumps(links, separators=(",", ":")) + "}\n"
    return Document(head.encode(), page.start, page.per_page, tail.encode())
