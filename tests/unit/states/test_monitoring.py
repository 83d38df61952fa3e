"""What Salt tells Zabbix, and how it comes in: the parts that need no Zabbix."""

import contextlib
import hashlib
import json
import socket
import sys

import pytest
import zabbix_utils
from salt.exceptions import CommandExecutionError

from rendering import STATES, load

SECRET = "never-a-password-but-for-tests"  # noqa: S105
REFUSED = "Incorrect user name or password or account is temporarily blocked."


KEYS = {"web1": "a1" * 32, "monitor": "b2" * 32}
SETTINGS = {
    "zabbix_server": {
        "templates": {},
        "mail": {"enabled": False},
        "maintenance": {},
        "timeout": 3,
        "retention": dict.fromkeys(["history", "trends", "events", "sessions", "audit"], "14d"),
    },
    "zabbix_agent": {"port": 10050},
    "status_page": {"user": "status-page", "password": SECRET},
}


@pytest.fixture
def monitoring():
    hosts = {name: {"address": f"10.77.1.{number}", "roles": []} for number, name in enumerate(KEYS, 1)}
    return load(
        "_modules/monitoring.py",
        __pillar__={"topology": {"name": "example", "hosts": hosts}, "zabbix": {"psks": KEYS}},
        __salt__={
            "turnkey.settings": SETTINGS.get,
            "turnkey.addresses": lambda service: {name: host["address"] for name, host in hosts.items()},
            "cp.list_master": lambda prefix: ["zabbix_agent/defaults.yaml"],
            "cp.cache_file": lambda source: str(STATES / source.removeprefix("salt://")),
        },
    )


def test_whoever_asks_what_is_wanted_is_told_no_key_and_no_password(monitoring):
    told = monitoring.wanted()
    whole = monitoring._with_keys(told)

    said = json.dumps(told)
    assert set(told["hosts"]) == set(KEYS)
    assert not [secret for secret in (SECRET, *KEYS.values()) if secret in said]
    assert {name: host["psk"] for name, host in whole["hosts"].items()} == KEYS
    assert whole["reader"] == {"name": "status-page", "password": SECRET}


class Api:
    """Zabbix's API, as far as somebody's wrong passwords have Admin blocked: *times*, each till it is undone."""

    def __init__(self, times=0, says=REFUSED):
        self.times, self._says, self.entered = times, says, False

    def login(self, user, password):
        assert (user, password) == ("Admin", SECRET)
        if self.times:
            raise zabbix_utils.exceptions.APIRequestError(self._says)
        self.entered = True


def setter(monitoring, api, monkeypatch, known=True):
    """Have root's way to unblock Admin tell whether the password is the one; return what it was asked."""
    asked = []

    def unblock(secret, *arguments):
        asked.append((secret, *arguments))
        if not known:
            raise CommandExecutionError("Zabbix's user Admin has another password")
        api.times -= 1

    monkeypatch.setattr(monitoring, "_set_password", unblock)
    return asked


@pytest.mark.parametrize(
    ("until", "says"),
    [
        ("2026-12-24 22:04", "zabbix_server:maintenance:Disks:until: 2026-12-24 22:04 is less than five minutes after"),
        ("2026-12-24 22:00", "zabbix_server:maintenance:Disks:until: 2026-12-24 22:00 is not after"),
        ("2026-12-24 25:00", "zabbix_server:maintenance:Disks: time data"),
    ],
)
def test_planned_work_that_zabbix_would_not_take_is_a_wrong_pillar(monitoring, monkeypatch, until, says):
    window = {"from": "2026-12-24 22:00", "until": until}
    monkeypatch.setitem(SETTINGS, "zabbix_server", SETTINGS["zabbix_server"] | {"maintenance": {"Disks": window}})

    with pytest.raises(CommandExecutionError, match=f"^wrong pillar, nothing applied: {says}"):
        monitoring.wanted()


def test_planned_work_on_a_host_that_has_left_is_a_wrong_pillar(monitoring, monkeypatch):
    window = {"from": "2026-12-24 22:00", "until": "2026-12-24 23:00", "hosts": ["web1", "web2"]}
    monkeypatch.setitem(SETTINGS, "zabbix_server", SETTINGS["zabbix_server"] | {"maintenance": {"Disks": window}})

    with pytest.raises(
        CommandExecutionError, match=r"zabbix_server:maintenance:Disks:hosts: the topology has no web2$"
    ):
        monitoring.wanted()


