"""The stream over real websockets from a real gunicorn: right terms in batches, and every way to end."""

import base64
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields
from itertools import islice, pairwise
from pathlib import Path
from typing import Any
from unittest.mock import Mock, call

import pytest
import websocket
from websocket import ABNF, WebSocket, WebSocketBadStatusException

from fibonacci import decimal_text, xsequence
from service import problem
from test_server import Server, free_port, running
from web import create_stream_app
from web.settings import Settings, variable
from web.stopping import ServerStop
from web.stream import PATH, batches, in_turn, serve, terms_text
from web.websocket import Websocket

HANDSHAKE = {
    "Host": "x",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(b"0123456789abcdef").decode(),
}

# Far from the end, with terms that soon fill all buffers.
ENDLESS = "start=20000"


@contextmanager
def stream_server(folder: Path, *options: str, **settings: object) -> Iterator[Server]:
    """Run the stream's gunicorn with *settings*, such as connections=2."""
    port = free_port()
    command = ["gunicorn", "--no-control-socket", "--worker-class=gthread", "--threads=20", f"--bind=127.0.0.1:{port}"]
    by_name = {setting.name: variable(setting) for setting in fields(Settings)}
    environment = {by_name[name]: str(value) for name, value in settings.items()}
    with running([*command, *options, "web:create_stream_app()"], port, folder / "log", environment) as server:
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a server that the tests share, as it is without any setting."""
    with stream_server(tmp_path_factory.mktemp("stream")) as server:
        yield server


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a server with two places, an early end of the sequence, small batches and a short deadline."""
    settings = {"stream_connections": 2, "stream_deadline": 0.5, "stream_batch_bytes": 1_024}
    with stream_server(tmp_path_factory.mktemp("small"), **settings, inline_limit=100_000) as server:
        yield server


def connect(server: Server, query: str = "", receive_buffer: int = 0) -> WebSocket:
    options = ((socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer),) if receive_buffer else ()
    url = f"ws://127.0.0.1:{server.port}{PATH}?{query}"
    return websocket.create_connection(url, timeout=30, skip_utf8_validation=True, sockopt=options)


def messages(client: WebSocket) -> Iterator[Any]:
    """Yield each message of *client*, and last the close code, None where the connection broke off."""
    while True:
        try:
            kind, data = client.recv_data()
        except (websocket.WebSocketConnectionClosedException, ConnectionError):
            yield None
            return
        if kind == ABNF.OPCODE_CLOSE:
            yield int.from_bytes(data[:2], "big")
            return
        yield json.loads(data)


def ends_with(client: WebSocket) -> tuple[list[str], Any]:
    """Read *client* to its end; return all its terms, and what came after them: the goodbye and the code."""
    terms: list[str] = []
    after = []
    for message in messages(client):
        if isinstance(message, dict) and "terms" in message:
            terms += message["terms"]
        else:
            after.append(message)
    return terms, after


