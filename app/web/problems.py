"""Errors as RFC 9457 problem details, whatever raised them."""

import json
from typing import Any

from flask import Flask, request
from werkzeug.exceptions import BadRequest, HTTPException
from werkzeug.wrappers import Response as BaseResponse

INVALID_PARAMETER = "/problems/invalid-parameter"

# A parameter's name comes from the client when it is an unknown one: no need to send back all of it.
LONGEST_NAME = 64


class InvalidParameter(BadRequest):
    """A 400 that names the parameter and, where there are any, its bounds."""

    def __init__(self, name: str, detail: str, minimum: int | None = None, maximum: int | None = None) -> None:
        super().__init__(detail)
        members = {"parameter": name[:LONGEST_NAME], "minimum": minimum, "maximum": maximum}
        self.members = {key: value for key, value in members.items() if value is not None}


def register(app: Flask) -> None:
    """Make every error of *app* a problem, and refuse what no resource has a use for."""
    app.before_request(_refuse_malformed_path)
    app.before_request(_refuse_body)
    app.register_error_handler(HTTPException, problem)  # unexpected exceptions come here too, as a 500


def problem(error: HTTPException) -> BaseResponse:
    """Return *error* as a problem."""
    response = error.get_response()  # keeps what belongs to the status, such as Allow
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": error.name,
        "status": response.status_code,
        "detail": error.description,
    }
    if isinstance(error, InvalidParameter):
        document |= {"type": INVALID_PARAMETER, "title": "Invalid parameter"} | error.members
    response.set_data(json.dumps(document) + "\n")
    response.content_type = "application/problem+json"
    response.headers["Cache-Control"] = "no-store"
    return response


def _refuse_malformed_path() -> None:
    """Tell a path that cannot be text from one that is merely unknown.

    Where a resource takes the path's last segment as a parameter it names that one itself.
    """
    raw = request.environ.get("PATH_INFO", "").encode("latin-1")  # what WSGI calls a string is bytes in disguise
    if not request.view_args and not _is_text(raw):
        raise BadRequest("The path is not UTF-8 text.")


def _is_text(raw: bytes) -> bool:
    try:
        return "\0" not in raw.decode("utf-8")
    except UnicodeDecodeError:
        return False


def _refuse_body() -> None:
    has_body = request.environ.get("CONTENT_LENGTH") not in (None, "", "0") or "Transfer-Encoding" in request.headers
    if has_body and request.method in ("GET", "HEAD"):
        raise BadRequest("A GET or HEAD request must not have a body.")
