"""``/``: the explorer, a page for people. It is files, no more: all that it shows it asks the API for."""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from flask import Blueprint, Response, abort, request

from web import caching
from web.compression import content_coding

FOLDER = Path(__file__).parent / "explorer"

HOME = "index.html"

# Where the page says PREFIX, the path of the other files goes.
PREFIX = "PREFIX"

CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

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


def resource() -> Blueprint:
    """Return the page and its files, read here: what changes on the disk later belongs to another release."""
    blueprint = Blueprint("explorer", __name__)
    contents = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.suffix in CONTENT_TYPES}
    prefix = f"/explorer/{version(contents)}"
    home = File.of(HOME, contents.pop(HOME).replace(PREFIX.encode(), prefix.encode()))
    files = {name: File.of(name, content) for name, content in contents.items()}

    # Unlike in the API a query is no error here: links that people share get one from others, and it changes nothing.
    @blueprint.get("/")
    def page() -> Response:
        return home.answer("no-cache")

    # The path changes with the contents, of all files together: one release's page never gets another's script.
    @blueprint.get(f"{prefix}/<string:name>")
    def file(name: str) -> Response:
        if name not in files:
            abort(404)
        return files[name].answer(caching.CACHE_CONTROL)

    return blueprint


def version(contents: dict[str, bytes]) -> str:
    """Return a digest of all files, by name and content."""
    digest = hashlib.sha256()
    for name, content in sorted(contents.items()):
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]
