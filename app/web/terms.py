"""``GET /api/v1/fibonacci/<n>``: one term."""

from flask import Blueprint, Response

from fibonacci import digits
from web.answers import answer
from web.contract import Contract
from web.documents import Document
from web.jobstore import Jobs
from web.later import Results
from web.pages import PATH
from web.parameters import query
from web.store import Store


def resource(contract: Contract, store: Store, jobs: Jobs | None) -> Blueprint:
    """Return the resource; *store* is its cache, *jobs* calculate what takes long."""
    blueprint = Blueprint("terms", __name__)

    # Any text, not Flask's int: what is no number deserves an answer that says so, not a 404.
    @blueprint.get(f"{PATH}/<string:n>")
    def term(n: str) -> Response:
        query()
        index = contract.n.parsed([n])
        return answer(document(index), Results(jobs) if jobs and index > contract.settings.inline_limit else store)

    return blueprint


def document(n: int) -> Document:
    """Return the JSON of F(n)."""
    return Document(b'{"n":%d,"digits":%d,"value":"' % (n, digits(n)), n, 1, b'"}\n')
