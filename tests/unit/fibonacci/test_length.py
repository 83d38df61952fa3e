"""Lengths by logarithm are exact."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fibonacci import LARGEST_INDEX, decimal_text, digits, total_digits
from fibonacci.length import FIRST_BY_LOGARITHM, LOG_PHI, LOG_ROOT_5, SCALE, floor_sum
from oracle import by_loop


def test_lengths_agree_with_the_text_of_the_first_terms() -> None:
    assert [digits(n) for n in range(20_000)] == [len(str(term)) for term in by_loop(20_000)]


def test_lengths_are_proven_up_to_the_largest_index() -> None:
    # Each floor at the upper end of its error interval is at least the one at the lower end. Their sums are equal:
    # so is each pair, and the floor between them is right. The ends: each logarithm is rounded down by less than 1
    # unit, and Binet's fraction is worth far less than 1 unit from FIRST_BY_LOGARITHM on.
    count = LARGEST_INDEX + 1 - FIRST_BY_LOGARITHM
    lower = floor_sum(count, SCALE, LOG_PHI, LOG_PHI * FIRST_BY_LOGARITHM - LOG_ROOT_5 - 2)
    upper = floor_sum(count, SCALE, LOG_PHI + 1, (LOG_PHI + 1) * FIRST_BY_LOGARITHM - LOG_ROOT_5 + 1)
    assert lower == upper


@given(st.integers(0, 100_000))
def test_length_is_the_length_of_the_text(n: int) -> None:
    assert digits(n) == sum(len(chunk) for chunk in decimal_text(n, 1))


@given(st.integers(0, 5_000), st.integers(0, 300))
def test_total_is_the_sum_of_the_lengths(start: int, count: int) -> None:
    assert total_digits(start, count) == sum(digits(n) for n in range(start, start + count))


@pytest.mark.parametrize(("n", "length"), [(0, 1), (1, 1), (7, 2), (1_000_000, 208_988), (10_000_000, 2_089_877)])
def test_known_lengths(n: int, length: int) -> None:
    assert digits(n) == length


@given(st.integers(0, 60), st.integers(1, 40), st.integers(0, 90), st.integers(-90, 90))
def test_floor_sum_agrees_with_the_sum(count: int, divisor: int, step: int, offset: int) -> None:
    assert floor_sum(count, divisor, step, offset) == sum((step * i + offset) // divisor for i in range(count))


@pytest.mark.parametrize("n", [-1, LARGEST_INDEX + 1, True, 1.5, "7"])
def test_wrong_index_is_refused(n: Any) -> None:
    with pytest.raises(ValueError, match="start must"):
        digits(n)


@pytest.mark.parametrize("count", [-1, LARGEST_INDEX + 2, True])
def test_wrong_count_is_refused(count: Any) -> None:
    with pytest.raises(ValueError, match="count must"):
        total_digits(0, count)
