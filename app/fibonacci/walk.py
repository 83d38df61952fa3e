"""From two consecutive terms to the text of those after them, by addition, without converting a radix for each.

Three ways of adding, each the fastest for terms of some length; docs/performance.rst has the measured table. All take
the texts of the two terms before the first one that they give.
"""

from binascii import hexlify, unhexlify
from collections.abc import Generator, Iterator
from decimal import Decimal

from gmpy2 import fma, mpz

from fibonacci.exact import exact_context

# Where the ways cross, by index. Up to here (125 digits) a Python integer is converted sooner than anything else is
# called, though that is quadratic in its length.
DECIMAL_FROM = 600
# From here (418 digits) the digits are the cost, not the calls, and packed ones cost least.
PACKED_FROM = 2_000

# Packed integers of 6s and 1s are made for terms longer by this share, so that they are made seldom.
ROOM = 16


def following(start: int, count: int, previous: bytes, this: bytes) -> Iterator[bytes]:
    """Return the text of F(start) … F(start + count - 1), given that of F(start - 2) and F(start - 1)."""
    if start >= PACKED_FROM:
        return by_packed(count, previous, this)
    return _over_the_crossings(start, count, previous, this)


def _over_the_crossings(start: int, count: int, previous: bytes, this: bytes) -> Iterator[bytes]:
    if start < DECIMAL_FROM:
        length = min(count, DECIMAL_FROM - start)
        previous, this = yield from by_integers(length, previous, this)
        start, count = start + length, count - length
    if start < PACKED_FROM:
        length = min(count, PACKED_FROM - start)
        previous, this = yield from by_decimal(length, previous, this)
        start, count = start + length, count - length
    yield from by_packed(count, previous, this)


def by_integers(count: int, previous: bytes, this: bytes) -> Generator[bytes, None, tuple[bytes, bytes]]:
    """Yield *count* terms, each a Python integer converted; return the last two. Up to Python's 4,300 digits."""
    a, b = int(previous), int(this)
    for _ in range(count):
        a, b = b, a + b
        yield b"%d" % b
    return b"%d" % a, b"%d" % b


def by_decimal(count: int, previous: bytes, this: bytes) -> Generator[bytes, None, tuple[bytes, bytes]]:
    """Yield *count* terms, added in base 10**19, the base of ``decimal``; return the last two."""
    add = exact_context().add
    a, b = Decimal(previous.decode()), Decimal(this.decode())
    for _ in range(count):
        a, b = b, add(a, b)
        yield str(b).encode()
    return str(a).encode(), str(b).encode()


def by_packed(count: int, previous: bytes, this: bytes) -> Iterator[bytes]:
    """Yield *count* terms, added as binary-coded decimals: a digit in each 4 bits of an integer of GMP.

    The hexadecimal text of such an integer is the decimal text of the term. The sum of two digits and a carry is at
    most 19; with 6 more it passes 15, and so carries into the next digit, just when it is 10 or more. Where
    bit 0 of a digit is not the exclusive or of what was added (6 adds nothing to it), a carry has come in. Each carry
    was worth 16 to its digit in the plain sum but should be worth 10: 6 are added for it.
    """
    a, b, length = packed(previous), packed(this), len(this)
    del previous, this  # of terms with millions of digits each copy counts
    covered = 0
    for _ in range(count):
        if length >= covered:
            size = (length + length // ROOM) // 2 + 8
            sixes, ones = mpz.from_bytes(b"\x66" * size, "big"), mpz.from_bytes(b"\x11" * size, "big")
            carries, covered = ones << 4, 2 * size
        plain = a + b
        # fma is exact for integers: the product and the sum in one call.
        a, b = b, fma(((a ^ b ^ (plain + sixes)) & carries) >> 4, 6, plain)
        length = (b.bit_length() + 3) >> 2
        text = hexlify(b.to_bytes((length + 1) >> 1, "big"))
        yield text[1:] if length & 1 else text


def packed(text: bytes) -> mpz:
    """Return the integer whose hexadecimal digits are those of *text*."""
    return mpz.from_bytes(unhexlify(text if len(text) % 2 == 0 else b"0" + text), "big")
