"""Zabbix: who is watched, and that nobody changes by hand what is watched."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from client import Client
from machine import Machine
from waiting import eventually
from zabbix import Zabbix

pytestmark = [pytest.mark.roles("monitor"), pytest.mark.cluster]

# As it is in Debian's package.
DEFAULT = {"name": "Admin", "password": "zabbix"}


@pytest.fixture(scope="module")
def zabbix(machines: dict[str, Machine]) -> Zabbix:
    return Zabbix(next(machine for machine in machines.values() if "monitor" in machine.roles))


@pytest.fixture
def healed(zabbix: Zabbix) -> Iterator[None]:
    """Afterwards all is as the repository has it."""
    yield
    zabbix.put_right()


def test_every_host_of_the_topology_and_no_other_is_watched(zabbix: Zabbix, topology: dict[str, Any]) -> None:
    assert set(zabbix.hosts()) == set(topology["hosts"])


def test_every_host_is_reached_with_its_own_key(zabbix: Zabbix, topology: dict[str, Any]) -> None:
    def reached() -> bool:
        hosts = zabbix.hosts()
        for name in topology["hosts"]:
            assert (hosts[name]["tls_connect"], hosts[name]["tls_accept"]) == ("2", "2"), name
            assert [(entry["available"], entry["error"]) for entry in hosts[name]["interfaces"]] == [("1", "")], name
        return True

    assert eventually(reached, deadline=180, pause=2)


def test_no_item_is_unsupported(zabbix: Zabbix) -> None:
    def supported() -> bool:
        found = zabbix.ask(
            "item.get",
            output=["name", "key_", "error"],
            filter={"state": 1, "status": 0},
            monitored=True,
            selectHosts=["host"],
        )
        assert [(item["hosts"][0]["host"], item["key_"], item["error"]) for item in found] == []
        return True

    assert eventually(supported, deadline=180, pause=2)


def test_after_an_apply_nothing_differs(zabbix: Zabbix) -> None:
    assert zabbix.drift() == {}
    assert zabbix.put_right() == {}


@pytest.mark.disruptive
@pytest.mark.usefixtures("healed")
def test_what_is_switched_off_by_hand_comes_back_and_is_reported(zabbix: Zabbix, topology: dict[str, Any]) -> None:
    first = next(iter(topology["hosts"]))
    inherited, another = zabbix.ask(
        "trigger.get",
        output=["triggerid", "description", "templateid"],
        host=first,
        inherited=True,
        filter={"status": 0},
        limit=2,
    )
    # One on the host, of the other the template's own.
    off = [inherited["triggerid"], another["templateid"]]
    for trigger in off:
        zabbix.ask("trigger.update", triggerid=trigger, status=1)

    told = zabbix.drift()
    changes = zabbix.put_right()

    assert told == changes
    assert inherited["description"] in str(changes)
    assert another["description"] in str(changes)
    status = zabbix.ask("trigger.get", output=["status"], triggerids=[*off, another["triggerid"]])
    assert [trigger["status"] for trigger in status] == ["0", "0", "0"]
    assert zabbix.drift() == {}


@pytest.mark.disruptive
@pytest.mark.usefixtures("healed")
def test_a_host_that_is_not_of_the_topology_goes_unless_it_is_somebodys_own(zabbix: Zabbix) -> None:
    groups = zabbix.ask("hostgroup.get", output=["groupid"], filter={"name": ["turnkey/hosts"]})
    (own,) = zabbix.ask("hostgroup.create", name="somebody's own")["groupids"]
    zabbix.ask("host.create", host="left", groups=groups)
    (printer,) = zabbix.ask("host.create", host="printer", groups=[{"groupid": own}])["hostids"]
    try:
        changes = zabbix.put_right()

        assert changes == {"host left": "removed"}
        assert "printer" in zabbix.hosts()
        assert "left" not in zabbix.hosts()
    finally:
        zabbix.ask("host.delete", printer)
        zabbix.ask("hostgroup.delete", own)


@pytest.mark.disruptive
@pytest.mark.usefixtures("healed")
def test_a_host_changed_by_hand_is_put_back(zabbix: Zabbix, topology: dict[str, Any]) -> None:
    first = next(iter(topology["hosts"]))
    zabbix.ask("host.update", hostid=zabbix.hosts()[first]["hostid"], status=1, tls_connect=1)

    changes = zabbix.put_right()

    assert set(changes) == {f"host {first}"}
    assert set(changes[f"host {first}"]) == {"status", "encryption"}
    assert (zabbix.hosts()[first]["status"], zabbix.hosts()[first]["tls_connect"]) == ("0", "2")


def page(client: Client, path: str) -> str:
    return f"http://{client.address}:{client.port}{path}"


def test_the_frontend_is_there_for_those_who_know_the_password(zabbix: Zabbix, client: Client, host: Machine) -> None:
    path = host.settings("zabbix_frontend")["path"]
    with requests.Session() as session:
        login = {"name": "Admin", "password": host.settings("zabbix_server")["password"], "enter": "Sign in"}
        entered = session.post(page(client, f"{path}/index.php"), data=login, timeout=60)

        assert entered.status_code == 200
        assert "zabbix.php?action=" in entered.text
        assert "Incorrect user name" not in entered.text
        style = session.get(page(client, f"{path}/assets/styles/blue-theme.css"), timeout=60)
        assert (style.status_code, style.headers["Content-Type"]) == (200, "text/css")


def test_the_password_of_debians_package_is_refused(client: Client, host: Machine) -> None:
    path = host.settings("zabbix_frontend")["path"]

    refused = requests.post(page(client, f"{path}/index.php"), data=DEFAULT | {"enter": "Sign in"}, timeout=60)

    assert "Incorrect user name or password" in refused.text


def test_without_a_password_there_is_only_the_door(client: Client, host: Machine) -> None:
    path = host.settings("zabbix_frontend")["path"]

    shown = requests.get(page(client, f"{path}/zabbix.php?action=dashboard.view"), timeout=60)
    guest = requests.get(page(client, f"{path}/index.php?enter=guest"), timeout=60)

    assert "You are not logged in" in shown.text
    assert "zabbix.php?action=dashboard" not in guest.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api_jsonrpc.php", 403),
        ("/setup.php", 404),
        ("/conf/zabbix.conf.php", 404),
        ("/include/config.inc.php", 404),
        ("/../../etc/passwd", 400),
    ],
)
def test_what_is_not_for_clients_they_do_not_get(client: Client, host: Machine, path: str, status: int) -> None:
    path = host.settings("zabbix_frontend")["path"] + path
    request = requests.Request("POST" if "api" in path else "GET", page(client, "/")).prepare()
    request.url = page(client, path)

    with requests.Session() as session:
        assert session.send(request, timeout=60).status_code == status


def test_whoever_guesses_passwords_is_slowed_down(client: Client, host: Machine) -> None:
    settings = host.settings("zabbix_frontend")
    target = page(client, f"{settings['path']}/index.php")
    # Of a user that there is not: Admin would be refused for a while, even to the states.
    guess = {"name": "nobody", "password": "guess", "enter": "Sign in"}

    told = [requests.post(target, data=guess, timeout=60).status_code for _ in range(settings["limits"]["logins"] + 1)]

    assert told[-1] == 429
    # Others of this client's are not.
    assert client.page().status == 200

    def let_in_again() -> bool:
        return requests.post(target, data=guess, timeout=60).status_code == 200

    assert eventually(let_in_again, pause=1)


def test_the_database_knows_nobody_but_zabbix_and_listens_nowhere(host: Machine) -> None:
    assert host.run("runuser --user nobody -- psql --command 'select 1' zabbix").rc != 0
    assert host.run("runuser --user www-data -- psql --username zabbix --command 'select 1' zabbix").rc != 0
    assert host.check("ss --tcp --listening --numeric --no-header | grep -c ':5432 ' || true") == "0"


@pytest.mark.disruptive
@pytest.mark.usefixtures("healed")
def test_history_outlives_the_database(zabbix: Zabbix, host: Machine) -> None:
    def history() -> int:
        count = "select (select count(*) from history) + (select count(*) from history_uint)"
        asked = f'runuser --user zabbix -- psql -Atc "{count}" zabbix'
        return int(host.check(asked))

    assert eventually(history)
    host.check("systemctl start backup-zabbix.service")
    copied = history()
    newest = host.check("ls /var/backups/zabbix | sort | tail -1")
    assert host.check("stat --format='%%a %%U' %s", f"/var/backups/zabbix/{newest}") == "600 zabbix"
    host.check("systemctl stop zabbix-server.service")
    drop = "drop schema public cascade; create schema public"
    host.check('runuser --user zabbix -- psql --quiet --command "%s" zabbix' % drop)  # noqa: UP031 - no argument

    restored = host.check("restore-zabbix")

    assert newest in restored
    assert history() > 0
    # What came between the copy and the count is less than what was there.
    assert history() > copied // 2
    assert host.show("zabbix-server.service", "ActiveState") == "active"
    assert zabbix.drift() == {}


@pytest.mark.disruptive
def test_a_broken_copy_changes_nothing(host: Machine) -> None:
    before = host.started()["zabbix-server.service"]
    host.check("head --bytes=1000 /dev/urandom > /tmp/broken.dump")

    refused = host.run("restore-zabbix /tmp/broken.dump")

    assert (refused.rc, "is no copy of a database" in refused.stderr) == (1, True)
    assert host.started()["zabbix-server.service"] == before