def right(start: int, count: int) -> list[str]:
    """Return the terms by another way than the stream's: integers below the limit of str(), else the page's text."""
    if start + count < 20_000:
        return [str(term) for term in islice(xsequence(start + count), start, None)]
    return b"".join(decimal_text(start, count, b" ")).decode().split(" ")


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for *condition* to become true and return its value."""
    expires = time.monotonic() + 20
    while time.monotonic() < expires:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError(f"{what} did not happen within 20 seconds")


def open_streams(server: Server) -> int:
    body = server.get(b"/readyz").partition(b"\r\n\r\n")[2]
    count: int = json.loads(body)["streams"]["open"]
    return count


def until_free(server: Server) -> None:
    until(lambda: open_streams(server) == 0, "the end of all streams")


def ends_in_the_log(server: Server) -> list[dict[str, Any]]:
    lines = [line for line in server.log().splitlines() if '"stream finished"' in line]
    return [json.loads(line) for line in lines]


def next_end(server: Server, known: int) -> str:
    """Return why the stream ended that did so after the first *known* of *server*."""
    until(lambda: len(ends_in_the_log(server)) > known, "the end of a stream in the log")
    why: str = ends_in_the_log(server)[known]["end"]
    return why


def ask(server: Server, target: str, method: str = "GET", version: str = "1.1", **changes: str | None) -> bytes:
    """Return the answer to a handshake with other headers: names with _ for -, None for none."""
    headers = HANDSHAKE | {name.replace("_", "-"): value for name, value in changes.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value is not None)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(f"{method} {target} HTTP/{version}\r\n{head}\r\n".encode("latin-1"))
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(65_536)
        head_bytes, _, body = answer.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: ([0-9]+)", head_bytes)
        while length and method != "HEAD" and len(body) < int(length[1]):
            body += connection.recv(65_536)
    return head_bytes + b"\r\n\r\n" + body


def raw(server: Server, query: str = ENDLESS, receive_buffer: int = 4_096) -> socket.socket:
    """Return the socket of a websocket that has read its handshake's answer and, as yet, nothing more."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", server.port))
    head = "".join(f"{name}: {value}\r\n" for name, value in HANDSHAKE.items())
    connection.sendall(f"GET {PATH}?{query} HTTP/1.1\r\n{head}\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += connection.recv(1)
    assert answer.startswith(b"HTTP/1.1 101 ")
    return connection


def worker_of(server: Server) -> int:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    (worker,) = until(lambda: children.read_text().split(), "the start of a worker")
    return int(worker)


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_terms_are_right_and_the_end_is_told(server: Server) -> None:
    assert ends_with(connect(server, "start=0&count=5000")) == (right(0, 5_000), [{"done": True, "next": 5_000}, 1_000])


def test_stream_resumes_anywhere(server: Server) -> None:
    terms, after = ends_with(connect(server, "start=25000&count=30"))
    assert terms == right(25_000, 30)
    assert after == [{"done": True, "next": 25_030}, 1_000]


def test_frames_are_batches_by_bytes(server: Server) -> None:
    frames = [message for message in messages(connect(server, "start=0&count=5000")) if isinstance(message, dict)]
    assert frames.pop() == {"done": True, "next": 5_000}
    sizes = [len('","'.join(frame["terms"])) for frame in frames]
    assert max(sizes) <= 65_536
    # Each is full: the next one's first term would not have fitted.
    assert all(
        size + len('","' + following["terms"][0]) > 65_536
        for size, (_, following) in zip(sizes, pairwise(frames), strict=False)
    )
    assert [frame["start"] + len(frame["terms"]) for frame in frames[:-1]] == [frame["start"] for frame in frames[1:]]


def test_term_larger_than_a_batch_is_a_frame_of_its_own(small: Server) -> None:
    frames = [message for message in messages(connect(small, "start=9000&count=3")) if isinstance(message, dict)]
    assert frames == [
        *({"start": 9_000 + i, "terms": [term]} for i, term in enumerate(right(9_000, 3))),
        {"done": True, "next": 9_003},
    ]


def test_without_a_count_it_goes_to_the_largest_index(small: Server) -> None:
    assert ends_with(connect(small, "start=99999")) == (right(99_999, 2), [{"done": True, "next": 100_001}, 1_000])


def test_without_a_query_it_begins_at_the_beginning(server: Server) -> None:
    client = connect(server)
    assert next(messages(client))["terms"][:5] == ["0", "1", "1", "2", "3"]
    client.close()


def test_terms_one_by_one_are_those_of_the_text() -> None:
    assert b" ".join(terms_text(0, 2_000)) == b"".join(decimal_text(0, 2_000, b" "))
    assert list(terms_text(400_000, 3)) == b"".join(decimal_text(400_000, 3, b" ")).split(b" ")


def test_batches_lose_nothing_and_hold_no_more_than_they_may() -> None:
    terms = [b"1" * size for size in (3, 3, 3, 20, 9, 1, 1, 1, 1, 1, 10)]
    divided = [(after, json.loads(text)) for after, text in batches(7, iter(terms), 10)]
    frames = [frame for _, frame in divided]
    assert [term.encode() for frame in frames for term in frame["terms"]] == terms
    assert [frame["start"] for frame in frames] == [7, *(after for after, _ in divided[:-1])]
    assert all(len('","'.join(frame["terms"])) <= 10 or len(frame["terms"]) == 1 for frame in frames)
    assert divided[-1][0] == 7 + len(terms)
    assert list(batches(7, iter([b"13", b"21"]), 10)) == [(9, b'{"start":7,"terms":["13","21"]}')]


def test_messages_are_made_one_at_a_time_whoever_they_are_for() -> None:
    busy = threading.Lock()
    stop, turn = ServerStop(), threading.Lock()

    def made() -> Iterator[tuple[int, bytes]]:
        for number in range(200):
            assert busy.acquire(blocking=False), "two at a time"
            time.sleep(0)  # whoever may run now may
            busy.release()
            yield number, b""

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: len(list(in_turn(made(), turn, stop))), range(8)))
    assert results == [200] * 8


