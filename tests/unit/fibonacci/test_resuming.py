"""A walk goes on from two texts as if it had never stopped, and from nothing else."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fibonacci import decimal_text, terms_text
from fibonacci.resuming import remainder_of_term
from oracle import by_loop, by_matrix, by_matrix_modulo, text_of

TEXTS = [text_of(term) for term in by_loop(6_100)]


@given(st.integers(2, 6_000), st.integers(0, 40))
def test_resumed_walk_agrees_with_oracle(start: int, count: int) -> None:
    resume = (TEXTS[start - 2], TEXTS[start - 1])
    assert list(terms_text(start, count, resume=resume)) == TEXTS[start : start + count]
    assert b"".join(decimal_text(start, count, b",", 11, resume=resume)) == b",".join(TEXTS[start : start + count])


def test_walk_is_resumed_beyond_the_digit_limit_of_python() -> None:
    resume = (text_of(by_matrix(20_576)), text_of(by_matrix(20_577)))
    assert list(terms_text(20_578, 2, resume=resume)) == [text_of(by_matrix(n)) for n in (20_578, 20_579)]


def test_resumed_walk_tells_at_once_that_it_is_there() -> None:
    told: list[float] = []
    next(terms_text(5_000, 3, resume=(TEXTS[4_998], TEXTS[4_999]), progress=told.append))
    assert told == [1.0]


@given(st.integers(0, 10**9))
def test_remainder_agrees_with_oracle(n: int) -> None:
    assert remainder_of_term(n) == by_matrix_modulo(n, 2**61 - 1)


@given(st.integers(2, 6_000), st.booleans(), st.data())
def test_any_other_digit_is_refused(start: int, first: bool, data: st.DataObject) -> None:
    pair = [TEXTS[start - 2], TEXTS[start - 1]]
    text = pair[not first]
    position = data.draw(st.integers(0, len(text) - 1))
    digit = data.draw(st.sampled_from([b"%d" % digit for digit in range(10)]))
    if text[position : position + 1] != digit:
        pair[not first] = text[:position] + digit + text[position + 1 :]
        with pytest.raises(ValueError, match=r"resume does not hold F\(\d+\) and F\(\d+\)"):
            terms_text(start, 1, resume=(pair[0], pair[1]))


def wrong(start: int, previous: bytes, this: bytes) -> Any:
    return pytest.param(start, (previous, this))


@pytest.mark.parametrize(
    ("start", "resume"),
    [
        wrong(12, b"89", b"55"),  # swapped
        wrong(13, b"55", b"89"),  # of another start
        wrong(12, b"055", b"89"),
        wrong(12, b"55", b" 89"),
        wrong(12, b"55", b"8_9"),
        wrong(12, b"55", b"8\n"),
        wrong(12, b"+5", b"89"),
        wrong(12, b"", b""),
        wrong(12, b"55", b"9" * 100_000),
        wrong(12, b"55", "8٩".encode()),  # an Arabic digit nine
        wrong(2, b"1", b"0"),
        wrong(10**9, b"55", b"89"),
    ],
)
def test_what_cannot_be_resumed_from_is_refused_at_the_call(start: int, resume: tuple[bytes, bytes]) -> None:
    for function in (terms_text, decimal_text):
        with pytest.raises(ValueError, match=r"resume does not hold"):
            function(start, 1, resume=resume)


@pytest.mark.parametrize("start", [0, 1])
def test_nothing_is_resumed_where_there_are_no_two_terms_before(start: int) -> None:
    with pytest.raises(ValueError, match="resume needs a start of at least 2"):
        terms_text(start, 1, resume=(b"1", b"1"))


@pytest.mark.parametrize("resume", [("55", "89"), (b"55",), (55, 89), b"55", [b"55", b"89"], (b"55", None)])
def test_wrong_type_of_resume_is_refused(resume: Any) -> None:
    with pytest.raises(ValueError, match="resume must be a pair of bytes"):
        terms_text(12, 1, resume=resume)
