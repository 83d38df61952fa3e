"""``/``: the explorer, a page for people. It is files, no more: all that it shows it asks the API for."""

import hashlib
from pathlib import Path

from flask import Blueprint, Response, abort

from web import caching
from web.files import REVALIDATED, File

FOLDER = Path(__file__).parent / "explorer"

HOME = "index.html"

# Where the page says PREFIX, the path of the other files goes.
PREFIX = "PREFIX"

KINDS = {".css", ".html", ".js", ".svg"}


def resource() -> Blueprint:
    """Return the page and its files, read here: what changes on the disk later belongs to another release."""
    blueprint = Blueprint("explorer", __name__)
    contents = read()
    prefix = path_of(contents)
    home = File.of(HOME, contents.pop(HOME).replace(PREFIX.encode(), prefix.encode()))
    files = {name: File.of(name, content) for name, content in contents.items()}

    # Unlike in the API a query is no error here: links that people share get one from others, and it changes nothing.
    @blueprint.get("/")
    def page() -> Response:
        return home.answer(REVALIDATED)

    # The path changes with the contents, of all files together: one release's page never gets another's script.
    @blueprint.get(f"{prefix}/<string:name>")
    def file(name: str) -> Response:
        if name not in files:
            abort(404)
        return files[name].answer(caching.CACHE_CONTROL)

    return blueprint


def read() -> dict[str, bytes]:
    """Return the contents of all files by name."""
    return {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.suffix in KINDS}


def path_of(contents: dict[str, bytes]) -> str:
    """Return the path that the files are served below, with a digest of all of them in it, by name and content."""
    digest = hashlib.sha256()
    for name, content in sorted(contents.items()):
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return f"/explorer/{digest.hexdigest()[:16]}"
