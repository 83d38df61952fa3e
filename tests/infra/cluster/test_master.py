"""The master and its minions: one result with it and without, each host's secrets its own, nobody joins unasked."""

import uuid
from typing import Any

import pytest
import yaml
from hosts import answering, orders
from machine import REPOSITORY, Machine, at_once
from waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.disruptive]

CALL = "timeout 60 salt-call --config-dir=%s --out=yaml --log-level=error"


def secrets(machine: Machine) -> dict[str, set[str]]:
    """Return the values of a host's secrets by formula, as they lie there; the master has those of all hosts."""
    told: dict[str, dict[str, Any]] = yaml.safe_load(machine.read(f"{REPOSITORY}/salt/pillar/secrets.sls")) or {}
    found: dict[str, set[str]] = {}
    for formula, values in told.items():
        for value in values.values():
            found.setdefault(formula, set()).update(value.values() if isinstance(value, dict) else [str(value)])
    return found


def values(found: dict[str, set[str]]) -> set[str]:
    return set().union(*found.values())


def test_the_master_finds_nothing_to_change_anywhere(monitor: Machine, topology: dict[str, Any]) -> None:
    told = orders(monitor, "state.apply")

    assert set(told) == set(topology["hosts"])
    for name, states in told.items():
        assert isinstance(states, dict), (name, states)
        assert [state["__id__"] for state in states.values() if not state["result"]] == [], name
        assert [state["__id__"] for state in states.values() if state["changes"]] == [], name


def test_each_host_holds_what_its_roles_need_and_the_master_sends_it_no_more(
    machines: dict[str, Machine], monitor: Machine
) -> None:
    everything = values(secrets(monitor))
    assert values(secrets(machines["web1"])) < everything
    assert "redis" not in secrets(machines["lb1"])
    keys = secrets(monitor)["zabbix"]
    others = [machine for machine in machines.values() if machine is not monitor]
    pillar = "salt-call --out=yaml --log-level=error pillar.items unmask=True"
    sent = at_once(others, lambda machine: machine.check(pillar))
    for machine in others:
        own = values(secrets(machine))
        assert own <= everything
        # With which Zabbix asks this host and no other.
        assert len(own & keys) == 1
        assert {secret for secret in everything if secret in sent[machine.name]} == own, machine


def test_a_minion_that_says_that_it_is_another_is_sent_nothing(machines: dict[str, Machine], monitor: Machine) -> None:
    thief, victim = machines["web1"], machines["data1"]
    wanted = values(secrets(victim)) - values(secrets(thief))
    assert wanted
    folder = pretender(thief, victim.name)
    try:
        # The key is another than the one that was accepted.
        stolen = thief.run(f"{CALL} pillar.items unmask=True 2>&1", folder)
        assert stolen.rc != 0
        assert not any(secret in stolen.stdout for secret in wanted)
        # With its own key, and the other's name in the request, the master knows better.
        assert victim.name in monitor.check("salt-key --list=denied --out=txt")
    finally:
        thief.check("rm -r %s", folder)
        monitor.check("rm -f /etc/salt/pki/master/minions_denied/%s", victim.name)
    assert answering(monitor, victim.name) == {victim.name}


def test_nobody_joins_whose_key_was_not_accepted(machines: dict[str, Machine], monitor: Machine) -> None:
    host, name = machines["web1"], f"stranger-{uuid.uuid4().hex[:8]}"
    folder = pretender(host, name)
    try:
        refused = host.run(f"{CALL} pillar.items unmask=True 2>&1", folder)
        assert refused.rc != 0
        assert not any(secret in refused.stdout for secret in values(secrets(monitor)))
        assert name in monitor.check("salt-key --list=unaccepted --out=txt")
        assert name not in monitor.check("salt-key --list=accepted --out=txt")
    finally:
        host.check("rm -r %s", folder)
        monitor.check("salt-key --yes --delete=%s", name)


def test_a_host_made_anew_is_let_in_by_its_new_fingerprint_only(machines: dict[str, Machine], monitor: Machine) -> None:
    host = machines["lb1"]
    host.check("systemctl stop salt-minion.service; rm -r /etc/salt/pki/minion; systemctl start salt-minion.service")
    eventually(lambda: host.name in monitor.check("salt-key --list=denied --out=txt"), deadline=120)
    assert answering(monitor, host.name) == set()

    fingerprint = host.check(f"{REPOSITORY}/salt/keyring.py fingerprint")
    monitor.check(f"echo %s | {REPOSITORY}/salt/keyring.py accept", fingerprint)
    assert eventually(lambda: answering(monitor, host.name) == {host.name}, deadline=180)


def pretender(host: Machine, name: str) -> str:
    """Make the configuration of a minion *name*, with keys of its own, and return its folder."""
    folder = host.check("mktemp -d")
    own = host.read("/etc/salt/minion.d/turnkey.conf") + "\n" + host.run("cat /etc/salt/minion.d/trust.conf").stdout
    changed = {"id": name, "pki_dir": f"{folder}/pki", "cachedir": f"{folder}/cache", "sock_dir": f"{folder}/run"}
    changed |= {"log_file": f"{folder}/log", "auth_tries": 1, "acceptance_wait_time": 1, "random_reauth_delay": 1}
    host.write(f"{folder}/minion", yaml.safe_dump({**yaml.safe_load(own), **changed}))
    return folder
