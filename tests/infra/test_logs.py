"""Logs: each line is written once, found again, and does not fill the disk."""

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from archive import counted
from client import PAGES, Client, another_site, with_id
from machine import Machine
from waiting import eventually

ACCESS_LOG = "/var/log/nginx/access.log"


def rotate(host: Machine, log: str) -> None:
    """Rotate one of the configured logs now."""
    done = host.run("logrotate --force %s", f"/etc/logrotate.d/{log}")
    assert (done.rc, done.stderr) == (0, "")


def opened(host: Machine, path: str) -> set[str]:
    """Return the files whose names begin with *path* that somebody has open."""
    found = host.check("find /proc/[0-9]*/fd -lname %s -printf '%%l\\n' 2>/dev/null || true", f"{path}*")
    return set(found.split())


def configured(host: Machine) -> dict[str, Any]:
    """Return the logs of the settings that this host has."""
    logs = host.settings("logrotate")["logs"]
    found = {name: log for name, log in logs.items() if not log.get("roles") or set(log["roles"]) & set(host.roles)}
    if "archive" in found:
        folder = host.settings("rsyslog")["archive"]
        found["archive"]["paths"] = [path.replace("ARCHIVE", folder) for path in found["archive"]["paths"]]
    # Only with Logstash, which has tests of its own.
    found.pop("logstash-output", None)
    return found


def test_the_access_log_is_json_line_by_line(client: Client, web: Machine) -> None:
    own = with_id()
    hostile = {"User-Agent": 'a "quoted" \\ one', "Referer": '"'}
    client.ask(f'{PAGES}?page="', another_site() | own | hostile)

    def line() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(web.check("grep %s %s", own["X-Request-ID"], ACCESS_LOG))
        return found

    logged = eventually(line)
    assert logged["agent"] == hostile["User-Agent"]
    assert (logged["method"], logged["status"]) == ("GET", 400)
    assert isinstance(logged["seconds"], float)
    recent = web.check("tail --lines=500 %s", ACCESS_LOG).splitlines()
    assert all(isinstance(json.loads(each), dict) for each in recent)


def test_the_journals_of_the_app_and_the_door_are_json_too(client: Client, lb: Machine, web: Machine) -> None:
    own = with_id()
    client.ask(f'{PAGES}?page="&x=%0a', another_site() | own | {"Host": 'a"b'})
    client.ask(f'{PAGES}?page="', another_site() | own)

    def logged() -> bool:
        for machine, unit in ((lb, "haproxy.service"), (web, "gunicorn.service")):
            lines = machine.check(
                "journalctl --unit=%s --since=-10min --output=cat --no-pager --grep=%s", unit, own["X-Request-ID"]
            )
            assert all(json.loads(line) for line in lines.splitlines())
        return True

    assert eventually(logged)


@pytest.mark.disruptive
@pytest.mark.roles("web")
def test_no_line_is_lost_while_the_log_is_rotated(host: Machine, client: Client, keeper: Machine) -> None:
    mark, over = uuid.uuid4().hex, threading.Event()

    def ask(who: int) -> list[str]:
        connection = client.connection()
        ids: list[str] = []
        while not over.is_set():
            ids.append(f"{mark}-{who}-{len(ids)}")
            assert client.page(headers={"X-Request-ID": ids[-1]}, connection=connection).status == 200
        connection.close()
        return ids

    # Requests are on their way at every moment of it.
    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, who) for who in range(4)]
        try:
            for _ in range(3):
                rotate(host, "nginx")
        finally:
            over.set()
        wanted = [id for each in asking for id in each.result()]
    last = f"{mark}-last"
    client.page(headers={"X-Request-ID": last})
    wanted.append(last)

    def found() -> bool:
        lines = host.check("zgrep --no-filename %s %s*", mark, ACCESS_LOG).splitlines()
        assert sorted(json.loads(line)["id"] for line in lines) == sorted(wanted)
        return True

    assert eventually(found)
    assert last in host.read(ACCESS_LOG)
    # And each was sent, though rsyslogd reads a file that is moved away under it.
    assert eventually(lambda: set(counted(keeper, mark, "nginx")) == set(wanted))


@pytest.mark.disruptive
@pytest.mark.roles("web")
def test_a_log_that_nobody_reads_is_left_as_it_is(host: Machine) -> None:
    def files() -> str:
        return host.check(f"ls --inode {ACCESS_LOG}*")

    host.check("systemctl stop rsyslog.service")
    try:
        before = files()
        assert host.run("logrotate --force /etc/logrotate.d/nginx").rc != 0
        assert files() == before
    finally:
        host.check("systemctl start rsyslog.service")


@pytest.mark.disruptive
@pytest.mark.roles("web")
def test_old_logs_are_compressed_and_the_last_one_not_yet(host: Machine, client: Client) -> None:
    for _ in range(2):
        own = with_id()
        client.page(headers=own)
        eventually(lambda own=own: own["X-Request-ID"] in host.read(ACCESS_LOG))  # type: ignore[misc]
        rotate(host, "nginx")

    assert host.run("test -s %s.1", ACCESS_LOG).rc == 0
    assert host.run("gzip --test %s.2.gz", ACCESS_LOG).rc == 0


