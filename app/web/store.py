"""Finished bodies in Redis. It saves time and is never needed: with Redis away, bodies are calculated."""

import hashlib
import logging
import threading
import time
from typing import Protocol

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from web.settings import Settings
from web.version import CODE_VERSION

logger = logging.getLogger(__name__)

DIGEST_BYTES = 16


class Store(Protocol):
    """What the resources ask of a store of bodies."""

    def is_worthwhile(self, length: int) -> bool:
        """Tell whether a body of *length* bytes, before compression, is dearer to make than to fetch."""

    def fetch(self, tag: str) -> bytes | None:
        """Return the body kept under *tag*, or None."""

    def keep(self, tag: str, body: bytes) -> None:
        """Keep *body* under *tag* if possible."""

    def health(self) -> dict[str, object]:
        """Return ``status`` ("up", "down" or "off") with ``latency_ms`` or ``error``."""


def from_settings(settings: Settings) -> Store:
    """Return the store that *settings* ask for; it connects when first used."""
    return RedisStore(settings) if settings.redis_url else NoStore()


class NoStore:
    """The store of a service without Redis."""

    def is_worthwhile(self, length: int) -> bool:
        return False

    def fetch(self, tag: str) -> bytes | None:
        return None

    def keep(self, tag: str, body: bytes) -> None:
        pass

    def health(self) -> dict[str, object]:
        return {"status": "off"}


class RedisStore:
    """Bodies in Redis, each after a digest of itself, so that what comes back is what was kept or nothing."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._breaker = Breaker(settings.redis_pause)
        # One attempt: to calculate is better than to wait for a second.
        self._client = redis.Redis.from_url(
            str(settings.redis_url),
            socket_timeout=settings.redis_timeout,
            socket_connect_timeout=settings.redis_timeout,
            retry=Retry(NoBackoff(), 0),
        )

    def is_worthwhile(self, length: int) -> bool:
        return length >= self._settings.cache_min_bytes

    def fetch(self, tag: str) -> bytes | None:
        if not self._breaker.allows():
            return None
        try:
            entry = self._client.get(_key(tag))
        except redis.ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                self._breaker.failed(error)
                return None
            entry = b""  # something else has the key: damaged like any other entry, and no fault of Redis
        except redis.RedisError as error:
            self._breaker.failed(error)
            return None
        self._breaker.succeeded()
        if not isinstance(entry, bytes):  # None: never text, since the client is not told to decode
            return None
        digest, body = entry[:DIGEST_BYTES], entry[DIGEST_BYTES:]
        if digest != _digest(tag, body):
            logger.warning("entry in Redis is damaged: calculating it anew", extra={"key": _key(tag)})
            return None
        return body

    def keep(self, tag: str, body: bytes) -> None:
        if len(body) + DIGEST_BYTES > self._settings.cache_max_bytes or not self._breaker.allows():
            return
        try:
            self._client.set(_key(tag), _digest(tag, body) + body, ex=self._settings.cache_expiry)
        except redis.RedisError as error:
            self._breaker.failed(error)
        else:
            self._breaker.succeeded()

    def health(self) -> dict[str, object]:
        # Past the breaker: the answer is about this moment.
        began = time.perf_counter()
        try:
            self._client.ping()
        except redis.RedisError as error:
            self._breaker.failed(error)
            return {"status": "down", "error": _reason(error)}
        self._breaker.succeeded()
        return {"status": "up", "latency_ms": round((time.perf_counter() - began) * 1000, 3)}


class Breaker:
    """Keeps requests away from a Redis that has failed: it costs one timeout in *pause* seconds, not one per request.

    When the pause is over a single request tries; the others stay away until it has succeeded.
    """

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._lock = threading.Lock()
        self._down = False
        self._next_attempt = 0.0

    def allows(self) -> bool:
        """Tell whether the caller may go to Redis now."""
        with self._lock:
            now = time.monotonic()
            if self._down:
                if now < self._next_attempt:
                    return False
                self._next_attempt = now + self._pause
            return True

    def failed(self, error: redis.RedisError) -> None:
        """Take note of a failure; the first one is logged."""
        with self._lock:
            was_down, self._down = self._down, True
            self._next_attempt = time.monotonic() + self._pause
        if not was_down:
            logger.warning("Redis is down: bodies are calculated", extra={"error": _reason(error)})

    def succeeded(self) -> None:
        """Take note of a success; the first one after a failure is logged."""
        with self._lock:
            was_down, self._down = self._down, False
        if was_down:
            logger.info("Redis is up again")


def _key(tag: str) -> str:
    return f"fibonacci:{CODE_VERSION}:{tag}"


def _digest(tag: str, body: bytes) -> bytes:
    # Of the tag too: a body under another's key is as wrong as a damaged one.
    return hashlib.blake2b(body, digest_size=DIGEST_BYTES, key=tag.encode()).digest()


def _reason(error: redis.RedisError) -> str:
    # The class alone: texts may quote the URL, which holds a password.
    return type(error).__name__
