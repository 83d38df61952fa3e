"""Bodies in a real Redis: kept, verified, and done without when it is away."""

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from service import Log, RedisServer
from web import chunks, store
from web.connection import Memory
from web.settings import Settings
from web.version import CODE_VERSION

DEEP = "/api/v1/fibonacci?page=30&per_page=100"
GZIP = {"Accept-Encoding": "gzip"}


@pytest.fixture
def calculations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with every calculation: the index that it began at."""
    made: list[int] = []
    original = chunks.decimal_text

    def counted(start: int, *arguments: Any, **options: Any) -> Iterator[bytes]:
        made.append(start)
        return original(start, *arguments, **options)

    monkeypatch.setattr(chunks, "decimal_text", counted)
    monkeypatch.setattr(store, "decimal_text", counted)
    return made


@pytest.fixture
def cached(make_client: Callable[..., FlaskClient], redis_server: RedisServer) -> FlaskClient:
    return make_client(redis_url=redis_server.url, redis_pause=0.2, sequence_max_bytes=0)


def test_second_request_is_served_from_redis(
    cached: FlaskClient, redis_server: RedisServer, calculations: list[int]
) -> None:
    first, second = cached.get(DEEP, headers=GZIP), cached.get(DEEP, headers=GZIP)
    assert first.data == second.data
    assert gzip.decompress(second.data) == cached.get(DEEP).data
    assert len(calculations) == 1
    (key,) = redis_server.client.keys()
    assert key.decode() == f"fibonacci:{CODE_VERSION}:{first.get_etag()[0]}"
    assert 86_390 <= redis_server.client.ttl(key) <= 86_400


def test_small_body_is_not_kept(cached: FlaskClient, redis_server: RedisServer) -> None:
    assert cached.get("/api/v1/fibonacci", headers=GZIP).status_code == 200
    assert redis_server.client.keys() == []


def test_body_above_the_largest_entry_is_not_kept(
    make_client: Callable[..., FlaskClient], redis_server: RedisServer
) -> None:
    client = make_client(redis_url=redis_server.url, cache_max_bytes=1_024, sequence_max_bytes=0)
    assert client.get(DEEP, headers=GZIP).status_code == 200
    assert redis_server.client.keys() == []


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "foreign", "type"])
def test_damaged_entry_is_calculated_anew_and_replaced(
    cached: FlaskClient, redis_server: RedisServer, calculations: list[int], log: Log, damage: str
) -> None:
    right = cached.get(DEEP, headers=GZIP).data
    (key,) = redis_server.client.keys()
    entry = redis_server.client.get(key)
    redis_server.client.delete(key)
    if damage == "type":
        redis_server.client.rpush(key, b"no string")
    elif damage == "foreign":
        cached.get("/api/v1/fibonacci?page=31", headers=GZIP)
        (other,) = redis_server.client.keys()
        redis_server.client.rename(other, key)
    else:
        damaged = {"flip": entry[:-1] + bytes([entry[-1] ^ 1]), "cut": entry[:-1], "empty": b""}
        redis_server.client.set(key, damaged[damage])
    calculations.clear()
    log()
    assert cached.get(DEEP, headers=GZIP, buffered=True).data == right
    assert [line["message"] for line in log() if line["level"] == "WARNING"] == [
        "entry in Redis is damaged: calculating it anew"
    ]
    assert len(calculations) == 1
    assert redis_server.client.get(key) == entry


def test_pages_are_served_while_redis_is_down_and_cached_when_it_is_back(
    cached: FlaskClient, redis_server: RedisServer, calculations: list[int], log: Log
) -> None:
    redis_server.stop()
    for _ in range(5):
        assert cached.get(DEEP, headers=GZIP, buffered=True).status_code == 200
    assert len(calculations) == 5
    assert of_redis(log()) == ["Redis fails reads: doing without", "Redis fails writes: doing without"]
    redis_server.start()
    time.sleep(0.3)
    for _ in range(3):
        assert cached.get(DEEP, headers=GZIP, buffered=True).status_code == 200
    assert len(calculations) == 6
    assert sorted(of_redis(log())) == ["Redis takes reads again", "Redis takes writes again"]


def of_redis(lines: list[dict[str, Any]]) -> list[str]:
    return [line["message"] for line in lines if line["logger"] == "web.connection"]


@pytest.fixture
def silent_server(short_path: Path) -> Iterator[tuple[str, list[socket.socket]]]:
    """Give the URL of a server that takes connections and says nothing, and the connections it has taken."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(short_path / "silent.sock"))
    listener.listen()
    taken: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                taken.append(listener.accept()[0])
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    yield f"unix://{short_path}/silent.sock", taken
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for connection in taken:
        connection.close()


def test_slow_redis_costs_one_timeout_and_then_nothing(
    make_client: Callable[..., FlaskClient], silent_server: tuple[str, list[socket.socket]]
) -> None:
    url, taken = silent_server
    client = make_client(redis_url=url, redis_timeout=0.1, redis_pause=60.0)
    began = time.perf_counter()
    client.get(DEEP, headers=GZIP)
    assert time.perf_counter() - began < 2
    attempts = len(taken)
    for _ in range(20):
        client.get(DEEP, headers=GZIP)
    # One of the reads, one of the writes.
    assert len(taken) == attempts == 2


def test_one_request_tries_when_the_pause_is_over(silent_server: tuple[str, list[socket.socket]]) -> None:
    url, taken = silent_server
    memory = Memory(Settings(redis_url=url, redis_timeout=0.2, redis_pause=0.5))
    assert memory.read(memory.client.ping) is None
    time.sleep(0.6)
    threads = [threading.Thread(target=memory.read, args=(memory.client.ping,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 2


def test_redis_is_not_asked_for_a_304(cached: FlaskClient, redis_server: RedisServer) -> None:
    tag = cached.get(DEEP, headers=GZIP).headers["ETag"]
    before = redis_server.client.info("commandstats")["cmdstat_get"]["calls"]
    assert cached.get(DEEP, headers={**GZIP, "If-None-Match": tag}).status_code == 304
    assert redis_server.client.info("commandstats")["cmdstat_get"]["calls"] == before
