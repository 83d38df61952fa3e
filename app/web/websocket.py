"""A websocket written to by one thread, at the pace of its reader and not below a least one.

The handshake is simple_websocket's and the reading of frames is wsproto's. The rest is done here, because
simple_websocket writes with ``socket.send``, which may send half a frame without a word, from two threads at once, and
one of them closes the socket under the other; it also collects what the client sends without bound. Here the thread
that writes also reads, while it waits, so that there is no second thread and nothing to lock.
"""

import math
import select
import socket
import struct
import time
from contextlib import suppress
from typing import Any

from simple_websocket import Server
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from web.stopping import ServerStop

# Close codes (RFC 6455, section 7.4, and its registry).
DONE, UNSUPPORTED_DATA, POLICY_VIOLATION, INTERNAL_ERROR, SERVICE_RESTART = 1000, 1003, 1008, 1011, 1012

# So much must leave within each send deadline. By "any byte" a client could hold its place for ever with one a minute.
SLICE_BYTES = 64 * 2**10

RECEIVE_BYTES = 4_096

# How many pings a client may leave unanswered. Not one: a slow reader finds the ping behind megabytes that wait in the
# buffers of every proxy on the way.
UNANSWERED_PINGS = 5

# How long the client's side of the closing handshake is waited for, and how long all that is left may take once the
# server stops, in seconds. The latter is less than gunicorn's graceful_timeout, and longer: the goodbye comes behind
# what lies in the proxies' buffers, and who has not taken it by then loses that too.
CLOSING_SECONDS = 5.0
STOPPING_SECONDS = 15.0

FIN_TEXT = 0x81

# Why the server may have let go of a reader that it would have served on.
TOO_SLOW, NO_ANSWER = "too slow", "no answer to pings"


