"""HTTP caching (RFC 9111) of what never changes, and conditional requests (RFC 9110, section 13)."""

import hashlib

from flask import Request, Response

from web.documents import Document
from web.version import CODE_VERSION

# A year is what caches take for ever; a term never changes.
CACHE_CONTROL = "public, max-age=31536000, immutable"


def entity_tag(document: Document, coding: str) -> str:
    """Return the opaque tag of *document* in content coding *coding*, without calculating any term.

    It is a strong one: the same code makes the same bytes of the same meaning.
    """
    return hashlib.sha256(f"{CODE_VERSION} {coding}\n".encode() + document.meaning).hexdigest()[:32]


def is_current(request: Request, tag: str) -> bool:
    """Tell whether the client's If-None-Match names *tag*: weak comparison, lists and ``*`` alike."""
    return request.if_none_match.contains_weak(tag)


def mark(response: Response, tag: str) -> None:
    """Set the headers that a 200 and its 304 share."""
    response.set_etag(tag)
    response.headers["Cache-Control"] = CACHE_CONTROL
    response.headers["Vary"] = "Accept-Encoding"
