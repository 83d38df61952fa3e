"""Worker status: who does what, told by a service of its own, and every request counted once."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from client import Client
from load import serves
from machine import Machine
from waiting import eventually
from zabbix import Zabbix

pytestmark = pytest.mark.roles("web")

SOCKET = "/run/gunicorn-status/status.sock"

# Hold requests that gunicorn handles: their bodies are on their way, and come with `answers`.
HOLD = """
import json, socket, sys, time
import http.client
status, gunicorn, count = sys.argv[1], sys.argv[2], int(sys.argv[3])

def connected(path):
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(60)
    connection.sock.connect(path)
    return connection

def told():
    connection = connected(status)
    connection.request("GET", "/status")
    return json.load(connection.getresponse())["instances"]["gunicorn"]

def answers():
    for connection in held:
        connection.send(b"{}")
    return [connection.getresponse().status for connection in held]

held = [connected(gunicorn) for _ in range(count)]
for connection in held:
    connection.putrequest("POST", "/api/v1/jobs")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "2")
    connection.endheaders()
until = time.monotonic() + 60
"""

# Until it has told of them, and for how long they are there.
HOLD_UNTIL_TOLD = f"""{HOLD}
while True:
    found = told()
    ages = [request["age"] for worker in found["workers"] for request in worker["current"]]
    # A health check may be there for a moment.
    if (len(ages) == count and all(ages)) or time.monotonic() > until:
        break
    time.sleep(0.05)
print(json.dumps({{"told": found, "answers": answers()}}))
"""

# Until more workers than so many are wanted.
HOLD_UNTIL_MORE = f"""{HOLD}
workers = int(sys.argv[4])
while (found := told()["scaling"]["workers"]) <= workers and time.monotonic() < until:
    time.sleep(0.2)
print(json.dumps({{"wanted": found, "answers": answers()}}))
"""

# Ask for pages on several connections at once, so many on each.
SEND = """
import http.client, socket, sys, threading
path, connections, each = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
answers = []

def send():
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(path)
    for _ in range(each):
        connection.request("GET", "/api/v1/fibonacci/10")
        response = connection.getresponse()
        response.read()
        answers.append(response.status)

