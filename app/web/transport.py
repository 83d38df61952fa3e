"""Celery's way to a Redis with Sentinels: a primary that takes no writes, or says nothing, is one to be left.

A new primary takes no writes until its first replica has found it; Kombu would tell Celery of an error that cannot
be mended, and the worker would end, and its jobs with it. One that is halted or cut off neither answers nor hangs up;
Kombu would wait for its messages for ever.
"""

import time
from typing import Any

from kombu.transport.redis import SentinelChannel, SentinelManagedSSLConnection, SentinelTransport
from redis.exceptions import ConnectionError, ResponseError
from redis.sentinel import SentinelManagedConnection

# Seconds that Redis may be silent: it is asked to say within one that there is no message.
SILENCE = 3.0


class Waiting:
    """A connection on which a refusal for want of replicas is a connection that has failed."""

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().read_response(*arguments, **options)  # type: ignore[misc]
        except ResponseError as error:
            if not str(error).startswith("NOREPLICAS"):
                raise
            self.disconnect()  # type: ignore[attr-defined]
            raise ConnectionError("the primary has too few replicas") from None


class Connection(Waiting, SentinelManagedConnection):
    """Such a connection."""


class SSLConnection(Waiting, SentinelManagedSSLConnection):
    """The same, by TLS."""


class Channel(SentinelChannel):
    """The channel of such connections."""

    connection_class = Connection
    connection_class_ssl = SSLConnection
    _in_poll: Any  # Kombu's: whether an answer is awaited

    def _brpop_start(self, timeout: float | None = None) -> None:
        super()._brpop_start(timeout)  # type: ignore[misc]
        self._asked_at = time.monotonic()

    def listen(self) -> None:
        """Raise ConnectionError where Redis should long have answered."""
        if self._in_poll and time.monotonic() - self._asked_at > SILENCE:
            raise ConnectionError("Redis is silent")


class Transport(SentinelTransport):
    """The transport of such channels, for Celery's ``broker_transport``."""

    Channel = Channel

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        super().register_with_event_loop(connection, loop)
        loop.call_repeatedly(1, self._listen)

    def _listen(self) -> None:
        cycle: Any = self.cycle
        for channel in list(cycle._channels):
            channel.listen()
