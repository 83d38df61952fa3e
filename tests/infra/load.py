"""Clients that go on asking while a test does something to the service."""

import http.client
import itertools
import threading
import time
from collections.abc import Iterator
from types import TracebackType

from client import PAGES, Answer, Client, CutOffError, another_site
from waiting import eventually

# What a kept connection may say when the server has closed it in the meantime: any client then asks on a new one.
CLOSED = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)

# A breath between two requests: the load is there to notice a gap, not to find out how much the hosts can take.
BREATH = 0.05

Request = tuple[str, dict[str, str]]


def sequence(count: int) -> list[str]:
    """Return the first terms by plain addition: the tests' own oracle."""
    terms, current, following = [], 0, 1
    for _ in range(count):
        terms.append(str(current))
        current, following = following, current + following
    return terms


def last_digits(n: int) -> str:
    """Return the last 18 digits of F(n), by F(2k) = F(k)(2F(k+1) - F(k)) and F(2k+1) = F(k)² + F(k+1)²."""
    a, b, most = 0, 1, 10**18
    for bit in bin(n)[2:]:
        a, b = a * (2 * b - a) % most, (a * a + b * b) % most
        if bit == "1":
            a, b = b, (a + b) % most
    return f"{a:018}"


TERMS = sequence(1_000)


def pages() -> Iterator[Request]:
    """Yield pages of the sequence for ever: by turns one that others ask for too and one that nobody has asked for."""
    pages, sizes = itertools.cycle(range(1, 20)), itertools.cycle(range(1, 50))
    while True:
        page, per_page = next(pages), next(sizes)
        yield f"{PAGES}?page={page}&per_page={per_page}", {}
        yield f"{PAGES}?page={page}&per_page={per_page}", another_site()


def is_the_page(target: str, answer: Answer) -> str | None:
    """Return why an answer to what `pages` yields is wrong, or None."""
    if answer.status != 200:
        return f"status {answer.status}: {answer.body[:200]!r}"
    page, per_page = (int(argument.partition("=")[2]) for argument in target.partition("?")[2].split("&"))
    start = (page - 1) * per_page
    return None if answer.json["terms"] == TERMS[start : start + per_page] else f"wrong terms: {answer.body[:200]!r}"


def serves(client: Client) -> bool:
    """Fail unless a page that is in no cache is right."""
    target = f"{PAGES}?page=1&per_page=5"
    failure = is_the_page(target, client.ask(target, another_site()))
    assert failure is None, failure
    return True


def readiness(client: Client) -> str:
    """Return how the service says it is: ready or degraded."""
    answer = client.ask("/readyz")
    assert answer.status == 200, answer.body
    return str(answer.json["status"])


class Load:
    """Asks from several clients at once for as long as the block runs; half of them keep their connections.

    Afterwards `total` says how many requests there were and `failures` what went wrong with which; `cut` are those of
    them whose body was on its way already. `answered` are the moments of right answers, by `time.monotonic`.
    """

    def __init__(self, client: Client, clients: int = 4) -> None:
        self.total = 0
        self.failures: list[str] = []
        self.cut: list[str] = []
        self.answered: list[float] = []
        self._client = client
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(number % 2 == 0,), daemon=True) for number in range(clients)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        eventually(lambda: self.total >= len(self._threads))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What was done to the service must have had the chance to show.
        seen = self.total
        try:
            if error is None:
                eventually(lambda: self.total >= seen + 10 * len(self._threads))
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join()

    def _run(self, keeps: bool) -> None:
        connection = self._client.connection()
        for target, headers in pages():
            if self._over.wait(BREATH):
                break
            is_cut = False
            try:
                failure = is_the_page(target, self._ask(connection, target, headers))
            except (OSError, http.client.HTTPException, ValueError) as error:
                failure, is_cut = repr(error), isinstance(error, CutOffError)
            if failure or not keeps:
                connection.close()
            with self._lock:
                self.total += 1
                if failure:
                    self.failures.append(f"request {self.total}, {target} {headers}: {failure}")
                    self.cut += self.failures[-1:] if is_cut else []
                else:
                    self.answered.append(time.monotonic())
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, target: str, headers: dict[str, str]) -> Answer:
        kept = connection.sock is not None
        try:
            return self._client.ask(target, headers, connection=connection)
        except CLOSED:
            connection.close()
            if not kept:
                raise
            return self._client.ask(target, headers, connection=connection)
