"""Any one host may be lost, by death or by its network: clients see what docs/clustering.rst promises and no more."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from client import Client
from hosts import answering, cut_off, has_booted, holder, is_whole, primary, replicas, with_role
from jobs import finished, submitted, terms
from load import last_digits, readiness
from machine import SALT_PYTHON, Machine, at_once
from waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.disruptive]

# Seconds that the virtual address may take to move.
MOVE = 3.0

# Write as the app, on this host; the password stays on the host and out of command lines.
WRITE = """
import os, subprocess, sys, yaml
password = yaml.safe_load(open("/srv/turnkey/salt/pillar/secrets.sls"))["redis"]["password"]
command = ["redis-cli", "-h", sys.argv[1], "-p", sys.argv[2], "--user", "app", *sys.argv[3:]]
done = subprocess.run(command, env=os.environ | {"REDISCLI_AUTH": password}, capture_output=True, text=True)
print(done.stdout.strip())
"""
LOST = "fibonacci:written-where-nobody-follows"


def at(address: str, machines: dict[str, Machine]) -> Machine:
    return next(machine for machine in machines.values() if machine.address == address)


def write(machine: Machine, *command: str) -> str:
    """Return what the Redis of this very host says to a command of the app's user."""
    port = str(machine.settings("redis")["port"])
    return machine.python(WRITE, machine.address, port, *command, interpreter=SALT_PYTHON)


def test_a_web_host_dies_and_no_page_fails(
    steady: Callable[[str], Any], killed: Callable[[Machine], Any], machines: dict[str, Machine]
) -> None:
    victim = with_role(machines, "web")[0]
    with steady(f"{victim} (web, worker) killed") as running:
        with killed(victim):
            eventually(lambda: all(not up(balancer, victim) for balancer in with_role(machines, "lb")))
        eventually(lambda: all(up(balancer, victim) for balancer in with_role(machines, "lb")))

    assert running.failed == []
    assert running.watcher.wrong == []
    assert running.submitter.failed == []


def up(balancer: Machine, web: Machine) -> bool:
    # HAProxy's own words: an execution module of Salt takes a second, and this is asked often.
    (row,) = (row for row in balancer.balance() if (row["pxname"], row["svname"]) == ("web", web.name))
    return row["status"].startswith("UP")


def test_a_web_host_that_is_cut_off_costs_no_page(steady: Callable[[str], Any], machines: dict[str, Machine]) -> None:
    victim = with_role(machines, "web")[-1]
    with steady(f"{victim} (web, worker) cut off") as running:
        with cut_off(victim):
            eventually(lambda: all(not up(balancer, victim) for balancer in with_role(machines, "lb")))
        eventually(lambda: all(up(balancer, victim) for balancer in with_role(machines, "lb")))

    assert running.failed == []
    assert running.watcher.wrong == []


def test_the_address_moves_when_its_holder_dies(
    steady: Callable[[str], Any], killed: Callable[[Machine], Any], balancers: list[Machine], topology: dict[str, Any]
) -> None:
    victim = holder(balancers, topology["virtual_address"])
    (other,) = (balancer for balancer in balancers if balancer is not victim)
    with steady(f"{victim} (lb with the address) killed") as running, killed(victim):
        eventually(lambda: holder([other], topology["virtual_address"]))

    assert running.outage < MOVE
    assert running.watcher.wrong == []


def test_a_load_balancer_that_is_idle_dies_and_nobody_notices(
    steady: Callable[[str], Any], killed: Callable[[Machine], Any], balancers: list[Machine], topology: dict[str, Any]
) -> None:
    busy = holder(balancers, topology["virtual_address"])
    (victim,) = (balancer for balancer in balancers if balancer is not busy)
    with steady(f"{victim} (lb without the address) killed") as running, killed(victim):
        running.goes_on()

    assert (running.pages.failures, running.watcher.breaks, running.submitter.refused) == ([], [], [])
    assert running.submitter.failed == []


