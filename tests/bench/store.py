"""What Redis keeps: bodies put together from its chunks, fetched whole, and made anew."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from tests.bench.tables import Comparison, Run, Table, ratios
from tests.unit.web.service import RedisServer

from fibonacci import LARGEST_INDEX, decimal_text
from web import chunks
from web.connection import Memory
from web.documents import Document
from web.settings import Settings
from web.store import SEQUENCE_KEY, Bodies, Sequence, calculated_from, decode

TITLE = "What Redis keeps"


def tables() -> Iterator[Table]:
    """Measure all; yield table by table."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise SystemExit("redis-server is missing: install the package redis-server")
    with TemporaryDirectory(prefix="bench-", dir="/tmp") as folder:
        server = RedisServer(binary, Path(folder))
        server.start()
        try:
            yield ratios(
                "Compressed bodies from Redis, put together from chunks or fetched whole, against those made anew;\n"
                "and the list continued by a jump, as it is, against going on from its last terms. The ratio says\n"
                "how many times faster the first way is.",
                comparisons(server),
                perf_counter,
            )
        finally:
            server.stop()


def comparisons(server: RedisServer) -> Iterator[Comparison]:
    """Yield what the rule in docs/decisions/what-redis-keeps.rst follows from."""
    settings = Settings(redis_url=server.url, redis_timeout=10.0)
    memory = Memory(settings)
    sequence, bodies = Sequence(memory, settings), Bodies(memory, settings)
    sequence.extend(0, 1_000)
    small = Document(b"[", 0, 100, b"]")
    yield Comparison("100 terms from 0", made(small), "put together", put_together(sequence, small), 1, 25)
    for start, count in ((0, 1_000), (1_000, 1_000), (10_000, 1_000), (20_000, 1_000)):
        document = Document(b"[", start, count, b"]")
        yield Comparison(
            f"{count:,} terms from {start:,}", put_together(sequence, document), "made", made(document), 1, 25
        )
    for start, count in ((0, 1_000), (20_000, 1_000), (10_000, 1), (100_000, 1), (10**6, 1)):
        document = Document(b"[", start, count, b"]")
        bodies.keep(str(start), made(document)())
        case = f"{count:,} term{'s' * (count > 1)} from {start:,}, whole"
        yield Comparison(case, fetched(bodies, str(start)), "made", made(document), 1, 25)
    yield Comparison("one more chunk after 1,000", continued(1_000), "resumed", resumed(memory, 1_000), 1, 25)


def made(document: Document) -> Run:
    return lambda: document.compressed()


def put_together(sequence: Sequence, document: Document) -> Run:
    def run() -> bytes:
        terms = sequence.terms(document.start, document.count)
        if terms is None:
            raise RuntimeError("the sequence is not there")
        return document.compressed(terms)

    return run


def fetched(bodies: Bodies, tag: str) -> Run:
    def run() -> bytes:
        body = bodies.fetch(tag)
        if body is None:
            raise RuntimeError("the body is not there")
        return body

    return run


def continued(number: int) -> Run:
    return lambda: next(calculated_from(number))


def resumed(memory: Memory, number: int) -> Run:
    """Return what makes chunk *number* from the two terms before it, read from the chunks before it."""

    def run() -> bytes:
        n = chunks.term_at(number * chunks.CHUNK_BYTES)
        first = chunks.position(n - 2) // chunks.CHUNK_BYTES
        entries = memory.client.lrange(SEQUENCE_KEY, first, number - 1)
        stretches = [decode(at, entry) for at, entry in enumerate(entries, first)]
        text = b"".join(stretch.inflated() for stretch in stretches if stretch)
        _, before, last, begun = text.rsplit(chunks.SEPARATOR, 3)
        made = decimal_text(n, LARGEST_INDEX - n, chunks.SEPARATOR, chunks.CHUNK_BYTES, (before, last))
        return chunks.deflate((next(made) + next(made))[len(begun) :][: chunks.CHUNK_BYTES]).data

    return run
