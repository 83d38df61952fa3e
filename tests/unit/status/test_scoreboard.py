"""What a gunicorn does is told: each request whole and counted once, whatever becomes of its worker."""

import dataclasses
import http.client
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from board import ROOT, Connection, Gunicorn, ask, eventually, running, scoreboard


@pytest.fixture
def gunicorn(tmp_path: Path) -> Iterator[Gunicorn]:
    with running(tmp_path) as started:
        yield started


def waiting(gunicorn: Gunicorn, count: int) -> list[threading.Thread]:
    """Send requests that wait until they are let go, and see each of them handled."""
    threads = [threading.Thread(target=gunicorn.get, args=(f"/wait/{number}?token=secret",)) for number in range(count)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(current(gunicorn)) == count)
    return threads


def current(gunicorn: Gunicorn) -> list[Any]:
    return [request for worker in gunicorn.board().workers for request in worker.current]


def test_requests_that_are_handled_are_told_with_path_and_age_and_without_their_query(gunicorn: Gunicorn) -> None:
    threads = waiting(gunicorn, 4)
    first = {request.path: request.age for request in current(gunicorn)}
    second = {request.path: (request.method, request.age) for request in current(gunicorn)}

    assert set(first) == set(second) == {f"/wait/{number}" for number in range(4)}
    assert all(method == "GET" and 0 <= first[path] < age < 60 for path, (method, age) in second.items())
    assert not any(b"secret" in path.read_bytes() for path in gunicorn.boards.iterdir())

    gunicorn.let_go()
    for thread in threads:
        thread.join()
    assert eventually(lambda: current(gunicorn) == [])
    assert gunicorn.board().requests == 4


def test_each_request_is_counted_once_and_no_reader_sees_half_of_one(gunicorn: Gunicorn) -> None:
    """Under load, read all the while."""
    paths = ["/", "/" + "x" * 500, "/fail", "/raise"]
    over = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not over.is_set():
            board = gunicorn.board()
            seen.append(board.requests)
            for worker in board.workers:
                for request in worker.current:
                    assert request.method == "GET"
                    assert request.path in (*paths, "/" + "x" * 203 + "…"), request.path
                    assert request.age < 10

    def send(number: int) -> None:
        connection = Connection(gunicorn.socket)
        for index in range(250):
            connection.request("GET", paths[(number + index) % 4])
            connection.getresponse().read()
        connection.close()

    with ThreadPoolExecutor(9) as pool:
        reader = pool.submit(read)
        for sent in [pool.submit(send, number) for number in range(8)]:
            sent.result(60)
        over.set()
        reader.result(60)

    board = eventually(lambda: (board := gunicorn.board()).requests == 2000 and board)
    assert board.errors == 1000
    assert seen == sorted(seen)
    assert (board.lost, board.killed, board.timed_out, board.replaced) == (0, 0, 0, 0)