def test_the_shortest_planned_work_is_taken(monitoring):
    window = monitoring._window("Disks", {"from": "2026-12-24 22:00", "until": "2026-12-24 22:05"})

    assert window["till"] - window["since"] == 300


@pytest.mark.parametrize("times", [0, 1, 3])
def test_wrong_passwords_of_anybodys_do_not_keep_salt_out(monitoring, monkeypatch, times):
    api = Api(times)
    asked = setter(monitoring, api, monkeypatch)

    monitoring._login(api, SECRET)

    assert api.entered
    assert asked == [(SECRET, "--unblock")] * times


def test_another_password_is_said_to_be_one_and_is_not_tried_on(monitoring, monkeypatch):
    api = Api(1)
    asked = setter(monitoring, api, monkeypatch, known=False)

    with pytest.raises(CommandExecutionError, match="another password"):
        monitoring._login(api, SECRET)
    assert len(asked) == 1


def test_a_refusal_for_another_reason_is_told_as_it_is(monitoring, monkeypatch):
    api = Api(1, says="No permissions for system access.")
    asked = setter(monitoring, api, monkeypatch)

    with pytest.raises(zabbix_utils.exceptions.APIRequestError, match="No permissions"):
        monitoring._login(api, SECRET)
    assert asked == []


def test_the_password_goes_to_the_program_by_its_input_and_is_not_said_when_it_fails(monitoring, monkeypatch):
    program = "import sys; given = sys.stdin.read(); sys.stderr.write(f'{sys.argv[1:]} of {given}'); sys.exit(1)"
    monkeypatch.setattr(monitoring, "SET_PASSWORD", [sys.executable, "-c", program])

    with pytest.raises(CommandExecutionError) as told:
        monitoring._set_password(SECRET, "--unblock")

    assert "['--unblock'] of ********" in str(told.value)
    assert SECRET not in str(told.value)


class Asked:
    """An API that answers what is looked up with *answers*, by method, and notes everything else."""

    version = 7.0

    def __init__(self, **answers):
        self._answers, self.told = answers, []

    def __getattr__(self, kind):
        return Kind(self, kind)

    def call(self, method, several, parameters):
        if method.endswith(".get"):
            answer = self._answers[method.removesuffix(".get")]
            return answer(parameters) if callable(answer) else answer
        self.told.append((method, parameters or several))
        return {}


class Kind:
    def __init__(self, asked, kind):
        self._asked, self._kind = asked, kind

    def __getattr__(self, function):
        return lambda *several, **parameters: self._asked.call(f"{self._kind}.{function}", several, parameters)


def wanted_host(monitoring, **other):
    host = {"groups": ["turnkey/hosts"], "templates": [], "interface": [], "psk": "", "macros": {}}
    there = {
        "hostid": "7",
        "host": "web1",
        "name": "web1",
        "status": "0",
        "tls_connect": "1",
        "tls_accept": "1",
        "monitored_by": "0",
        "description": monitoring.DESCRIPTION,
        "parentTemplates": [],
        "interfaces": [],
        "hostgroups": [{"name": "turnkey/hosts"}],
        "macros": [],
    }
    return host, there | other


OPERATORS = {"hostmacroid": "1", "macro": "{$DISK.LIMIT}", "value": "95"}


def test_a_limit_that_an_operator_set_on_a_host_stays(monitoring):
    host, there = wanted_host(monitoring, macros=[OPERATORS])
    api = Asked(host=[there])

    zabbix = monitoring._Zabbix(api, False, {})
    zabbix._hosts({"web1": host}, {})

    assert (zabbix.changes, api.told) == ({}, [])


def test_a_limit_stays_when_something_else_of_the_host_is_put_right(monitoring):
    host, there = wanted_host(monitoring, macros=[OPERATORS], status="1")
    api = Asked(host=[there], hostgroup=[{"groupid": "3", "name": "turnkey/hosts"}])

    monitoring._Zabbix(api, False, {})._hosts({"web1": host}, {})

    ((method, parameters),) = api.told
    assert (method, parameters["hostid"], parameters["status"]) == ("host.update", "7", "0")
    assert "macros" not in parameters


