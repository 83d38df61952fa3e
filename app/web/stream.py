"""``GET /api/v1/stream``: terms over a websocket, in batches, at the reader's pace."""

import base64
import binascii
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from flask import Blueprint, Response, g, request
from flask_sock import Sock
from simple_websocket import Server
from werkzeug.exceptions import BadRequest, HTTPException, ServiceUnavailable
from werkzeug.wrappers import Response as BaseResponse

from fibonacci import terms_text
from web import problems
from web.chunks import SEPARATOR
from web.contract import Contract
from web.health import LIVENESS, READINESS, fresh
from web.parameters import query
from web.settings import Settings
from web.stopping import ServerStop
from web.websocket import DONE, INTERNAL_ERROR, SERVICE_RESTART, Ended, NoThread, Websocket

logger = logging.getLogger(__name__)

PATH = "/api/v1/stream"

# What simple_websocket is made with, by way of flask-sock: no thread of its own (see web.websocket).
SERVER_OPTIONS = {"thread_class": NoThread}

# Said of a request in its WSGI environment, for whoever counts them where this runs (formula gunicorn does).
DROPPED = "gunicorn_scoreboard.dropped"

# When to come again: to a full server (streams end at any time), and to one that stops (another takes over at once).
RETRY_FULL, RETRY_STOPPING = 5, 1


class UpgradeRequired(HTTPException):
    """A 426 (RFC 9110, section 15.5.22), which werkzeug lacks."""

    code = 426
    description = "This resource is a websocket (RFC 6455, version 13), asked for by GET in HTTP/1.1."

    def get_headers(self, *arguments: Any) -> list[tuple[str, str]]:
        upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
        return [*super().get_headers(*arguments), *upgrade]