class Ended(Exception):  # noqa: N818 - an end need not be an error
    """The end of a websocket: why, in words for the log, and its close code (None: nothing more can be sent)."""

    def __init__(self, why: str, code: int | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.code = code

    @property
    def is_drop(self) -> bool:
        """Whether the server let go of a reader that did not keep up."""
        return self.why in (TOO_SLOW, NO_ANSWER)


class NoThread:
    """In place of the receiving thread that simple_websocket would start (its ``thread_class``)."""

    name = ""

    def __init__(self, target: Any) -> None:
        pass

    def start(self) -> None:
        pass


class Websocket:
    """The client's end of *server*, a websocket that has just been accepted.

    Each 64 KiB must be taken within *deadline* seconds, and a ping goes out every *ping* seconds. All methods raise
    Ended at the end, at a frame's boundary where possible; then call ``finish``.
    """

    def __init__(self, server: Server, deadline: float, ping: float, stop: ServerStop) -> None:
        self.sent_bytes = 0
        self._server = server
        self._socket: socket.socket = server.sock
        self._protocol = server.ws
        self._deadline = deadline
        self._ping_interval = ping
        self._stop = stop
        self._latest = math.inf  # when it must be over, once the server stops
        self._end: Ended | None = None  # heard within a frame: waits for the boundary
        self._broken = False  # what comes in is no websocket's any more: no answer to our close can be told from it
        self._pong: bytes | None = None  # owed; only the last one, as RFC 6455, section 5.5.3, allows
        self._pinged = time.monotonic()
        self._unanswered = 0
        self._socket.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._socket, 0)
        self._poll.register(stop.fileno(), select.POLLIN)

    def send(self, text: bytes) -> None:
        """Send *text*, UTF-8, as one message in one frame."""
        self._receive()
        self._attend()
        self._write(_header(len(text)) + text)

    def finish(self, code: int | None, reason: str = "") -> None:
        """Close with *code* (None: hang up) and wait a little for the client's answer. Raises nothing."""
        # It has ended, and why is known: a client that does not wait for the goodbye is no news.
        with suppress(Ended, OSError):
            if code is None:
                # Nobody reads what is still in the kernel's buffer: it shall not be kept for minutes.
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                self._close(code, reason)
        self._server.connected = False  # nothing left for flask-sock to close
        with suppress(OSError):  # the client may have been faster
            # Both ways: gunicorn, which closes the socket, would wait for the client in its main loop otherwise.
            self._socket.shutdown(socket.SHUT_RDWR)

    def _close(self, code: int, reason: str) -> None:
        self._end_within(STOPPING_SECONDS if self._stop.is_set() else CLOSING_SECONDS)
        self._write(self._protocol.send(CloseConnection(code, reason)))
        while self._protocol.state is not ConnectionState.CLOSED:
            self._wait(select.POLLIN, math.inf)
            self._receive()
            if self._broken:
                return

    def _attend(self) -> None:
        """Do what is due between two frames."""
        if self._end:
            raise self._end
        if self._pong is not None:
            payload, self._pong = self._pong, None
            self._write(self._protocol.send(Pong(payload)))
        now = time.monotonic()
        if now - self._pinged >= self._ping_interval:
            if self._unanswered == UNANSWERED_PINGS:
                raise Ended(NO_ANSWER, POLICY_VIOLATION)
            self._pinged = now
            self._unanswered += 1
            self._write(self._protocol.send(Ping()))

    def _write(self, frame: bytes) -> None:
        view = memoryview(frame)
        for offset in range(0, len(view), SLICE_BYTES):
            self._write_slice(view[offset : offset + SLICE_BYTES])

    def _write_slice(self, piece: memoryview) -> None:
        expires = time.monotonic() + self._deadline
        while piece:
            try:
                sent = self._socket.send(piece)
            except BlockingIOError:
                # Once it is clear how this ends nothing more is read: the client may flood its own end of the line.
                if self._wait(select.POLLOUT if self._end else select.POLLOUT | select.POLLIN, expires):
                    self._receive()
            except OSError:
                raise Ended("client left") from None
            else:
                self.sent_bytes += sent
                piece = piece[sent:]

    def _wait(self, events: int, expires: float) -> bool:
        """Wait for any of *events*; return whether there is something to read, if that was asked for."""
        expires = min(expires, self._latest)
        left = expires - time.monotonic()
        if left <= 0:
            raise Ended("server stops" if self._stop.is_set() else TOO_SLOW)
        self._poll.modify(self._socket, events)
        ready = dict(self._poll.poll(None if left == math.inf else math.ceil(left * 1_000)))
        if ready.get(self._stop.fileno()):
            self._poll.unregister(self._stop.fileno())
            self._end_within(STOPPING_SECONDS)
        # An error or a hang-up is reported unasked: reading tells which, unless writing has to.
        return bool(ready.get(self._socket.fileno(), 0) & events & select.POLLIN)

    def _end_within(self, seconds: float) -> None:
        self._latest = min(self._latest, time.monotonic() + seconds)

    def _receive(self) -> None:
        """Take in what the client has sent, if anything."""
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            raise Ended("client left") from None
        if not data:
            raise Ended("client left")
        self._protocol.receive_data(data)
        for event in self._protocol.events():
            self._heed(event)

    def _heed(self, event: Event) -> None:
        if isinstance(event, Ping):
            self._pong = bytes(event.payload)
        elif isinstance(event, Pong):
            self._unanswered = 0
        elif self._end:
            pass  # the first reason to end is the one given
        elif isinstance(event, CloseConnection):
            self._broken = self._protocol.state is ConnectionState.OPEN
            self._end = Ended("protocol error" if self._broken else "client left", event.code)
        elif isinstance(event, (TextMessage, BytesMessage)):
            self._end = Ended("unexpected message", UNSUPPORTED_DATA)


def _header(length: int) -> bytes:
    """Return the header of an unmasked text frame that is a whole message (RFC 6455, section 5.2)."""
    if length < 126:
        return struct.pack("!BB", FIN_TEXT, length)
    if length < 2**16:
        return struct.pack("!BBH", FIN_TEXT, 126, length)
    return struct.pack("!BBQ", FIN_TEXT, 127, length)