@pytest.mark.parametrize(
    ("by_hand", "told"),
    [
        ({}, []),
        ({"monitored_by": "1"}, ["by"]),
        ({"tls_connect": "1"}, ["encryption"]),
        ({"description": "mine"}, ["description"]),
    ],
)
def test_what_somebody_changed_of_a_host_is_put_back(monitoring, monkeypatch, by_hand, told):
    host, there = wanted_host(monitoring, **{"tls_connect": "2", "tls_accept": "2"} | by_hand)
    api = Asked(host=[there], hostgroup=[{"groupid": "3", "name": "turnkey/hosts"}])
    zabbix = monitoring._Zabbix(api, False, {})
    monkeypatch.setattr(monitoring, "_digests", lambda: {"web1": monitoring._digest("web1", KEYS["web1"])})

    zabbix._hosts({"web1": host | {"psk": KEYS["web1"]}}, {})

    assert list(zabbix.changes.get("host web1", {})) == told
    assert [parameters["monitored_by"] for _, parameters in api.told] == [0] * bool(told)


@pytest.mark.parametrize("there_is", [("web1", "c3" * 32), ("web2", KEYS["web1"]), None])
def test_another_key_than_the_sites_is_seen_and_put_back_and_neither_is_told(monitoring, monkeypatch, there_is):
    """Zabbix tells keys to nobody: a host with a wrong one would be dead, and each apply content."""
    host, there = wanted_host(monitoring, tls_connect="2", tls_accept="2")
    api = Asked(host=[there], hostgroup=[{"groupid": "3", "name": "turnkey/hosts"}])
    zabbix = monitoring._Zabbix(api, False, {})
    monkeypatch.setattr(monitoring, "_digests", lambda: {"web1": monitoring._digest(*there_is)} if there_is else {})

    zabbix._hosts({"web1": host | {"psk": KEYS["web1"]}}, {})

    assert zabbix.changes == {"host web1": {"key": {"old": "another", "new": "the site's"}}}
    ((method, parameters),) = api.told
    told = method, parameters["tls_psk_identity"], parameters["tls_psk"]
    assert told == ("host.update", "turnkey-web1", KEYS["web1"])


def test_the_database_is_asked_for_digests_and_for_no_key(monitoring, monkeypatch):
    asked = [sys.executable, "-c", "import json, sys; print(json.dumps({'web1': sys.argv[2]}))"]
    monkeypatch.setattr(monitoring, "ASK_DATABASE", asked)

    assert monitoring._digests() == {"web1": monitoring.DIGESTS}
    # What SQL makes of a name and a key there, Python makes of them here.
    assert "sha256(convert_to(tls_psk_identity || ' ' || tls_psk, 'UTF8')), 'hex')" in monitoring.DIGESTS
    assert monitoring._digest("web1", "a1") == hashlib.sha256(b"turnkey-web1 a1").hexdigest()


def work(name="turnkey: Disks", hosts=("web2",), groups=(), **other):
    """Planned work as Zabbix tells it."""
    period = {"timeperiodid": "4", "timeperiod_type": "0", "start_date": "600", "period": "1200", "every": "1"}
    return {
        "maintenanceid": "9",
        "name": name,
        "active_since": "600",
        "active_till": "1800",
        "maintenance_type": "0",
        "hosts": [{"host": host} for host in hosts],
        "hostgroups": [{"name": group} for group in groups],
        "tags": [],
        "timeperiods": [period],
    } | other


WINDOW = {"since": 600, "till": 1800, "hosts": ["web2"]}


