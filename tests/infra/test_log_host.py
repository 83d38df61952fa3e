"""The log host: every line comes there, is found by its request's id, and holds nobody's secret."""

import json
import uuid
from typing import Any

import pytest
from archive import SHORTEST, ask_many, measured, missing, traced
from client import PAGES, Client, another_site, with_id
from jobs import JOBS
from machine import Machine
from waiting import eventually

# Name the files of logs, the journal's too, that hold what the arguments say when they are put together.
SEARCH = """
import subprocess, sys
command = ["grep", "--recursive", "--files-with-matches", "--fixed-strings", "".join(sys.argv[1:]), "/var/log"]
print(subprocess.run(command, capture_output=True, text=True).stdout)
"""


def test_one_request_is_traced_through_all_hosts_in_order(client: Client, keeper: Machine) -> None:
    own = with_id()
    client.page(headers=another_site() | own)

    def way() -> list[dict[str, Any]]:
        lines = traced(keeper, own["X-Request-ID"])
        assert [line["program"] for line in lines] == ["haproxy", "nginx", "gunicorn"]
        return lines

    door, cache, app = eventually(way)
    assert (door["data"]["status"], cache["data"]["status"], app["data"]["status"]) == (200, 200, 200)
    assert cache["host"] == app["host"] == door["data"]["server"]


def test_a_job_is_traced_to_the_worker_that_did_it(client: Client, keeper: Machine) -> None:
    own = with_id() | {"Content-Type": "application/json"}
    wish = json.dumps({"start": 12_000 + uuid.uuid4().int % 5_000, "count": 1 + uuid.uuid4().int % 50}).encode()
    assert client.ask(JOBS, own, "POST", wish).status == 202

    def done() -> bool:
        lines = traced(keeper, own["X-Request-ID"])
        return any(line["program"] == "celery" and line["data"]["message"] == "job calculated" for line in lines)

    assert eventually(done)


def test_every_host_and_program_has_a_file(machines: dict[str, Machine], keeper: Machine) -> None:
    folder = keeper.settings("rsyslog")["archive"]
    wanted = {"lb": "haproxy", "web": "gunicorn", "data": "redis", "worker": "celery"}
    expected = {f"{name}/sudo.log" for name in machines}
    expected |= {
        f"{name}/{wanted[role]}.log" for name, host in machines.items() for role in host.roles if role in wanted
    }

    def there() -> bool:
        found = keeper.check("find %s -name '*.log*' -printf '%%P\\n'", folder).splitlines()
        assert expected <= {path.partition(".log")[0] + ".log" for path in found}
        return True

    assert eventually(there)
    # Whoever sent it is in the topology.
    assert set(keeper.check("ls %s", folder).split()) <= set(machines)
    assert keeper.check("stat --format='%%a %%U:%%G' %s", folder) == "2750 root:adm"


def test_every_line_that_is_kept_is_json(keeper: Machine) -> None:
    read = r"""
import glob, json, sys
lines = [(name, line) for name in glob.glob(f"{sys.argv[1]}/*/*.log") for line in open(name).readlines()[-200:]]
# The last one of a file may not be whole yet.
lines = [(name, line) for name, line in lines if line.endswith("\n")]
def is_one(line):
    try:
        names = set(json.loads(line))
    except ValueError:
        return False
    return {"time", "host", "program", "unit", "severity"} < names and len(names & {"data", "message"}) == 1
print(json.dumps({"lines": len(lines), "wrong": [named for named in lines if not is_one(named[1])]}))
"""
    found = json.loads(keeper.python(read, keeper.settings("rsyslog")["archive"]))
    assert found["wrong"] == []
    assert found["lines"] > 0


def test_flow_is_measured_by_anybody_and_nothing_is_lost(host: Machine) -> None:
    flow = eventually(lambda: (found := measured(host))["sent"] > 0 and found)
    assert flow["lost"] == 0
    assert (flow["received"] > 0) == ("logs" in host.roles)


def test_no_query_with_a_secret_reaches_a_log(client: Client, machines: dict[str, Machine], keeper: Machine) -> None:
    secret, own = f"s3cret{uuid.uuid4().hex}", with_id()
    for target in (f"{PAGES}?page=1&token={secret}", f"/api/v1/stream?start={secret}x{'y' * 60}", f"/nowhere?{secret}"):
        client.ask(target, another_site() | own)
    eventually(lambda: len(traced(keeper, own["X-Request-ID"])) >= 9)

    for machine in machines.values():
        # The search itself is logged, by sudo: so it does not say what it looks for in one piece.
        words = [secret[:12], secret[12:]]
        assert machine.python(SEARCH, *words).split() == []


# Ask nginx itself for what the arguments say when they are put together; print the status.
ASK_NGINX = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=60)
connection.request("GET", "".join(sys.argv[3:5]), headers={"X-Request-ID": sys.argv[5]})
print(connection.getresponse().status)
"""


@pytest.mark.disruptive
def test_no_query_of_a_request_that_failed_reaches_a_log(
    client: Client, web: Machine, machines: dict[str, Machine], keeper: Machine
) -> None:
    secret, own = f"s3cret{uuid.uuid4().hex}", with_id()
    door = web.offers("nginx:port"), str(web.settings("nginx")["port"])
    client.ask(f"/zabbix/index.php?enter=1&name=nobody&password={secret}", own)
    web.check("systemctl stop gunicorn.socket gunicorn.service && rm -f /run/gunicorn.sock")
    try:
        # Its socket is away: a 5xx, and nginx says why.
        told = web.python(ASK_NGINX, *door, f"{PAGES}?page=0&token={secret[:12]}", secret[12:], own["X-Request-ID"])
        assert told == "502"
        assert client.ask(f"/nowhere?token={secret}", own).status in {404, 502, 503}

        def reasons() -> list[str]:
            lines = web.journal("nginx-error.service")
            return [line for line in lines if "gunicorn.sock failed (2: No such file" in line]

        assert eventually(reasons)
        folder = keeper.settings("rsyslog")["archive"]
        archived = f"{folder}/{web.name}/nginx-error.log"
        eventually(lambda: "gunicorn.sock failed (2: No such file" in keeper.read(archived))
        eventually(lambda: any(line["data"].get("status") == 502 for line in traced(keeper, own["X-Request-ID"])))
    finally:
        web.check("systemctl start gunicorn.socket gunicorn.service")
        eventually(lambda: client.ask("/readyz").json["status"] == "ready")

    for machine in machines.values():
        assert machine.python(SEARCH, secret[:12], secret[12:]).split() == []


@pytest.mark.disruptive
def test_no_line_is_lost_while_the_log_host_is_away_and_logs_are_rotated(
    client: Client, lb: Machine, keeper: Machine
) -> None:
    mark = uuid.uuid4().hex
    ids = ask_many(client, mark, 0, 500)
    keeper.check("systemctl stop rsyslog.service")
    try:
        ids += ask_many(client, mark, 500, 1000)
        if lb is not keeper:
            eventually(lambda: measured(lb)["waiting"] >= 1000 * SHORTEST)
            lb.check("systemctl restart rsyslog.service")
        lb.check("systemctl restart ship-logs.service")
    finally:
        keeper.check("systemctl start rsyslog.service")
    for number in range(3):
        keeper.check("logrotate --force /etc/logrotate.d/archive")
        ids += ask_many(client, mark, 1500 + 200 * number, 200)

    assert eventually(lambda: missing(keeper, mark, ids) == [])
