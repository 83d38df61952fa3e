"""Logs for machines: one JSON object per line on standard output, each with the id of its request."""

import json
import logging
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flask import Flask
from werkzeug.wsgi import ClosingIterator

from web.health import LIVENESS, READINESS

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger("web.requests")

# What a proxy may hand over; anything else could forge or flood the log.
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

# What a query may be logged of: one with anything else could hold a secret, and is hidden whole.
HARMLESS_QUERY = re.compile(
    "(?:{0})=[A-Za-z0-9._-]{{0,64}}(?:&(?:{0})=[A-Za-z0-9._-]{{0,64}})*".format("page|per_page|start|count|state")
)

# Asked every few seconds by the load balancer: of interest only while debugging.
ROUTINE_PATHS = {LIVENESS, READINESS}

_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

_STANDARD_ATTRIBUTES = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One line of JSON per record: the fixed members first, then what the call gave as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": _request_id.get(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD_ATTRIBUTES}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class StandardOutput(logging.Handler):
    """Writes each record to what standard output is at that moment, whole lines at a time."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stdout.write(self.format(record) + "\n")
            sys.stdout.flush()
        except Exception:
            self.handleError(record)  # logging's own rule: say so on standard error, never fail the request


def configure(level: str) -> None:
    """Send the records of all loggers, from *level* on, to standard output; may be called again."""
    handler = StandardOutput()
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [other for other in root.handlers if not isinstance(other, StandardOutput)] + [handler]
    root.setLevel(level)


def register(app: Flask) -> None:
    """Give every request of *app* an id and a line in the log."""
    app.wsgi_app = RequestLog(app.wsgi_app)  # type: ignore[method-assign]  # as Flask's documentation has it


class RequestLog:
    """WSGI middleware: outermost, so that nothing is answered without an id and a line."""

    def __init__(self, application: "WSGIApplication") -> None:
        self._application = application

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        request = _Request(environ)
        _request_id.set(request.id)

        def start(
            status: str, headers: list[tuple[str, str]], exc_info: "OptExcInfo | None" = None, /
        ) -> Callable[[bytes], object]:
            request.status = int(status[:3])
            return start_response(status, [*headers, ("X-Request-ID", request.id)], exc_info)

        body = self._application(environ, start)
        close = getattr(body, "close", None)
        return ClosingIterator(request.counted(body), [*([close] if close else []), request.finish])


class _Request:
    """What the log says of one request."""

    def __init__(self, environ: "WSGIEnvironment") -> None:
        given = environ.get("HTTP_X_REQUEST_ID", "")
        self.id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        self.status = 0
        self._began = time.perf_counter()
        self._bytes = 0
        self._method = environ["REQUEST_METHOD"]
        self._path = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace")
        query = environ.get("QUERY_STRING", "")
        self._query = query if not query or HARMLESS_QUERY.fullmatch(query) else "(hidden)"

    def counted(self, body: Iterable[bytes]) -> Iterator[bytes]:
        try:
            for chunk in body:
                self._bytes += len(chunk)
                yield chunk
        except Exception:
            logger.exception("the body broke off")  # the status is sent already: all that is left is to hang up
            raise

    def finish(self) -> None:
        logger.log(
            logging.DEBUG if self._path in ROUTINE_PATHS else logging.INFO,
            "request finished",
            extra={
                "method": self._method,
                "path": self._path,
                "query": self._query,
                "status": self.status,
                "duration_ms": round((time.perf_counter() - self._began) * 1000, 3),
                "bytes": self._bytes,
            },
        )
        _request_id.set(None)