threads = [threading.Thread(target=send) for _ in range(connections)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(answers.count(200))
"""


def status(host: Machine) -> dict[str, Any]:
    """Return what the service tells of the instance that serves requests."""
    told = json.loads(host.check("curl --silent --fail --max-time 10 --unix-socket %s http://localhost/status", SOCKET))
    instance: dict[str, Any] = told["instances"]["gunicorn"]
    return instance


def test_every_instance_is_well_and_told_with_its_bounds(host: Machine) -> None:
    answer = host.check("curl --silent --fail --unix-socket %s http://localhost/status", SOCKET)
    told = json.loads(answer)

    assert told["host"] == host.check("hostname")
    assert set(told["instances"]) == {"gunicorn", "gunicorn-stream"}
    for name, it in told["instances"].items():
        assert (it["state"], it["reason"]) == ("ok", "")
        assert it["master"]["pid"] == host.main_pid(f"{name}.service")
        assert {worker["pid"] for worker in it["workers"]} == set(host.children(f"{name}.service"))
        assert it["scaling"]["minimum"] <= it["scaling"]["workers"] <= it["scaling"]["maximum"]
        assert it["backlog"]["limit"] > 0
    # Of one that has just begun it is known a moment later.
    assert eventually(lambda: all(worker["memory"] > 1_000_000 for worker in status(host)["workers"]))


def test_it_is_told_through_the_whole_line_to_those_inside(lb: Machine, client: Client) -> None:
    for path, expected in (("/status", '"instances"'), ("/metrics", "gunicorn_requests_total")):
        told = lb.check("curl --silent --fail http://%s:%s" + path, lb.address, str(client.port))
        assert expected in told


def test_gunicorns_own_view_is_for_the_apps_user_alone(host: Machine, settings: Callable[[str], Any]) -> None:
    user, control = settings("app")["user"], "/run/gunicorn/control.sock"
    ask = f"runuser --user %s -- {host.root}/current/venv/bin/gunicornc -s %s -c 'show workers' -j"

    def agrees() -> bool:
        told = json.loads(host.check(ask, user, control))
        return {worker["pid"] for worker in told["workers"]} == set(host.children("gunicorn.service"))

    # Workers come and go.
    assert eventually(agrees)
    assert host.check("stat --format='%%a %%U' %s", control) == f"600 {user}"


@pytest.mark.disruptive
def test_four_slow_requests_are_exactly_those_that_are_told(host: Machine) -> None:
    done = json.loads(host.python(HOLD_UNTIL_TOLD, SOCKET, host.settings("gunicorn")["socket"], "4"))

    current = [request for worker in done["told"]["workers"] for request in worker["current"]]
    assert [(request["method"], request["path"]) for request in current] == [("POST", "/api/v1/jobs")] * 4
    assert all(0 < request["age"] < 60 for request in current)
    busy = [worker for worker in done["told"]["workers"] if worker["current"]]
    assert {worker["state"] for worker in busy} == {"busy"}
    assert done["told"]["counts"]["busy"] == len(busy)
    # They were requests like others.
    assert done["answers"] == [400] * 4


@pytest.fixture
def _nobody_else_asks(lb: Machine, client: Client) -> Iterator[None]:
    """The load balancer's health checks are requests too."""
    lb.check("systemctl stop haproxy.service")
    yield
    lb.check("systemctl start haproxy.service")
    eventually(lambda: serves(client))


@pytest.mark.disruptive
@pytest.mark.usefixtures("_nobody_else_asks")
def test_what_was_sent_is_what_is_counted(host: Machine) -> None:
    before = eventually(lambda: (now := status(host))["counts"]["busy"] == 0 and now)

    answered = int(host.python(SEND, host.settings("gunicorn")["socket"], "8", "250"))

    assert answered == 2_000
    after = eventually(lambda: (now := status(host))["counts"]["busy"] == 0 and now)
    assert after["requests"] - before["requests"] == 2_000
    assert (after["errors"], after["lost"]) == (before["errors"], before["lost"])


@pytest.mark.disruptive
def test_a_killed_worker_is_counted_and_nothing_it_had_counted_is_lost(host: Machine) -> None:
    before = status(host)
    doomed = before["workers"][0]["pid"]

    host.check("kill -KILL %s", str(doomed))

    def is_back() -> Any:
        now = status(host)
        pids = [worker["pid"] for worker in now["workers"]]
        return (
            now["restarts"]["killed"] > before["restarts"]["killed"] and now["state"] == "ok" and len(pids) >= 2 and now
        )

    after = eventually(is_back)
    assert after["restarts"] == before["restarts"] | {"killed": before["restarts"]["killed"] + 1}
    assert after["requests"] >= before["requests"]
    assert doomed not in [worker["pid"] for worker in after["workers"]]


@pytest.mark.disruptive
def test_it_answers_while_every_worker_is_stopped(host: Machine, client: Client) -> None:
    # One that loads the app, in place of one that was killed, has a time of its own to do so in.
    assert eventually(lambda: status(host)["counts"]["starting"] == 0)
    pids = [str(pid) for pid in host.children("gunicorn.service")]
    marks = " ".join(["%s"] * len(pids))
    host.check(f"kill -STOP {marks}", *pids)
    try:
        # Each stays silent from a moment of its own on.
        assert eventually(lambda: (now := status(host))["counts"]["stuck"] == len(pids) and now)["state"] == "stuck"
    finally:
        host.check(f"kill -CONT {marks}", *pids)
    assert eventually(lambda: status(host)["state"] == "ok")
    # The load balancer may have noticed.
    assert eventually(lambda: serves(client))


@pytest.mark.disruptive
def test_workers_grow_while_all_threads_are_busy_and_shrink_again(
    host: Machine, client: Client, zabbix: Zabbix
) -> None:
    gunicorn = host.settings("gunicorn")
    # What other tests had it add goes first.
    before = eventually(lambda: (now := status(host)["scaling"])["workers"] == now["minimum"] and now)
    assert before["workers"] < before["maximum"]
    began = int(host.check("date +%s"))
    # A worker may take many at once, of which it handles no more than it has threads: enough for each to have its own.
    count = 4 * gunicorn["threads"] * before["workers"]

    held = json.loads(host.python(HOLD_UNTIL_MORE, SOCKET, gunicorn["socket"], str(count), str(before["workers"])))

    assert held["wanted"] > before["workers"]
    # Nobody had to go without an answer.
    assert held["answers"] == [400] * count
    grown = status(host)["scaling"]
    assert re.fullmatch(r"[0-9]+% busy for [0-9]+ s", grown["last_change"]["why"])

    def seen() -> list[float]:
        return zabbix.history(host, "turnkey.gunicorn.requests.wanted", began)

    assert eventually(lambda: max(seen(), default=0) > before["workers"], pause=1)
    assert eventually(lambda: status(host)["scaling"]["workers"] == before["workers"])
    assert eventually(lambda: seen()[-1] == before["workers"], pause=1)
    # To the load balancer it may have seemed to be gone.
    assert eventually(lambda: serves(client))


def test_the_scoreboard_is_for_its_group_alone(host: Machine, settings: Callable[[str], Any]) -> None:
    app = settings("app")["user"]
    folder = "/run/gunicorn/scoreboard"

    assert host.check("stat --format='%%a %%U:%%G' %s", folder) == f"2750 {app}:gunicorn-status"
    modes = host.check("find %s -mindepth 1 -printf '%%m %%u:%%g\\n'", folder).splitlines()
    assert set(modes) == {f"640 {app}:gunicorn-status"}
