"""The status page: there for everybody, also while the app is not, and honest when nobody tells how things are."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from client import Answer, Client
from load import serves
from looking import Looking
from machine import Machine
from playwright.sync_api import Page
from waiting import eventually

pytestmark = pytest.mark.roles("monitor")

PUBLIC = "/var/lib/status-page/public"
# Two failed looks of 15 s each, the next page, what load balancers keep; and then a slow machine.
SOON = 180.0


@pytest.fixture
def path(host: Machine) -> str:
    return str(host.settings("status_page")["path"])


@pytest.fixture
def web_hosts(machines: dict[str, Machine]) -> Iterator[list[Machine]]:
    """All web hosts; afterwards they serve again."""
    found = [machine for machine in machines.values() if "web" in machine.roles]
    yield found
    for machine in found:
        machine.check("systemctl start nginx.service")


@pytest.fixture
def written(host: Machine) -> Iterator[None]:
    """Afterwards the page is there, and is written again."""
    yield
    host.check("systemctl start zabbix-web.service status-page.timer status-page.service")


def status(client: Client, path: str) -> dict[str, Any]:
    answer = client.ask(f"{path}/status.json")
    assert (answer.status, answer.header("Content-Type")) == (200, "application/json; charset=utf-8")
    told: dict[str, Any] = answer.json
    return told


def states(client: Client, path: str) -> dict[str, str]:
    return {component["name"]: component["state"] for component in status(client, path)["components"]}


def page(client: Client, path: str) -> Answer:
    answer = client.ask(path)
    assert (answer.status, answer.header("Content-Type")) == (200, "text/html; charset=utf-8")
    return answer


def test_everybody_gets_the_page_and_may_keep_it_for_a_moment(client: Client, path: str, host: Machine) -> None:
    answer = page(client, path)

    assert answer.header("Cache-Control") == f"public, max-age={host.settings('status_page')['seconds'] // 2}"
    policy = answer.header("Content-Security-Policy") or ""
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.header("X-Content-Type-Options") == "nosniff"
    text = answer.body.decode()
    assert f"<h1>{host.settings('status_page')['name']}</h1>" in text
    assert "<script" not in text

    def is_the_same() -> bool:
        # It may have been written anew in between.
        tag = page(client, path).header("ETag")
        assert tag
        return client.ask(path, {"If-None-Match": tag}).status == 304

    assert eventually(is_the_same, pause=1)


def test_the_app_has_no_part_in_it(client: Client, path: str) -> None:
    """The load balancer's own answer to what is below the page comes from the monitor too."""
    assert client.ask(f"{path}/").header("Location") == path
    assert client.ask(f"{path}/nothing").header("X-Cache-Status") is None
    assert client.ask(f"{path}/nothing").status == 404


def test_programs_get_the_same_as_json(client: Client, path: str, host: Machine) -> None:
    def looked_at() -> dict[str, Any]:
        told = status(client, path)
        assert [component["name"] for component in told["components"] if component["availability"] is None] == []
        return told

    wanted = host.settings("status_page")

    told = eventually(looked_at, deadline=SOON, pause=1)

    assert [component["title"] for component in told["components"]] == [
        component["title"] for component in wanted["components"].values()
    ]
    assert (told["name"], told["known"]) == (wanted["name"], True)
    for component in told["components"]:
        assert len(component["days"]) == wanted["days"]
        assert component["days"][-1]["day"] == told["written"][:10]
        # Days before there was a monitor are no good days.
        assert component["days"][0]["availability"] is None
    assert {"incidents", "maintenance", "state", "asked"} <= set(told)


def test_whoever_asks_zabbix_may_do_nothing_but_look(host: Machine) -> None:
    """With the session that it has, on the host itself."""
    ask = """
import json, sys, urllib.request
it = json.load(open("/etc/status-page.json"))
session = json.load(open("/var/lib/status-page/session"))
def ask(method, **parameters):
    asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
    headers = {"Content-Type": "application/json-rpc"}
    if session["version"] >= [6, 4]:
        headers["Authorization"] = "Bearer " + session["token"]
    else:
        asked["auth"] = session["token"]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return json.load(opener.open(urllib.request.Request(it["api"], json.dumps(asked).encode(), headers), timeout=60))
print(json.dumps({method: ask(method) for method in sys.argv[1:]}))
"""
    allowed, refused = ["item.get"], ["user.get", "host.create", "script.execute", "configuration.export"]

    told = json.loads(host.python(ask, *allowed, *refused))

    assert [method for method in allowed if "error" in told[method]] == []
    assert [method for method in refused if "No permissions to call" not in str(told[method])] == []


