"""Zabbix: who is watched, and that nobody changes by hand what is watched."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from client import Client
from machine import Machine
from waiting import eventually
from zabbix import Zabbix

pytestmark = pytest.mark.roles("monitor")


@pytest.fixture(scope="module")
def healed(zabbix: Zabbix) -> Iterator[None]:
    """After this module's tests, each of which puts right what it changed, all is as the repository has it."""
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


def test_zabbixs_own_scenario_gets_the_page_at_the_address_of_clients(
    zabbix: Zabbix, client: Client, host: Machine
) -> None:
    (entry,) = zabbix.ask("host.get", output=["hostid"], filter={"host": [host.name]}, selectMacros=["macro", "value"])
    pages = {macro["macro"]: macro["value"] for macro in entry["macros"]}
    assert pages["{$PAGE}"].startswith(f"http://{client.address}")

    def got() -> bool:
        wanted = {"key_": ["web.test.rspcode[Service,page]", "web.test.fail[Service]"]}
        found = zabbix.ask("item.get", output=["key_", "lastvalue"], host=host.name, webitems=True, filter=wanted)
        values = {item["key_"]: item["lastvalue"] for item in found}
        assert values == {"web.test.rspcode[Service,page]": "200", "web.test.fail[Service]": "0"}
        return True

    assert eventually(got, deadline=180, pause=2)


@pytest.mark.cluster
@pytest.mark.disruptive
@pytest.mark.usefixtures("healed")
def test_what_is_changed_by_hand_comes_back_and_is_reported(zabbix: Zabbix, topology: dict[str, Any]) -> None:
    first = next(iter(topology["hosts"]))
    inherited, another = zabbix.ask(
        "trigger.get",
        output=["triggerid", "description", "templateid"],
        host=first,
        inherited=True,
        filter={"status": 0},
        limit=2,
    )
    fields = ["itemid", "name", "delay"]
    # Of the kind that the agent is asked for, at intervals.
    (item,) = zabbix.ask("item.get", output=fields, host=first, inherited=True, filter={"type": 0}, limit=1)
    zabbix.ask("item.update", itemid=item["itemid"], delay="1h")
    # One on the host, of the other the template's own.
    off = [inherited["triggerid"], another["templateid"]]
    for trigger in off:
        zabbix.ask("trigger.update", triggerid=trigger, status=1)

    told = zabbix.drift()
    changes = zabbix.put_right()

    assert told == changes
    assert inherited["description"] in str(changes)
    assert another["description"] in str(changes)
    assert changes[f"item {item['name']} of {first}"] == {"delay": {"old": "1h", "new": item["delay"]}}
    assert zabbix.ask("item.get", output=fields, itemids=[item["itemid"]]) == [item]
    status = zabbix.ask("trigger.get", output=["status"], triggerids=[*off, another["triggerid"]])
    assert [trigger["status"] for trigger in status] == ["0", "0", "0"]
    assert zabbix.drift() == {}


@pytest.mark.disruptive
@pytest.mark.usefixtures("healed")
def test_a_host_that_is_not_of_the_topology_goes_unless_it_is_somebodys_own(zabbix: Zabbix) -> None:
    groups = zabbix.ask("hostgroup.get", output=["groupid"], filter={"name": ["turnkey/hosts"]})
    (own,) = zabbix.ask("hostgroup.create", name="somebody's own")["groupids"]
    (left,) = zabbix.ask("host.create", host="left", groups=groups)["hostids"]
    # Zabbix would keep the last host of planned work.
    now = int(zabbix.machine.check("date +%s"))
    zabbix.ask(
        "maintenance.create",
        name="the end of left",
        active_since=now,
        active_till=now + 3600,
        hosts=[{"hostid": left}],
        timeperiods=[{"timeperiod_type": 0, "start_date": now, "period": 3600}],
    )
    (printer,) = zabbix.ask("host.create", host="printer", groups=[{"groupid": own}])["hostids"]
    try:
        changes = zabbix.put_right()

        assert changes == {"maintenance the end of left": "removed", "host left": "removed"}
        assert "printer" in zabbix.hosts()
        assert "left" not in zabbix.hosts()
    finally:
        zabbix.ask("host.delete", printer)
        zabbix.ask("hostgroup.delete", own)


@pytest.mark.disruptive
@pytest.mark.usefixtures("healed")
def test_a_host_changed_by_hand_is_put_back_but_for_its_limits(zabbix: Zabbix, topology: dict[str, Any]) -> None:
    first = next(iter(topology["hosts"]))
    host = zabbix.hosts()[first]["hostid"]
    key = {"tls_psk_identity": f"turnkey-{first}", "tls_psk": "c3" * 32}
    zabbix.ask("host.update", hostid=host, status=1, tls_connect=1, **key)
    limit = zabbix.ask("usermacro.create", hostid=host, macro="{$DISK.LIMIT}", value="95")["hostmacroids"]
    try:
        changes = zabbix.put_right()

        assert set(changes) == {f"host {first}"}
        assert set(changes[f"host {first}"]) == {"status", "encryption", "key"}
        assert key["tls_psk"] not in str(changes)
        assert (zabbix.hosts()[first]["status"], zabbix.hosts()[first]["tls_connect"]) == ("0", "2")
        assert [macro["value"] for macro in zabbix.ask("usermacro.get", hostmacroids=limit)] == ["95"]
    finally:
        zabbix.ask("usermacro.delete", *limit)


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


def test_every_alert_links_to_its_runbook_which_is_there(zabbix: Zabbix, client: Client, host: Machine) -> None:
    folders = {
        macro["value"] for macro in zabbix.ask("usermacro.get", output=["value"], filter={"macro": "{$RUNBOOKS}"})
    }
    links = {trigger["url"] for trigger in zabbix.ask("trigger.get", output=["url"], monitored=True)}
    (folder,) = folders

    assert len(links) > 20
    for link in links:
        found = requests.get(
            page(client, f"{host.settings('zabbix_frontend')['path']}/{link.replace('{$RUNBOOKS}', folder)}"),
            timeout=60,
        )
        assert (found.status_code, found.headers["Content-Type"]) == (200, "text/plain; charset=utf-8"), link
        assert found.text.startswith(f"{link.rpartition('/')[2].removesuffix('.rst')}: ")


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

    restored = host.check(f"restore-zabbix /var/backups/zabbix/{newest}")

    assert newest in restored
    replaced = host.check("find /var/backups/zabbix/replaced -name 'zabbix-*.dump' | sort | tail -1")
    assert replaced in restored
    assert host.check("stat --format='%%a %%U' %s", replaced) == "600 zabbix"
    assert history() > 0
    # What came between the copy and the count is less than what was there.
    assert history() > copied // 2
    assert host.show("zabbix-server.service", "ActiveState") == "active"
    # The pages are there a moment after their server was started.
    assert eventually(lambda: zabbix.drift() == {})


@pytest.mark.disruptive
def test_a_broken_copy_changes_nothing(host: Machine) -> None:
    before = host.started()["zabbix-server.service"]
    host.check("head --bytes=1000 /dev/urandom > /tmp/broken.dump")

    # A relative name is one from where one stands.
    refused = host.run("cd /tmp && restore-zabbix broken.dump")

    assert (refused.rc, "tmp/broken.dump is no copy of a database" in refused.stderr) == (1, True)
    assert host.started()["zabbix-server.service"] == before
