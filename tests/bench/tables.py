"""What a bench is made of: things measured against each other in one run, and the tables that this gives.

A file of this folder with ``TITLE`` and ``tables()`` is a subject. Both sides of a comparison are run in turn, so that
a busy machine is equally unkind to both; what counts is the ratio of their medians.
"""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

Run = Callable[[], object]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Table:
    """A table of a subject, with *about* as the sentences above it."""

    about: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def rst(self) -> str:
        """Return the table as reStructuredText; it reads well as plain text, too."""
        lines = [self.header, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.header))]
        rule = " ".join("=" * width for width in widths)
        written = [" ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        header, *rows = (line.rstrip() for line in written)
        return "\n".join([self.about, "", rule, header, rule, *rows, rule])


@dataclass(frozen=True)
class Comparison:
    """Ours against another way of doing the same; *wanted* is the least ratio, how many times faster ours has to be."""

    case: str
    ours: Run
    against: str
    other: Run
    wanted: float
    repeats: int = 5


def medians(runs: Iterable[Run], repeats: int, clock: Clock) -> list[float]:
    """Return the median time by *clock* of each of *runs* in seconds, all of them run in turn."""
    runs = list(runs)
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats):
        for run, taken in zip(runs, times, strict=True):
            began = clock()
            run()
            taken.append(clock() - began)
    return [statistics.median(taken) for taken in times]


def ratios(about: str, comparisons: Iterable[Comparison], clock: Clock) -> Table:
    """Measure *comparisons* by *clock* and return their table.

    ``time.process_time`` is the clock of what only calculates: what else runs on the machine disturbs it less.
    ``time.perf_counter`` is the clock of what waits.
    """
    rows = []
    for comparison in comparisons:
        ours, other = medians([comparison.ours, comparison.other], comparison.repeats, clock)
        ratio = other / ours
        verdict = "yes" if ratio >= comparison.wanted else "NO"
        numbers = [duration(ours), comparison.against, duration(other), f"{ratio:.3g}", f"{comparison.wanted:.3g}"]
        rows.append([comparison.case, *numbers, verdict])
    return Table(about, ["case", "ours", "against", "takes", "ratio", "wanted", "met"], rows)


def duration(seconds: float) -> str:
    """Return *seconds* with three digits and a fitting unit."""
    for unit, factor in (("us", 1e6), ("ms", 1e3)):
        if seconds * factor < 1_000:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"
