"""The clock: kept by chrony, and left alone where it is another's."""

from collections.abc import Callable
from typing import Any

import pytest
from machine import Machine
from waiting import eventually


def tracking(host: Machine) -> dict[str, str]:
    lines = host.check("chronyc -n tracking").splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_chrony_runs_and_says_how_the_clock_is(host: Machine) -> None:
    assert host.show("chrony.service", "ActiveState") == "active"
    assert tracking(host)["System time"]


def test_it_asks_the_sources_of_the_settings_and_the_other_hosts(
    host: Machine, topology: dict[str, Any], settings: Callable[[str], dict[str, Any]]
) -> None:
    ntp = settings("ntp")
    wanted = [
        f"{kind} {source if isinstance(source, str) else source['host']}"
        for kind in ("pool", "server")
        for source in ntp[f"{kind}s"]
    ]
    others = [entry["address"] for name, entry in topology["hosts"].items() if name != host.name]
    wanted += [f"server {address}" for address in sorted(others)] + [f"peer {address}" for address in ntp["peers"]]

    loaded = host.check("chronyd -p -f /etc/chrony/chrony.conf").splitlines()

    asked = [line.split()[:2] for line in loaded if line.split()[0] in ("pool", "server", "peer")]
    assert [" ".join(words) for words in asked] == wanted


@pytest.mark.together
def test_hosts_of_one_topology_prove_to_each_other_that_they_belong_to_it(
    host: Machine, topology: dict[str, Any]
) -> None:
    others = {entry["address"] for name, entry in topology["hosts"].items() if name != host.name}

    def proven() -> dict[str, bool]:
        """Whether an answer has come, by the address of each that has to prove itself by the key."""
        keyed = {line.split(",")[0] for line in host.check("chronyc -n -c authdata").splitlines() if ",SK,1," in line}
        sources = [line.split(",") for line in host.check("chronyc -n -c sources").splitlines()]
        return {address: reach != "0" for _, _, address, _, _, reach, *_ in sources if address in keyed}

    assert set(proven()) == others
    # One that does not prove itself counts as one that does not answer.
    eventually(lambda: any(proven().values()))


def test_any_user_may_ask_how_the_clock_is_and_none_may_change_it(host: Machine) -> None:
    """So that monitoring needs no privilege: the fifth of these is how many seconds the clock is off."""
    told = host.check("runuser --user nobody -- chronyc -n -c tracking").split(",")
    refused = host.run("runuser --user nobody -- chronyc -n makestep")

    assert len(told) == 14
    assert abs(float(told[4])) < 1
    assert refused.stdout.strip() == "501 Not authorised"
    assert refused.rc != 0


@pytest.mark.alone
def test_without_any_source_it_trusts_itself_as_far_as_it_may(host: Machine) -> None:
    settings = host.settings("ntp")
    stratum = settings["local_stratum"]
    loaded = host.check("chronyd -p -f /etc/chrony/chrony.conf").splitlines()
    assert [line for line in loaded if line.startswith("local ")] == [f"local stratum {stratum} orphan"] * bool(stratum)

    # With others to ask it follows them, or itself while they are out of reach.
    status = tracking(host)
    if not settings["pools"] + settings["servers"] + settings["peers"]:
        assert status["Stratum"] == str(stratum)
        assert status["Leap status"] == ("Normal" if stratum else "Not synchronised")


def test_it_does_not_touch_a_clock_that_is_not_the_hosts_own(
    host: Machine, settings: Callable[[str], dict[str, Any]]
) -> None:
    contained = host.run("systemd-detect-virt --quiet --container").rc == 0
    wish = settings("ntp")["adjust_clock"]
    adjusts = not contained if wish == "auto" else wish

    command = host.check("tr '\\0' ' ' </proc/%s/cmdline", str(host.main_pid("chrony.service"))).split()

    assert ("-x" not in command) == adjusts


@pytest.mark.alone
def test_it_serves_nobody_unless_told_to(host: Machine) -> None:
    sockets = host.check("ss --udp --listening --numeric --processes --no-header").splitlines()

    # On loopback it says how the clock is.
    addresses = {line.split()[3] for line in sockets if '"chronyd"' in line}
    assert "127.0.0.1:323" in addresses
    assert bool(addresses - {"127.0.0.1:323", "[::1]:323"}) == bool(host.settings("ntp")["allow"])
