"""Whatever breaks, Zabbix says the one right thing within a minute and a half, and takes it back afterwards.

Faults that do not disturb each other are there at the same time: a wave. While it lasts nothing but its own alerts may
be told, by any host, nor until all is taken back. Each fault is printed with its alert and the seconds from when it was
there until Zabbix knew, by its own word: the hosts of a lab have one clock.
"""

import base64
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any

import pytest
from client import Client
from hosts import holder, is_whole, primary, with_role
from jobs import post, works
from load import readiness
from machine import Machine
from waiting import eventually
from zabbix import Zabbix

pytestmark = [pytest.mark.cluster, pytest.mark.disruptive]

# Seconds within which an alert must be there, and within which it must be gone again after the fault is; and until what
# Zabbix knows is what it tells, on a machine that is busy.
SOON, GONE, SAID = 90.0, 180.0, 10.0
# More jobs than may wait ({$JOBS.QUEUED}).
JOBS = 80
# Of a host and an alert.
Told = tuple[str, str]
Fault = tuple[str, Told, AbstractContextManager[None]]

# An NTP server that is five seconds ahead.
LIAR = """
import socket, struct, sys, time
door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
door.bind(("127.0.0.1", int(sys.argv[1])))
while True:
    asked, client = door.recvfrom(512)
    if len(asked) < 48:
        continue
    now = time.time() + 2_208_988_800 + 5
    stamp = struct.pack("!II", int(now), int(now % 1 * 2**32))
    head = struct.pack("!BBbbII4s", 0x24, 1, asked[2], -20, 0, 0, b"LIAR")
    door.sendto(head + stamp + asked[40:48] + stamp + stamp, client)
"""
LIAR_PORT = 11_123
CERTIFICATE_PORT = 8_443


def told(zabbix: Zabbix) -> dict[Told, int]:
    """Return the problems that there are, by host and alert, with the time at which each began."""
    problems = zabbix.ask("problem.get", output=["objectid", "clock"], source=0, object=0)
    triggers = zabbix.ask(
        "trigger.get",
        output=["description"],
        triggerids=[problem["objectid"] for problem in problems],
        selectHosts=["host"],
    )
    named = {one["triggerid"]: (one["hosts"][0]["host"], one["description"]) for one in triggers}
    return {named[one["objectid"]]: int(one["clock"]) for one in problems if one["objectid"] in named}


@pytest.fixture
def wave(
    zabbix: Zabbix, machines: dict[str, Machine], client: Client, report: Callable[[str], None]
) -> Callable[..., None]:
    """Return what has faults happen at the same time, waits for their alerts, and for the end of these."""

    def wave(faults: list[Fault], meanwhile: Callable[[], object] = bool) -> None:
        eventually(lambda: is_whole(machines, client))
        eventually(lambda: told(zabbix) == {}, deadline=GONE, pause=3)
        began: dict[Told, float] = {}
        seconds: dict[Told, float] = {}
        with ExitStack() as stack:
            for _, alert, fault in faults:
                stack.enter_context(fault)
                began[alert] = time.time()

            def all_told() -> bool:
                found = told(zabbix)
                if strange := set(found) - set(began):
                    pytest.fail(f"told besides: {strange}")
                # Known to the second, and sometimes before the last step of the fault is done.
                seconds.update({alert: max(clock - began[alert], 0) for alert, clock in found.items()} | seconds)
                return len(seconds) == len(faults)

            # Which are late is said below, each by its name. To ask is work for the hosts: not at every moment.
            with suppress(AssertionError):
                eventually(all_told, deadline=max(began.values()) + SOON + SAID - time.time(), pause=3)
            for what, alert, _ in faults:
                took = f"{seconds[alert]:.0f} s" if alert in seconds else "NOT TOLD"
                report(f"{what} -> {alert[0]}: {alert[1]}, {took}")
            late = {alert for alert in began if seconds.get(alert, SOON + 1) > SOON}
            assert not late, f"not told within {SOON:.0f} s: {late}"
            meanwhile()
        ended = time.monotonic()

        def all_over() -> bool:
            found = told(zabbix)
            if strange := set(found) - set(began):
                pytest.fail(f"told besides, when all was mended: {strange}")
            return not found

        eventually(all_over, deadline=GONE, pause=3)
        report(f"all taken back {time.monotonic() - ended:.0f} s after the last was mended")

    return wave


