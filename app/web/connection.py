"""The way to Redis for what can do without it: short timeouts, and peace for a Redis that has failed."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from web import sentinels
from web.settings import Settings

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

# Set by readiness, to see whether Redis takes writes at all.
PROBE_KEY = "fibonacci:probe"


def connect(settings: Settings) -> "redis.Redis":
    """Return a client of the Redis that *settings* name; it connects when first used."""
    url = str(settings.redis_url)
    # One attempt: to calculate is better than to wait for a second.
    attempt = {
        "socket_timeout": settings.redis_timeout,
        "socket_connect_timeout": settings.redis_timeout,
        "retry": Retry(NoBackoff(), 0),
    }
    if not sentinels.is_watched(url):
        return redis.Redis.from_url(url, **attempt)
    # Each new connection asks a Sentinel who is primary; a primary that is one no more hangs up, or says so.
    watched = sentinels.parse(url)
    finder: Any = sentinels.Sentinels(watched, settings.redis_timeout, settings.redis_pause)
    client: redis.Redis = finder.master_for(
        watched.name, db=watched.database, **watched.credentials, **watched.tls, **attempt
    )
    return client


class Memory:
    """Redis as what saves time and is never needed: every failure is an answer of None, and a line in the log."""

    def __init__(self, settings: Settings) -> None:
        self.client = connect(settings)
        # A Redis that is full or read-only still reads.
        self._reads, self._writes = Breaker("reads", settings.redis_pause), Breaker("writes", settings.redis_pause)

    def read(self, command: Callable[[], Answer]) -> Answer | None:
        """Return what *command* reads; None if Redis fails, or has failed a moment ago."""
        return self._reads.run(command)

    def write(self, command: Callable[[], Answer]) -> Answer | None:
        """Return what *command* answers; None if Redis fails, or has failed a moment ago."""
        return self._writes.run(command)

    def health(self) -> dict[str, object]:
        """Return ``status`` ("up", "read-only" or "down") with ``latency_ms`` or ``error``."""
        # Past the breakers: the answer is about this moment.
        began = time.perf_counter()
        try:
            self.client.ping()
            self._reads.succeeded()
        except redis.RedisError as error:
            self._reads.failed(error)
            return {"status": "down", "error": reason(error)}
        latency = round((time.perf_counter() - began) * 1000, 3)
        try:
            self.client.set(PROBE_KEY, b"", ex=60)
            self._writes.succeeded()
        except redis.RedisError as error:
            self._writes.failed(error)
            return {"status": "read-only", "error": reason(error), "latency_ms": latency}
        return {"status": "up", "latency_ms": latency}


class Breaker:
    """Keeps requests away from a Redis that has failed: it costs one timeout in *pause* seconds, not one per request.

    When the pause is over a single request tries; the others stay away until it has succeeded.
    """

    def __init__(self, what: str, pause: float) -> None:
        self._what = what
        self._pause = pause
        self._lock = threading.Lock()
        self._down = False
        self._next_attempt = 0.0

    def run(self, command: Callable[[], Answer]) -> Answer | None:
        """Return what *command* answers; None if it raises RedisError or Redis is left alone at present."""
        if not self._allows():
            return None
        try:
            answer = command()
        except redis.RedisError as error:
            self.failed(error)
            return None
        self.succeeded()
        return answer

    def _allows(self) -> bool:
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
            logger.warning("Redis fails %s: doing without", self._what, extra={"error": reason(error)})

    def succeeded(self) -> None:
        """Take note of a success; the first one after a failure is logged."""
        with self._lock:
            was_down, self._down = self._down, False
        if was_down:
            logger.info("Redis takes %s again", self._what)


def reason(error: redis.RedisError) -> str:
    """Return what may be said of *error*: the class alone, since texts may quote the URL, which holds a password."""
    return type(error).__name__


def is_wrong_type(error: Any) -> bool:
    """Tell whether *error* says that something else has the key: rubbish there, and no fault of Redis."""
    return isinstance(error, redis.ResponseError) and "WRONGTYPE" in str(error)
