"""The terms as decimal text, at a cost linear in their digits."""

from collections.abc import Iterator
from itertools import islice

from fibonacci.checks import require_natural
from fibonacci.jump import Progress, pair_text, term_text
from fibonacci.resuming import require_consecutive
from fibonacci.sequence import LARGEST_INDEX
from fibonacci.walk import following

# Short terms are joined to pieces of this part of a chunk: measured; with more pieces each costs more than it saves.
PIECES = 2


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
    pieces = _pieces(terms_text(start, count, resume, progress), separator, chunk_size // PIECES)
    return _chunks(pieces, chunk_size)


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


def _pieces(terms: Iterator[bytes], separator: bytes, size: int) -> Iterator[bytes]:
    """Yield what the text consists of, in pieces of about *size* bytes as long as terms are shorter."""
    # Short terms are joined, as many as the size takes: to handle each costs more than to calculate it.
    number = 1
    before = b""
    while batch := list(islice(terms, number)):
        if before:
            yield before
        before = separator
        # At most twice as many as in the last batch: these terms are longer.
        number = min(2 * number, max(1, size // (len(batch[-1]) + len(separator))))
        text = separator.join(batch)
        del batch
        yield text


def _chunks(pieces: Iterator[bytes], chunk_size: int) -> Iterator[bytes]:
    waiting: list[bytes] = []
    missing = chunk_size
    for piece in pieces:
        begin, length = 0, len(piece)
        while length - begin >= missing:
            waiting.append(piece[begin : begin + missing])
            begin += missing
            missing = chunk_size
            yield b"".join(waiting)
            waiting.clear()
        if begin < length:
            waiting.append(piece[begin:])
            missing -= length - begin
    if waiting:
        yield b"".join(waiting)
