"""The beginning of the sequence in a real Redis: it grows by any number of writers and is never wrong."""

import gzip
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from gmpy2 import mpz

from service import Log, RedisServer
from web import chunks, store
from web.chunks import CHUNK_BYTES, SEPARATOR
from web.compression import Deflated
from web.connection import Memory
from web.settings import Settings
from web.store import SEQUENCE_KEY, Sequence, decode

GZIP = {"Accept-Encoding": "gzip"}
PAGE = "/api/v1/fibonacci?page=3&per_page=1000"  # its text is in the chunks 6 to 14

# Grows the list in small steps, and begins anew when it is long, as it does when Redis has evicted it.
WRITER = f"""
import sys
from web.connection import Memory
from web.settings import Settings
from web.store import Sequence
settings = Settings(redis_url=sys.argv[1], redis_timeout=5.0)
memory = Memory(settings)
sequence = Sequence(memory, settings)
while True:
    length = memory.client.llen("{SEQUENCE_KEY}")
    if length >= 400:
        memory.client.unlink("{SEQUENCE_KEY}")
    sequence.extend(length, length + 20)
"""


@pytest.fixture
def sequence(redis_server: RedisServer) -> Sequence:
    return sequence_in(redis_server)


@pytest.fixture
def shared(make_client: Callable[..., FlaskClient], redis_server: RedisServer) -> FlaskClient:
    return make_client(redis_url=redis_server.url, redis_pause=0.1)


@pytest.fixture
def calculations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with every calculation: the index that it began at."""
    begun: list[int] = []
    for module in (chunks, store):
        original = module.decimal_text

        def counted(start: int, *arguments: Any, original: Any = original, **options: Any) -> Iterator[bytes]:
            begun.append(start)
            result: Iterator[bytes] = original(start, *arguments, **options)
            return result

        monkeypatch.setattr(module, "decimal_text", counted)
    return begun


def sequence_in(server: RedisServer, **given: Any) -> Sequence:
    settings = Settings(redis_url=server.url, redis_timeout=5.0, **given)
    return Sequence(Memory(settings), settings)


def kept_text(server: RedisServer) -> bytes:
    """Return what the list holds, every chunk of it intact."""
    entries = server.client.lrange(SEQUENCE_KEY, 0, -1)
    stretches = [decode(number, entry) for number, entry in enumerate(entries)]
    assert None not in stretches
    text = b"".join(stretch.inflated() for stretch in stretches if stretch)
    assert len(text) == len(entries) * CHUNK_BYTES
    return text


def right_text(length: int) -> bytes:
    """Return the first *length* bytes of the sequence's text, by adding."""
    parts, size, current, future = [], 0, 0, 1
    while size < length:
        parts.append(mpz(current).digits().encode() + SEPARATOR)
        size += len(parts[-1])
        current, future = future, current + future
    return b"".join(parts)[:length]


def test_pages_are_read_from_what_other_pages_have_grown(shared: FlaskClient, calculations: list[int]) -> None:
    first = shared.get(PAGE, headers=GZIP).data
    assert calculations == [0]
    assert shared.get(PAGE, headers=GZIP).data == first
    others = shared.get("/api/v1/fibonacci?page=9&per_page=300", headers=GZIP).data
    assert calculations == [0]
    assert gzip.decompress(first) == shared.get(PAGE).data
    assert gzip.decompress(others) == shared.get("/api/v1/fibonacci?page=9&per_page=300").data


def test_body_is_the_same_bytes_read_or_calculated(
    shared: FlaskClient, client: FlaskClient, redis_server: RedisServer
) -> None:
    for url in (PAGE, "/api/v1/fibonacci?page=2&per_page=1000", "/api/v1/fibonacci?page=100&per_page=31", PAGE):
        assert shared.get(url, headers=GZIP).data == client.get(url, headers=GZIP).data
    assert kept_text(redis_server) == right_text(redis_server.client.llen(SEQUENCE_KEY) * CHUNK_BYTES)


def test_list_goes_on_where_it_ends(sequence: Sequence, redis_server: RedisServer, calculations: list[int]) -> None:
    for wanted in (1, 2, 7, 40):
        sequence.extend(redis_server.client.llen(SEQUENCE_KEY), wanted)
        assert redis_server.client.llen(SEQUENCE_KEY) == wanted
    assert calculations == [chunks.term_at(length * CHUNK_BYTES) for length in (0, 1, 2, 7)]
    assert kept_text(redis_server) == right_text(40 * CHUNK_BYTES)


def test_writer_that_was_overtaken_appends_nothing(sequence: Sequence, redis_server: RedisServer) -> None:
    sequence.extend(0, 10)
    late = sequence_in(redis_server).extend(3, 6)
    assert [stretch.inflated() for stretch in late] == [
        kept_text(redis_server)[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES] for number in (3, 4, 5)
    ]
    assert redis_server.client.llen(SEQUENCE_KEY) == 10


