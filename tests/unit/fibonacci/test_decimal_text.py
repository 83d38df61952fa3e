"""The decimal text of consecutive terms: right, bounded, and without traces in the caller's decimal context."""

import decimal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gmpy2
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fibonacci
from fibonacci import LARGEST_INDEX, decimal_text, digits, terms_text
from fibonacci.jump import DECIMAL_JUMP_FROM
from oracle import by_loop, by_matrix, text_of

# CPython refuses str(int) beyond 4,300 digits, first for this term.
FIRST_BEYOND_DIGIT_LIMIT = 20_578

TEXTS = [text_of(term) for term in by_loop(4_060)]

APP = Path(fibonacci.__file__).parent.parent


def one(n: int) -> str:
    return b"".join(decimal_text(n, 1)).decode("ascii")


def integer(text: str) -> int:
    """Convert in pieces: int() would refuse text longer than Python's digit limit."""
    value = 0
    for begin in range(0, len(text), 4_000):
        piece = text[begin : begin + 4_000]
        value = value * 10 ** len(piece) + int(piece)
    return value


@given(
    st.integers(0, 4_000),
    st.integers(0, 60),
    st.sampled_from([b"\n", b'","', b"", b", ", b"-" * 5_000]),
    st.one_of(st.integers(1, 200), st.sampled_from([1, 4_095, 4_096, 4_097, 65_536, 10**12])),
)
def test_text_agrees_with_oracle(start: int, count: int, separator: bytes, chunk_size: int) -> None:
    expected = separator.join(TEXTS[start : start + count])
    assert b"".join(decimal_text(start, count, separator, chunk_size)) == expected


@given(st.integers(0, 1_000), st.integers(0, 40), st.integers(1, 300))
def test_every_chunk_is_full_but_the_last(start: int, count: int, chunk_size: int) -> None:
    sizes = [len(chunk) for chunk in decimal_text(start, count, chunk_size=chunk_size)]
    assert all(size == chunk_size for size in sizes[:-1])
    assert all(1 <= size <= chunk_size for size in sizes[-1:])


@pytest.mark.parametrize("separator", [b"", b"\n", b'","', b"-" * 100_000])
@pytest.mark.parametrize("chunk_size", [1_001, 65_536, 10**9])
def test_chunks_over_every_length_of_term_are_the_terms_joined(separator: bytes, chunk_size: int) -> None:
    # From terms of which thousands fit into a chunk to terms longer than one.
    for start, count in ((0, 3_000), (29_990, 12), (600_000, 3)):
        expected = separator.join(terms_text(start, count))
        chunks = list(decimal_text(start, count, separator, chunk_size))
        assert b"".join(chunks) == expected
        assert {len(chunk) for chunk in chunks[:-1]} <= {chunk_size}
        assert 1 <= len(chunks[-1]) <= chunk_size