def test_no_request_is_counted_twice_or_forgotten_while_workers_are_killed_and_replaced(gunicorn: Gunicorn) -> None:
    """By clients that ask again when they get no answer, two reloads and a kill; read all the while."""
    over, read_enough = threading.Event(), threading.Event()
    seen: list[tuple[int, int]] = []

    def read() -> None:
        while not read_enough.is_set():
            board = gunicorn.board()
            seen.append((board.requests, board.errors))

    def send() -> tuple[int, int]:
        answered = unanswered = 0
        connection = Connection(gunicorn.socket)
        while not over.is_set():
            try:
                connection.request("GET", "/fail")
                connection.getresponse().read()
                answered += 1
            except (OSError, http.client.HTTPException):
                # It may have been handled all the same.
                unanswered += 1
                connection.close()
        connection.close()
        return answered, unanswered

    def replaced(before: Any) -> bool:
        now = gunicorn.board()
        return gunicorn.ready(2) and not {one.pid for one in now.workers} & {one.pid for one in before.workers}

    with ThreadPoolExecutor(7) as pool:
        reader = pool.submit(read)
        clients = [pool.submit(send) for _ in range(6)]
        try:
            eventually(lambda: gunicorn.board().requests > 200)
            for reloads in (1, 2):
                before = gunicorn.board()
                gunicorn.process.send_signal(signal.SIGHUP)
                eventually(lambda before=before: replaced(before))  # type: ignore[misc]
                assert gunicorn.board().reloads == reloads
                if reloads == 1:
                    os.kill(gunicorn.board().workers[0].pid, signal.SIGKILL)
                    eventually(lambda: gunicorn.board().killed == 1 and gunicorn.ready(2))
        finally:
            over.set()
            counts = [client.result(60) for client in clients]
            eventually(lambda: not current(gunicorn))
            read_enough.set()
            reader.result(60)

    board = gunicorn.board()
    answered, unanswered = (sum(count) for count in zip(*counts, strict=True))
    # Who was killed may have sent an answer and not yet have noted it: that request is lost, and was answered.
    assert answered <= board.requests + board.lost <= answered + unanswered
    assert board.errors == board.requests
    assert seen == sorted(seen)
    assert (board.killed, board.timed_out, board.replaced) == (1, 0, 4)


def test_a_killed_worker_is_counted_and_what_it_had_counted_stays(gunicorn: Gunicorn) -> None:
    for _ in range(20):
        assert gunicorn.get("/") == 200
    threads = []
    for number in range(3):
        connection = Connection(gunicorn.socket)
        connection.request("GET", f"/wait/{number}")
        threads.append(connection)
    busy = eventually(lambda: len(current(gunicorn)) == 3 and gunicorn.board().workers)
    doomed = max(busy, key=lambda worker: len(worker.current))
    held = len(doomed.current)

    os.kill(doomed.pid, signal.SIGKILL)

    board = eventually(lambda: (board := gunicorn.board()).killed == 1 and gunicorn.ready(2) and board)
    assert (board.lost, board.timed_out, board.replaced) == (held, 0, 0)
    assert board.requests == 20
    assert doomed.pid not in [worker.pid for worker in gunicorn.board().workers]
    gunicorn.let_go()
    assert eventually(lambda: gunicorn.board().requests == 23 - held)


def test_readers_that_did_not_keep_up_are_counted_and_those_that_left_are_not(tmp_path: Path) -> None:
    """With the stream of the reference app, whose workers are replaced afterwards."""
    settings = {"pythonpath": str(ROOT / "app"), "raw_env": ["FIBONACCI_STREAM_DEADLINE=0.5"]}
    with running(tmp_path, app="web:create_stream_app()", **settings) as gunicorn:
        slow, gone = reader(gunicorn), reader(gunicorn)
        gone.close()

        board = eventually(lambda: (board := gunicorn.board()).requests == 2 and board)
        assert (board.dropped, board.errors) == (1, 0)
        assert sum(worker.dropped for worker in board.workers) == 1
        slow.close()

        gunicorn.process.send_signal(signal.SIGHUP)
        board = eventually(lambda: (board := gunicorn.board()).replaced == 2 and gunicorn.ready(2) and board)
        assert (board.requests, board.dropped) == (2, 1)


