"""The terms as decimal text, without the quadratic conversion of integers.

``decimal`` keeps its numbers in base 10**19, so that its text costs linear time, whereas ``str(int)`` is quadratic
and refuses above 4,300 digits, first at F(20578).
"""

from collections.abc import Iterator
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, Inexact, InvalidOperation, Overflow, Rounded

from fibonacci.checks import require_natural
from fibonacci.sequence import LARGEST_INDEX


def decimal_text(start: int, count: int, separator: bytes = b"\n", chunk_size: int = 65536) -> Iterator[bytes]:
    """Return the decimal text of F(start) … F(start + count - 1) as chunks of bytes.

    *separator* stands between terms, not after the last. Every chunk has *chunk_size* bytes, but the last, which
    has from 1 to *chunk_size*; no terms, no chunk. Memory: a few terms and one chunk, whatever *count*.

    Raises ValueError, at the call, for a negative number, a chunk size below 1 or a term above LARGEST_INDEX.
    """
    require_natural("start", start, LARGEST_INDEX)
    require_natural("count", count, LARGEST_INDEX + 1 - start)
    require_natural("chunk_size", chunk_size)
    if chunk_size == 0:
        raise ValueError("chunk_size must be at least 1")
    return _chunks(start, count, separator, chunk_size)


def _chunks(start: int, count: int, separator: bytes, chunk_size: int) -> Iterator[bytes]:
    buffer = bytearray()
    for position, term in enumerate(_terms(start, count)):
        if position:
            buffer += separator
        buffer += str(term).encode("ascii")
        while len(buffer) >= chunk_size:
            yield bytes(buffer[:chunk_size])
            del buffer[:chunk_size]
    if buffer:
        yield bytes(buffer)


def _terms(start: int, count: int) -> Iterator[Decimal]:
    if count == 0:
        return
    # A context of its own, used only by its methods: the thread's context belongs to the caller, and a
    # localcontext() in a generator would leak into the caller at each yield.
    context = exact_context()
    current, future = decimal_pair(start, context)
    yield future
    for _ in range(count - 1):
        current, future = future, context.add(current, future)
        yield future


def exact_context() -> Context:
    """Return a context in which integer arithmetic is exact or raises; the default one rounds silently."""
    return Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[Inexact, Rounded, Overflow, InvalidOperation])


def decimal_pair(n: int, context: Context) -> tuple[Decimal, Decimal]:
    """Return (F(n - 1), F(n)) for n >= 0, with F(-1) = 1, by fast doubling with two squarings for each bit of *n*.

    The identities are those of the GMP manual, chapter "Fibonacci Numbers Algorithm":
    F(2k + 1) = 4 F(k)^2 - F(k - 1)^2 + 2 (-1)^k and F(2k - 1) = F(k)^2 + F(k - 1)^2.
    """
    previous, this = Decimal(1), Decimal(0)
    k = 0
    for bit in format(n, "b"):
        square, previous_square = context.multiply(this, this), context.multiply(previous, previous)
        sign = Decimal(-2 if k % 2 else 2)
        above = context.add(context.subtract(context.multiply(Decimal(4), square), previous_square), sign)
        below = context.add(square, previous_square)
        middle = context.subtract(above, below)
        k = 2 * k + int(bit)
        previous, this = (middle, above) if bit == "1" else (below, middle)
    return previous, this
