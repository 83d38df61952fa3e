"""From a document to a response: revalidated, read from the cache, compressed or streamed."""

from collections.abc import Mapping

from flask import Response, request

from web import caching
from web.compression import content_coding
from web.documents import Document
from web.store import Store


def answer(document: Document, store: Store, links: Mapping[str, str] | None = None) -> Response:
    """Return the response to the current request that *document* is, with *links* as its Link header (RFC 8288)."""
    coding = content_coding(request)
    tag = caching.entity_tag(document, coding)
    if caching.is_current(request, tag):
        response = Response(status=304)
    elif coding == "gzip":
        response = Response(store.compressed(document, tag), content_type="application/json")
        response.content_encoding = "gzip"
    else:
        # Streamed, and only if the server asks for it: a HEAD request costs no calculation.
        response = Response(document.chunks(), content_type="application/json")
        response.content_length = document.length
    caching.mark(response, tag)
    if links:
        response.headers["Link"] = ", ".join(f'<{target}>; rel="{relation}"' for relation, target in links.items())
    return response
