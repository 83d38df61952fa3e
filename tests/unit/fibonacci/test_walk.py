"""Every way of adding gives the same digits as the oracle, wherever the walk begins and whatever it crosses."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fibonacci import digits, terms_text
from fibonacci.jump import pair_text, term_text
from fibonacci.walk import DECIMAL_FROM, PACKED_FROM, by_decimal, by_integers, by_packed, following
from oracle import by_loop, text_of

Way = Callable[[int, bytes, bytes], Iterator[bytes]]
WAYS = [by_integers, by_decimal, by_packed]

LOOP = by_loop(6_100)
TEXTS = [text_of(term) for term in LOOP]

# Python's digit limit, where the way changes, and where the walk begins.
EDGES = [0, 1, 2, DECIMAL_FROM, PACKED_FROM, 20_578]


@pytest.mark.parametrize("way", WAYS)
@given(start=st.integers(2, 6_000), count=st.integers(0, 60))
def test_way_agrees_with_oracle(way: Way, start: int, count: int) -> None:
    assert list(way(count, *TEXTS[start - 2 : start])) == TEXTS[start : start + count]


@pytest.mark.parametrize("way", [by_integers, by_decimal])
@given(start=st.integers(2, 6_000), count=st.integers(0, 9))
def test_way_ends_with_the_last_two_terms(way: Way, start: int, count: int) -> None:
    def last() -> Iterator[bytes]:
        pair = yield from way(count, *TEXTS[start - 2 : start])  # type: ignore[misc]
        yield from pair

    assert list(last())[-2:] == TEXTS[start + count - 2 : start + count]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("start", [n for n in range(2, 1_000) if digits(n) > digits(n - 1)])
def test_terms_grow_by_a_digit_where_they_should(way: Way, start: int) -> None:
    assert [len(text) for text in way(2, *TEXTS[start - 2 : start])] == [digits(start), digits(start + 1)]


# Long runs of 9 and 0 carry furthest; terms of the sequence have none.
decimals = st.text("0123456789" + "9" * 20 + "0" * 10, min_size=1, max_size=300).map(lambda text: "1" + text)


@given(decimals, decimals, st.integers(1, 30))
def test_packed_digits_of_any_numbers_are_added_as_integers_are(one: str, other: str, count: int) -> None:
    a, b = sorted((int(one), int(other)))
    sums = []
    for text in by_packed(count, b"%d" % a, b"%d" % b):
        a, b = b, a + b
        sums.append(int(text) == b)
    assert sums == [True] * count


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 31, 32, 33, 127, 128, 129, 4_299])
def test_a_carry_runs_through_all_packed_digits(length: int) -> None:
    nines = b"9" * length
    assert next(by_packed(1, b"1", nines)) == b"1" + b"0" * length
    assert next(by_packed(1, nines, nines)) == b"1" + b"9" * (length - 1) + b"8"


def test_one_walk_over_every_crossing_is_right_in_every_term() -> None:
    # Beyond Python's digit limit, and often enough beyond what the packed integers of 6s and 1s have room for.
    previous, this = 1, 0
    for text in terms_text(0, 24_000):
        assert text == text_of(this)
        previous, this = this, previous + this


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("before", [0, 1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7])
def test_walk_around_an_edge_agrees_with_jumps(edge: int, before: int, count: int) -> None:
    start = max(edge - before, 0)
    assert list(terms_text(start, count)) == [term_text(n) for n in range(start, start + count)]


@settings(max_examples=30)
@given(st.integers(2, 400_000), st.integers(1, 12))
def test_packed_and_decimal_walks_end_where_a_jump_lands(start: int, count: int) -> None:
    pair = pair_text(start - 2)
    packed = list(by_packed(count, *pair))
    assert packed == list(by_decimal(count, *pair))
    assert packed[-1] == term_text(start + count - 1)


@settings(max_examples=30)
@given(st.integers(2, 50_000), st.integers(2, 40))
def test_each_term_is_the_sum_of_the_two_before_it(start: int, count: int) -> None:
    texts = list(following(start, count, *pair_text(start - 2)))
    assert [len(text) for text in texts] == [digits(n) for n in range(start, start + count)]
    # The last digits alone: a carry lost or doubled anywhere is found by the tests above.
    tails = [int(text[-9:]) for text in texts]
    assert all((a + b - c) % 10**9 == 0 for (a, b), c in zip(pairwise(tails), tails[2:], strict=False))
