"""The clock: kept by chrony, and left alone where it is another's."""

from typing import Any

from machine import Machine


def tracking(host: Machine) -> dict[str, str]:
    lines = host.check("chronyc -n tracking").splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_chrony_runs_and_says_how_the_clock_is(host: Machine) -> None:
    assert host.show("chrony.service", "ActiveState") == "active"
    assert tracking(host)["System time"]


def test_it_asks_the_sources_of_the_settings_and_the_other_hosts(host: Machine, topology: dict[str, Any]) -> None:
    settings = host.settings("ntp")
    wanted = [f"pool {name}" for name in settings["pools"]] + [f"server {name}" for name in settings["servers"]]
    others = [entry["address"] for name, entry in topology["hosts"].items() if name != host.name]
    wanted += [f"server {address}" for address in sorted(others)]

    loaded = host.check("chronyd -p -f /etc/chrony/chrony.conf").splitlines()

    assert [line.removesuffix(" iburst") for line in loaded if line.split()[0] in ("pool", "server", "peer")] == wanted


def test_without_any_source_it_trusts_itself_as_far_as_it_may(host: Machine, topology: dict[str, Any]) -> None:
    settings = host.settings("ntp")
    if settings["pools"] or settings["servers"] or len(topology["hosts"]) > 1:
        return  # it has others to trust; the test above names them
    status = tracking(host)

    assert status["Stratum"] == str(settings["local_stratum"])
    assert status["Leap status"] == "Normal"


def test_it_does_not_touch_a_clock_that_is_not_the_hosts_own(host: Machine) -> None:
    contained = host.run("systemd-detect-virt --quiet --container").rc == 0
    wish = host.settings("ntp")["adjust_clock"]
    adjusts = not contained if wish == "auto" else wish

    command = host.check("tr '\\0' ' ' </proc/%s/cmdline", str(host.main_pid("chrony.service"))).split()

    assert ("-x" not in command) == adjusts


def test_it_serves_nobody_unless_told_to(host: Machine, topology: dict[str, Any]) -> None:
    if host.settings("ntp")["allow"] or len(topology["hosts"]) > 1:
        return
    sockets = host.check("ss --udp --listening --numeric --processes --no-header")

    assert "chronyd" not in sockets
