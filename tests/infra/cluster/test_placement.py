"""Each page is kept on one web host, by whichever load balancer it is asked for, and a new web host takes its share."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from client import PAGES, Client, with_id
from hosts import with_role
from machine import Machine
from waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.disruptive]

MANY = 300
# The next in the row, as the topology file has them.
NEW = """\
    web3:
      address: 10.77.2.23
      roles: [web, worker]
"""


def test_a_page_is_calculated_once_whichever_load_balancer_it_is_asked_of(
    balancers: list[Machine], machines: dict[str, Machine], client: Client
) -> None:
    target = f"{PAGES}?page={random.randrange(10**5, 10**6)}&per_page=2"  # noqa: S311 - no secret
    doors = [Client(balancer.address, client.port) for balancer in balancers]
    # One site: nginx keeps what another asks for apart.
    ids = [with_id() | {"Host": client.address} for _ in range(100)]

    answers = [doors[number % len(doors)].ask(target, id) for number, id in enumerate(ids)]

    assert [answer.cache for answer in answers] == ["MISS"] + ["HIT"] * 99
    assert len({answer.body for answer in answers}) == 1
    lines = [line for host in with_role(machines, "web") for line in host.journal("gunicorn.service")]
    assert sum(id["X-Request-ID"] in line for line in lines for id in ids) == 1


def misses(client: Client) -> int:
    """Ask for many pages; return how many of them the host that was asked did not have."""
    return sum(client.page(page, 7).cache != "HIT" for page in range(1, MANY + 1))


@pytest.fixture
def grown(topology_file: Any, converge: Callable[[], None], monitor: Machine) -> Iterator[Callable[[], None]]:
    """Return what adds web3 by the topology file alone; afterwards it is gone again."""
    before = topology_file.read_text()

    def grow() -> None:
        head, web, tail = before.partition("    data1:\n")
        topology_file.write_text(head + NEW + web + tail)
        converge()

    try:
        yield grow
    finally:
        topology_file.write_text(before)
        converge()
        monitor.check("salt-key --yes --delete=web3")


def test_a_new_web_host_takes_its_share_and_moves_no_other_page(
    steady: Callable[[str], Any], grown: Callable[[], None], balancers: list[Machine], client: Client
) -> None:
    while misses(client):
        pass

    with steady("web3 added") as running:
        grown()
        # Its share grows for some seconds.
        eventually(lambda: all(len(set(weights(balancer).values())) == 1 for balancer in balancers))
        assert {"web1", "web2", "web3"} == set(weights(balancers[0]))
        moved = misses(client)
        running.notes.append(f"{moved} of {MANY} pages moved")

    assert 0 < moved <= MANY * 0.4
    # It serves, by whichever load balancer has the address now.
    rows = [row for balancer in balancers for row in balancer.balance() if row["svname"] == "web3"]
    assert sum(int(row["stot"]) for row in rows) > 0
    assert running.failed == []
    assert running.watcher.wrong == []


def weights(balancer: Machine) -> dict[str, str]:
    """Return the present weight of each web host that is up."""
    return {
        row["svname"]: row["weight"]
        for row in balancer.balance()
        if row["pxname"] == "pages" and row["svname"].startswith("web") and row["status"] == "UP"
    }
