"""``GET /api/v1/fibonacci/<n>``: one term."""

from flask import Blueprint, Response

from fibonacci import digits
from web.answers import answer
from web.documents import Document
from web.jobs import largest_index
from web.jobstore import Jobs
from web.later import Results
from web.pages import PATH
from web.parameters import natural, query
from web.settings import Settings
from web.store import Store


def resource(settings: Settings, store: Store, jobs: Jobs | None) -> Blueprint:
    """Return the resource, within the limits of *settings*; *store* is its cache, *jobs* calculate what takes long."""
    blueprint = Blueprint("terms", __name__)
    last = max(settings.inline_limit, largest_index(settings)) if jobs else settings.inline_limit

    # Any text, not Flask's int: what is no number deserves an answer that says so, not a 404.
    @blueprint.get(f"{PATH}/<string:n>")
    def term(n: str) -> Response:
        query()
        index = natural("n", [n], 0, last)
        return answer(document(index), Results(jobs) if jobs and index > settings.inline_limit else store)

    return blueprint


def document(n: int) -> Document:
    """Return the JSON of F(n)."""
    return Document(b'{"n":%d,"digits":%d,"value":"' % (n, digits(n)), n, 1, b'"}\n')
