"""Protection at the door: one client's share of it, and headers on every answer."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from client import PAGES, Answer, Client, another_site
from machine import Machine
from stream import knock
from waiting import eventually

ANSWERS: dict[str, Any] = {
    "a page": lambda client: client.page(),
    "a page that is in no cache": lambda client: client.page(headers=another_site()),
    "a refusal of the app": lambda client: client.page(0),
    "what is not there": lambda client: client.ask("/nowhere"),
    "a refusal of nginx": lambda client: client.ask(f"{PAGES}?x={'x' * 9_000}"),
    "a refusal of the stream": lambda client: knock(client, "start=x"),
}


@pytest.mark.parametrize("ask", ANSWERS.values(), ids=ANSWERS.keys())
def test_every_answer_has_the_headers_that_protect_its_reader(client: Client, lb: Machine, ask: Any) -> None:
    answer: Answer = ask(client)

    for name, value in lb.settings("haproxy")["headers"].items():
        assert answer.header(name) == value, answer.headers.items()
    # Without TLS the promise of TLS would lock clients out.
    assert answer.header("Strict-Transport-Security") is None


PERIOD, CONNECTIONS = 5, 6
LIMITS = {"exempt": [], "period": PERIOD, "requests": 40, "writes": 5, "connections": CONNECTIONS}


@pytest.fixture(scope="class")
def _limited(host: Machine, client: Client) -> Iterator[None]:
    with host.applied({"haproxy": {"limits": LIMITS}}, only="haproxy") as applied:
        assert applied.ok, applied.message
        yield


def is_refused(answer: Answer) -> bool:
    """Whether it is a refusal of one who asks too often, which must be a whole one."""
    if answer.status != 429:
        return False
    assert answer.is_problem
    assert (answer.header("Retry-After"), answer.header("Cache-Control")) == (str(PERIOD), "no-store")
    assert answer.header("X-Content-Type-Options") == "nosniff"
    return True


@pytest.mark.disruptive
@pytest.mark.roles("lb")
@pytest.mark.usefixtures("_limited")
class TestLimits:
    def test_who_writes_too_often_may_still_read(self, client: Client) -> None:
        assert eventually(lambda: is_refused(client.ask(PAGES, method="POST", body=b"")), pause=0)
        assert eventually(lambda: client.page().status == 200)

    def test_who_reads_too_often_is_refused_until_the_period_is_over_and_nobody_else_is(
        self, client: Client, lb: Machine
    ) -> None:
        assert eventually(lambda: is_refused(client.page()), pause=0)
        url = f"http://{lb.address}:{client.port}{PAGES}?page=1"
        # From the host itself: another address.
        assert lb.check("curl --silent --output /dev/null --write-out '%%{http_code}' %s", url) == "200"
        assert eventually(lambda: client.page().status == 200, pause=1)

    def test_connections_beyond_ones_share_are_closed_unanswered(self, client: Client) -> None:
        def answered() -> int:
            count = 0
            with contextlib.ExitStack() as open_ones:
                for _ in range(2 * CONNECTIONS):
                    # Refused at any step: the door may close before the connection is known to be open.
                    with contextlib.suppress(ConnectionError):
                        sock = socket.create_connection((client.address, client.port), timeout=60)
                        open_ones.enter_context(sock)
                        sock.sendall(f"GET {PAGES}?page=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                        count += bool(sock.recv(1))
            return count

        # Those of the test before may still be closing.
        def is_the_share() -> bool:
            count = answered()
            assert count == CONNECTIONS
            return True

        assert eventually(is_the_share, pause=1)
