"""Waiting for a condition, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Generous: a slow machine is no failure. A test that passes does not wait for it.
DEADLINE = 90.0


def eventually(outcome: Callable[[], T], deadline: float = DEADLINE, pause: float = 0.25) -> T:
    """Return what *outcome* returns once it is true; until then it may be false, fail an assertion or reach nobody."""
    until = time.monotonic() + deadline
    while True:
        try:
            result = outcome()
            last: object = result
        except (AssertionError, OSError) as error:
            result, last = None, error
        if result:
            return result
        assert time.monotonic() < until, f"not within {deadline:.0f} s; at the last look: {last!r}"
        time.sleep(pause)