def reader(gunicorn: Gunicorn) -> socket.socket:
    """Open a stream without an end, and read none of it."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(str(gunicorn.socket))
    head = ["GET /api/v1/stream?start=20000 HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket"]
    head += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", "", ""]
    client.sendall("\r\n".join(head).encode())
    assert client.recv(12) == b"HTTP/1.1 101"
    return client


def test_a_reload_replaces_workers_and_keeps_the_sums(gunicorn: Gunicorn) -> None:
    for _ in range(10):
        gunicorn.get("/")

    gunicorn.process.send_signal(signal.SIGHUP)

    board = eventually(lambda: (board := gunicorn.board()).replaced == 2 and gunicorn.ready(2) and board)
    assert (board.requests, board.reloads, board.killed, board.lost) == (10, 1, 0, 0)


def test_workers_that_end_after_so_many_requests_keep_the_sums(tmp_path: Path) -> None:
    with running(tmp_path, max_requests=10) as gunicorn:
        for _ in range(60):
            assert gunicorn.get("/") == 200
        # The last one is counted when it is answered already.
        eventually(lambda: gunicorn.board().requests == 60)
        board = eventually(lambda: (board := gunicorn.board()).replaced >= 3 and gunicorn.ready(2) and board)

        assert (board.requests, board.killed, board.lost) == (60, 0, 0)


def test_a_worker_that_hangs_is_not_heard_of_and_its_end_is_a_timeout(tmp_path: Path) -> None:
    with running(tmp_path, timeout=4) as gunicorn:
        worker = gunicorn.board().workers[0]
        os.kill(worker.pid, signal.SIGSTOP)

        def silent() -> float:
            return max((one.heartbeat_age for one in gunicorn.board().workers if one.pid == worker.pid), default=0.0)

        assert eventually(lambda: silent() > 2)
        board = eventually(lambda: (board := gunicorn.board()).timed_out == 1 and gunicorn.ready(2) and board)
        assert (board.killed, board.replaced) == (0, 0)
        assert all(one.heartbeat_age < 10 for one in board.workers)


def test_gunicorns_own_view_agrees_and_is_for_its_user_alone(tmp_path: Path) -> None:
    control = tmp_path / "control.sock"
    with running(tmp_path, control_socket=str(control), control_socket_disable=False) as gunicorn:
        eventually(control.exists)
        command = [Path(sys.executable).with_name("gunicornc"), "-s", control, "-c", "show workers", "-j"]
        told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)

        assert {worker["pid"] for worker in told["workers"]} == {worker.pid for worker in gunicorn.board().workers}
        assert stat.S_IMODE(control.stat().st_mode) == 0o600


def test_memory_of_each_worker_is_told(gunicorn: Gunicorn) -> None:
    workers = eventually(lambda: all(worker.memory for worker in gunicorn.board().workers) and gunicorn.board().workers)

    for worker in workers:
        assert 5e6 < worker.memory < 500e6


def test_what_cannot_be_told_is_served_all_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "away"
    with running(tmp_path, ready=None, policy={"folder": str(folder)}) as gunicorn:
        assert eventually(lambda: gunicorn.get("/") == 200)

        assert "this gunicorn is not told of" in gunicorn.log()
        assert "this worker is not told of" in gunicorn.log()


def test_a_scoreboard_that_is_damaged_does_not_end_gunicorn(gunicorn: Gunicorn) -> None:
    for worker in gunicorn.board().workers:
        damage(gunicorn.boards / f"worker-{worker.pid}")
        os.kill(worker.pid, signal.SIGKILL)

    assert eventually(lambda: gunicorn.log().count("scoreboard: a worker is no longer told of") == 2)
    assert eventually(lambda: gunicorn.get("/") == 200)
    assert eventually(lambda: gunicorn.ready(2))
    assert gunicorn.process.poll() is None


def damage(path: Path) -> None:
    # As it lies: to make it shorter would end whoever has it mapped.
    with path.open("r+b") as file:
        file.write(bytes(64))


def test_a_workers_file_that_is_damaged_hides_no_other_and_is_told_once(gunicorn: Gunicorn) -> None:
    damaged, whole = gunicorn.board().workers
    beat = whole.heartbeat_age + whole.age
    damage(gunicorn.boards / f"worker-{damaged.pid}")

    def others() -> list[int]:
        return [worker.pid for worker in gunicorn.board().workers]

    assert eventually(lambda: others() == [whole.pid])
    # The master goes on with the rest.
    assert eventually(lambda: gunicorn.board().workers[0].age > beat + 3 and gunicorn.board().beat_age < 2)
    assert gunicorn.log().count("scoreboard:") == 1
    assert gunicorn.get("/") == 200


@pytest.mark.parametrize("content", [b"", b"odd", bytes(64), bytes(4096)], ids=["empty", "odd", "zeros", "more zeros"])
def test_what_is_no_scoreboard_is_refused_in_one_way(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "worker-1"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        scoreboard.Words(file, scoreboard.WORKER)


def test_a_worker_with_more_threads_than_room_is_refused(tmp_path: Path) -> None:
    scoreboard.create(tmp_path / "worker-1", 1024, (scoreboard.MAGIC, 1, 4))
    with pytest.raises(ValueError, match="no scoreboard of this version"):
        scoreboard.Words(tmp_path / "worker-1", scoreboard.WORKER)
    scoreboard.create(tmp_path / "worker-1", 64 + 1024, (scoreboard.MAGIC, 1, 4))
    scoreboard.Words(tmp_path / "worker-1", scoreboard.WORKER).close()


def test_a_worker_that_crashes_was_not_replaced(tmp_path: Path) -> None:
    with running(tmp_path, ready=1, workers=1) as gunicorn:
        assert gunicorn.get("/no-more-files") == 200
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(gunicorn.socket))

        board = eventually(lambda: (board := gunicorn.board()).killed == 1 and gunicorn.ready(1) and board)
        assert (board.timed_out, board.replaced, board.requests) == (0, 0, 1)
        client.close()
        assert "Too many open files" in gunicorn.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT])
def test_a_worker_that_is_told_to_go_by_a_signal_that_it_hears_was_replaced(gunicorn: Gunicorn, number: int) -> None:
    os.kill(gunicorn.board().workers[0].pid, number)

    board = eventually(lambda: (board := gunicorn.board()).replaced == 1 and gunicorn.ready(2) and board)
    assert (board.killed, board.timed_out) == (0, 0)


@pytest.mark.parametrize(
    ("error", "counted"), [("EPIPE", 0), ("ECONNRESET", 0), ("ENOTCONN", 0), ("ENOENT", 1), ("ECONNREFUSED", 1)]
)
def test_a_client_that_is_gone_is_no_error_and_what_else_the_app_cannot_do_is_one(
    gunicorn: Gunicorn, error: str, counted: int
) -> None:
    with pytest.raises(http.client.RemoteDisconnected):
        gunicorn.get(f"/raise/{error}")

    board = eventually(lambda: (board := gunicorn.board()).requests == 1 and board)
    assert board.errors == counted


def test_a_request_that_hangs_is_nothing_to_gunicorn_and_a_kill_ends_it(tmp_path: Path) -> None:
    """As its runbook says: the worker goes on telling that it lives."""
    with running(tmp_path, timeout=2) as gunicorn:
        client = Connection(gunicorn.socket)
        client.request("GET", "/wait/for-ever")
        (hangs,) = eventually(lambda: [worker for worker in gunicorn.board().workers if worker.current])

        eventually(lambda: max(request.age for request in current(gunicorn)) > 6)
        board = gunicorn.board()
        assert hangs.pid in [worker.pid for worker in board.workers]
        assert (board.timed_out, board.killed) == (0, 0)

        os.kill(hangs.pid, signal.SIGKILL)
        board = eventually(lambda: (board := gunicorn.board()).killed == 1 and gunicorn.ready(2) and board)
        assert board.lost == 1
        client.close()


def test_a_worker_that_never_gets_ready_is_heard_of_no_more(tmp_path: Path) -> None:
    with running(tmp_path, ready=None) as gunicorn:
        eventually(lambda: gunicorn.ready(2))
        (tmp_path / "app.py").write_text("import time\ntime.sleep(600)\n")
        gunicorn.process.send_signal(signal.SIGHUP)

        def silent() -> bool:
            return [one.starting for one in gunicorn.board().workers if one.heartbeat_age > 3] == [True, True]

        assert eventually(silent)
        for worker in gunicorn.board().workers:
            os.kill(worker.pid, signal.SIGKILL)


def test_workers_grow_to_the_bound_while_they_are_busy_and_shrink_again(tmp_path: Path) -> None:
    policy = {"minimum": 1, "maximum": 3, "up": 0.5, "up_after": 1, "down_after": 1}
    with running(tmp_path, ready=1, policy=policy, workers=1, threads=2) as gunicorn:
        over = threading.Event()

        def send() -> None:
            # Anew each time: what a worker has accepted waits for that one.
            while not over.is_set():
                assert ask(gunicorn.socket, "/slow")[0].status == 200

        with ThreadPoolExecutor(16) as pool:
            senders = [pool.submit(send) for _ in range(16)]
            board = eventually(lambda: gunicorn.ready(3) and gunicorn.board())
            assert (board.target, board.changes, board.changed_from, board.changed_to) == (3, 2, 2, 3)
            assert re.fullmatch(r"[0-9]+% busy for 1 s", board.why)
            over.set()
            for sender in senders:
                sender.result(30)

        board = eventually(lambda: gunicorn.ready(1) and gunicorn.board())
        assert (board.target, board.changes, board.killed, board.lost) == (1, 4, 0, 0)
        assert board.why == "0% busy for 1 s"
        assert 0 <= board.changed_age < 30


def test_a_worker_that_takes_its_time_to_leave_keeps_nobody_waiting(tmp_path: Path) -> None:
    """It still counts for gunicorn, which makes no other in its place until it is gone."""
    policy = {"minimum": 1, "maximum": 4, "up": 0.5, "up_after": 1, "down_after": 60}
    with running(tmp_path, policy=policy, threads=2, graceful_timeout=60) as gunicorn:
        oldest = gunicorn.board().workers[0].pid
        held = []
        while not any(worker.pid == oldest and worker.current for worker in gunicorn.board().workers):
            held.append(Connection(gunicorn.socket))
            held[-1].request("GET", f"/wait/{len(held)}")
            eventually(lambda: len(current(gunicorn)) == len(held))

        gunicorn.process.send_signal(signal.SIGTTOU)
        eventually(lambda: gunicorn.board().target == 1)
        over = threading.Event()

        def send() -> None:
            while not over.is_set():
                assert ask(gunicorn.socket, "/slow")[0].status == 200

        with ThreadPoolExecutor(8) as pool:
            senders = [pool.submit(send) for _ in range(8)]
            try:
                board = eventually(lambda: (board := gunicorn.board()).target > 1 and gunicorn.ready(3) and board)
                assert oldest in [worker.pid for worker in board.workers if worker.current]
            finally:
                over.set()
                gunicorn.let_go()
                for sender in senders:
                    sender.result(60)


# --- when to grow and shrink ------------------------------------------------------------------------------------------

POLICY = scoreboard.Policy("", minimum=2, maximum=4, up=0.8, up_after=5, down=0.3, down_after=20)


def changes(needed: list[float], workers: int = 2) -> list[tuple[int, int]]:
    """Return when the number of workers changed, and to what, where each second so many were *needed*."""
    samples = scoreboard.collections.deque()
    found = []
    for second, busy in enumerate(needed):
        change, why = scoreboard.decision(POLICY, samples, float(second), workers, workers, min(busy, workers))
        if change:
            assert why
            workers += change
            found.append((second, workers))
            samples.clear()
    return found


@pytest.mark.parametrize(
    ("needed", "expected"),
    [
        ([1.0] * 100, []),
        ([2.0] * 20, [(5, 3)]),
        ([2.0] * 3 + [0.0] * 10, []),
        ([4.0] * 30, [(5, 3), (11, 4)]),
        ([4.0] * 12 + [0.0] * 50, [(5, 3), (11, 4), (32, 3), (53, 2)]),
        # Between the bounds nothing happens, however long.
        ([4.0] * 12 + [2.0] * 500, [(5, 3), (11, 4)]),
    ],
    ids=["idle", "busy", "a moment", "very busy", "and quiet again", "and less so"],
)
def test_workers_follow_need_with_patience(needed: list[float], expected: list[tuple[int, int]]) -> None:
    assert changes(needed) == expected


@pytest.mark.parametrize(("workers", "expected"), [(1, [(0, 2)]), (6, [(0, 5), (1, 4)])])
def test_workers_outside_of_their_bounds_come_back_at_once(workers: int, expected: list[tuple[int, int]]) -> None:
    assert changes([workers / 2] * 3, workers)[: len(expected)] == expected


def test_what_was_seen_before_workers_were_replaced_decides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Idle for a while, then not all of them there, then all: the quiet has to last anew."""
    now: list[int] = [0]
    signals: list[int] = []
    clock = SimpleNamespace(monotonic_ns=lambda: now[0] * 10**9)
    monkeypatch.setattr(scoreboard, "time", clock)
    monkeypatch.setattr(scoreboard, "policy", dataclasses.replace(POLICY, folder=str(tmp_path)))
    monkeypatch.setattr(scoreboard.os, "kill", lambda _, number: signals.append(number))
    server = SimpleNamespace(num_workers=3, WORKERS={}, cfg=SimpleNamespace(threads=1))
    master = scoreboard.Master(server)

    def look(times: int, workers: int) -> None:
        server.WORKERS = {number: SimpleNamespace(age=number) for number in range(workers)}
        for _ in range(times):
            now[0] += 1
            master.tick()

    look(15, workers=3)
    look(5, workers=2)
    look(20, workers=3)
    assert signals == []
    look(1, workers=3)
    assert signals == [signal.SIGTTOU]


