"""``GET /api/v1/fibonacci/<n>``: one term."""

from flask import Blueprint, Response

from fibonacci import digits
from web.answers import answer
from web.documents import Document
from web.pages import PATH
from web.parameters import natural, query
from web.settings import Settings
from web.store import Store


def resource(settings: Settings, store: Store) -> Blueprint:
    """Return the resource, up to the inline limit of *settings*, with *store* as its cache."""
    blueprint = Blueprint("terms", __name__)

    # Any text, not Flask's int: what is no number deserves an answer that says so, not a 404.
    @blueprint.get(f"{PATH}/<string:n>")
    def term(n: str) -> Response:
        query()
        return answer(document(natural("n", [n], 0, settings.inline_limit)), store)

    return blueprint


def document(n: int) -> Document:
    """Return the JSON of F(n)."""
    return Document(b'{"n":%d,"digits":%d,"value":"' % (n, digits(n)), n, 1, b'"}\n')
