"""Walking, resuming and jumping agree with an independent oracle and with the identities of the sequence."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fibonacci import LARGEST_INDEX, State, sequence, state_at, xsequence
from oracle import by_loop, by_matrix

indices = st.integers(0, 5_000)
lengths = st.integers(0, 50)

F_1000 = (
    "43466557686937456435688527675040625802564660517371780402481729089536555417949051890403879840079255169295"
    "92259308032263477520968962323987332247116164299644090653318793829896964992851600370447613779516684922887"
    "5"
)


def term(n: int) -> int:
    return state_at(n).future


def test_sequence_begins_with_zero_and_one() -> None:
    assert sequence(5) == [0, 1, 1, 2, 3]
    assert list(xsequence(5)) == [0, 1, 1, 2, 3]


@pytest.mark.parametrize("count", [0, -1, -(10**30)])
def test_no_or_negative_count_yields_nothing(count: int) -> None:
    assert list(xsequence(count)) == []
    assert sequence(count) == []


@pytest.mark.parametrize(("n", "value"), [(10, "55"), (100, "354224848179261915075"), (1000, F_1000)])
def test_known_values(n: int, value: str) -> None:
    assert str(term(n)) == value
    assert str(sequence(n + 1)[n]) == value


@given(indices)
def test_walk_agrees_with_oracle(count: int) -> None:
    assert sequence(count) == by_loop(count)


@given(st.integers(0, 100_000))
def test_jump_agrees_with_oracle(n: int) -> None:
    assert term(n) == by_matrix(n)


@given(indices, lengths)
def test_resumed_walk_goes_on_where_the_jump_lands(n: int, length: int) -> None:
    assert list(xsequence(n + length, *state_at(n))) == by_loop(n + length)[n:]


@given(indices)
def test_walk_that_has_reached_its_end_yields_nothing(n: int) -> None:
    assert list(xsequence(n, *state_at(n))) == []
    assert list(xsequence(n - 1, *state_at(n))) == []


def test_defaults_are_the_state_before_the_first_term() -> None:
    assert state_at(0) == State(iteration=0, current=1, future=0)
    assert list(xsequence(3, *state_at(0))) == list(xsequence(3))


def test_state_holds_plain_integers() -> None:
    assert {type(member) for n in (0, 1, 1_000) for member in state_at(n)} == {int}


@given(indices)
def test_cassini_identity(n: int) -> None:
    assert term(n + 1) * state_at(n).current - term(n) ** 2 == (-1) ** n


@given(indices, indices)
def test_d_ocagne_identity(m: int, n: int) -> None:
    m, n = max(m, n), min(m, n)
    assert term(m) * term(n + 1) - term(m + 1) * term(n) == (-1) ** n * term(m - n)


@given(indices, indices)
def test_gcd_of_terms_is_the_term_of_the_gcd(m: int, n: int) -> None:
    assert math.gcd(term(m), term(n)) == term(math.gcd(m, n))


@given(indices, st.sampled_from(["iteration", "current", "future"]), st.sampled_from([-2, -1, 1, 2]))
def test_state_beside_the_sequence_is_refused(n: int, member: str, change: int) -> None:
    wrong = state_at(n)._replace(**{member: getattr(state_at(n), member) + change})
    with pytest.raises(ValueError, match=r"consecutive members|must not be negative"):
        xsequence(n, *wrong)


@given(indices, indices)
def test_state_of_another_index_is_refused(n: int, other: int) -> None:
    if n != other:
        with pytest.raises(ValueError, match="consecutive members"):
            xsequence(n, *state_at(n)._replace(iteration=other))


def test_multiple_of_a_state_is_refused() -> None:
    _, current, future = state_at(50)
    with pytest.raises(ValueError, match="consecutive members"):
        xsequence(60, 50, 2 * current, 2 * future)


@pytest.mark.parametrize("wrong", [True, 1.0, "1", None, b"1"])
@pytest.mark.parametrize("name", ["count", "iteration", "current", "future"])
def test_wrong_type_is_refused_by_name(name: str, wrong: Any) -> None:
    arguments = {"count": 5, "iteration": 1, "current": 0, "future": 1} | {name: wrong}
    with pytest.raises(ValueError, match=f"^{name} must be an int, not {type(wrong).__name__}$"):
        xsequence(**arguments)


def test_absurd_iteration_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=f"iteration must be at most {LARGEST_INDEX}"):
        xsequence(5, 10**400, 0, 1)
    with pytest.raises(ValueError, match="consecutive members"):
        xsequence(5, LARGEST_INDEX, 0, 1)


@pytest.mark.parametrize("n", [-1, LARGEST_INDEX + 1, 10**30])
def test_jump_out_of_range_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match="n must"):
        state_at(n)


@pytest.mark.parametrize("n", [True, 1.0, "1"])
def test_jump_of_wrong_type_is_refused(n: Any) -> None:
    with pytest.raises(ValueError, match="n must be an int"):
        state_at(n)
