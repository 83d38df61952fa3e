"""``python -m fibonacci``: terms to standard output, as text, JSON or one JSON document a line."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator

from fibonacci import LARGEST_INDEX, decimal_text, terms_text, total_digits

# How often progress is shown, in seconds.
PAUSE = 0.2

# Leaves the cursor on an empty line.
CLEAR = "\r\033[K"


def main() -> None:
    """Print the terms that the arguments ask for."""
    # As other commands do: a reader that has seen enough, or Ctrl-C, ends this one at once and without a word. The
    # shell reports 141 and 130. Python's own way waits for GMP, which may take minutes.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    start, count, form = _arguments()
    progress = Progress(start, count)
    try:
        if sys.stdout is None:
            raise OSError("standard output is closed")
        for piece in FORMATS[form](start, count, progress):
            sys.stdout.buffer.write(piece)
            progress.written(len(piece))
        sys.stdout.buffer.flush()
    except OSError as error:
        progress.clear()
        sys.stderr.write(f"python -m fibonacci: cannot write: {error.strerror or error}\n")
        sys.stderr.flush()
        os._exit(1)  # without a second try to write what is left
    progress.clear()


def text(start: int, count: int, progress: "Progress") -> Iterator[bytes]:
    """Yield a line for each term."""
    yield from decimal_text(start, count, progress=progress.calculated)
    if count:
        yield b"\n"


def json(start: int, count: int, progress: "Progress") -> Iterator[bytes]:
    """Yield one document with all terms; like the service's, as strings."""
    quote = b'"' if count else b""
    yield b'{"start":%d,"count":%d,"terms":[%b' % (start, count, quote)
    yield from decimal_text(start, count, b'","', progress=progress.calculated)
    yield quote + b"]}\n"


def ndjson(start: int, count: int, progress: "Progress") -> Iterator[bytes]:
    """Yield a document for each term, on a line of its own."""
    for n, term in enumerate(terms_text(start, count, progress=progress.calculated), start):
        yield b'{"n":%d,"digits":%d,"value":"%b"}\n' % (n, len(term), term)


FORMATS = {"text": text, "json": json, "ndjson": ndjson}


class Progress:
    """A line on the terminal, if standard error is one and the terms go elsewhere."""

    def __init__(self, start: int, count: int) -> None:
        self._shown = sys.stderr is not None and sys.stderr.isatty() and not _goes_to_the_same_place()
        self._start = start
        self._total = total_digits(start, count)
        self._written = 0
        self._next = time.monotonic() + PAUSE

    def calculated(self, share: float) -> None:
        """Show how much of the jump to the first term is done."""
        self._show(f"calculating F({self._start}): {share:.0%}")

    def written(self, length: int) -> None:
        """Show how much is written, after *length* more bytes."""
        self._written += length
        # What stands between the digits is not counted in the total.
        self._show(f"writing: {min(self._written / (self._total or 1), 1):.0%}")

    def clear(self) -> None:
        """Leave no trace."""
        if self._shown:
            sys.stderr.write(CLEAR)
            sys.stderr.flush()

    def _show(self, message: str) -> None:
        if self._shown and time.monotonic() >= self._next:
            self._next = time.monotonic() + PAUSE
            sys.stderr.write(CLEAR + message)
            sys.stderr.flush()


def _goes_to_the_same_place() -> bool:
    return sys.stdout is not None and os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno())


def _arguments() -> tuple[int, int, str]:
    parser = argparse.ArgumentParser(
        prog="python -m fibonacci",
        description="Print terms of the Fibonacci sequence: F(0) = 0, F(1) = 1, and each the sum of the two before it.",
        epilog="Memory is a few terms, however many are printed. Example: python -m fibonacci 10",
        allow_abbrev=False,
    )
    # Read here, not by argparse, since the bound of the one depends on the other.
    parser.add_argument("terms", nargs="?", metavar="COUNT", help="how many terms; the same as --count")
    parser.add_argument("--start", default="0", metavar="N", help=f"first index, up to {LARGEST_INDEX} (default: 0)")
    parser.add_argument("--count", metavar="COUNT", help="how many terms")
    parser.add_argument("--format", choices=FORMATS, default="text", help="default: %(default)s")
    given = parser.parse_args()
    counts = [count for count in (given.terms, given.count) if count is not None]
    if len(counts) != 1:
        parser.error("give the number of terms once: as COUNT or as --count")
    start = _natural(parser, "--start", given.start, LARGEST_INDEX)
    return start, _natural(parser, "COUNT", counts[0], LARGEST_INDEX + 1 - start), given.format


def _natural(parser: argparse.ArgumentParser, name: str, value: str, maximum: int) -> int:
    # The length first: int() refuses thousands of digits in words of its own.
    if not (value.isascii() and value.isdigit() and len(value) <= 20 and int(value) <= maximum):
        parser.error(f"{name} must be an integer from 0 to {maximum}")
    return int(value)


if __name__ == "__main__":
    main()