@pytest.mark.parametrize(
    ("there", "planned", "told"),
    [
        # Whoever planned it: nothing of it is left.
        (work(), {}, [("maintenance.delete", ("9",)), ("host.delete", ("8",))]),
        (work("by hand"), {}, [("maintenance.delete", ("9",)), ("host.delete", ("8",))]),
        # It goes on for others: those that there are, and those that are still to be made.
        (
            work(),
            {"turnkey: Disks": WINDOW | {"hosts": ["web1", "web3"]}},
            [("maintenance.update", {"maintenanceid": "9", "hosts": [{"hostid": "7"}]}), ("host.delete", ("8",))],
        ),
        (
            work(),
            {"turnkey: Disks": WINDOW | {"hosts": ["web3"]}},
            [("maintenance.delete", ("9",)), ("host.delete", ("8",))],
        ),
        # Of what has others besides Zabbix lets go by itself.
        (work("by hand", hosts=["web1", "web2"]), {}, [("host.delete", ("8",))]),
        (work("by hand", groups=["turnkey/web"]), {}, [("host.delete", ("8",))]),
        (work("by hand", hosts=["elsewhere"]), {}, [("host.delete", ("8",))]),
    ],
)
def test_a_host_that_leaves_is_not_held_by_work_planned_for_it_alone(monitoring, there, planned, told):
    host, web1 = wanted_host(monitoring)
    web2 = web1 | {"hostid": "8", "host": "web2", "name": "web2"}
    api = Asked(
        maintenance=[there],
        host=lambda asked: [{"hostid": "7", "host": "web1"}] if "filter" in asked else [web1, web2],
    )

    monitoring._Zabbix(api, False, {})._hosts({"web1": host}, planned)

    assert api.told == told


def test_a_group_that_goes_is_not_held_by_work_planned_for_it_alone(monitoring):
    groups = [{"groupid": "3", "name": "turnkey/hosts"}, {"groupid": "5", "name": "turnkey/logs"}]
    api = Asked(hostgroup=groups, maintenance=[work("by hand", hosts=[], groups=["turnkey/logs"])])

    monitoring._Zabbix(api, False, {})._obsolete_groups({"web1": {"groups": ["turnkey/hosts"]}})

    assert api.told == [("maintenance.delete", ("9",)), ("hostgroup.delete", ("5",))]


@pytest.mark.parametrize(
    ("by_hand", "told"),
    [
        ({}, []),
        ({"active_till": "1860"}, ["till"]),
        ({"maintenance_type": "1"}, ["type"]),
        ({"tags": [{"tag": "only", "operator": "2", "value": "this"}]}, ["tags"]),
        ({"hostgroups": [{"name": "turnkey/web"}]}, ["groups"]),
        ({"timeperiods": [work()["timeperiods"][0] | {"period": "300"}]}, ["periods"]),
        ({"timeperiods": [work()["timeperiods"][0] | {"timeperiod_type": "2", "start_date": "0"}]}, ["periods"]),
    ],
)
def test_planned_work_that_somebody_changed_is_put_back(monitoring, by_hand, told):
    api = Asked(maintenance=[work(**by_hand), work("by hand")], host=[{"hostid": "8", "host": "web2"}])
    zabbix = monitoring._Zabbix(api, False, {})

    zabbix._maintenance({"turnkey: Disks": WINDOW})

    assert list(zabbix.changes.get("maintenance turnkey: Disks", {})) == told
    again = {
        "name": "turnkey: Disks",
        "maintenanceid": "9",
        "active_since": 600,
        "active_till": 1800,
        "maintenance_type": 0,
        "timeperiods": [{"timeperiod_type": 0, "start_date": 600, "period": 1200}],
        "hosts": [{"hostid": "8"}],
        "groups": [],
        "tags": [],
    }
    assert api.told == [("maintenance.update", again)] * bool(told)


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ({"timeout_zabbix_agent": "3s", "url": ""}, []),
        ({"timeout_zabbix_agent": "30s"}, [("settings.update", {"timeout_zabbix_agent": "3s"})]),
        # Zabbix 6.0 has it in the server's own configuration.
        ({"url": ""}, []),
    ],
)
def test_how_long_agents_are_waited_for_is_put_right(monitoring, there, told):
    api = Asked(settings=there)

    monitoring._Zabbix(api, False, {})._general("settings", monitoring.wanted()["settings"])

    assert api.told == told


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ([], ("usermacro.create", {"hostid": "7", "macro": "{$URL}", "value": "http://new"})),
        (
            [{"hostmacroid": "2", "macro": "{$URL}", "value": "http://old"}],
            ("usermacro.update", {"hostmacroid": "2", "value": "http://new", "type": 0}),
        ),
    ],
)
def test_what_the_topology_says_is_put_right_beside_it(monitoring, known, told):
    host, there = wanted_host(monitoring, macros=[OPERATORS, *known])
    api = Asked(host=[there])

    zabbix = monitoring._Zabbix(api, False, {})
    zabbix._hosts({"web1": host | {"macros": {"{$URL}": "http://new"}}}, {})

    assert api.told == [told]
    assert list(zabbix.changes) == ["macro {$URL} of web1"]


