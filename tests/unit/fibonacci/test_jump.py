"""Jumps give the right digits by either means, and tell honestly how far they are."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fibonacci import decimal_text, digits, terms_text
from fibonacci.exact import exact_context
from fibonacci.jump import (
    DECIMAL_JUMP_FROM,
    Meter,
    doubled,
    doubling_cost,
    pair_by_decimal,
    pair_text,
    term_by_decimal,
    term_text,
)
from oracle import by_matrix, by_matrix_modulo, modulo, text_of

# Primes of different lengths; the texts of two different numbers agree modulo all of them by a chance of 10**-46.
PRIMES = [2**31 - 1, 2**61 - 1, 10**18 + 9, 97]


@given(st.integers(2, 60_000))
def test_both_means_agree_with_oracle(n: int) -> None:
    this, following = text_of(by_matrix(n)), text_of(by_matrix(n + 1))
    assert term_text(n) == term_by_decimal(n) == this
    assert pair_text(n) == pair_by_decimal(n) == (this, following)


@pytest.mark.parametrize("n", range(130))
def test_first_terms_are_right_by_either_means(n: int) -> None:
    this, following = text_of(by_matrix(n)), text_of(by_matrix(n + 1))
    assert term_text(n) == this
    assert pair_text(n) == pair_by_decimal(n) == (this, following)
    if n >= 2:
        assert term_by_decimal(n) == this


@pytest.mark.parametrize("n", [DECIMAL_JUMP_FROM - 2, DECIMAL_JUMP_FROM - 1, DECIMAL_JUMP_FROM, DECIMAL_JUMP_FROM + 1])
def test_both_means_agree_where_they_cross(n: int) -> None:
    assert term_text(n) == term_by_decimal(n)
    assert pair_text(n) == pair_by_decimal(n)
    assert pair_text(n)[0] == term_text(n)


@pytest.mark.parametrize("n", [5_000_001, 8_388_608, 10_000_000])
def test_deep_terms_agree_with_oracle_modulo_primes(n: int) -> None:
    text = term_text(n)
    assert len(text) == digits(n)
    assert [modulo(text, prime) for prime in PRIMES] == [by_matrix_modulo(n, prime) for prime in PRIMES]


@settings(max_examples=4)
@given(st.integers(DECIMAL_JUMP_FROM, DECIMAL_JUMP_FROM + 500_000))
def test_walk_from_a_deep_jump_agrees_with_oracle_modulo_primes(n: int) -> None:
    for index, text in enumerate(terms_text(n, 4), n):
        assert len(text) == digits(index)
        assert modulo(text, PRIMES[0]) == by_matrix_modulo(index, PRIMES[0])


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("start", [0, 1, 1_000, DECIMAL_JUMP_FROM, DECIMAL_JUMP_FROM + 7])
def test_progress_grows_and_ends_with_one_before_the_first_term(start: int, count: int) -> None:
    told: list[float] = []
    next(terms_text(start, count, progress=told.append))
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert all(0 < share < 1 for share in told[:-1])
    if start >= DECIMAL_JUMP_FROM:
        assert len(told) > 10


def test_progress_of_chunks_is_that_of_their_terms() -> None:
    told: list[float] = []
    next(decimal_text(DECIMAL_JUMP_FROM, 1, progress=told.append))
    assert len(told) > 10
    assert told[-1] == 1.0


def test_without_terms_there_is_no_progress() -> None:
    assert list(terms_text(DECIMAL_JUMP_FROM, 0, progress=pytest.fail)) == []


@given(st.integers(0, 10**9))
def test_cost_of_doubling_is_about_two_squares_of_each_half(n: int) -> None:
    assert doubling_cost(n) <= 4 * n


@given(st.integers(1, 3_000))
def test_doubling_spends_what_it_is_said_to_cost(n: int) -> None:
    told: list[float] = []
    doubled(n, exact_context(), Meter(told.append, max(doubling_cost(n), 1)))
    assert told[-1:] == ([pytest.approx(1)] if n > 1 else [])


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("text", [terms_text, decimal_text])
def test_exception_of_progress_ends_the_jump(text: Callable[..., object]) -> None:
    told: list[float] = []

    def stop_halfway(share: float) -> None:
        told.append(share)
        if share > 0.2:
            raise StoppedError

    with pytest.raises(StoppedError):
        list(text(DECIMAL_JUMP_FROM, 1, progress=stop_halfway))  # type: ignore[call-overload]
    assert told[-1] < 0.5
