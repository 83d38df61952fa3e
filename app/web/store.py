"""What the web hosts share through Redis. It saves time and is never needed: with Redis away, terms are calculated."""

import hashlib
import logging
from collections.abc import Iterator
from importlib.resources import files
from itertools import islice
from typing import Protocol

import redis

from fibonacci import LARGEST_INDEX, decimal_text
from web import chunks
from web.answers import Source
from web.chunks import CHUNK_BYTES, SEPARATOR
from web.compression import Deflated, deflate
from web.connection import Memory, is_wrong_type
from web.documents import Document
from web.settings import Settings
from web.version import CODE_VERSION

logger = logging.getLogger(__name__)

DIGEST_BYTES, CRC_BYTES = 16, 4

# How far beyond its end the sequence is continued for a request, in chunks: 4 MiB, some 20 ms of calculation and four
# times that of compression. Who asks for more calculates for himself.
LARGEST_GAP = 64
# How many chunks one append takes: half a megabyte, a millisecond of Redis's time.
APPENDED_AT_ONCE = 16

# The version in the name: what other code has compressed is another list.
SEQUENCE_KEY = f"fibonacci:{CODE_VERSION}:sequence"
APPEND = files("web").joinpath("lua/append.lua").read_text()


class Store(Source, Protocol):
    """Where bodies come from, with something behind it that may fail."""

    def health(self) -> dict[str, object]:
        """Return ``status`` ("up", "read-only", "down" or "off") with ``latency_ms`` or ``error``."""


def from_settings(settings: Settings) -> Store:
    """Return the store that *settings* ask for; it connects when first used."""
    return RedisStore(settings) if settings.redis_url else NoStore()


class NoStore:
    """The store of a service without Redis."""

    def compressed(self, document: Document, tag: str) -> bytes:
        return document.compressed()

    def plain(self, document: Document) -> Iterator[bytes]:
        return document.chunks()

    def health(self) -> dict[str, object]:
        return {"status": "off"}


class RedisStore:
    """The beginning of the sequence, and finished bodies from beyond it; which of the two, a measured rule says.

    See docs/decisions/what-redis-keeps.rst.
    """

    def __init__(self, settings: Settings) -> None:
        self._memory = Memory(settings)
        self._sequence = Sequence(self._memory, settings)
        self._bodies = Bodies(self._memory, settings)

    def compressed(self, document: Document, tag: str) -> bytes:
        if document.is_small:
            return document.compressed()
        terms = self._sequence.terms(document.start, document.count)
        if terms is not None:
            return document.compressed(terms)
        body = self._bodies.fetch(tag)
        if body is None:
            body = document.compressed()
            self._bodies.keep(tag, body)
        return body

    def plain(self, document: Document) -> Iterator[bytes]:
        # Nothing is kept plain. Nor is it asked for much: nginx unpacks the compressed body.
        return document.chunks()

    def health(self) -> dict[str, object]:
        return self._memory.health()


class Bodies:
    """Finished bodies, each after a digest of itself, so that what comes back is what was kept or nothing."""

    def __init__(self, memory: Memory, settings: Settings) -> None:
        self._memory = memory
        self._expiry, self._max_bytes = settings.cache_expiry, settings.cache_max_bytes

    def fetch(self, tag: str) -> bytes | None:
        """Return the body kept under *tag*, or None."""
        entry = self._memory.read(lambda: self._get(tag))
        if entry is None:
            return None
        digest, body = entry[:DIGEST_BYTES], entry[DIGEST_BYTES:]
        if digest != _digest(tag, body):
            logger.warning("entry in Redis is damaged: calculating it anew", extra={"key": _body_key(tag)})
            return None
        return body

    def keep(self, tag: str, body: bytes) -> None:
        """Keep *body* under *tag* if possible."""
        if len(body) + DIGEST_BYTES <= self._max_bytes:
            entry = _digest(tag, body) + body
            self._memory.write(lambda: self._memory.client.set(_body_key(tag), entry, ex=self._expiry))

    def _get(self, tag: str) -> bytes | None:
        try:
            entry = self._memory.client.get(_body_key(tag))
        except redis.ResponseError as error:
            if not is_wrong_type(error):
                raise
            return b""  # damaged like any other entry
        return entry if isinstance(entry, bytes) else None  # None: never text, since the client is not told to decode