@pytest.mark.disruptive
def test_every_configured_log_can_be_rotated_and_is_written_again(host: Machine, client: Client, web: Machine) -> None:
    client.page()
    eventually(lambda: web.run("test -s %s", ACCESS_LOG).rc == 0)  # an empty log is left alone

    # What is written all the time, or as soon as somebody asks, or does something as root (as this test does).
    written = {"nginx": ACCESS_LOG, "rsyslog-statistics": "/run/rsyslog/statistics"}
    if "logs" in host.roles:
        written["archive"] = f"{host.settings('rsyslog')['archive']}/{host.name}/sudo.log"
    for name, log in configured(host).items():
        rotate(host, name)
        mode, user, group = log["create"].split()
        existing = host.check(f"ls {' '.join(log['paths'])} 2>/dev/null || true").split()
        for path in existing:
            assert host.check("stat --format='0%%a %%U %%G' %s", path) == f"{mode} {user} {group}", path
            # Whoever has it open has this file open, not the one that was moved away; who sends it reads that to its
            # end first.
            eventually(lambda path=path: opened(host, path) <= {path})  # type: ignore[misc]
        if path := written.get(name):

            def is_written(path: str = path) -> bool:
                client.page()
                return host.run("test -s %s", path).rc == 0

            assert eventually(is_written), path


@pytest.mark.disruptive
def test_a_log_that_left_the_settings_is_rotated_no_more(host: Machine) -> None:
    mine = {"paths": ["/var/log/mine.log"], "create": "0640 root adm"}
    with host.applied({"logrotate": {"logs": {"mine": mine}}}) as applied:
        assert applied.ok, applied.message
        assert host.run("test -e /etc/logrotate.d/mine").rc == 0

    assert host.run("test -e /etc/logrotate.d/mine").rc == 1
    # Debian's own are there still.
    assert host.run("test -e /etc/logrotate.d/dpkg").rc == 0


@pytest.mark.disruptive
@pytest.mark.roles("data")
def test_redis_goes_on_in_the_new_log(host: Machine, client: Client) -> None:
    rotate(host, "redis-server")
    try:
        host.check("systemctl restart redis-server.service")

        log = "/var/log/redis/redis-server.log"
        eventually(lambda: "Ready to accept connections" in host.read(log))
    finally:
        eventually(lambda: client.ask("/readyz").json["status"] == "ready")


def test_logrotate_accepts_all_of_its_configuration(host: Machine) -> None:
    done = host.run("logrotate --debug /etc/logrotate.conf")

    assert done.rc == 0
    assert [line for line in done.stderr.splitlines() if line.startswith("error:")] == []


def test_every_log_file_that_is_written_is_also_rotated(host: Machine) -> None:
    files = "find /proc/[0-9]*/fd -lname '/var/log/*' -xtype f -printf '%l\\n' 2>/dev/null || true"
    written = {path for path in host.check(files).split() if not path.startswith("/var/log/journal/")}
    # By a package's own rule too: PostgreSQL tells its file of its start, and the journal all the rest.
    patterns = host.check("grep --no-filename --only-matching '^/[^{]*' /etc/logrotate.d/*").split()
    covered = set(host.check(f"ls {' '.join(patterns)} 2>/dev/null || true").split())

    assert written - covered == set()
    if "web" in host.roles:
        assert ACCESS_LOG in written


def test_logs_are_looked_at_as_often_as_the_settings_say(host: Machine) -> None:
    schedule = host.settings("logrotate")["schedule"]
    normal = host.check("systemd-analyze calendar %s", schedule)

    planned = host.show("logrotate.timer", "TimersCalendar")

    assert normal.partition("Normalized form: ")[2].splitlines()[0] in planned
    assert planned.count("OnCalendar") == 1
    assert host.show("logrotate.timer", "ActiveState") == "active"


def test_the_journal_stays_within_its_bounds(host: Machine) -> None:
    journal = host.settings("logrotate")["journal"]
    words = host.check("journalctl --unit=systemd-journald --grep='max [0-9.]+[KMG]' --output=cat --no-pager")

    # What the daemon itself says of its bounds, in its own spelling of sizes.
    # "1G" by the one systemd, "1.0G" by the other.
    assert f"max {journal['max_use']}" in words.splitlines()[-1].replace(".0G", "G")
    assert host.check("ls --directory /var/log/journal/*/")


@pytest.mark.disruptive
def test_a_burst_of_requests_leaves_no_gap_in_the_journal(client: Client, lb: Machine) -> None:
    mark, count = uuid.uuid4().hex, 12_000
    request = f"GET {PAGES}?page=1 HTTP/1.1\r\nHost: x\r\nX-Request-ID: {mark}-%d\r\n\r\n"
    last = f"GET {PAGES}?page=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    for start in range(0, count, 200):
        batch = "".join(request % number for number in range(start, start + 200))
        assert client.send_many((batch + last).encode()) == 201

    def logged() -> bool:
        lines = lb.check("journalctl --unit=haproxy.service --since=-20min --output=cat --no-pager --grep=%s", mark)
        assert len(set(lines.splitlines())) == count
        return True

    assert eventually(logged)