def test_a_replica_dies_and_nothing_is_refused(
    steady: Callable[[str], Any], killed: Callable[[Machine], Any], machines: dict[str, Machine], client: Client
) -> None:
    data = with_role(machines, "data")
    first = at(primary(data), machines)
    victim = next(machine for machine in data if machine is not first)
    with steady(f"{victim} (Redis replica) killed") as running, killed(victim):
        eventually(lambda: replicas(first) == len(data) - 2)

    assert (running.pages.failures, running.watcher.breaks) == ([], [])
    assert (running.submitter.refused, running.submitter.failed) == ([], [])


def test_another_redis_takes_over_from_a_primary_that_dies(
    steady: Callable[[str], Any], killed: Callable[[Machine], Any], machines: dict[str, Machine], client: Client
) -> None:
    data = with_role(machines, "data")
    victim = at(primary(data), machines)
    others = [machine for machine in data if machine is not victim]
    with steady(f"{victim} (Redis primary) killed") as running:
        with killed(victim):
            eventually(lambda: primary(others) != victim.address)
            running.notes.append(f"a new primary after {running.since:.1f} s")
            eventually(lambda: readiness(client) == "ready")
        eventually(lambda: replicas(others[0]) == len(data) - 1)

    assert running.failed == []
    assert (running.watcher.wrong, running.submitter.failed) == ([], [])


def test_a_primary_that_is_cut_off_takes_no_writes_and_follows_when_it_is_back(
    steady: Callable[[str], Any], machines: dict[str, Machine], client: Client
) -> None:
    data = with_role(machines, "data")
    victim = at(primary(data), machines)
    others = [machine for machine in data if machine is not victim]
    with steady(f"{victim} (Redis primary) cut off") as running:
        with cut_off(victim):
            alone = write(victim, "SET", LOST, "1", "EX", "600")
            eventually(lambda: primary(others) != victim.address)
            running.notes.append(f"a new primary after {running.since:.1f} s")
            eventually(lambda: readiness(client) == "ready")
            assert write(victim, "SET", LOST, "2", "EX", "600").startswith("NOREPLICAS")
        running.notes.append(f"healed after {running.since:.1f} s")
        eventually(lambda: replicas(others[0]) == len(data) - 1)
        first = at(primary(data), machines)
        assert write(first, "EXISTS", LOST) == "0", alone
        eventually(lambda: "role:slave" in write(victim, "INFO", "replication"))
        assert write(victim, "EXISTS", LOST) == "0"

    assert running.failed == []
    assert (running.watcher.wrong, running.submitter.failed) == ([], [])


def test_an_apply_after_a_failover_changes_nothing_and_does_not_fail_back(machines: dict[str, Machine]) -> None:
    data = with_role(machines, "data")
    before = primary(data)
    for applied in at_once(data, Machine.apply).values():
        assert applied.ok, applied.message
        assert applied.changed == {}
    assert primary(data) == before


def test_a_job_whose_worker_host_dies_ends_right_on_another(
    killed: Callable[[Machine], Any], machines: dict[str, Machine], client: Client
) -> None:
    eventually(lambda: is_whole(machines, client))
    n = random.randrange(30_000_000, 35_000_000)  # noqa: S311 - no secret
    place = submitted(client, 1, n)
    id = place.rpartition("/")[2]

    def said(machine: Machine, words: str) -> bool:
        return any(words in line and id in line for line in machine.journal("celery@*"))

    workers = with_role(machines, "worker")
    victim = eventually(lambda: next((machine for machine in workers if said(machine, "job begun")), None))
    assert victim is not None
    assert client.ask(place).json["state"] == "running"
    with killed(victim):
        (value,) = terms(client, f"{finished(client, place, deadline=180)}/result")

    assert value.endswith(last_digits(n))
    others = [machine for machine in workers if machine is not victim]
    assert any(said(machine, "job calculated") for machine in others)


def test_the_master_dies_and_the_service_goes_on(
    steady: Callable[[str], Any],
    killed: Callable[[Machine], Any],
    machines: dict[str, Machine],
    monitor: Machine,
    topology: dict[str, Any],
) -> None:
    with steady(f"{monitor} (Salt master) killed") as running, killed(monitor):
        running.goes_on()

    assert (running.pages.failures, running.watcher.breaks) == ([], [])
    assert (running.submitter.refused, running.submitter.failed) == ([], [])
    assert eventually(lambda: answering(monitor) == set(topology["hosts"]), deadline=180)
    assert has_booted(monitor)
