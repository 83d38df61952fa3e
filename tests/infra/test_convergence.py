"""States lead to one state: applied twice, interrupted anywhere, or after a restart of the host."""

import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from client import PAGES, Client, another_site
from load import readiness, serves
from machine import Machine
from releases import edited, source
from waiting import eventually

# Apply, and kill Salt the moment a path appears or changes. Its children live on, as they would.
INTERRUPT = """
import glob, os, subprocess, sys, time

def seen():
    found = {}
    for path in glob.glob(sys.argv[1]):
        try:
            status = os.lstat(path)
            found[path] = status.st_ino, status.st_mtime_ns
        except OSError:
            pass
    return found

before = seen()
salt = subprocess.Popen(["salt-call", "--local", "--log-level=critical", "state.apply", "queue=10"],
                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
while salt.poll() is None:
    if seen() != before:
        salt.kill()
        salt.wait()
        sys.exit(print("killed"))
    time.sleep(0.002)
print("finished")
"""

# Something of every formula, each with an effect that can be seen from outside of its files.
EVERYTHING: dict[str, Any] = {
    "firewall": {"snippets": {"input": "tcp dport 9 accept"}},
    "names": {"more": {"interrupted.example": "192.0.2.9"}},
    "ntp": {"local_stratum": 11},
    "redis": {"maxmemory": "100mb"},
    "app": {"environment": {"FIBONACCI_MAX_PER_PAGE": 500}},
    "gunicorn": {"workers": 3},
    "nginx": {"client_max_header_bytes": 4096},
    "celery": {"workers": {"all": {"concurrency": 5}}},
    "haproxy": {"snippets": {"frontend": "http-response set-header X-Settings new"}},
    "rsyslog": {"memory_max": "255M"},
    "logrotate": {"journal": {"max_use": "500M"}},
}

# What an apply of all that brings about one after the other, and where it is cut off.
POINTS = [
    "/etc/nftables/turnkey.nft",
    "/usr/local/sbin/put-names",
    "/etc/chrony/chrony.conf",
    "/etc/redis/redis.conf",
    "{root}/venvs/*/bin/pip",
    "/run/try-release-*.sock",
    "{root}/current",
    "/etc/gunicorn/gunicorn.conf.py",
    "/etc/nginx/nginx.conf",
    "/etc/celery/all.conf",
    "/etc/haproxy/haproxy.cfg",
    "/etc/systemd/system/rsyslog.service",
]


def test_a_second_apply_changes_nothing(host: Machine) -> None:
    before = host.configuration(), host.started()

    applied = host.apply()

    assert applied.ok, applied.message
    assert applied.changed == {}
    assert (host.configuration(), host.started()) == before


def test_a_rehearsal_finds_nothing_to_change(host: Machine) -> None:
    rehearsed = host.apply(test=True)

    assert rehearsed.ok, rehearsed.message
    assert rehearsed.would_change == {}


def test_a_rehearsal_changes_nothing(host: Machine) -> None:
    before = host.configuration(), host.started(), host.releases()

    with host.site({"nginx": {"gzip": {"level": 1}}, "redis": {"timeout": 100}}):
        rehearsed = host.apply(test=True)

    assert {"/etc/nginx/nginx.conf", "/etc/redis/redis.conf"} <= set(rehearsed.would_change)
    assert (host.configuration(), host.started(), host.releases()) == before


@pytest.mark.disruptive
def test_a_restarted_host_serves_again_without_help(
    host: Machine, client: Client, container: Callable[[Machine], str]
) -> None:
    boot = host.read("/proc/1/stat").split()[21]
    subprocess.run(["docker", "restart", "-t", "60", container(host)], check=True, capture_output=True)

    def is_up() -> bool:
        assert host.read("/proc/1/stat").split()[21] != boot
        assert host.run("systemctl is-system-running").stdout.strip() == "running"
        assert host.are_active()
        return serves(client) and readiness(client) == "ready"

    assert eventually(is_up)
    applied = host.apply()
    assert applied.ok, applied.message
    assert applied.changed == {}


