"""The terms as integers: walking, resuming and jumping."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import gmpy2

from fibonacci.checks import require_integer, require_natural

# Far beyond it (F(10**9) has 208,987,640 digits) GMP would not raise but abort the process for want of memory.
LARGEST_INDEX = 10**9

BITS_PER_TERM = math.log2((1 + math.sqrt(5)) / 2)


class State(NamedTuple):
    """Where a walk stands after *iteration* terms: ready to give ``future`` next.

    ``current`` is F(iteration - 1) and ``future`` is F(iteration), with F(-1) = 1, so that the state of a walk
    that has not begun is (0, 1, 0).
    """

    iteration: int
    current: int
    future: int


def xsequence(count: int, iteration: int = 0, current: int = 1, future: int = 0) -> Iterator[int]:
    """Walk the sequence from a state up to, not including, F(count).

    *count* is the absolute end, whatever the state: ``xsequence(n + k, *state_at(n))`` gives F(n) … F(n + k - 1).
    An end that the state has already reached, or a negative one, gives nothing.

    Raises ValueError, at the call and not at the first term, for a state that is none of the sequence.
    """
    require_integer("count", count)
    _require_state(State(iteration, current, future))
    return _walk(count - iteration, current, future)


def sequence(count: int) -> list[int]:
    """Return [F(0), …, F(count - 1)]; a negative *count* gives an empty list."""
    return list(xsequence(count))


def state_at(n: int) -> State:
    """Return the state after *n* terms, as plain ints, without walking there.

    *n* is from 0 to LARGEST_INDEX, else ValueError. The jump is GMP's ``mpz_fib2_ui`` (fast doubling).
    """
    require_natural("n", n, LARGEST_INDEX)
    future, current = gmpy2.fib2(n)
    return State(n, int(current), int(future))


def _walk(length: int, current: int, future: int) -> Iterator[int]:
    for _ in range(length):
        yield future
        current, future = future, current + future


def _require_state(state: State) -> None:
    """Raise ValueError with the reason unless *state* is ``state_at(state.iteration)``."""
    require_natural("iteration", state.iteration, LARGEST_INDEX)
    require_natural("current", state.current)
    require_natural("future", state.future)
    # The length first: a wrong index must not cost a jump to numbers much longer than those at hand.
    right_length = abs(state.future.bit_length() - state.iteration * BITS_PER_TERM) <= 2
    if not right_length or state != state_at(state.iteration):
        raise ValueError("current and future are not the consecutive members F(iteration - 1) and F(iteration)")