def test_what_somebody_changed_on_a_host_of_its_template_is_put_back(monitoring):
    """A severity and an interval; what is as the template says is left alone."""
    trigger = {"triggerid": "11", "description": "Disk is full", "templateid": "1", "status": "0", "priority": "0"}
    item = {"itemid": "22", "name": "Disk", "templateid": "2", "status": "0", "delay": "1h", "history": "14d"}
    same = {"itemid": "23", "name": "Memory", "templateid": "3", "status": "0", "delay": "1m", "history": "14d"}
    said = {"status": "0", "delay": "1m", "history": "14d", "trends": "365d"}

    def of(on_host, on_template):
        return lambda asked: on_template if asked.get("templated") else on_host

    api = Asked(
        host=[{"hostid": "7"}],
        trigger=of([trigger | {"hosts": [{"host": "web1"}]}], [{"triggerid": "1", "status": "0", "priority": "4"}]),
        item=of(
            [each | {"trends": "365d", "hosts": [{"host": "web1"}]} for each in (item, same)],
            [said | {"itemid": "2"}, said | {"itemid": "3"}],
        ),
        httptest=[],
    )
    zabbix = monitoring._Zabbix(api, False, {})

    zabbix._by_hand({"web1": {}})

    assert api.told == [
        ("trigger.update", {"triggerid": "11", "priority": "4"}),
        ("item.update", {"itemid": "22", "delay": "1m"}),
    ]
    assert zabbix.changes == {
        "trigger Disk is full of web1": {"priority": {"old": "0", "new": "4"}},
        "item Disk of web1": {"delay": {"old": "1h", "new": "1m"}},
    }


MAIL = {
    "enabled": True,
    "severity": "warning",
    "to": ["ops@site.example"],
    "server": "mail.site.example",
    "port_of_server": 25,
    "from": "zabbix@site.example",
}
MESSAGE = {"default_msg": "1", "subject": "", "message": "", "mediatypeid": "0"}
ACTION = {
    "actionid": "5",
    "status": "0",
    "esc_period": "1h",
    "pause_suppressed": "1",
    "filter": {
        "evaltype": "0",
        "conditions": [{"conditiontype": "4", "operator": "5", "value": "2", "formulaid": "A"}],
    },
    "operations": [
        {"operationtype": "0", "opmessage": MESSAGE, "opmessage_usr": [{"userid": "1"}], "opmessage_grp": []},
    ],
    "recovery_operations": [{"operationtype": "11", "opmessage": MESSAGE}],
}


@pytest.mark.parametrize(
    ("by_hand", "told"),
    [
        ({}, set()),
        ({"status": "1"}, {"status"}),
        ({"operations": []}, {"operations"}),
        ({"operations": [ACTION["operations"][0] | {"opmessage_usr": [{"userid": "9"}]}]}, {"operations"}),
        ({"recovery_operations": []}, {"recovery"}),
        ({"esc_period": "1d"}, {"esc_period"}),
        ({"pause_suppressed": "0"}, {"pause_suppressed"}),
        ({"filter": ACTION["filter"] | {"evaltype": "2"}}, {"evaltype"}),
        ({"filter": ACTION["filter"] | {"conditions": []}}, {"conditions"}),
        (
            {"filter": ACTION["filter"] | {"conditions": [{"conditiontype": "4", "operator": "0", "value": "2"}]}},
            {"conditions"},
        ),
    ],
)
def test_whom_problems_are_told_is_put_right(monitoring, by_hand, told):
    api = Asked(user=[{"userid": "1"}])
    zabbix = monitoring._Zabbix(api, False, {})

    zabbix._action("turnkey: mail", [ACTION | by_hand], MAIL)

    assert set(zabbix.changes.get("action turnkey: mail", {})) == told
    assert [method for method, _ in api.told] == ["action.update"] * bool(told)


SECRET_OF_MAIL = "never-the-mail-servers-password"  # noqa: S105


