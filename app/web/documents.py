"""JSON bodies whose bulk is terms: known in length and meaning before a term is calculated."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fibonacci import decimal_text
from web.chunks import SEPARATOR, calculated, terms_length
from web.compression import Deflated, deflate, gzip_member

# Below it a body is compressed in one stretch: three would cost more than the terms.
SMALL_BYTES = 16 * 2**10


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
    def is_small(self) -> bool:
        """Whether it is compressed in one stretch, and cheaper to calculate than to fetch."""
        return self.length < SMALL_BYTES

    @property
    def meaning(self) -> bytes:
        """What tells it from every other document of the same code: all of it but the terms, which follow."""
        return b"%d %d\n%b\n%b" % (self.start, self.count, self.head, self.tail)

    def chunks(self) -> Iterator[bytes]:
        """Yield the body, calculated, piece by piece; memory stays within a few terms."""
        yield self.head
        yield from decimal_text(self.start, self.count, SEPARATOR)
        yield self.tail

    def plain(self, terms: Iterable[Deflated]) -> Iterator[bytes]:
        """Yield the body piece by piece, with *terms* as its terms."""
        yield self.head
        for stretch in terms:
            yield stretch.inflated()
        yield self.tail

    def compressed(self, terms: Iterable[Deflated] | None = None) -> bytes:
        """Return the body as one gzip member, with *terms* as its terms, cut where chunks end; calculated without them.

        The same body is the same bytes, whoever has calculated and compressed its terms.
        """
        if self.is_small:
            text = self.chunks() if terms is None else self.plain(terms)
            return gzip_member([deflate(b"".join(text))])
        if terms is None:
            terms = calculated(self.start, self.count)
        return gzip_member([deflate(self.head), *terms, deflate(self.tail)])