# In a process of its own: tracemalloc does not see what GMP allocates.
PEAK = """
import resource, sys
from fibonacci import decimal_text, terms_text
start, count = int(sys.argv[2]), int(sys.argv[3])
size = sum(map(len, {"terms": terms_text, "chunks": decimal_text}[sys.argv[1]](start, count)))
print(size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.parametrize("form", ["terms", "chunks"])
@pytest.mark.parametrize(("start", "count"), [(0, 20_000), (100_000, 2_000), (1_000_000, 150)])
def test_memory_does_not_grow_with_the_number_of_terms(form: str, start: int, count: int) -> None:
    def peak(count: int) -> tuple[int, int]:
        command = [sys.executable, "-c", PEAK, form, str(start), str(count)]
        told = subprocess.run(command, cwd=APP, check=True, capture_output=True, text=True).stdout
        size, memory = map(int, told.split())
        return size, memory

    (_, few), (size, many) = peak(3), peak(count)
    assert size > 30_000_000
    assert many - few < 8_000_000


def test_long_term_comes_in_bounded_chunks() -> None:
    sizes = [len(chunk) for chunk in decimal_text(100_000, 3)]
    assert max(sizes) <= 65_536
    assert sum(sizes) == digits(100_000) + digits(100_001) + digits(100_002) + 2


@given(st.integers(FIRST_BEYOND_DIGIT_LIMIT - 2, 60_000))
def test_text_is_right_beyond_the_digit_limit_of_python(n: int) -> None:
    assert integer(one(n)) == by_matrix(n)


def test_the_digit_limit_is_where_it_is_said_to_be() -> None:
    assert sys.get_int_max_str_digits() == 4_300
    with pytest.raises(ValueError, match="4300 digits"):
        str(by_matrix(FIRST_BEYOND_DIGIT_LIMIT))
    assert len(one(FIRST_BEYOND_DIGIT_LIMIT)) == 4_301


def test_walk_over_a_gap_agrees_with_jumps() -> None:
    assert b"".join(decimal_text(30_000, 4)).decode("ascii").split("\n") == [one(n) for n in range(30_000, 30_004)]


def test_millionth_term() -> None:
    text = one(1_000_000)
    assert len(text) == 208_988
    assert text.startswith("1953282128")
    assert text.endswith("8242546875")


def test_no_terms_give_no_chunk() -> None:
    assert list(decimal_text(10, 0)) == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((-1, 1), "start must not be negative"),
        ((LARGEST_INDEX + 1, 0), f"start must be at most {LARGEST_INDEX}"),
        ((0, -1), "count must not be negative"),
        ((LARGEST_INDEX, 2), "count must be at most 1"),
        ((0, 1, b",", 0), "chunk_size must be at least 1"),
        ((0, 1, b",", -1), "chunk_size must not be negative"),
        ((1.0, 1), "start must be an int"),
        ((True, 1), "start must be an int"),
        ((0, "1"), "count must be an int"),
    ],
)
def test_wrong_argument_is_refused_at_the_call(arguments: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decimal_text(*arguments)
    if len(arguments) == 2:
        with pytest.raises(ValueError, match=reason):
            terms_text(*arguments)


def test_last_term_of_all_has_none_after_it_to_calculate() -> None:
    # At the call only: the term itself would take minutes.
    terms_text(LARGEST_INDEX, 1)
    with pytest.raises(ValueError, match="count must be at most 1"):
        terms_text(LARGEST_INDEX, 2)


@pytest.mark.parametrize("start", [500, 1_000, 4_500, DECIMAL_JUMP_FROM])
def test_contexts_of_the_caller_neither_matter_nor_change(start: int) -> None:
    expected = b"\n".join(terms_text(start, 3))
    with decimal.localcontext(prec=3, rounding=decimal.ROUND_UP) as context, gmpy2.context(precision=5) as other:
        chunks = decimal_text(start, 3, chunk_size=10)
        text = next(chunks)
        assert decimal.getcontext() is context
        assert context.prec == 3
        assert gmpy2.get_context().precision == 5
        text += b"".join(chunks)
        assert not any(context.flags.values())
        assert not other.inexact
        assert decimal.Decimal(1) / decimal.Decimal(3) == decimal.Decimal("0.334")
    assert text == expected


def test_interleaved_and_concurrent_walks_do_not_disturb_each_other() -> None:
    starts = list(range(25_000, 25_032))
    with ThreadPoolExecutor(8) as pool:
        concurrent = list(pool.map(lambda start: b"".join(decimal_text(start, 20)), starts))
    assert concurrent == [b"".join(decimal_text(start, 20)) for start in starts]
    first, second = decimal_text(300, 9, chunk_size=7), decimal_text(900, 9, chunk_size=7)
    pairs = list(zip(first, second, strict=False))
    assert b"".join(chunk for chunk, _ in pairs).startswith(b"%d" % by_loop(301)[300])
    assert b"".join(chunk for _, chunk in pairs).startswith((b"%d" % by_loop(901)[900])[:50])