@pytest.mark.parametrize(
    ("by_hand", "told"),
    [
        ({}, set()),
        ({"smtp_server": "elsewhere.example"}, {"smtp_server"}),
        ({"smtp_security": "1", "smtp_authentication": "1"}, {"smtp_security", "smtp_authentication"}),
        ({"message_format": "1"}, {"message_format"}),
        ({"type": "4"}, {"type"}),
        ({"message_templates": []}, {"texts"}),
    ],
)
def test_how_mail_is_sent_and_what_it_says_is_put_right(monitoring, by_hand, told):
    # As they are read, in whatever order, and with the ends of lines that a browser sends.
    texts = [
        {key: str(value).replace("\n", "\r\n") for key, value in text.items()} for text in reversed(monitoring.TEXTS)
    ]
    there = {
        "mediatypeid": "3",
        "type": "0",
        "status": "0",
        "smtp_server": "mail.site.example",
        "smtp_port": "25",
        "smtp_email": "zabbix@site.example",
        "smtp_security": "0",
        "smtp_authentication": "0",
        "message_format": "0",
        "passwd": SECRET_OF_MAIL,
        "message_templates": texts,
    }
    medium = {"mediatypeid": "3", "sendto": MAIL["to"], "active": "0", "severity": "60", "period": "1-7,00:00-24:00"}
    api = Asked(mediatype=[there | by_hand], action=[ACTION], user=[{"userid": "1", "medias": [medium]}])
    zabbix = monitoring._Zabbix(api, False, {})

    zabbix._mail(MAIL)

    assert set(zabbix.changes.get("media turnkey: mail", {})) == told
    assert [method for method, _ in api.told] == ["mediatype.update"] * bool(told)
    assert SECRET_OF_MAIL not in str(zabbix.changes)


