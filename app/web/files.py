"""Files for browsers: compressed once, revalidated by their content, sent under a strict policy."""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from flask import Response, request

from web import caching
from web.compression import content_coding

CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}

# Of what is asked for again each time, and costs a 304.
REVALIDATED = "no-cache"

# Nothing but our own files and our own API: whatever text an answer may hold, none of it can become code.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

PROTECTION = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class File:
    """One file in both content codings, compressed once for the life of the process."""

    content_type: str
    plain: bytes
    gzip: bytes

    @classmethod
    def of(cls, name: str, content: bytes) -> "File":
        """Return the file called *name*, whose ending says its type."""
        return cls(CONTENT_TYPES[Path(name).suffix], content, gzip.compress(content, mtime=0))

    def answer(self, cache_control: str) -> Response:
        """Return the response to the current request."""
        coding = content_coding(request)
        body = self.gzip if coding == "gzip" else self.plain
        tag = hashlib.sha256(body).hexdigest()[:32]
        if caching.is_current(request, tag):
            response = Response(status=304)
        else:
            response = Response(body, content_type=self.content_type)
            if coding == "gzip":
                response.content_encoding = coding
        response.set_etag(tag)
        response.headers["Cache-Control"] = cache_control
        response.headers["Vary"] = "Accept-Encoding"
        response.headers.update(PROTECTION)
        return response
