"""Redis that Sentinels watch, and who is primary there: ``sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT,…/NAME/DATABASE``.

USER and PASSWORD are those of Redis and of the Sentinels alike; NAME is what the Sentinels call it. With ``sentinels://``
both are asked by TLS, with the options of redis-py's URLs (``?ssl_ca_certs=FILE``).
"""

import logging
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.backoff import NoBackoff
from redis.credentials import UsernamePasswordCredentialProvider
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

logger = logging.getLogger(__name__)

SCHEMES = ("sentinel", "sentinels")
PORT = 26_379
OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


class UrlError(ValueError):
    """The URL cannot be used; the text says why and not what it is."""


@dataclass(frozen=True)
class Watched:
    """What such a URL says."""

    sentinels: tuple[tuple[str, int], ...]
    name: str
    database: int
    credentials: dict[str, str]
    tls: dict[str, Any]  # options of a connection; empty: none


def is_watched(url: str) -> bool:
    """Tell whether *url* is one of Sentinels."""
    return urlsplit(url).scheme in SCHEMES


def parse(url: str) -> Watched:
    """Return what *url* says. Raises UrlError, or ValueError where a part cannot be read at all."""
    parts = urlsplit(url)
    login, _, places = parts.netloc.rpartition("@")
    user, has_password, password = login.partition(":")
    name, _, database = parts.path.removeprefix("/").partition("/")
    if not name or "/" in database:
        raise UrlError("its path is not /NAME or /NAME/DATABASE")
    if database and not (database.isascii() and database.isdigit() and len(database) <= 4):
        raise UrlError("its database is no number")
    if login and not (user and has_password and password):
        raise UrlError("it has a user or a password, and not both")
    options = parse_qsl(parts.query, keep_blank_values=True)
    if any(option not in OPTIONS or parts.scheme != "sentinels" for option, _ in options):
        raise UrlError("it has options that are not known")
    return Watched(
        sentinels=tuple(_place(place) for place in places.split(",")),
        name=unquote(name),
        database=int(database or 0),
        credentials={"username": unquote(user), "password": unquote(password)} if login else {},
        tls={"ssl": True, **dict(options)} if parts.scheme == "sentinels" else {},
    )


def _place(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")  # brackets around an IPv6 address, and a port that is a number below 65536
        host, port = parts.hostname or "", parts.port if parts.port is not None else PORT
        host.encode("idna")  # as the resolver will, which fails late
    except ValueError:
        host, port = "", 0
    if not (host and port):
        raise UrlError("one of its Sentinels is not HOST or HOST:PORT")
    return host, port


class Sentinels(Sentinel):
    """The Sentinels of a URL, asked one after the other; one that fails is left alone for *pause* seconds.

    So a dead one costs one timeout now and then, and not one for each new connection.
    """

    def __init__(self, watched: Watched, timeout: float, pause: float) -> None:
        super().__init__(watched.sentinels, sentinel_kwargs=asking(watched, timeout))  # type: ignore[no-untyped-call]
        self._asked: list[Any] = self.sentinels
        self._pause = pause
        self._places = [f"{host}:{port}" for host, port in watched.sentinels]
        # Not reordered as in the parent, where two threads that do so at once may lose one.
        self._asked_again_at = dict.fromkeys(range(len(self.sentinels)), 0.0)

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return where the primary is; MasterNotFoundError where no Sentinel knows of one that lives."""
        now = time.monotonic()
        rested = [number for number, at in self._asked_again_at.items() if at <= now]
        # All have failed a moment ago: one is enough to see whether they still do.
        for number in rested or [min(self._asked_again_at, key=lambda number: self._asked_again_at[number])]:
            ask = self._asked[number].execute_command
            try:
                state = ask("SENTINEL MASTER", service_name)
                if state["is_master"] and not state["is_sdown"] and not state["is_odown"]:
                    return state["ip"], state["port"]
                # In a failover there is a new one already, which it tells of here alone.
                promoted = ask("SENTINEL GET-MASTER-ADDR-BY-NAME", service_name)
            except ResponseError as error:
                # One that is new has not heard of that name yet.
                self._tell(number, error)
                continue
            except RedisError as error:
                self._asked_again_at[number] = time.monotonic() + self._pause
                self._tell(number, error)
                continue
            if promoted and (address := (promoted[0].decode(), promoted[1])) != (state["ip"], state["port"]):
                return address
        raise MasterNotFoundError

    def _tell(self, number: int, error: RedisError) -> None:
        # The class alone, as everywhere: texts may quote what holds a password.
        logger.warning("Sentinel fails", extra={"sentinel": self._places[number], "error": type(error).__name__})


def asking(watched: Watched, timeout: float) -> dict[str, Any]:
    """Return how a connection to a Sentinel is made: one attempt, with a short timeout."""
    # By a provider: redis-py tells a failed connection's arguments in its errors, which Celery logs.
    login = (
        {"credential_provider": UsernamePasswordCredentialProvider(**watched.credentials)}
        if watched.credentials
        else {}
    )
    return {
        **login,
        **watched.tls,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
    }