def test_a_frontend_that_is_down_is_said_to_be(monitoring, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/zabbix/"
        settings = SETTINGS | {"zabbix_server": SETTINGS["zabbix_server"] | {"password": SECRET}}
        monkeypatch.setitem(monitoring.__salt__, "turnkey.settings", settings.get)

        with pytest.raises(CommandExecutionError, match=f"^Zabbix's API: Unable to connect to {url}.*refused"):
            monitoring.configure(url)


def test_one_that_goes_down_meanwhile_hides_nothing(monitoring, monkeypatch):
    class Gone:
        def __init__(self, url, timeout):
            pass

        def login(self, user, password):
            pass

        def logout(self):
            raise zabbix_utils.exceptions.ProcessingError("Unable to connect")

    monkeypatch.setattr(monitoring.zabbix_utils, "ZabbixAPI", Gone)

    with pytest.raises(ValueError, match="what was wrong"), monitoring._session("http://zabbix", SECRET):
        raise ValueError("what was wrong")


def test_a_failure_midway_tells_what_was_changed_by_then(monitoring, monkeypatch):
    class Failing:
        def __init__(self, api, test, changes):
            self.changes = changes

        def become(self, plan):
            self.changes["host web1"] = "made"
            raise zabbix_utils.exceptions.APIRequestError(f"no {plan['reader']['password']}")

    settings = SETTINGS | {"zabbix_server": SETTINGS["zabbix_server"] | {"password": f"{SECRET}-of-admin"}}
    monkeypatch.setitem(monitoring.__salt__, "turnkey.settings", settings.get)
    monkeypatch.setattr(monitoring, "_session", lambda url, secret: contextlib.nullcontext())
    monkeypatch.setattr(monitoring, "_Zabbix", Failing)

    with pytest.raises(CommandExecutionError) as told:
        monitoring.configure("http://127.0.0.1:8090/zabbix/")

    assert "no ******** (changed by then: host web1)" in str(told.value)


SHOWN = {"turnkey: web": {"hosts": ["web1", "web2"], "graphs": {"Requests": ["nginx: Requests"], "CPU": ["CPU: busy"]}}}


def told_of_dashboards(monitoring, found, version=7.0):
    api = Asked(dashboard=found)
    api.version = version
    zabbix = monitoring._Zabbix(api, False, {})
    monitoring._become_dashboards(zabbix, SHOWN)
    return api.told, zabbix.changes


def as_zabbix_tells(parameters, **other):
    """Return what was made as dashboard.get tells of it: with ids, all in words, and what the frontend adds."""
    (page,) = parameters["pages"]
    widgets = [
        widget
        | {key: str(widget[key]) for key in ("x", "y", "width", "height")}
        | {"widgetid": str(number), "view_mode": "0"}
        | {"fields": [field | {"type": str(field["type"]), "value": str(field["value"])} for field in widget["fields"]]}
        for number, widget in enumerate(page["widgets"])
    ]
    widgets[0]["fields"] += [{"type": "0", "name": "righty", "value": "0"}]
    page = {"dashboard_pageid": "4", "name": "", "display_period": "0", "widgets": widgets[::-1]}
    return {"dashboardid": "9", "name": "turnkey: web", "private": "0", "pages": [page]} | other


@pytest.mark.parametrize(
    ("version", "hosts", "item", "wide"),
    [
        (7.0, ["ds.0.hosts.0", "ds.0.hosts.1"], "ds.0.items.0", 36),
        (6.0, ["ds.hosts.0.0", "ds.hosts.0.1"], "ds.items.0.0", 12),
    ],
)
def test_a_dashboard_shows_each_host_of_a_role_on_each_graph(monitoring, version, hosts, item, wide):
    ((method, made),), changes = told_of_dashboards(monitoring, [], version)

    assert (method, made["name"], made["private"]) == ("dashboard.create", "turnkey: web", 0)
    assert changes == {"dashboard turnkey: web": "made"}
    first, second = made["pages"][0]["widgets"]
    fields = {field["name"]: field["value"] for field in first["fields"]}
    assert [fields[name] for name in hosts] == ["web1", "web2"]
    assert fields[item] == "nginx: Requests"
    assert (first["type"], first["name"], first["x"], second["x"]) == ("svggraph", "Requests", 0, wide)
    assert fields["reference"] not in str(second)


@pytest.mark.parametrize("version", [7.0, 6.0])
def test_a_dashboard_that_is_as_it_should_be_is_left_alone(monitoring, version):
    ((_, made),), _ = told_of_dashboards(monitoring, [], version)

    assert told_of_dashboards(monitoring, [as_zabbix_tells(made)], version) == ([], {})


def without_a_host(found):
    widget = found["pages"][0]["widgets"][0]
    widget["fields"] = [field for field in widget["fields"] if field["value"] != "web2"]


def with_a_host(found):
    found["pages"][0]["widgets"][0]["fields"].append({"type": "1", "name": "ds.0.hosts.2", "value": "mine"})


@pytest.mark.parametrize(
    ("by_hand", "told"),
    [
        (lambda found: found.update(private="1"), {"private"}),
        (lambda found: found["pages"][0]["widgets"].pop(0), {"graphs", "graph CPU"}),
        (lambda found: found["pages"][0]["widgets"][0].update(width="20"), {"graph CPU"}),
        (lambda found: found["pages"].append({"widgets": []}), {"pages"}),
        (without_a_host, {"graph CPU"}),
        (with_a_host, {"graph CPU"}),
    ],
)
def test_a_dashboard_changed_by_hand_is_put_back(monitoring, by_hand, told):
    ((_, made),), _ = told_of_dashboards(monitoring, [])
    found = as_zabbix_tells(made)
    by_hand(found)

    ((method, parameters),), changes = told_of_dashboards(monitoring, [found])

    assert (method, parameters["dashboardid"], parameters["pages"]) == ("dashboard.update", "9", made["pages"])
    assert set(changes["dashboard turnkey: web"]) == told


def test_the_dashboard_of_a_role_that_no_host_has_goes(monitoring):
    ((_, made),), _ = told_of_dashboards(monitoring, [])
    left = as_zabbix_tells(made, name="turnkey: logs", dashboardid="8")

    told, changes = told_of_dashboards(monitoring, [as_zabbix_tells(made), left])

    assert (told, changes) == ([("dashboard.delete", ("8",))], {"dashboard turnkey: logs": "removed"})


def test_a_dashboard_is_wanted_of_each_role_that_a_host_has(monitoring):
    hosts = {"a": {"roles": ["web", "worker"]}, "b": {"roles": ["worker"]}}

    found = monitoring._dashboards(hosts)

    assert {name: it["hosts"] for name, it in found.items()} == {"turnkey: web": ["a"], "turnkey: worker": ["a", "b"]}