def effects(host: Machine, client: Client) -> dict[str, Any]:
    """Return what running daemons show of the settings in `EVERYTHING`."""
    tracking = dict(line.split(":", 1) for line in host.check("chronyc -n tracking").splitlines())
    memory = dict(line.split(":", 1) for line in host.redis("INFO", "memory").splitlines() if ":" in line)
    journal = host.check("journalctl --unit=systemd-journald --grep='max [0-9.]+[KMG]' --output=cat --no-pager")
    workers = host.main_pid("celery@all.service")
    return {
        "walls": "tcp dport 9 " in host.check("nft list table inet turnkey"),
        "names": host.run("getent hosts interrupted.example").stdout,
        "stratum": {key.strip(): value.strip() for key, value in tracking.items()}["Stratum"],
        "memory": memory["maxmemory"],
        "per page": client.page(1, 10**6, headers=another_site()).json["maximum"],
        "workers": len(host.children("gunicorn.service")),
        # As many as are needed now; how many there may be its command line says.
        "long work": re.findall(r"--autoscale=[0-9,]+", host.read(f"/proc/{workers}/cmdline")),
        "header": client.ask(f"{PAGES}?x={'x' * 6_000}").status,
        "door": client.page().header("X-Settings"),
        "logs": [host.show(unit, "MemoryMax") for unit in ("rsyslog.service", "ship-logs.service")],
        "journal": journal.splitlines()[-1].partition("max ")[2].partition(",")[0],
    }


def state(host: Machine, client: Client) -> dict[str, Any]:
    """Return all by which two hosts may differ that are meant to be the same."""
    running = host.check("systemctl list-units --plain --no-legend --no-pager --state=active,failed,activating")
    return {
        "effects": effects(host, client),
        "configuration": host.configuration(),
        "release": host.release(),
        "venv": host.check("readlink --canonicalize %s/venv", host.release()),
        "files of the release": host.check("cd %s && find -L . -not -name '*.pyc' | sort", host.release()).splitlines(),
        "units": sorted(line.split()[0] for line in running.splitlines() if "session" not in line),
        # Who runs what, and not how many: nginx has a process for a while that reads its cache.
        # (postgresql.service has none: it stands for those of all clusters.)
        "processes": {
            unit: who_runs_what(host, unit) for unit in host.units if unit.endswith(".service") and host.main_pid(unit)
        },
    }


def who_runs_what(host: Machine, unit: str) -> set[str]:
    pids = ",".join(map(str, host.processes(unit)))
    return set(host.check("ps -o user=,comm= --pid %s", pids).splitlines())


@pytest.mark.disruptive
def test_an_interrupted_apply_is_made_good_by_the_next(host: Machine, client: Client) -> None:
    root, first_release = host.root, host.release()
    old = effects(host, client)
    lock = source(host, host.settings("app")["requirements"])
    # Another lock of the same packages: what it installs is made anew, too.
    try:
        with edited(host, lock, lambda text: text + "# Another.\n"), host.site(EVERYTHING):
            applied = host.apply()
            assert applied.ok, applied.message
            undisturbed = eventually(lambda: settled(host, client))
            assert [name for name, value in undisturbed["effects"].items() if value == old[name]] == []
    finally:
        host.heal()
    assert host.release() == first_release
    host.check("rm -r %s %s", undisturbed["venv"], undisturbed["release"])

    with edited(host, lock, lambda text: text + "# Another.\n"), host.site(EVERYTHING):
        outcomes = {point: host.python(INTERRUPT, point.format(root=root)) for point in POINTS}
        completed = host.apply()
        disturbed = eventually(lambda: settled(host, client))
        again = host.apply()
    host.heal()

    assert set(outcomes.values()) == {"killed"}, outcomes
    assert completed.ok, completed.message

    for aspect, value in undisturbed.items():
        assert disturbed[aspect] == value, aspect
    assert (again.ok, again.changed) == (True, {})


def settled(host: Machine, client: Client) -> dict[str, Any]:
    """Return the state once it is the same twice: after a reload old processes still finish their work."""
    first, second = state(host, client), state(host, client)
    assert first == second
    return second
