"""What a walk is resumed from is checked: it comes from storage, and a wrong digit would go on for ever."""

from decimal import Decimal

from gmpy2 import lucasu_mod

from fibonacci.exact import exact_context
from fibonacci.length import digits

# A prime of one word of ``decimal``, so that the remainder takes time linear in the digits.
MODULUS = 2**61 - 1


def require_consecutive(start: int, resume: tuple[bytes, bytes]) -> None:
    """Raise ValueError with the reason unless *resume* is taken for the texts of F(start - 2) and F(start - 1).

    Checked are, of both, the length, that all of it is digits, and the remainder by a prime of 61 bits. So a wrong,
    swapped, missing or additional digit is always found; any other damage passes with a chance of 1 in 10**18, unless
    it was made to pass: this is no protection from an enemy.
    """
    if start < 2:
        raise ValueError("resume needs a start of at least 2: there are not two terms before it")
    if not (isinstance(resume, tuple) and len(resume) == 2 and all(isinstance(text, bytes) for text in resume)):
        raise ValueError("resume must be a pair of bytes")
    for index, text in zip((start - 2, start - 1), resume, strict=True):
        # The length first: nothing is calculated with what is far too long.
        if len(text) != digits(index) or not text.isdigit() or remainder(text) != remainder_of_term(index):
            raise ValueError(f"resume does not hold F({start - 2}) and F({start - 1}): the text of F({index}) differs")


def remainder(text: bytes) -> int:
    """Return the number that *text* is, modulo MODULUS."""
    return int(exact_context().remainder(Decimal(text.decode()), Decimal(MODULUS)))


def remainder_of_term(n: int) -> int:
    """Return F(n) modulo MODULUS; the Lucas sequence U(1, -1) is the Fibonacci sequence."""
    return int(lucasu_mod(1, -1, n, MODULUS))