class Streams:
    """The streams that this process has open, no more than *limit*."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.open = 0
        self._lock = threading.Lock()

    def enter(self) -> bool:
        """Take a place for one stream; return whether there was one."""
        with self._lock:
            free = self.open < self.limit
            self.open += free
            return free

    def is_free(self) -> bool:
        """Tell whether there is a place, without taking it."""
        return self.open < self.limit

    def leave(self) -> None:
        """Give the place back."""
        with self._lock:
            self.open -= 1


def resource(settings: Settings) -> Blueprint:
    """Return the resource, with the limits of *settings*, and the health of the process that serves it.

    Any page of the web may open it (``Origin`` is not looked at): it answers everybody with the same public numbers,
    knows no user, and reads nothing of what it is sent.
    """
    blueprint = Blueprint("stream", __name__)
    contract = Contract(settings)
    sock = Sock()
    streams = Streams(settings.stream_connections)
    stop = ServerStop()
    turn = threading.Lock()

    def require(place: Callable[[], bool]) -> None:
        """Raise a 503 unless the server goes on and *place* tells that there is one."""
        stop.watch()
        if stop.is_set():
            raise ServiceUnavailable("This server stops; another takes over.", retry_after=RETRY_STOPPING)
        if not place():
            raise ServiceUnavailable("As many streams are open as may be open.", retry_after=RETRY_FULL)

    @sock.route(PATH, bp=blueprint)  # type: ignore[untyped-decorator]  # flask-sock has no type hints
    def stream(server: Server) -> None:
        websocket = Websocket(server, settings.stream_deadline, settings.stream_ping, stop)
        messages = batches(g.start, terms_text(g.start, g.count), settings.stream_batch_bytes)
        end = serve(websocket, g.start, g.count, in_turn(messages, turn, stop))
        request.environ[DROPPED] = end.is_drop

    @blueprint.get(PATH)
    def no_websocket() -> Response:
        # Why there would be no websocket is said first. A page in a browser asks here for what its handshake was
        # refused for: the browser does not tell it.
        _parameters(contract)
        require(streams.is_free)
        raise UpgradeRequired

    @blueprint.before_request
    def admit() -> None:
        """Refuse while there is still HTTP to do it in: flask-sock upgrades before it calls the view."""
        if not (request.url_rule and request.url_rule.websocket):
            return
        g.start, g.count = _parameters(contract)
        _require_handshake()
        require(streams.enter)
        g.streams = streams

    @blueprint.errorhandler(OSError)
    def left_early(_: OSError) -> BaseResponse:
        # From flask-sock's answer to the handshake, the only thing here that touches the network outside of ``serve``.
        return problems.problem(BadRequest("The client left before the upgrade."))

    @blueprint.teardown_request
    def leave(_: BaseException | None) -> None:
        if "streams" in g:
            g.streams.leave()

    @blueprint.get(LIVENESS)
    def liveness() -> Response:
        return fresh({"status": "ok"})

    @blueprint.get(READINESS)
    def readiness() -> Response:
        # A full server is ready too: what it has open goes on, and it says itself when to come again.
        return fresh({"status": "ready", "streams": {"open": streams.open, "limit": streams.limit}})

    return blueprint


def serve(websocket: Websocket, start: int, count: int, messages: Iterator[tuple[int, bytes]]) -> Ended:
    """Send *messages*, which are F(start) … F(start + count - 1), and close; write down how it went, and return it."""
    began = time.perf_counter()
    following = start
    end = Ended("done", DONE)
    try:
        # Not until there are no more: at a stop, who has all is told so, and need not come back for nothing.
        while following < start + count:
            after, text = next(messages)
            websocket.send(text)
            following = after
        websocket.send(b'{"done":true,"next":%d}' % following)
    except Ended as reason:
        end = reason
    except Exception:
        # Not for Flask, which would answer in HTTP in the middle of the websocket.
        logger.exception("stream failed", extra={"start": start, "count": count, "next": following})
        end = Ended("failed", INTERNAL_ERROR)
    websocket.finish(end.code, f"resume with start={following}" if end.code == SERVICE_RESTART else "")
    logger.info(
        "stream finished",
        extra={
            "start": start,
            "count": count,
            "terms": following - start,
            "bytes": websocket.sent_bytes,
            "duration_ms": round((time.perf_counter() - began) * 1000, 3),
            "end": end.why,
        },
    )
    return end


def in_turn(
    messages: Iterator[tuple[int, bytes]], turn: threading.Lock, stop: ServerStop
) -> Iterator[tuple[int, bytes]]:
    """Make each of *messages* while no other thread makes one.

    No two could calculate at the same time anyway, under Python's lock. But hundreds that compete for that lock leave
    none of it to gunicorn's own threads: no new client was answered for as long as 200 read at full speed.
    """
    while True:
        with turn:
            if stop.is_set():  # many may have waited for their turn: none of them begins now
                raise Ended("server stops", SERVICE_RESTART)
            made = next(messages, None)
        if made is None:
            return
        yield made


def batches(start: int, terms: Iterator[bytes], batch_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield messages of at most *batch_bytes* of *terms*, which begin with F(start), or of a single larger term.

    Before each comes the index that follows it. A message is all that is kept while its reader takes it, besides the
    term that did not fit: there are hundreds of readers.
    """
    batch: list[bytes] = []
    size = 0
    for term in terms:
        if batch and size + len(term) > batch_bytes:
            following, text = start + len(batch), message(start, batch)
            batch, size = [], 0
            yield following, text
            start = following
        batch.append(term)
        size += len(term) + len(SEPARATOR)
    if batch:
        yield start + len(batch), message(start, batch)


def message(start: int, terms: list[bytes]) -> bytes:
    """Return the JSON of *terms*, which begin with F(start)."""
    return b'{"start":%d,"terms":["%b"]}' % (start, SEPARATOR.join(terms))


def _parameters(contract: Contract) -> tuple[int, int]:
    """Return the start and the count that the query asks for."""
    values = query("start", "count")
    start = contract.stream_start.of(values)
    return start, contract.stream_count(start).of(values)


def _require_handshake() -> None:
    """Check what simple_websocket would answer with a 500, and hand it nothing else.

    In particular no Sec-WebSocket-Extensions: it takes permessage-deflate from whoever offers it, at several times
    the cost of the digits themselves.
    """
    environ = request.environ
    if request.method != "GET" or environ["SERVER_PROTOCOL"] == "HTTP/1.0":
        raise UpgradeRequired
    if environ.get("HTTP_SEC_WEBSOCKET_VERSION") != "13":
        raise UpgradeRequired
    key = environ.get("HTTP_SEC_WEBSOCKET_KEY", "")
    if not _is_key(key):
        raise BadRequest("Sec-WebSocket-Key must be 16 bytes in base64.")
    for name in [name for name in environ if name.startswith("HTTP_")]:
        del environ[name]
    environ |= {
        "HTTP_HOST": "stream",
        "HTTP_CONNECTION": "Upgrade",
        "HTTP_UPGRADE": "websocket",
        "HTTP_SEC_WEBSOCKET_VERSION": "13",
        "HTTP_SEC_WEBSOCKET_KEY": key,
    }


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
