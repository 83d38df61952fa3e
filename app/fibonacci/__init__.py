"""The Fibonacci sequence: pure functions, no input or output.

F(0) = 0, F(1) = 1, and each further term is the sum of the two before it.
"""

from fibonacci.decimaltext import decimal_text, terms_text
from fibonacci.length import digits, total_digits
from fibonacci.sequence import LARGEST_INDEX, State, sequence, state_at, xsequence

__all__ = [
    "LARGEST_INDEX",
    "State",
    "decimal_text",
    "digits",
    "sequence",
    "state_at",
    "terms_text",
    "total_digits",
    "xsequence",
]