# --- faults -----------------------------------------------------------------------------------------------------------


@contextmanager
def stopped(machine: Machine, *units: str) -> Iterator[None]:
    machine.check("systemctl stop " + " ".join(["%s"] * len(units)), *units)
    try:
        yield
    finally:
        # Sockets first: their services take them over.
        machine.check("systemctl start " + " ".join(["%s"] * len(units)), *reversed(units))


@contextmanager
def full_disk(machine: Machine) -> Iterator[None]:
    # A small one that the agent, in its sandbox, has in sight: what is mounted later it has not.
    machine.check("mount -o remount,size=1m /run/lock")
    try:
        machine.check("head -c 1000000 /dev/zero >/run/lock/full")
        yield
    finally:
        machine.check("rm -f /run/lock/full && mount -o remount,size=50% /run/lock")


@contextmanager
def wrong_clock(machine: Machine) -> Iterator[None]:
    """Believe a server that lies: a container's clock cannot be set, only taken for wrong."""
    source = base64.b64encode(LIAR.encode()).decode()
    machine.check(
        "systemd-run --quiet --unit=liar --collect /usr/bin/python3 -c %s %s",
        f"import base64; exec(base64.b64decode('{source}'))",
        str(LIAR_PORT),
    )
    try:
        # The lie stays here: the others ask this host too.
        machine.check("chronyc deny all")
        options = "iburst minpoll 0 maxpoll 0 trust prefer"
        machine.check(f"chronyc add server 127.0.0.1 port {LIAR_PORT} {options}")
        yield
    finally:
        machine.run("systemctl stop liar; systemctl restart chrony")


@contextmanager
def certificate_that_ends(machine: Machine) -> Iterator[None]:
    """Show a certificate of five days at a port that is looked at."""
    machine.check(
        "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -days 5 -keyout /run/ends.key -out /run/ends.crt 2>&1"
    )
    machine.check(
        "systemd-run --quiet --unit=ends --collect openssl s_server -quiet -accept %s -cert /run/ends.crt"
        " -key /run/ends.key",
        str(CERTIFICATE_PORT),
    )
    apply = "salt-call --local --retcode-passthrough --log-level=critical state.apply zabbix_agent queue=10"
    try:
        with machine.site({"zabbix_agent": {"certificates": [CERTIFICATE_PORT]}}):
            machine.check(apply)
            yield
    finally:
        machine.check("systemctl stop ends; rm -f /run/ends.*")
        machine.check(apply)


@contextmanager
def apply_that_fails(machine: Machine) -> Iterator[None]:
    try:
        with machine.site({"logrotate": {"schedule": "never"}}):
            assert not machine.apply().ok
            yield
    finally:
        machine.heal()


@contextmanager
def stuck_worker(machine: Machine) -> Iterator[None]:
    worker = machine.children("gunicorn.service")[0]
    machine.check("kill -STOP %s", str(worker))
    try:
        yield
    finally:
        # Gunicorn may have ended it meanwhile.
        machine.run("kill -CONT %s", str(worker))


@contextmanager
def refusing(machine: Machine, chain: str, rule: str) -> Iterator[None]:
    """Refuse some packets of *machine*, at once."""
    table = "table inet fault { chain one { type filter hook %s priority 0; %s reject with tcp reset; }; }"
    machine.write("/run/fault.nft", table % (chain, rule) + "\n")
    machine.check("nft --file /run/fault.nft")
    try:
        yield
    finally:
        machine.check("nft delete table inet fault; rm /run/fault.nft")


@contextmanager
def backlog(workers: list[Machine], client: Client) -> Iterator[None]:
    """Ask for more than may wait, while workers stand still; daemons that stand still run, for systemd."""
    for machine in workers:
        machine.check("systemctl kill --signal=STOP 'celery@*.service'")
    try:
        # Of those that nobody has asked for yet, nor a run before this one.
        first = random.randrange(60_000, 90_000)  # noqa: S311 - no secret
        for number in range(JOBS):
            assert post(client, first + 10 * number, 1).status == 202
        yield
    finally:
        for machine in workers:
            machine.check("systemctl kill --signal=CONT 'celery@*.service'")


