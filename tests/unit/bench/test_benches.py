"""Benches measure both sides alike, and write what they measured into the page; how fast anything is is no test."""

import importlib
from itertools import count

import pytest
from tests.bench.__main__ import PAGE, SUBJECTS, replaced
from tests.bench.tables import Comparison, Table, duration, medians, ratios

PROSE = "Title\n=====\n\nProse.\n"


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_subject_has_a_title_tables_and_its_section_of_the_page(subject: str) -> None:
    bench = importlib.import_module(f"tests.bench.{subject}")
    assert callable(bench.tables)
    begin, end = f".. begin {subject}\n", f".. end {subject}\n"
    section = PAGE.read_text().partition(begin)[2].partition(end)[0]
    assert section.startswith(f"\n{bench.TITLE}\n{'-' * len(bench.TITLE)}\n")
    assert "=\n" in section


def test_section_is_added_once_and_then_replaced_in_place() -> None:
    page = replaced(replaced(PROSE, "one", "first"), "two", "second")
    assert page == f"{PROSE}\n.. begin one\n\nfirst\n\n.. end one\n\n.. begin two\n\nsecond\n\n.. end two\n"
    assert replaced(page, "one", "third") == page.replace("first", "third")


def test_sides_are_run_in_turn_and_the_median_counts() -> None:
    told: list[str] = []
    # A clock that goes on by 1, 2, 3, … from one look to the next but one.
    ticks = count()
    times = medians([lambda: told.append("ours"), lambda: told.append("other")], 3, lambda: next(ticks) ** 2 / 2)
    assert told == ["ours", "other"] * 3
    assert times == [4.5, 6.5]


@pytest.mark.parametrize(("wanted", "verdict"), [(0.5, "yes"), (1, "yes"), (1.5, "NO")])
def test_ratio_that_is_not_met_is_said_so(wanted: float, verdict: str) -> None:
    ticks = count()
    comparison = Comparison("case", lambda: None, "usual", lambda: None, wanted, 3)
    table = ratios("About.", [comparison], lambda: float(next(ticks)))
    assert list(table.rows) == [["case", "1 s", "usual", "1 s", "1", f"{wanted:.3g}", verdict]]


def test_table_is_restructured_text() -> None:
    assert Table("About.", ["a", "long"], [["word", "b"]]).rst() == (
        "About.\n\n==== ====\na    long\n==== ====\nword b\n==== ===="
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0000015, "1.5 us"), (0.00125, "1.25 ms"), (0.5, "500 ms"), (1, "1 s"), (39.27, "39.3 s")]
)
def test_durations_have_three_digits_and_a_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text