@pytest.mark.together
def test_each_load_balancer_gives_it_to_other_hosts(
    client: Client, path: str, machines: dict[str, Machine], web: Machine, data: Machine
) -> None:
    doors = {client.address, *(machine.address for machine in machines.values() if "lb" in machine.roles)}
    for door in sorted(doors):
        url = f"http://{door}:{client.port}{path}/status.json"
        for machine in (web, data):
            told = json.loads(machine.check("curl --silent --show-error --fail --max-time 20 --noproxy '*' %s", url))
            assert told["components"], (machine, door)


# On a host alone the next test has it, and waits for Zabbix to notice.
@pytest.mark.cluster
@pytest.mark.together
@pytest.mark.disruptive
def test_no_web_host_is_in_its_way(client: Client, path: str, web_hosts: list[Machine]) -> None:
    seen = []

    def pages_are_gone() -> bool:
        seen.append(client.ask(path).status)
        return client.ask("/").status == 503

    for machine in web_hosts:
        machine.check("systemctl stop nginx.service")
    eventually(pages_are_gone)
    for machine in web_hosts:
        machine.check("systemctl start nginx.service")

    assert set(seen) == {200}
    assert eventually(lambda: serves(client))


@pytest.mark.disruptive
def test_while_no_web_host_serves_the_page_does_and_says_so(
    client: Client,
    path: str,
    web_hosts: list[Machine],
    looking: Looking,
    screenshot: Callable[[Page, str], None],
) -> None:
    # Of jobs that other tests had fail it may still tell.
    eventually(lambda: states(client, path)["page"] == "up", deadline=SOON, pause=1)

    def is_down() -> bool:
        # Never is there no answer.
        found = states(client, path)
        assert found["page"] == "down", found
        return True

    for machine in web_hosts:
        machine.check("systemctl stop nginx.service")
    eventually(is_down, deadline=SOON, pause=1)

    told = status(client, path)
    assert told["state"] == "down"
    assert "page" in {incident["component"] for incident in told["incidents"] if incident["state"] == "down"}
    assert told["components"][0]["availability"] < 100
    seen = looking.at(f"http://{client.address}:{client.port}{path}")
    assert "Out of service" in seen.inner_text("body")
    screenshot(seen, "status-page")

    for machine in web_hosts:
        machine.check("systemctl start nginx.service")
    assert eventually(lambda: states(client, path)["page"] == "up", deadline=SOON, pause=1)
    assert "page" not in {incident["component"] for incident in status(client, path)["incidents"]}


@pytest.mark.disruptive
@pytest.mark.usefixtures("written")
def test_where_the_page_is_not_written_any_more_the_load_balancer_says_what_it_sees(
    client: Client, path: str, host: Machine, machines: dict[str, Machine]
) -> None:
    ready = sum("web" in machine.roles for machine in machines.values())

    def honest() -> bool:
        answer = client.ask(path)
        assert (answer.status, answer.header("Cache-Control")) == (503, "no-store")
        (number,) = re.findall(r"web hosts that say they are ready: (\d+)\.", answer.body.decode())
        return int(number) == ready

    # What is written is old,
    host.check("systemctl stop status-page.timer")
    host.check("touch --date='10 minutes ago' %s %s", f"{PUBLIC}/index.html", f"{PUBLIC}/status.json")
    assert eventually(honest, pause=1)
    # is new again,
    host.check("systemctl start status-page.timer")
    assert eventually(lambda: page(client, path), pause=1)
    # and who serves it is gone.
    host.check("systemctl stop zabbix-web.service")
    assert eventually(honest, pause=1)
    host.check("systemctl start zabbix-web.service")
    assert eventually(lambda: page(client, path), pause=1)
