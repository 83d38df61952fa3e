"""From a document to a response: revalidated, read from the cache, compressed or streamed."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from flask import Response, request

from web import caching
from web.compression import content_coding
from web.documents import Document


class Source(Protocol):
    """Where bodies come from."""

    def compressed(self, document: Document, tag: str) -> bytes:
        """Return the body of *document*, whose entity tag is *tag*, as a gzip member."""

    def plain(self, document: Document) -> Iterator[bytes]:
        """Return the body of *document* piece by piece."""


def answer(document: Document, source: Source, links: Mapping[str, str] | None = None) -> Response:
    """Return the response to the current request that *document* is, with *links* as its Link header (RFC 8288)."""
    coding = content_coding(request)
    tag = caching.entity_tag(document, coding)
    if caching.is_current(request, tag):
        response = Response(status=304)
    elif coding == "gzip":
        response = Response(source.compressed(document, tag), content_type="application/json")
        response.content_encoding = "gzip"
    else:
        # Streamed, and only if the server asks for it: a HEAD request costs no calculation.
        response = Response(source.plain(document), content_type="application/json")
        response.content_length = document.length
    caching.mark(response, tag)
    if links:
        response.headers["Link"] = ", ".join(f'<{target}>; rel="{relation}"' for relation, target in links.items())
    return response