def test_compression_is_never_agreed_on(server: Server) -> None:
    answer = ask(server, PATH + "?count=1", Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits")
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"extensions" not in answer.lower()


def test_log_says_how_each_stream_went(server: Server) -> None:
    until_free(server)
    known = len(ends_in_the_log(server))
    ends_with(connect(server, "start=10&count=3"))
    assert next_end(server, known) == "done"
    line = ends_in_the_log(server)[known]
    assert {name: line[name] for name in ("start", "count", "terms", "level", "end")} == {
        "start": 10,
        "count": 3,
        "terms": 3,
        "level": "INFO",
        "end": "done",
    }
    assert line["bytes"] == len(b'..{"start":10,"terms":["55","89","144"]}' + b'..{"done":true,"next":13}' + b"..03")
    assert line["duration_ms"] > 0
    assert re.fullmatch("[0-9a-f]{32}", line["request_id"])


# --- refused before the upgrade ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "parameter", "bounds"),
    [
        ("start=-1", "start", (0, 100_000)),
        ("start=100001", "start", (0, 100_000)),
        ("start=1&start=2", "start", (0, 100_000)),
        ("start=", "start", (0, 100_000)),
        ("count=0", "count", (1, 100_001)),
        ("start=99990&count=12", "count", (1, 11)),
        ("from=1", "from", (None, None)),
    ],
)
def test_wrong_parameter_is_a_problem_before_the_upgrade(
    small: Server, query: str, parameter: str, bounds: tuple[int | None, int | None]
) -> None:
    for changes in ({}, {"Connection": None, "Upgrade": None}):
        head, _, body = ask(small, f"{PATH}?{query}", **changes).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"Content-Type: application/problem+json" in head
        problem = json.loads(body)
        assert problem["parameter"] == parameter
        assert (problem.get("minimum"), problem.get("maximum")) == bounds


@pytest.mark.parametrize(
    "difference",
    [
        {"Connection": None, "Upgrade": None},
        {"Upgrade": "h2c"},
        {"Connection": "keep-alive"},
        {"Sec_WebSocket_Version": "12"},
        {"Sec_WebSocket_Version": None},
        {"method": "HEAD"},
        {"version": "1.0"},
    ],
)
def test_what_is_no_websocket_is_told_to_upgrade(server: Server, difference: dict[str, str]) -> None:
    answer = ask(server, PATH, **difference)
    assert re.match(rb"HTTP/1\.[01] 426 ", answer)
    assert b"\r\nUpgrade: websocket\r\n" in answer
    assert b"\r\nSec-WebSocket-Version: 13\r\n" in answer
    assert b"\r\nContent-Type: application/problem+json\r\n" in answer


@pytest.mark.parametrize("key", [None, "", "x", "MTIzNA==", "é" * 16])
def test_wrong_key_of_the_handshake_is_a_problem(server: Server, key: str | None) -> None:
    answer = ask(server, PATH, Sec_WebSocket_Key=key)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Sec-WebSocket-Key must be" in answer


def test_other_methods_are_not_allowed(server: Server) -> None:
    assert ask(server, PATH, method="POST").startswith(b"HTTP/1.1 405 ")
    assert ask(server, PATH, method="POST", Upgrade=None).startswith(b"HTTP/1.1 405 ")


@pytest.mark.parametrize("headers", [{"Host": "a..b"}, {"X_Odd": "\x01é"}, {"Origin": "https://elsewhere.example"}])
def test_headers_that_do_not_matter_do_not_matter(server: Server, headers: dict[str, str]) -> None:
    assert re.match(rb"HTTP/1\.1 (101|400) ", ask(server, PATH + "?count=1", **headers))
    assert "Traceback" not in server.log()