def test_a_worker_that_leaves_is_neither_busy_nor_a_reason_to_take_away_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals: list[int] = []
    policy = dataclasses.replace(POLICY, folder=str(tmp_path), maximum=6, up_after=2, down_after=2)
    now: list[int] = [0]
    monkeypatch.setattr(scoreboard, "time", SimpleNamespace(monotonic_ns=lambda: now[0] * 10**9))
    monkeypatch.setattr(scoreboard, "policy", policy)
    monkeypatch.setattr(scoreboard.os, "kill", lambda _, number: signals.append(number))
    tmp = SimpleNamespace(last_update=lambda: 0.0)
    server = SimpleNamespace(num_workers=3, cfg=SimpleNamespace(threads=1))
    server.WORKERS = {pid: SimpleNamespace(age=pid, tmp=tmp) for pid in (1, 2, 3, 4)}
    master = scoreboard.Master(server)
    for pid in server.WORKERS:
        scoreboard.create(tmp_path / f"worker-{pid}", 64 + 256, (scoreboard.MAGIC, pid, 1))

    def look(times: int, *busy: int) -> None:
        for pid in server.WORKERS:
            with scoreboard.Words(tmp_path / f"worker-{pid}", scoreboard.WORKER, writable=True) as worker:
                worker.words[scoreboard.places(worker)[0] + 1] = pid in busy
        for _ in range(times):
            now[0] += 1
            master.tick()

    # The oldest leaves and has a request; the others have nothing to do.
    look(9, 1)
    assert (signals, master.file["busy"]) == ([], 0)
    # They have: one more is wanted, and again, as gunicorn counts the oldest and makes none for it.
    look(3, 1, 2, 3, 4)
    assert signals == [signal.SIGTTIN]
    server.num_workers, master.why = 4, ""
    look(3, 1, 2, 3, 4)
    assert signals == [signal.SIGTTIN] * 2
    # It is gone: now one may be taken away.
    del server.WORKERS[1]
    server.num_workers, master.why = 3, ""
    look(9)
    assert signals == [signal.SIGTTIN, signal.SIGTTIN, signal.SIGTTOU]


@pytest.mark.parametrize("share", [share / 20 for share in range(21)])
def test_under_the_same_load_the_number_settles(share: float) -> None:
    """Whatever the load, it is not shrunk and grown by turns."""
    for start in (2, 3, 4):
        directions = [number for _, number in changes([share * 4] * 400, start)]
        assert directions in (sorted(directions), sorted(directions, reverse=True))
