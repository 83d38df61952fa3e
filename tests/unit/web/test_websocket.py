"""A websocket whose reader stalls: what is late, what is whole, and what a stop does in the middle of a frame."""

import select
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection

from web import websocket
from web.stopping import ServerStop
from web.websocket import SLICE_BYTES, Ended, Websocket

LARGE = b"x" * (40 * SLICE_BYTES)  # more than a socket's buffers hold


class Stop(ServerStop):
    """A stop that a test decides on."""

    def __init__(self) -> None:
        super().__init__()
        self.watch()
        self._worker = SimpleNamespace(alive=True)

    def set(self) -> None:
        self._worker.alive = False
        self._wait()


class Clock:
    """Time that passes only when the server waits: *step* each time, after *meanwhile*."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: float, meanwhile: Callable[[], object]) -> None:
        self.now = 0.0
        self._poll = select.poll
        self.step, self.meanwhile = step, meanwhile
        monkeypatch.setattr(websocket, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(websocket.select, "poll", lambda: self)
        self._poller = self._poll()

    def __getattr__(self, name: str) -> Any:  # register, unregister, modify
        return getattr(self._poller, name)

    def poll(self, timeout: int) -> list[tuple[int, int]]:
        assert timeout > 0
        self.now += self.step
        self.meanwhile()
        return self._poller.poll(0)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give the server's end of a connection, with a small buffer, and the client's."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    with ours, theirs:
        yield ours, theirs


def accepted(ours: socket.socket, stop: Stop, deadline: float = 10.0, ping: float = 1_000.0) -> Websocket:
    protocol = WSConnection(ConnectionType.SERVER)
    protocol.receive_data(
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
    )
    assert list(protocol.events())
    protocol.send(AcceptConnection())
    return Websocket(SimpleNamespace(sock=ours, ws=protocol, connected=True), deadline, ping, stop)


def test_reader_may_take_its_time_for_a_long_frame(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket]
) -> None:
    received = bytearray()
    clock = Clock(monkeypatch, 4.0, lambda: received.extend(pair[1].recv(SLICE_BYTES)))
    accepted(pair[0], Stop()).send(LARGE)
    pair[0].close()
    received += b"".join(iter(lambda: pair[1].recv(SLICE_BYTES), b""))
    assert clock.now > 100  # ten deadlines, but none without its share
    assert received == b"\x81\x7f" + len(LARGE).to_bytes(8, "big") + LARGE


def test_reader_that_trickles_is_too_slow(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket]
) -> None:
    clock = Clock(monkeypatch, 4.0, lambda: pair[1].recv(1_024))
    server = accepted(pair[0], Stop())
    with pytest.raises(Ended) as end:
        server.send(LARGE)
    assert (end.value.why, end.value.code) == ("too slow", None)
    assert clock.now < 100


def test_frame_under_way_at_the_stop_becomes_whole(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket]
) -> None:
    stop = Stop()
    received = bytearray()

    def meanwhile() -> None:
        if not stop.is_set():
            stop.set()
        with suppress(BlockingIOError):  # there is nothing left to read at the goodbye
            received.extend(pair[1].recv(SLICE_BYTES))

    Clock(monkeypatch, 0.01, meanwhile)
    server = accepted(pair[0], stop)
    server.send(LARGE)
    pair[1].setblocking(False)
    server.finish(1_012)
    pair[0].close()
    pair[1].setblocking(True)
    received += b"".join(iter(lambda: pair[1].recv(SLICE_BYTES), b""))
    assert received == b"\x81\x7f" + len(LARGE).to_bytes(8, "big") + LARGE + b"\x88\x02\x03\xf4"


def test_stop_does_not_wait_long_for_a_reader_that_has_stopped(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket]
) -> None:
    stop = Stop()
    clock = Clock(monkeypatch, 1.0, stop.set)
    server = accepted(pair[0], stop, deadline=3_600.0)
    with pytest.raises(Ended) as end:
        server.send(LARGE)
    assert (end.value.why, end.value.code) == ("server stops", None)
    assert clock.now <= 16  # gunicorn would kill the worker after 20
    server.finish(None)
    assert pair[0].fileno() >= 0  # gunicorn closes it: a number must not be another's while a thread still has it


def test_reader_that_stalls_is_not_taken_for_one_that_answers_no_ping(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket]
) -> None:
    clock = Clock(monkeypatch, 4.0, lambda: pair[1].recv(SLICE_BYTES))
    server = accepted(pair[0], Stop(), ping=1.0)
    server.send(LARGE)
    assert clock.now > 100  # many times five pings, of which none could be sent
    for _ in range(websocket.UNANSWERED_PINGS):
        server.send(b"")
        clock.now += 1
    with pytest.raises(Ended) as end:
        server.send(b"")
    assert (end.value.why, end.value.code) == ("no answer to pings", 1_008)


def test_lost_goodbye_is_not_waited_for_longer_than_a_little(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket]
) -> None:
    clock = Clock(monkeypatch, 1.0, lambda: None)
    accepted(pair[0], Stop()).finish(1_000, "bye")
    assert clock.now <= websocket.CLOSING_SECONDS
    assert pair[1].recv(100) == b"\x88\x05\x03\xe8bye"
    assert pair[1].recv(100) == b""


def test_goodbye_of_a_stop_is_waited_for_until_a_slow_reader_has_come_to_it(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket]
) -> None:
    stop = Stop()
    stop.set()
    clock = Clock(monkeypatch, 1.0, lambda: clock.now == 12.0 and pair[1].send(b"\x88\x82\0\0\0\0\x03\xf4"))
    accepted(pair[0], stop).finish(1_012, "bye")
    assert clock.now == 12.0
    assert pair[1].recv(100) == b"\x88\x05\x03\xf4bye"


@pytest.mark.parametrize(
    ("length", "header"),
    [
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65_535, b"\x81\x7e\xff\xff"),
        (65_536, b"\x81\x7f\0\0\0\0\0\x01\0\0"),
    ],
)
def test_length_of_a_frame_has_its_shortest_form(length: int, header: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        accepted(ours, Stop()).send(b"1" * length)
        assert theirs.recv(100_000)[: len(header) + 1] == header + b"1"