def test_connection_of_a_refusal_goes_on_to_a_websocket(server: Server) -> None:
    head = "".join(f"{name}: {value}\r\n" for name, value in HANDSHAKE.items()).encode()
    requests = (
        b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET %b?count=0 HTTP/1.1\r\n%b\r\n" % (PATH.encode(), head),
        b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % PATH.encode(),
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET %b?count=1 HTTP/1.1\r\n%b\r\n" % (PATH.encode(), head),
    )
    goodbye = b"\x88\x02\x03\xe8"
    answer = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"".join(requests))
        while goodbye not in answer:
            answer += connection.recv(65_536)
    assert re.findall(rb"HTTP/1\.1 ([0-9]+)", answer) == [b"200", b"400", b"426", b"200", b"101"]
    assert answer.endswith(b'\x81\x19{"start":0,"terms":["0"]}' + b'\x81\x16{"done":true,"next":1}' + goodbye)


def test_beyond_the_cap_it_is_503_until_a_place_is_free(small: Server) -> None:
    until_free(small)
    clients = [connect(small, ENDLESS), connect(small, ENDLESS)]
    with pytest.raises(WebSocketBadStatusException) as refusal:
        connect(small, "count=1")
    assert refusal.value.status_code == 503
    headers: Any = refusal.value.resp_headers
    assert int(headers["retry-after"]) >= 1
    assert headers["content-type"] == "application/problem+json"
    # A browser tells its page nothing of that answer: the page asks again without the upgrade.
    plain = small.get(PATH.encode())
    assert plain.startswith(b"HTTP/1.1 503 ")
    assert re.search(rb"\r\nRetry-After: [1-9]", plain)
    assert b"\r\nContent-Type: application/problem+json\r\n" in plain
    assert small.get(PATH.encode() + b"?count=0").startswith(b"HTTP/1.1 400 ")
    assert small.get(b"/healthz").startswith(b"HTTP/1.1 200 ")
    assert b'"streams": {"open": 2, "limit": 2}' in small.get(b"/readyz")
    clients.pop().close()
    until(lambda: open_streams(small) == 1, "the end of the stream that was closed")
    assert small.get(PATH.encode()).startswith(b"HTTP/1.1 426 ")
    assert ends_with(connect(small, "count=1"))[0] == ["0"]
    clients.pop().close()


# --- how it ends ------------------------------------------------------------------------------------------------------


def test_client_that_leaves_frees_its_place(server: Server) -> None:
    until_free(server)
    known = len(ends_in_the_log(server))
    client = connect(server, "start=1000")
    assert next(messages(client))["start"] == 1_000
    client.send_close(1001, b"")
    assert list(messages(client))[-1] == 1_001
    assert next_end(server, known) == "client left"
    until_free(server)


def test_client_that_is_killed_frees_its_place(server: Server, tmp_path: Path) -> None:
    until_free(server)
    known = len(ends_in_the_log(server))
    code = (
        "import sys, websocket; "
        f"c = websocket.create_connection('ws://127.0.0.1:{server.port}{PATH}?{ENDLESS}'); "
        "c.recv(); print('connected', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdout
        assert client.stdout.readline() == b"connected\n"
        client.kill()
    assert next_end(server, known) == "client left"
    until_free(server)


def test_client_that_leaves_within_the_handshake_is_no_error(server: Server) -> None:
    head = "".join(f"{name}: {value}\r\n" for name, value in HANDSHAKE.items()).encode()
    for _ in range(30):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(b"GET %b HTTP/1.1\r\n%b\r\n" % (PATH.encode(), head))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: server.log().count('"end": "client left"') + server.log().count('"status": 400') >= 30, "30 ends")
    until_free(server)
    assert "Traceback" not in server.log()


def test_reader_that_stops_is_dropped_and_costs_nobody_else_anything(small: Server) -> None:
    until_free(small)
    known = len(ends_in_the_log(small))
    with raw(small) as stopped:
        # Others are served while its thread waits.
        assert ends_with(connect(small, "start=50000&count=200")) == (
            right(50_000, 200),
            [{"done": True, "next": 50_200}, 1_000],
        )
        until(lambda: len(ends_in_the_log(small)) > known + 1, "the end of both")
        assert [line["end"] for line in ends_in_the_log(small)[known:]] == ["done", "too slow"]
        until_free(small)
        with pytest.raises(ConnectionError):  # reset, for nothing must be kept for it
            list(iter(lambda: stopped.recv(65_536), b""))


