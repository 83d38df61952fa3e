"""What is killed is back by itself; what leans on it does its work in the meantime."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from client import Client, another_site
from load import Load, readiness, serves
from machine import Machine
from waiting import eventually

pytestmark = pytest.mark.disruptive


@dataclass(frozen=True)
class Victim:
    role: str
    unit: str
    is_worker: bool
    # Whether clients may notice. They may where nobody else can take over what the dead one had begun.
    is_noticed: bool


VICTIMS = {
    "a gunicorn worker": Victim("web", "gunicorn.service", is_worker=True, is_noticed=False),
    "gunicorn": Victim("web", "gunicorn.service", is_worker=False, is_noticed=False),
    "an nginx worker": Victim("web", "nginx.service", is_worker=True, is_noticed=False),
    "nginx": Victim("web", "nginx.service", is_worker=False, is_noticed=False),
    "the HAProxy worker": Victim("lb", "haproxy.service", is_worker=True, is_noticed=True),
    "HAProxy": Victim("lb", "haproxy.service", is_worker=False, is_noticed=True),
    "Redis": Victim("data", "redis-server.service", is_worker=False, is_noticed=False),
}
UNITS = {victim.unit: victim for victim in VICTIMS.values()}


def all_is_well(client: Client, machine: Machine, unit: str) -> bool:
    assert machine.show(unit, "ActiveState") == "active"
    for _ in range(10):
        serves(client)
    return readiness(client) == "ready"


def with_role(machines: dict[str, Machine], role: str) -> Machine:
    return next(machine for machine in machines.values() if role in machine.roles)


@pytest.mark.parametrize("victim", VICTIMS.values(), ids=VICTIMS.keys())
def test_what_is_killed_is_back_by_itself(
    client: Client, machines: dict[str, Machine], load: Callable[..., Load], victim: Victim
) -> None:
    machine = with_role(machines, victim.role)

    def processes() -> list[int]:
        return machine.children(victim.unit) if victim.is_worker else [machine.main_pid(victim.unit)]

    before = processes()
    with load() as running:
        machine.check("kill -KILL %s", str(before[0]))
        eventually(lambda: before[0] not in processes() and len(processes()) == len(before) and 0 not in processes())
        eventually(lambda: all_is_well(client, machine, victim.unit))

    if not victim.is_noticed:
        assert running.failures == []


@pytest.mark.parametrize("unit", UNITS)
def test_what_is_killed_again_and_again_is_back_each_time(
    client: Client, machines: dict[str, Machine], unit: str
) -> None:
    machine = with_role(machines, UNITS[unit].role)
    try:
        # More often than systemd puts up with unless told otherwise.
        for _ in range(6):
            pid = machine.main_pid(unit)
            machine.check("kill -KILL %s", str(pid))
            eventually(lambda pid=pid: machine.main_pid(unit) not in (0, pid))  # type: ignore[misc]

        eventually(lambda: all_is_well(client, machine, unit))
    finally:
        machine.check("systemctl reset-failed && systemctl start %s", unit)


@pytest.fixture(scope="class")
def _without_redis(data: Machine, client: Client) -> Iterator[None]:
    data.check("systemctl stop redis-server.service")
    try:
        yield
    finally:
        data.check("systemctl start redis-server.service")
        eventually(lambda: readiness(client) == "ready")


@pytest.mark.usefixtures("_without_redis")
class TestWithoutRedis:
    def test_cached_and_new_pages_are_served(self, load: Callable[..., Load]) -> None:
        with load() as running:
            pass

        assert running.failures == []

    def test_pages_that_would_be_kept_in_redis_are_served(self, client: Client) -> None:
        answer = client.page(2, 1_000, headers=another_site())

        assert answer.status == 200
        # Cassini: a page that holds together holds the right numbers.
        a, b, c = (int(term) for term in answer.json["terms"][:3])
        assert a * c - b * b == -1 if answer.json["start"] % 2 else 1

    def test_readiness_says_degraded_and_why(self, client: Client) -> None:
        answer = client.ask("/readyz")

        assert answer.status == 200
        assert answer.json["status"] == "degraded"
        assert answer.json["dependencies"]["redis"]["status"] == "down"

    def test_readiness_gives_no_secret_away(self, client: Client, data: Machine) -> None:
        text = json.dumps(client.ask("/readyz").json)

        assert data.settings("redis")["password"] not in text
        assert "redis://" not in text

    def test_the_host_stays_in_service(self, client: Client, lb: Machine) -> None:
        servers = [row["status"] for row in lb.balance() if row["pxname"] == "web"]

        assert servers == ["UP", "UP"]  # the one, and the backend
