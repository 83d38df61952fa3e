"""The sequence as text: pages against the usual ways, and the ways of the library against each other."""

import json
import sys
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from time import process_time

import gmpy2
from tests.bench.tables import Comparison, Run, Table, duration, medians, ratios

from fibonacci import decimal_text
from fibonacci.exact import exact_context
from fibonacci.jump import Meter, doubled, pair_by_decimal, pair_text, term_by_decimal, term_text
from fibonacci.walk import by_decimal, by_integers, by_packed

TITLE = "The sequence as text"

SEPARATOR = b'","'

Way = Callable[[int, bytes, bytes], Iterator[bytes]]


def tables() -> Iterator[Table]:
    """Measure all; yield table by table."""
    # What is compared with needs it; the library does not.
    sys.set_int_max_str_digits(0)
    yield ratios(
        "Pages of terms, gathered as a whole, and the text of a term far out, in time of the processor. The ratio\n"
        "says how many times faster ours is.",
        comparisons(),
        process_time,
    )
    yield ways()
    yield jumps()


def comparisons() -> Iterator[Comparison]:
    """Yield what has to be met."""
    for start, wanted, repeats in ((0, 1 / 1.3, 101), (10_000, 10, 25), (100_000, 120, 5)):
        case = f"1,000 terms from {start:,}"
        yield Comparison(case, page(start, 1_000), "generator + json.dumps", dumped(start, 1_000), wanted, repeats)
    case = "100 terms from 1,000,000"
    yield Comparison(case, page(1_000_000, 100), "gmpy2 + join", joined(1_000_000, 100), 10)
    for against, other in (("gmpy2", by_gmp), ("decimal", by_doubling)):
        yield Comparison("F(10,000,000)", partial(term_text, 10**7), against, other(10**7), 1 / 1.2, 7)


def page(start: int, count: int) -> Run:
    def run() -> bytearray:
        body = bytearray()
        for chunk in decimal_text(start, count, SEPARATOR):
            body += chunk
        return body

    return run


def dumped(start: int, count: int) -> Run:
    return lambda: json.dumps(list(islice(integers(start), count)))


def integers(start: int) -> Iterator[int]:
    following, this = map(int, gmpy2.fib2(start + 1))
    while True:
        yield this
        this, following = following, this + following


def joined(start: int, count: int) -> Run:
    def run() -> bytes:
        following, this = gmpy2.fib2(start + 1)
        texts = []
        for _ in range(count):
            texts.append(this.digits())
            this, following = following, this + following
        return '","'.join(texts).encode()

    return run


def by_gmp(n: int) -> Run:
    return lambda: gmpy2.fib(n).digits().encode()


def by_doubling(n: int) -> Run:
    return lambda: str(doubled(n, exact_context(), Meter(None, 1))[1]).encode()


def ways() -> Table:
    """Compare the ways of walking, by the length of terms."""
    rows = []
    for start in (100, 300, 500, 700, 1_000, 1_500, 2_000, 2_900, 4_000, 6_000, 10_000, 30_000, 100_000):
        count = max(5, min(200, 500_000 // start))
        pair = pair_text(start - 2)
        kinds: list[Way] = [by_integers, by_decimal, by_packed]
        runs: list[Run] = [partial(drained, way, count, *pair) for way in kinds]
        taken = [median / count for median in medians(runs, 41 if start < 30_000 else 9, process_time)]
        best = min(taken)
        cells = [f"{duration(each)} ({each / best:.2f})" for each in taken]
        rows.append([f"{start:,}", f"{len(pair[1]):,}", *cells])
    about = "A term of a walk, by each of the ways in ``fibonacci/walk.py`` (in brackets: against the best of them)."
    return Table(about, ["from", "digits", "integers", "decimal", "packed"], rows)


def drained(way: Way, count: int, previous: bytes, this: bytes) -> None:
    deque(way(count, previous, this), 0)


def jumps() -> Table:
    """Compare the means of jumping, by index."""
    rows = []
    for n in (100_000, 500_000, 1_000_000, 2_000_000, 4_000_000, 10_000_000):
        runs: list[Run] = [by_gmp(n), partial(term_by_decimal, n), by_gmp_pair(n), partial(pair_by_decimal, n)]
        rows.append([f"{n:,}", *map(duration, medians(runs, 7, process_time))])
    about = "The text of one term, and of two consecutive ones, by each of the means in ``fibonacci/jump.py``."
    return Table(about, ["index", "one: GMP", "one: decimal", "two: GMP", "two: decimal"], rows)


def by_gmp_pair(n: int) -> Run:
    return lambda: [term.digits().encode() for term in gmpy2.fib2(n + 1)]