def test_four_writers_with_kills_among_them_make_no_gap_and_no_double(redis_server: RedisServer) -> None:
    choice = random.Random(5)  # noqa: S311 - no secret
    seconds = float(os.environ.get("TURNKEY_WRITERS_SECONDS", "4"))

    def start() -> "subprocess.Popen[bytes]":
        environment = {"PYTHONPATH": str(Path(store.__file__).parent.parent)}
        return subprocess.Popen([sys.executable, "-c", WRITER, redis_server.url], env=environment)

    writers = [start() for _ in range(4)]
    kills = longest = 0
    try:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline or kills == 0:
            assert time.monotonic() < deadline + 60
            time.sleep(choice.uniform(0.1, 0.6))
            if redis_server.client.llen(SEQUENCE_KEY):
                victim = choice.randrange(4)
                assert writers[victim].poll() is None
                writers[victim].send_signal(signal.SIGKILL)
                writers[victim].wait()
                text = kept_text(redis_server)
                assert text == right_text(len(text))
                longest = max(longest, len(text))
                writers[victim] = start()
                kills += 1
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    # At the end there may be nothing: one of them may have begun anew.
    length = redis_server.client.llen(SEQUENCE_KEY)
    assert longest > 0
    assert kept_text(redis_server) == right_text(length * CHUNK_BYTES)


@pytest.mark.parametrize("damage", ["flip", "swap", "gap", "double", "empty", "text", "type"])
def test_rubbish_in_the_list_is_dropped_and_never_served(
    shared: FlaskClient, redis_server: RedisServer, log: Log, damage: str
) -> None:
    right = shared.get(PAGE, headers=GZIP).data
    client = redis_server.client
    entries = client.lrange(SEQUENCE_KEY, 0, -1)
    client.delete(SEQUENCE_KEY)
    if damage == "type":
        client.set(SEQUENCE_KEY, b"no list")
    else:
        damaged = {
            "flip": [*entries[:8], entries[8][:-1] + bytes([entries[8][-1] ^ 1]), *entries[9:]],
            "swap": [*entries[:8], entries[9], entries[8], *entries[10:]],
            "gap": [*entries[:8], *entries[9:]],
            "double": [*entries[:8], entries[8], *entries[8:]],
            "empty": [*entries[:8], b"", *entries[9:]],
            "text": [b"rubbish"] * len(entries),
        }[damage]
        client.rpush(SEQUENCE_KEY, *damaged)
    log()
    assert shared.get(PAGE, headers=GZIP, buffered=True).data == right
    assert "chunk in Redis is damaged: dropping the list" in [line["message"] for line in log()]
    assert shared.get(PAGE, headers=GZIP).data == right
    assert kept_text(redis_server) == right_text(client.llen(SEQUENCE_KEY) * CHUNK_BYTES)


def test_list_stays_within_its_bytes(make_client: Callable[..., FlaskClient], redis_server: RedisServer) -> None:
    client = make_client(redis_url=redis_server.url, sequence_max_bytes=10 * CHUNK_BYTES)
    plain = make_client()
    for number in range(1, 5):
        url = f"/api/v1/fibonacci?page={number}&per_page=1000"
        assert client.get(url, headers=GZIP).data == plain.get(url, headers=GZIP).data
    assert 0 < redis_server.client.llen(SEQUENCE_KEY) <= 10
    assert redis_server.client.ttl(SEQUENCE_KEY) > 0


def test_page_far_beyond_the_end_does_not_grow_the_list(
    shared: FlaskClient, redis_server: RedisServer, calculations: list[int]
) -> None:
    assert shared.get("/api/v1/fibonacci?page=120&per_page=100", headers=GZIP).status_code == 200
    assert calculations == [11_900]
    assert redis_server.client.llen(SEQUENCE_KEY) == 0


@pytest.mark.parametrize("fault", ["full", "read-only", "emptied"])
def test_pages_are_right_whatever_befalls_redis(
    shared: FlaskClient, client: FlaskClient, redis_server: RedisServer, fault: str
) -> None:
    right = client.get(PAGE, headers=GZIP).data
    other = "/api/v1/fibonacci?page=4&per_page=1000"
    assert shared.get(PAGE, headers=GZIP).data == right
    if fault == "full":
        redis_server.client.config_set("maxmemory", 1)
    elif fault == "read-only":
        redis_server.client.config_set("min-replicas-to-write", 1)
    else:
        redis_server.client.flushall()
    for _ in range(2):
        assert shared.get(PAGE, headers=GZIP).data == right
        assert shared.get(other, headers=GZIP).data == client.get(other, headers=GZIP).data


def test_deflated_chunk_holds_what_it_was_made_of(sequence: Sequence) -> None:
    (chunk,) = sequence.extend(0, 1)
    assert isinstance(chunk, Deflated)
    assert chunk.inflated() == right_text(CHUNK_BYTES)
