"""Walls: from every host to every host and from outside, only what the topology needs is open."""

import contextlib
import functools
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from machine import Machine
from tests.reach import STRANGER, Door, doors, may_reach

# Knock at doors; nobody listening (refused) is open too, as far as walls go.
KNOCK = """
import concurrent.futures, json, socket, sys

def is_open(door):
    try:
        socket.create_connection(door, timeout=5).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True

doors = json.loads(sys.argv[1])
# A closed one does not answer: all at the same time.
with concurrent.futures.ThreadPoolExecutor(len(doors) or 1) as knocks:
    print(json.dumps([door for door, answered in zip(doors, knocks.map(is_open, doors)) if answered]))
"""
CLOSED_TO_ALL = 9999


@pytest.fixture(scope="session")
def settings_of(machines: dict[str, Machine]) -> Callable[[str], dict[str, Any]]:
    """The settings of a formula, from a host that is told all of them."""

    # Asked for each door.
    @functools.cache
    def settings_of(formula: str) -> dict[str, Any]:
        for machine in machines.values():
            with contextlib.suppress(AssertionError):
                return machine.settings(formula)
        raise AssertionError(f"no host has the settings of {formula}")

    return settings_of


def tcp(found: set[Door]) -> set[int]:
    return {door.port for door in found if door.protocol == "tcp" and door.port is not None}


def test_every_host_reaches_what_the_topology_says_and_nothing_else(
    machines: dict[str, Machine], topology: dict[str, Any], settings_of: Callable[[str], dict[str, Any]]
) -> None:
    reach = may_reach(topology, settings_of)
    asked = {*tcp(set(doors(settings_of))), CLOSED_TO_ALL}
    names = {host["address"]: name for name, host in topology["hosts"].items()}

    def reached(source: str) -> set[tuple[str, int]]:
        knocks = [(address, port) for address, name in names.items() for port in asked if name != source]
        found = json.loads(machines[source].python(KNOCK, json.dumps(knocks)))
        return {(names[address], port) for address, port in found}

    with ThreadPoolExecutor(len(machines)) as hosts:
        found = dict(zip(machines, hosts.map(reached, machines), strict=True))
    assert found == {
        source: {(name, port) for name in names.values() if name != source for port in tcp(reach[source, name])}
        for source in machines
    }


def test_strangers_reach_the_door_and_ssh_only(
    machines: dict[str, Machine], topology: dict[str, Any], settings_of: Callable[[str], dict[str, Any]]
) -> None:
    """This machine is one: the topology does not know it."""
    reach = may_reach(topology, settings_of)
    asked = {*tcp(set(doors(settings_of))), CLOSED_TO_ALL}
    knocks = json.dumps([(machine.address, port) for machine in machines.values() for port in asked])
    told = subprocess.run([sys.executable, "-c", KNOCK, knocks], check=True, capture_output=True)
    found = {(address, port) for address, port in json.loads(told.stdout)}
    assert found == {
        (machine.address, port) for machine in machines.values() for port in tcp(reach[STRANGER, machine.name])
    }


def test_rules_are_loaded_and_stay_after_a_boot(host: Machine) -> None:
    assert host.show("firewall.service", "ActiveState") == "active"
    assert host.show("firewall.service", "UnitFileState") == "enabled"
    assert "policy drop" in host.check("nft list chain inet turnkey input")
    assert "policy drop" in host.check("nft list chain inet turnkey forward")


@pytest.mark.disruptive
def test_rules_that_somebody_flushed_are_back_with_the_next_apply(host: Machine) -> None:
    host.check("nft delete table inet turnkey")
    applied = host.apply()
    assert applied.ok, applied.message
    assert applied.changed == {"firewall.service": {"firewall.service": "reload"}}
    assert host.apply().changed == {}


@pytest.mark.disruptive
def test_rules_that_nft_refuses_change_nothing(host: Machine) -> None:
    before = host.check("nft --stateless list table inet turnkey")
    with host.applied({"firewall": {"snippets": {"input": "tcp dport eighty accept"}}}) as applied:
        assert "/etc/nftables/turnkey.nft" in applied.failed
        assert "eighty" in applied.message
        assert host.check("nft --stateless list table inet turnkey") == before


@pytest.mark.disruptive
def test_a_port_of_ssh_where_nobody_listens_changes_nothing(host: Machine) -> None:
    with host.applied({"firewall": {"ssh_port": 2222}}) as applied:
        assert "firewall:ssh_port: nothing listens on 2222 here" in applied.message
        assert "tcp dport 22 " in host.check("nft list table inet turnkey")


def test_names_of_the_topology_are_known(
    host: Machine, topology: dict[str, Any], settings: Callable[[str], dict[str, Any]]
) -> None:
    names = settings("names")
    if not names["hosts_file"]:
        return  # the site's DNS has them
    domain = names["domain"] or f"{topology['name']}.internal"
    for name, entry in topology["hosts"].items():
        assert host.check("getent ahosts %s", f"{name}.{domain}").split()[0] == entry["address"]
    door = topology.get("virtual_address") or next(
        entry["address"] for entry in topology["hosts"].values() if "lb" in entry["roles"]
    )
    assert host.check("getent ahosts %s", f"{names['service']}.{domain}").split()[0] == door
