"""The whole sequence as one text, cut into chunks.

The text is the terms from F(0) on with SEPARATOR between them, so that every page's terms are a slice of it. How long
terms are is known in closed form: so is the place of each, without looking at any.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator

from fibonacci import LARGEST_INDEX, decimal_text, total_digits
from web.compression import Deflated, deflate

# What stands between two terms in a JSON array of strings.
SEPARATOR = b'","'

# Large enough that its compression's overhead is below a thousandth, small enough that a page's edges, which are cut
# anew, cost little.
CHUNK_BYTES = 64 * 2**10


def terms_length(start: int, count: int) -> int:
    """Return the number of bytes of F(start) … F(start + count - 1) with their separators, for a count of 1 or more."""
    return total_digits(start, count) + len(SEPARATOR) * (count - 1)


def position(n: int) -> int:
    """Return the place of F(n)'s first digit in the text."""
    return terms_length(0, n) + len(SEPARATOR) if n else 0


def span(start: int, count: int) -> range:
    """Return the places of F(start) … F(start + count - 1) in the text, for a count of 1 or more."""
    first = position(start)
    return range(first, first + terms_length(start, count))


def term_at(place: int) -> int:
    """Return the index of the term that has *place*, or stands before the separator that has it."""
    return bisect_right(range(LARGEST_INDEX + 1), place, key=position) - 1


def calculated(start: int, count: int, progress: Callable[[float], None] | None = None) -> Iterator[Deflated]:
    """Yield the text of F(start) … F(start + count - 1), calculated, cut where chunks end and compressed.

    *progress* is told how far the jump to F(start) is, from 0 to 1.
    """
    text = decimal_text(start, count, SEPARATOR, CHUNK_BYTES, progress=progress)
    return map(deflate, cut(text, span(start, count).start))


def cut(stretches: Iterable[bytes], place: int) -> Iterator[bytes]:
    """Yield what *stretches* hold, a text that begins at *place*, in pieces that end where chunks end."""
    buffer = bytearray()
    room = CHUNK_BYTES - place % CHUNK_BYTES
    for stretch in stretches:
        buffer += stretch
        while len(buffer) >= room:
            yield bytes(memoryview(buffer)[:room])
            del buffer[:room]
            room = CHUNK_BYTES
    if buffer:
        yield bytes(buffer)


def slice_of(stretches: Iterable[Deflated], place: int, places: range) -> Iterator[Deflated]:
    """Yield the part of the text at *places* out of *stretches* in a row, the first of which begins at *place*.

    The same bytes as ``calculated`` gives; only stretches that *places* do not fill are compressed anew.
    """
    for stretch in stretches:
        low, high = max(places.start - place, 0), min(places.stop - place, stretch.length)
        if low == 0 and high == stretch.length:
            yield stretch
        elif low < high:
            yield deflate(stretch.inflated()[low:high])
        place += stretch.length