class Sequence:
    """The beginning of the sequence: a list of chunks that only grows at its end, whoever continues it.

    Appending is one script: only where the list is as long as the writer has found it. So any number of writers make no
    gap and no double, and none holds a lock that could outlive it.
    """

    def __init__(self, memory: Memory, settings: Settings) -> None:
        self._memory = memory
        self._expiry, self._max_chunks = settings.cache_expiry, settings.sequence_max_bytes // CHUNK_BYTES
        self._append = memory.client.register_script(APPEND)

    def terms(self, start: int, count: int) -> list[Deflated] | None:
        """Return the text of F(start) … F(start + count - 1) as it is kept, continuing the list for it if that is near.

        None if it is too far out, or Redis fails.
        """
        places = chunks.span(start, count)
        first, last = places.start // CHUNK_BYTES, (places.stop - 1) // CHUNK_BYTES
        if last >= self._max_chunks:
            return None
        found = self._memory.read(lambda: self._slice(first, last))
        if found is None:
            return None
        length, entries = found
        kept = [decode(number, entry) for number, entry in enumerate(entries, first)]
        if None in kept:
            self._discard(first + kept.index(None))
            return None
        stretches = [stretch for stretch in kept if stretch is not None]
        if length <= last:
            if first > length + LARGEST_GAP or last > length + 2 * LARGEST_GAP:
                return None
            stretches += self.extend(length, last + 1)[first + len(stretches) - length :]
        return list(chunks.slice_of(stretches, first * CHUNK_BYTES, places))

    def extend(self, length: int, wanted: int) -> list[Deflated]:
        """Return the chunks from number *length* up to, not including, *wanted*, calculated, and append them.

        Appended as long as the list is where this writer thinks it is; another who was faster has appended the same.
        """
        made: list[Deflated] = []
        new = calculated_from(length)
        keeping = True
        while length + len(made) < wanted:
            batch = list(islice(new, min(APPENDED_AT_ONCE, wanted - length - len(made))))
            at = length + len(made)
            made += batch
            keeping = keeping and self._appended(at, batch)
        return made

    def _appended(self, at: int, batch: list[Deflated]) -> bool:
        entries = [encode(number, stretch) for number, stretch in enumerate(batch, at)]
        return bool(self._memory.write(lambda: self._append([SEQUENCE_KEY], [at, self._expiry, *entries])))

    def _slice(self, first: int, last: int) -> tuple[int, list[bytes]]:
        """Return the length of the list, and its entries from *first* to *last* as far as there are."""
        with self._memory.client.pipeline(transaction=True) as pipeline:
            pipeline.llen(SEQUENCE_KEY)
            pipeline.lrange(SEQUENCE_KEY, first, last)
            try:
                length, entries = pipeline.execute()
            except redis.ResponseError as error:
                if not is_wrong_type(error):
                    raise
                return 0, [b""]  # as damaged as a wrong entry
        return int(length), entries

    def _discard(self, number: int) -> None:
        logger.warning("chunk in Redis is damaged: dropping the list", extra={"key": SEQUENCE_KEY, "chunk": number})
        self._memory.write(lambda: self._memory.client.unlink(SEQUENCE_KEY))


def calculated_from(number: int) -> Iterator[Deflated]:
    """Yield the chunks from *number* on, without end as far as the list is concerned."""
    place = number * CHUNK_BYTES
    # From the term that the chunk begins in; what belongs to the chunk before is left out.
    n = chunks.term_at(place)
    skipped = place - chunks.position(n)
    text = decimal_text(n, LARGEST_INDEX + 1 - n, SEPARATOR, CHUNK_BYTES)
    return map(deflate, chunks.cut(_without(text, skipped), place))


def _without(stretches: Iterator[bytes], skipped: int) -> Iterator[bytes]:
    for stretch in stretches:
        yield stretch[skipped:]
        skipped = max(skipped - len(stretch), 0)


def encode(name: int | str, stretch: Deflated) -> bytes:
    """Return the chunk *name* as it stands in Redis: a digest of its name and content, its CRC, its blocks."""
    content = stretch.crc.to_bytes(CRC_BYTES, "big") + stretch.data
    return _digest(str(name), content) + content


def decode(name: int | str, entry: bytes, length: int = CHUNK_BYTES) -> Deflated | None:
    """Return the chunk that *entry* is, or None if it is not the chunk *name* as ``encode`` gave it."""
    digest, content = entry[:DIGEST_BYTES], entry[DIGEST_BYTES:]
    if digest != _digest(str(name), content):
        return None
    return Deflated(content[CRC_BYTES:], int.from_bytes(content[:CRC_BYTES], "big"), length)


def _body_key(tag: str) -> str:
    return f"fibonacci:{CODE_VERSION}:{tag}"


def _digest(name: str, content: bytes) -> bytes:
    # Of the name too: content under another's name is as wrong as a damaged one.
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES, key=name.encode()).digest()