def test_slow_reader_gets_whole_frames(server: Server) -> None:
    # Through the smallest of buffers each frame leaves in many pieces.
    client = connect(server, "start=20000&count=150", receive_buffer=1_024)
    assert ends_with(client) == (right(20_000, 150), [{"done": True, "next": 20_150}, 1_000])


@pytest.mark.parametrize(
    ("sent", "code", "why"),
    [
        (ABNF.create_frame("hello", ABNF.OPCODE_TEXT).format(), 1_003, "unexpected message"),
        (ABNF.create_frame(b"\0" * 70_000, ABNF.OPCODE_BINARY).format(), 1_003, "unexpected message"),
        (ABNF.create_frame("h", ABNF.OPCODE_TEXT, 0).format(), 1_003, "unexpected message"),
        (b"\xff" * 100, 1_002, "protocol error"),
        (b"\x81\x01a", 1_002, "protocol error"),
        (b"\x88\x81\0\0\0\0a", 1_002, "protocol error"),
        (ABNF.create_frame(b"\xff", ABNF.OPCODE_TEXT).format(), 1_007, "protocol error"),
    ],
    ids=["text", "binary", "first part", "rubbish", "unmasked", "half a close code", "no UTF-8"],
)
def test_what_is_not_expected_of_a_client_ends_its_stream(server: Server, sent: bytes, code: int, why: str) -> None:
    until_free(server)
    known = len(ends_in_the_log(server))
    client = connect(server, "start=1000")
    client.sock.sendall(sent)
    *frames, last = messages(client)
    assert last == code
    terms = [term for frame in frames for term in frame["terms"]]
    assert not terms or terms == right(1_000, len(terms))
    client.sock.close()
    assert next_end(server, known) == why
    until_free(server)


def test_pings_of_the_client_are_answered_between_frames(server: Server) -> None:
    client = connect(server, "start=1000")
    client.ping("marco")
    for _ in range(10_000):
        kind, frame = client.recv_data_frame(control_frame=True)
        if kind == ABNF.OPCODE_PONG:
            assert frame.data == b"marco"
            break
        assert "terms" in json.loads(frame.data)
    else:
        pytest.fail("no pong")
    client.close()


def test_client_that_answers_no_ping_is_closed(tmp_path: Path) -> None:
    with stream_server(tmp_path, stream_ping=0.1) as server:
        deaf, answering = raw(server, receive_buffer=65_536), connect(server, ENDLESS)
        received = b""
        while chunk := deaf.recv(65_536):
            received = received[-200:] + chunk
            next(messages(answering))  # the client library answers
        assert received.endswith(b"\x88\x02" + (1_008).to_bytes(2, "big"))
        assert next_end(server, 0) == "no answer to pings"
        assert open_streams(server) == 1
        answering.close()


# --- the server's stop ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--preload",)])
def test_reload_closes_with_1012_and_the_rest_follows_on_request(tmp_path: Path, options: tuple[str, ...]) -> None:
    with stream_server(tmp_path, *options) as server:
        clients = [connect(server, "start=3000&count=3000") for _ in range(3)]
        firsts = [next(messages(client)) for client in clients]  # from here on they do not read
        old = worker_of(server)
        server.process.send_signal(signal.SIGHUP)
        endings = [ends_with(client) for client in clients]
        until(lambda: not Path(f"/proc/{old}").exists(), "the end of the old worker")
        for first, (terms, after) in zip(firsts, endings, strict=True):
            got = first["terms"] + terms
            if after != [1_012]:  # what is in the buffers is sent: a short stream may have ended before
                assert after == [{"done": True, "next": 6_000}, 1_000]
            else:
                terms, after = ends_with(connect(server, f"start={3_000 + len(got)}&count={3_000 - len(got)}"))
                assert after == [{"done": True, "next": 6_000}, 1_000]
                got += terms
            assert got == right(3_000, 3_000)


def test_stop_closes_endless_streams_at_a_frame_and_ends(tmp_path: Path) -> None:
    with stream_server(tmp_path, "--graceful-timeout=25") as server:
        clients = [connect(server, ENDLESS) for _ in range(3)]
        for client in clients:
            next(messages(client))
        server.process.send_signal(signal.SIGTERM)
        for client in clients:
            *frames, code = messages(client)
            assert code == 1_012
            assert all(frame["terms"] for frame in frames)
        assert server.process.wait(20) == 0
        assert [line["end"] for line in ends_in_the_log(server)] == ["server stops"] * 3
        assert "Traceback" not in server.log()


