"""JSON bodies whose bulk is terms: known in length and meaning before a term is calculated."""

from collections.abc import Iterator
from dataclasses import dataclass

from fibonacci import decimal_text, total_digits

# What stands between two terms in a JSON array of strings.
SEPARATOR = b'","'


def terms_length(start: int, count: int) -> int:
    """Return the number of bytes of F(start) … F(start + count - 1) with their separators, for a count of 1 or more."""
    return total_digits(start, count) + len(SEPARATOR) * (count - 1)


@dataclass(frozen=True)
class Document:
    """F(start) … F(start + count - 1) as the content of JSON strings, between *head* and *tail*."""

    head: bytes
    start: int
    count: int
    tail: bytes

    @property
    def length(self) -> int:
        """The number of bytes, exactly, in closed form."""
        return len(self.head) + terms_length(self.start, self.count) + len(self.tail)

    @property
    def meaning(self) -> bytes:
        """What tells it from every other document of the same code: all of it but the terms, which follow."""
        return b"%d %d\n%b\n%b" % (self.start, self.count, self.head, self.tail)

    def chunks(self) -> Iterator[bytes]:
        """Yield the body piece by piece; memory stays within a few terms."""
        yield self.head
        yield from decimal_text(self.start, self.count, SEPARATOR)
        yield self.tail
