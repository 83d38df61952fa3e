"""Worker status: who does what, told by a service of its own, and every request counted once."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from client import Client
from load import serves
from machine import Machine
from waiting import eventually

pytestmark = pytest.mark.roles("web")

SOCKET = "/run/gunicorn-status/status.sock"

# Hold requests that gunicorn handles: their bodies are on their way, and come when it has told of them.
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

held = [connected(gunicorn) for _ in range(count)]
for connection in held:
    connection.putrequest("POST", "/api/v1/jobs")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "2")
    connection.endheaders()
until = time.monotonic() + 60
while True:
    found = told()
    # A health check may be there for a moment.
    if sum(len(worker["current"]) for worker in found["workers"]) == count or time.monotonic() > until:
        break
    time.sleep(0.05)
for connection in held:
    connection.send(b"{}")
answers = [connection.getresponse().status for connection in held]
print(json.dumps({"told": found, "answers": answers}))
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


@pytest.mark.disruptive
def test_four_slow_requests_are_exactly_those_that_are_told(host: Machine) -> None:
    done = json.loads(host.python(HOLD, SOCKET, host.settings("gunicorn")["socket"], "4"))

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
    pids = [str(pid) for pid in host.children("gunicorn.service")]
    marks = " ".join(["%s"] * len(pids))
    host.check(f"kill -STOP {marks}", *pids)
    try:
        assert eventually(lambda: (now := status(host))["state"] == "stuck" and now)["counts"]["stuck"] == len(pids)
    finally:
        host.check(f"kill -CONT {marks}", *pids)
    assert eventually(lambda: status(host)["state"] == "ok")
    # The load balancer may have noticed.
    assert eventually(lambda: serves(client))


def test_the_scoreboard_is_for_its_group_alone(host: Machine, settings: Callable[[str], Any]) -> None:
    app = settings("app")["user"]
    folder = "/run/gunicorn/scoreboard"

    assert host.check("stat --format='%%a %%U:%%G' %s", folder) == f"2750 {app}:gunicorn-status"
    modes = host.check("find %s -mindepth 1 -printf '%%m %%u:%%g\\n'", folder).splitlines()
    assert set(modes) == {f"640 {app}:gunicorn-status"}
