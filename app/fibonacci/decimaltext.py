"""The terms as decimal text, at a cost linear in their digits."""

from collections.abc import Iterator
from itertools import islice

from fibonacci.checks import require_natural
from fibonacci.jump import Progress, pair_text, term_text
from fibonacci.resuming import require_consecutive
from fibonacci.sequence import LARGEST_INDEX
from fibonacci.walk import following


def terms_text(
    start: int, count: int, resume: tuple[bytes, bytes] | None = None, progress: Progress | None = None
) -> Iterator[bytes]:
    """Return the decimal text of each of F(start) … F(start + count - 1). Memory: a few terms, whatever *count*.

    *resume* is the pair of the texts of F(start - 2) and F(start - 1): with it the walk goes on from there, where it
    otherwise jumps to *start* first. It is checked as ``require_consecutive`` says, well enough for what a disk or
    a network may do to it.

    *progress* is called while the jump is under way with the share of it that is done, by what it costs: never less
    than before, and 1.0 when the first term is ready. An exception that it raises ends the jump and goes to the caller.

    Raises ValueError, at the call, for a negative number, a term above LARGEST_INDEX or a *resume* that is none.
    """
    require_natural("start", start, LARGEST_INDEX)
    require_natural("count", count, LARGEST_INDEX + 1 - start)
    if resume is not None:
        require_consecutive(start, resume)
    return _terms(start, count, resume, progress)


def decimal_text(
    start: int,
    count: int,
    separator: bytes = b"\n",
    chunk_size: int = 65536,
    resume: tuple[bytes, bytes] | None = None,
    progress: Progress | None = None,
) -> Iterator[bytes]:
    """Return the decimal text of F(start) … F(start + count - 1) as chunks of bytes.

    *separator* stands between terms, not after the last. Every chunk has *chunk_size* bytes, but the last, which
    has from 1 to *chunk_size*; no terms, no chunk. Memory: a few terms and a few chunks, whatever *count*.

    *resume* and *progress* are those of ``terms_text``. Raises ValueError as it does, and for a chunk size below 1.
    """
    require_natural("chunk_size", chunk_size)
    if chunk_size == 0:
        raise ValueError("chunk_size must be at least 1")
    return _chunks(terms_text(start, count, resume, progress), separator, chunk_size)


def _terms(start: int, count: int, resume: tuple[bytes, bytes] | None, progress: Progress | None) -> Iterator[bytes]:
    tell = progress or (lambda share: None)
    if count == 0:
        return
    if resume is None and count == 1:
        term = term_text(start, progress)
        tell(1.0)
        yield term
        return
    if resume is None:
        pair = pair_text(start, progress)
        tell(1.0)
        yield from pair
        start, count = start + 2, count - 2
    else:
        pair = resume
        tell(1.0)
    walk = following(start, count, *pair)
    del pair, resume  # the walk goes without them; of terms with millions of digits each copy counts
    yield from walk


def _chunks(terms: Iterator[bytes], separator: bytes, chunk_size: int) -> Iterator[bytes]:
    # Short terms are joined as many at once as fill a chunk: to handle each alone costs more than to calculate it.
    pieces: list[bytes] = []
    size = 1
    while batch := list(islice(terms, size)):
        # At most twice as many as in the last batch: these terms are longer.
        size = min(2 * size, max(1, chunk_size // (len(batch[-1]) + len(separator))))
        text = separator.join(pieces + batch)
        del batch
        end = len(text) - len(text) % chunk_size
        for begin in range(0, end, chunk_size):
            yield text[begin : begin + chunk_size]
        pieces = [text[end:]]
        del text
    if any(pieces):
        yield pieces[0]
