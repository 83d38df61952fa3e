"""Which host does what in a cluster just now, whether it is whole, and how one is cut off."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from client import Client
from load import readiness
from machine import Machine, at_once

# Let nobody of the network in or out but ssh: the host lives, and is cut off.
CUT_OFF = """
table inet cut_off {
    chain input { type filter hook input priority -300; iif lo accept; tcp dport 22 accept; drop; }
    chain output { type filter hook output priority -300; oif lo accept; tcp sport 22 accept; drop; }
}
"""


def with_role(machines: dict[str, Machine], role: str) -> list[Machine]:
    found = [machine for machine in machines.values() if role in machine.roles]
    assert found, f"none of the chosen hosts has the role {role}"
    return found


def holder(balancers: list[Machine], address: str) -> Machine:
    """Return the load balancer that holds the virtual address."""
    found = [machine for machine in balancers if machine.run("ip -4 -o addr show to %s", address).stdout]
    assert len(found) == 1, f"{address} is held by {found}"
    return found[0]


def primary(asked: list[Machine]) -> str:
    """Return the address of Redis's primary, on which the Sentinels of all hosts *asked* must agree."""
    ask = "ask-sentinel SENTINEL GET-MASTER-ADDR-BY-NAME turnkey"
    told = at_once(asked, lambda machine: machine.check(ask).splitlines()[0])
    assert len(set(told.values())) == 1, told
    return next(iter(told.values()))


def replicas(machine: Machine) -> int:
    """Return how many replicas follow the primary and are well, by the Sentinel of a host.

    As Salt's own `primary.view` has it, which takes two seconds: this is asked often.
    """
    # In the midst of a failover the first answer is the one to tell of the new primary.
    asked = "ask-sentinel --json SENTINEL"
    told = machine.check(f"{asked} GET-MASTER-ADDR-BY-NAME turnkey && {asked} REPLICAS turnkey")
    (address, _), found = documents(told)
    well = {"flags": "slave", "master-link-status": "ok", "master-host": address}
    # A mapping, or a list of names and values in turn, as the version of Redis has it.
    told_of = (entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True)) for entry in found)
    return sum(entry.items() >= well.items() for entry in told_of)


def documents(told: str) -> list[Any]:
    """Return what JSON documents hold that stand one after the other."""
    found = []
    while told := told.lstrip():
        document, end = json.JSONDecoder().raw_decode(told)
        found.append(document)
        told = told[end:]
    return found


def orders(monitor: Machine, function: str, target: str = "*") -> dict[str, Any]:
    """Return what each minion answers to an order of the master."""
    # A document for each, as the answers come.
    told = documents(monitor.run("salt --out=json --timeout=60 %s %s", target, function).stdout)
    return {name: answer for document in told for name, answer in document.items()}


def answering(monitor: Machine, target: str = "*") -> set[str]:
    """Return the minions that answer the master within some seconds."""
    told = monitor.run("salt --out=txt --timeout=5 %s test.ping", target).stdout
    return {line.partition(":")[0] for line in told.splitlines() if line.endswith(": True")}


def is_whole(machines: dict[str, Machine], client: Client) -> bool:
    """Fail unless every host runs all that it should, and each takes its part."""
    at_once(machines.values(), Machine.are_active)
    data = with_role(machines, "data")
    primary(data)
    assert replicas(data[0]) == len(data) - 1
    web = {machine.name for machine in with_role(machines, "web")}
    for balancer in with_role(machines, "lb"):
        # HAProxy's own words: an execution module of Salt takes a second, and this is asked often.
        servers = {(row["pxname"], row["svname"]): row["status"] for row in balancer.balance() if row["svname"] in web}
        assert set(servers.values()) == {"UP"}, (balancer, servers)
    return readiness(client) == "ready"


def has_booted(machine: Machine) -> bool:
    assert machine.run("systemctl is-system-running").stdout.strip() == "running"
    return machine.are_active()


@contextmanager
def cut_off(machine: Machine) -> Iterator[None]:
    """Leave a host nothing of the network but ssh, for as long as the block runs."""
    machine.write("/run/cut-off.nft", CUT_OFF)
    machine.check("nft --file /run/cut-off.nft")
    try:
        yield
    finally:
        machine.check("nft delete table inet cut_off; rm /run/cut-off.nft")