# --- waves ------------------------------------------------------------------------------------------------------------


def test_what_stops_or_runs_short_is_told_by_its_host(
    wave: Callable[..., None],
    machines: dict[str, Machine],
    balancers: list[Machine],
    topology: dict[str, Any],
) -> None:
    """All at once: one web host serves on, by the worker that is not stuck, and another Redis takes over."""
    web, data = with_role(machines, "web"), with_role(machines, "data")
    busy = holder(balancers, topology["virtual_address"])
    idle = next(machine for machine in balancers if machine is not busy)
    first = next(machine for machine in data if machine.address == primary(data))
    log_alert, celery_alert = "Logs are not shipped", "A Celery worker does not run"
    down = stopped(web[0], "gunicorn.service", "gunicorn.socket")
    wave(
        [
            ("Salt apply failing", (data[0].name, "Salt's last apply failed"), apply_that_fails(data[0])),
            ("certificate near its end", (busy.name, "A certificate ends soon"), certificate_that_ends(busy)),
            ("nginx down", (web[0].name, "nginx does not run"), stopped(web[0], "nginx.service")),
            ("gunicorn down", (web[0].name, "Gunicorn does not run"), down),
            ("gunicorn worker stuck", (web[1].name, "A worker of gunicorn is stuck"), stuck_worker(web[1])),
            ("Celery worker dead", (web[1].name, celery_alert), stopped(web[1], "celery@all.service")),
            ("disk nearly full", (data[1].name, "Disk is nearly full"), full_disk(data[1])),
            ("clock off", (data[2].name, "Clock is wrong"), wrong_clock(data[2])),
            ("log shipping stopped", (idle.name, log_alert), stopped(idle, "rsyslog.service")),
            ("keepalived down", (idle.name, "Keepalived does not run"), stopped(idle, "keepalived.service")),
            ("Redis primary down", (first.name, "Redis does not run"), stopped(first, "redis-server.service")),
        ]
    )


def test_what_several_hosts_see_is_told_once(
    wave: Callable[..., None], machines: dict[str, Machine], monitor: Machine, balancers: list[Machine], client: Client
) -> None:
    web, data = with_role(machines, "web"), with_role(machines, "data")
    first = primary(data)
    replica = next(machine for machine in data if machine.address != first)
    addresses = ", ".join(balancer.address for balancer in balancers)
    door = f"ip saddr {{ {addresses} }} tcp dport {web[1].settings('nginx')['port']}"
    link = f"ip daddr {first} tcp dport {replica.settings('redis')['port']}"
    wave(
        [
            ("backlog over the limit", (monitor.name, "Jobs wait"), backlog(with_role(machines, "worker"), client)),
            (
                "a backend down",
                (monitor.name, "A web host is not ready, though its daemons run"),
                refusing(web[1], "input", door),
            ),
            (
                "replication broken",
                (monitor.name, "A replica of Redis does not follow"),
                refusing(replica, "output", link),
            ),
        ]
    )


def test_a_dead_host_is_one_alert_whatever_the_others_miss_of_it(
    wave: Callable[..., None],
    machines: dict[str, Machine],
    balancers: list[Machine],
    topology: dict[str, Any],
    killed: Callable[[Machine], AbstractContextManager[None]],
    client: Client,
) -> None:
    """One of each kind at a time: of all that others see of them nothing is told, and the service goes on."""
    data = with_role(machines, "data")
    first = next(machine for machine in data if machine.address == primary(data))
    busy = holder(balancers, topology["virtual_address"])
    idle = next(machine for machine in balancers if machine is not busy)
    web = with_role(machines, "web")[0]

    def goes_on() -> None:
        assert readiness(client) == "ready"
        assert works(client)

    faults = [
        (what, (machine.name, "Host is dead"), killed(machine))
        for what, machine in (("web host dead", web), ("primary's host dead", first), ("load balancer dead", idle))
    ]
    wave(faults, goes_on)
