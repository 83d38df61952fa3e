"""The decimal text of a term, or of two consecutive ones, without walking there."""

from collections.abc import Callable
from decimal import Context, Decimal

import gmpy2

from fibonacci.exact import exact_context

Progress = Callable[[float], object]

# Below it GMP is faster, though its conversion to decimal costs more than the jump; beyond it ``decimal`` is, whose
# numbers are decimal from the start, and which can tell how far it is. docs/performance.rst has the measured table: for
# two terms they cross somewhat before, for one somewhat after.
DECIMAL_JUMP_FROM = 4_000_000

# What the parts of a jump to an index cost, for each 1 of the index: a product takes three transforms of its factors, a
# square two. The text was measured.
SQUARE, PRODUCT, TEXT = 2.0, 3.0, 0.2


def term_text(n: int, progress: Progress | None = None) -> bytes:
    """Return the text of F(n)."""
    if n < DECIMAL_JUMP_FROM:
        return text_of_integer(gmpy2.fib(n))
    return term_by_decimal(n, progress)


def pair_text(n: int, progress: Progress | None = None) -> tuple[bytes, bytes]:
    """Return the texts of F(n) and F(n + 1)."""
    if n < DECIMAL_JUMP_FROM:
        following, this = gmpy2.fib2(n + 1)
        return text_of_integer(this), text_of_integer(following)
    return pair_by_decimal(n, progress)


def text_of_integer(value: gmpy2.mpz) -> bytes:
    """Return the decimal text of *value*; unlike ``str(int)`` it knows no limit of digits."""
    text: str = value.digits()
    return text.encode()


def term_by_decimal(n: int, progress: Progress | None = None) -> bytes:
    """Return the text of F(n), for n >= 2: doubled up to half of *n*, then one product with a Lucas number.

    With L(k) = 2 F(k - 1) + F(k): F(2k) = F(k) L(k) and F(2k + 1) = F(k + 1) L(k) - (-1)^k.
    """
    context, half = exact_context(), n // 2
    meter = Meter(progress, doubling_cost(half) + PRODUCT * half + TEXT * n)
    previous, this = doubled(half, context, meter)
    lucas = context.add(context.add(previous, previous), this)
    factor = context.add(previous, this) if n % 2 else this
    del previous, this  # of a term with millions of digits each copy counts
    term = context.multiply(factor, lucas)
    meter.spend(PRODUCT * half)
    del factor, lucas
    if n % 2:
        term = context.add(term, Decimal(1 if half % 2 else -1))
    return str(term).encode()


def pair_by_decimal(n: int, progress: Progress | None = None) -> tuple[bytes, bytes]:
    """Return the texts of F(n) and F(n + 1), for n >= 0."""
    meter = Meter(progress, doubling_cost(n + 1) + 2 * TEXT * n)
    this, following = doubled(n + 1, exact_context(), meter)
    first = str(this).encode()
    del this
    return first, str(following).encode()


def doubled(n: int, context: Context, meter: "Meter") -> tuple[Decimal, Decimal]:
    """Return (F(n - 1), F(n)) for n >= 0, with F(-1) = 1, by fast doubling with two squarings for each bit of *n*.

    The identities are those of the GMP manual, chapter "Fibonacci Numbers Algorithm":
    F(2k + 1) = 4 F(k)^2 - F(k - 1)^2 + 2 (-1)^k and F(2k - 1) = F(k)^2 + F(k - 1)^2.
    """
    previous, this = Decimal(1), Decimal(0)
    k = 0
    for bit in format(n, "b"):
        square = context.multiply(this, this)
        meter.spend(SQUARE * k)
        previous_square = context.multiply(previous, previous)
        meter.spend(SQUARE * k)
        sign = Decimal(-2 if k % 2 else 2)
        above = context.add(context.subtract(context.multiply(Decimal(4), square), previous_square), sign)
        below = context.add(square, previous_square)
        del square, previous_square
        middle = context.subtract(above, below)
        k = 2 * k + int(bit)
        previous, this = (middle, above) if bit == "1" else (below, middle)
        del above, below, middle
    return previous, this


def doubling_cost(n: int) -> float:
    """Return what ``doubled(n, …)`` spends."""
    return sum(2 * SQUARE * (n >> shift) for shift in range(1, n.bit_length() + 1))


class Meter:
    """Tells *progress* what share of *total* has been spent."""

    def __init__(self, progress: Progress | None, total: float) -> None:
        self._progress = progress
        self._total = total
        self._spent = 0.0

    def spend(self, cost: float) -> None:
        """Add *cost* to what has been spent, and tell."""
        self._spent += cost
        if self._progress and cost:
            self._progress(self._spent / self._total)
