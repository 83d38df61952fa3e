"""What a gunicorn does is told: each request whole and counted once, whatever becomes of its worker."""

import os
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from board import Connection, Gunicorn, ask, eventually, running, scoreboard


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
    """Under load, read all the while, with workers killed and replaced in the midst by reloads."""
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
                    assert request.path in (*paths, "/" + "x" * 211 + "…"), request.path
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
        (gunicorn.boards / f"worker-{worker.pid}").write_bytes(bytes(64))
        os.kill(worker.pid, signal.SIGKILL)

    assert eventually(lambda: gunicorn.log().count("scoreboard: child_exit failed") == 2)
    assert eventually(lambda: gunicorn.get("/") == 200)
    assert gunicorn.process.poll() is None


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


# --- when to grow and shrink ------------------------------------------------------------------------------------------

POLICY = scoreboard.Policy("", minimum=2, maximum=4, up=0.8, up_after=5, down=0.3, down_after=20)


def changes(needed: list[float], workers: int = 2) -> list[tuple[int, int]]:
    """Return when the number of workers changed, and to what, where each second so many were *needed*."""
    samples = scoreboard.collections.deque()
    found = []
    for second, busy in enumerate(needed):
        change, why = scoreboard.decision(POLICY, samples, float(second), workers, min(busy, workers))
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


@pytest.mark.parametrize("share", [share / 20 for share in range(21)])
def test_under_the_same_load_the_number_settles(share: float) -> None:
    """Whatever the load, it is not shrunk and grown by turns."""
    for start in (2, 3, 4):
        directions = [number for _, number in changes([share * 4] * 400, start)]
        assert directions in (sorted(directions), sorted(directions, reverse=True))