def test_server_that_stops_says_when_to_ask_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ServerStop, "is_set", lambda self: True)
    client = create_stream_app(Settings()).test_client()
    assert client.get(f"{PATH}?count=0").status_code == 400
    answer = client.get(PATH)
    assert problem(answer, 503)["detail"].startswith("This server stops")
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("stops_after", "sent", "code"),
    [
        (1, [b'{"start":1,"terms":["1","1"]}'], 1_012),
        (2, [b'{"start":1,"terms":["1","1"]}', b'{"start":3,"terms":["2","3"]}', b'{"done":true,"next":5}'], 1_000),
    ],
)
def test_who_has_everything_at_the_stop_is_told_so(stops_after: int, sent: list[bytes], code: int) -> None:
    stop = Mock(ServerStop)
    client = Mock(Websocket, sent_bytes=0)
    stop.is_set.side_effect = lambda: client.send.call_count >= stops_after
    terms = iter([b"1", b"1", b"2", b"3"])
    serve(client, 1, 4, in_turn(batches(1, terms, 5), threading.Lock(), stop))
    assert client.send.mock_calls == [call(text) for text in sent]
    assert client.finish.mock_calls == [call(code, "resume with start=3" if code == 1_012 else "")]


def test_worker_that_is_to_be_replaced_ends_its_streams_too(tmp_path: Path) -> None:
    with stream_server(tmp_path, "--max-requests=5") as server:
        client = connect(server, ENDLESS)
        next(messages(client))
        for _ in range(4):
            server.get(b"/healthz")
        assert list(messages(client))[-1] == 1_012


def test_process_may_be_stopped_while_a_reader_has_stopped(tmp_path: Path) -> None:
    with stream_server(tmp_path, "--graceful-timeout=25") as server, raw(server):
        until(lambda: open_streams(server) == 1, "the begin of the stream")
        began = time.monotonic()
        assert server.stop(signal.SIGTERM) == 0
        assert time.monotonic() - began < 20  # ends of itself: gunicorn would kill it after 25 seconds
        (line,) = ends_in_the_log(server)
        assert line["end"] == "server stops"


# --- what it costs ----------------------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_what_is_sent(server: Server) -> None:
    def resident() -> int:
        return int(Path(f"/proc/{worker_of(server)}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    ends_with(connect(server, "start=0&count=1000"))
    before = resident()
    received = 0
    client = connect(server, "start=0&count=30000")  # 94 MB
    for kind, data in iter(client.recv_data, None):
        received += len(data)
        if kind == ABNF.OPCODE_CLOSE:
            break
    assert received > 90_000_000
    assert resident() - before < 20_000_000


def test_thread_serves_each_client_alone(server: Server) -> None:
    def threads() -> int:
        return len(list(Path(f"/proc/{worker_of(server)}/task").iterdir()))

    until_free(server)
    clients = [raw(server) for _ in range(10)]
    until(lambda: open_streams(server) == 10, "ten streams")
    assert threads() <= 20 + 2  # gunicorn's pool, its main thread, and the one that looks out for the stop
    for client in clients:
        client.close()
    until_free(server)


# --- around it --------------------------------------------------------------------------------------------------------


def test_health_is_told_without_any_stream() -> None:
    client = create_stream_app(Settings()).test_client()
    assert client.get("/healthz").json == {"status": "ok"}
    assert client.get("/readyz").json == {"status": "ready", "streams": {"open": 0, "limit": 400}}
    assert client.get("/readyz").headers["Cache-Control"] == "no-store"
    assert client.get("/api/v1/fibonacci").status_code == 404


def test_websocket_to_another_path_is_a_problem(server: Server) -> None:
    answer = ask(server, "/healthz")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer


def test_service_by_itself_streams_too(tmp_path: Path) -> None:
    port = free_port()
    with running(["web", f"--port={port}"], port, tmp_path / "log") as alone:
        assert ends_with(connect(alone, "start=5&count=3")) == (["5", "8", "13"], [{"done": True, "next": 8}, 1_000])
        assert b'"terms":["0","1"]' in alone.get(b"/api/v1/fibonacci?page=1&per_page=2")
        assert alone.get(PATH.encode()).startswith(b"HTTP/1.1 426 ")
