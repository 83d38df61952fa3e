"""What Zabbix is to watch, as this repository and the topology have it, told to it through its own API.

Hosts, their groups, templates and keys, dashboards, who is told of problems, planned work, and how long what is kept.
Only what differs is told; what somebody changed by hand is put back, and said. Hosts that somebody added by hand, in
groups of his own, are left alone.
"""

import contextlib
import datetime
import hashlib
import json
import logging
import os
import pathlib
import re
import socket
import subprocess

import yaml
from salt.exceptions import CommandExecutionError

try:
    import zabbix_utils
except ImportError:  # Salt is older than this file: salt/bootstrap.sh brings it.
    zabbix_utils = None

# libyaml's, where PyYAML has it: the templates are long, and each apply reads them.
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# What is ours in Zabbix is known by this.
OURS = "turnkey"
# Of Zabbix's own: a host whose agent nobody has asked for.
FOREIGN_HOSTS = {"Zabbix server"}
SET_PASSWORD = ["php", "/usr/local/lib/turnkey/set-zabbix-password.php"]
ASK_DATABASE = ["runuser", "--user", "zabbix", "--", "psql", "--no-psqlrc", "--quiet", "--no-align", "--tuples-only"]
# By which name each host knows which key, told by a digest alone. (2: what discovery would make hosts from.)
DIGESTS = """select coalesce(json_object_agg(host, encode(
    sha256(convert_to(tls_psk_identity || ' ' || tls_psk, 'UTF8')), 'hex')), '{}')
    from hosts where status in (0, 1) and flags <> 2"""
DESCRIPTION = "From the topology, by Salt: what is changed here by hand is put back."
# Seconds for one answer: that a host is made with all of its templates takes an older Zabbix more than a minute. PHP
# and its web server (formula zabbix_frontend) have a little longer.
TIMEOUT = 280
# Anybody may try wrong passwords for Admin, and has him blocked: so often is that undone, should somebody be at it.
UNBLOCKED = 10
# The methods of Zabbix's API that the reader of the status page may use.
READS = ["history.get", "item.get", "trend.get", "trigger.get", "user.logout"]
SEVERITIES = ("not_classified", "information", "warning", "average", "high", "disaster")
# What a mail says, of a problem and of its end.
TEXTS = [
    {
        "eventsource": 0,
        "recovery": recovery,
        "subject": f"{word}: {{EVENT.NAME}}",
        "message": "Host: {HOST.NAME}\nSeverity: {EVENT.SEVERITY}\nSince: {EVENT.DATE} {EVENT.TIME}\n"
        "{EVENT.OPDATA}\n{TRIGGER.URL}\n",
    }
    for recovery, word in ((0, "Problem"), (1, "Resolved"))
]
DAY = 86400
# Seconds: Zabbix takes no shorter maintenance.
SHORTEST = 300


def password(test=False):
    """Give Zabbix's user Admin the site's password; return whether he had another (or, with *test*, has).

    CLI Example:

    .. code-block:: bash

        salt-call monitoring.password test=true
    """
    secret = __salt__["turnkey.settings"]("zabbix_server")["password"]
    return _set_password(secret, *(["--check"] if test else [])) == "changed"


def configure(url, test=False):
    """Have the Zabbix behind *url* be as `wanted` says; return ``{what: what was changed}``; *test*: what would be.

    CLI Example:

    .. code-block:: bash

        salt-call monitoring.configure http://127.0.0.1:8090/zabbix/ test=true
    """
    if zabbix_utils is None:
        raise CommandExecutionError("Salt's Python has no zabbix_utils; salt/bootstrap.sh, run again, installs it")
    secret = __salt__["turnkey.settings"]("zabbix_server")["password"]
    plan = _with_keys(wanted())
    secrets = [secret, plan["reader"]["password"], *(host["psk"] for host in plan["hosts"].values())]
    changes: dict[str, object] = {}
    try:
        with _session(url, secret) as api:
            _Zabbix(api, test, changes).become(plan)
            changes |= _readers_password(url, api, plan["reader"], test)
    except (zabbix_utils.exceptions.ModuleBaseException, OSError, CommandExecutionError) as error:
        done = f" (changed by then: {', '.join(changes)})" if changes and not test else ""
        raise CommandExecutionError(f"Zabbix's API: {_without(secrets, error)}{done}") from error
    return changes


def wanted():
    """Return what Zabbix is to know, in its own terms as far as they are words, and without keys and passwords.

    CLI Example:

    .. code-block:: bash

        salt-call monitoring.wanted
    """
    settings = __salt__["turnkey.settings"]("zabbix_server")
    topology = __pillar__["topology"]
    files = _files(settings["templates"])
    agents = _agents()
    hosts = {}
    for name, host in topology["hosts"].items():
        roles = ["hosts", *host["roles"]]
        hosts[name] = {
            "groups": sorted(f"{OURS}/{role}" for role in roles),
            "templates": _templates_for(roles, files),
            "interface": list(agents.get(name, ())),
            "macros": {"{$PAGE}": _page()} if "monitor" in roles else {},
        }
    # What clients see, apart from any one host.
    if of_service := _templates_for(["service"], files):
        hosts[f"{topology['name']}-service"] = {
            "groups": [f"{OURS}/service"],
            "templates": of_service,
            "interface": [],
            "macros": {"{$URL}": _url()},
        }
    return {
        "hosts": hosts,
        "files": {name: file["source"] for name, file in files.items()},
        "templates": sorted(template for file in files.values() for template in file["templates"]),
        "template_groups": sorted({group for file in files.values() for group in file["groups"]}),
        "housekeeping": _housekeeping(settings["retention"]),
        # The server's own Timeout is not that of agents any more, since 7.0.
        "settings": {"timeout_zabbix_agent": f"{settings['timeout']}s"},
        "mail": settings["mail"],
        "reader": {"name": __salt__["turnkey.settings"]("status_page")["user"]},
        "dashboards": _dashboards(topology["hosts"]),
        "maintenance": {f"{OURS}: {name}": _window(name, window) for name, window in settings["maintenance"].items()},
    }


def _files(roles_of):
    """Return ``{name: {source, templates, groups, roles}}`` of the files of templates."""
    found = {}
    for name, roles in roles_of.items():
        cached = __salt__["cp.cache_file"](f"salt://zabbix_server/templates/{name}.yaml")
        if not cached:
            raise CommandExecutionError(
                f"wrong pillar, nothing applied: zabbix_server:templates:{name}: there is no"
                f" salt://zabbix_server/templates/{name}.yaml"
            )
        source = pathlib.Path(cached).read_text(encoding="utf-8")
        templates = yaml.load(source, Loader)["zabbix_export"].get("templates", [])  # noqa: S506 - it is a safe one
        found[name] = {
            "source": source,
            "templates": [template["template"] for template in templates],
            "groups": [group["name"] for template in templates for group in template["groups"]],
            "roles": roles,
        }
    return found


def _templates_for(roles, files):
    return sorted({name for file in files.values() if set(file["roles"]) & set(roles) for name in file["templates"]})


def _agents():
    """Return ``{host: (address, port)}`` of the agents; none where no formula brings them."""
    if "zabbix_agent/defaults.yaml" not in __salt__["cp.list_master"](prefix="zabbix_agent/"):
        return {}
    port = str(__salt__["turnkey.settings"]("zabbix_agent")["port"])
    return {name: (address, port) for name, address in __salt__["turnkey.addresses"]("zabbix_agent:port").items()}


def _page():
    """Return the address of the page that is asked for as clients do."""
    if not any("lb" in host["roles"] for host in __pillar__["topology"]["hosts"].values()):
        return ""
    return _url() + (__salt__["turnkey.settings"]("zabbix_agent")["service"]["page"] if _agents() else "")


def _url():
    topology = __pillar__["topology"]
    first = next(host["address"] for host in topology["hosts"].values() if "lb" in host["roles"])
    address = topology.get("virtual_address", first)
    port = __salt__["turnkey.settings"]("haproxy")["port"]
    return f"http://{f'[{address}]' if ':' in address else address}{'' if port == 80 else f':{port}'}"


def _with_keys(plan):
    """Return *plan*, as `wanted` makes it, with what nobody is to read: who has an agent has a key."""
    keys = __pillar__.get("zabbix", {}).get("psks", {})
    hosts = {
        name: host | {"psk": keys.get(name, "") if host["interface"] else ""} for name, host in plan["hosts"].items()
    }
    password = __salt__["turnkey.settings"]("status_page")["password"]
    return plan | {"hosts": hosts, "reader": plan["reader"] | {"password": password}}


def _readers_password(url, admin, reader, test):
    """Give the reader the site's password where he does not get in with it; return ``{what: what was changed}``.

    Zabbix tells nobody whether a password is the one: it is tried. (Who is refused for another reason, such as wrong
    passwords of somebody's a moment ago, is given the one that he has.)
    """
    found = admin.user.get(output=["userid"], filter={"username": [reader["name"]]})
    if not found:
        return {}
    tried = zabbix_utils.ZabbixAPI(url=url, timeout=TIMEOUT)
    try:
        tried.login(user=reader["name"], password=reader["password"])
    except zabbix_utils.exceptions.APIRequestError:
        if not test:
            admin.user.update(userid=found[0]["userid"], passwd=reader["password"])
        return {f"password of {reader['name']}": "the site's"}
    # With a role that somebody changed, and that is only looked at now, he may not; a session ends by itself, too.
    with contextlib.suppress(zabbix_utils.exceptions.APIRequestError):
        tried.logout()
    return {}


def _housekeeping(retention):
    periods = {
        "hk_events_trigger": retention["events"],
        "hk_events_service": retention["events"],
        "hk_events_internal": retention["events"],
        "hk_services": retention["events"],
        "hk_audit": retention["audit"],
        "hk_sessions": retention["sessions"],
        "hk_history": retention["history"],
        "hk_trends": retention["trends"],
    }
    switches = ("events_mode", "services_mode", "audit_mode", "sessions_mode", "history_mode", "history_global")
    return periods | {f"hk_{name}": "1" for name in (*switches, "trends_mode", "trends_global")}


def _window(name, window):
    path = f"wrong pillar, nothing applied: zabbix_server:maintenance:{name}"
    known = __pillar__["topology"]["hosts"]
    hosts = window.get("hosts") or [*known]
    if strange := sorted(set(hosts) - set(known)):
        raise CommandExecutionError(f"{path}:hosts: the topology has no {', '.join(strange)}")
    try:
        since, till = (_seconds(window[key]) for key in ("from", "until"))
    except ValueError as error:
        raise CommandExecutionError(f"{path}: {error}") from error
    if till <= since:
        raise CommandExecutionError(f"{path}:until: {window['until']} is not after {window['from']}")
    if till - since < SHORTEST:
        raise CommandExecutionError(f"{path}:until: {window['until']} is less than five minutes after {window['from']}")
    return {"since": since, "till": till, "hosts": sorted(hosts)}


def _work(window):
    """Return planned work in Zabbix's words: what *window* says, measured meanwhile, and silent from end to end."""
    # Zabbix has a bound for one period; the window as a whole has none.
    length = min(window["till"] - window["since"], 999 * DAY)
    periods = [{"timeperiod_type": "0", "start_date": str(window["since"]), "period": str(length)}]
    return window | {"type": "0", "periods": periods, "groups": [], "tags": []}


def _seconds(text):
    return int(datetime.datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=datetime.UTC).timestamp())


def _set_password(secret, *arguments):
    return _output([*SET_PASSWORD, *arguments], secret)


def _digests():
    """Return ``{host: digest of its key and the key's name}`` by Zabbix's database; its API tells keys to nobody."""
    return json.loads(_output([*ASK_DATABASE, "--command", DIGESTS, "zabbix"]))


def _digest(name, psk):
    return hashlib.sha256(f"{OURS}-{name} {psk}".encode()).hexdigest()


def _output(command, secret=""):
    """Return what *command* says, which is given *secret* and must succeed."""
    asked = {"input": secret, "capture_output": True, "text": True, "timeout": TIMEOUT, "cwd": "/"}
    try:
        done = subprocess.run(command, check=False, **asked)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandExecutionError(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or done.returncode
        raise CommandExecutionError(f"{' '.join(command)}: {_without([secret], said)}")
    return done.stdout.strip()


def _login(api, secret):
    """Log in as Admin, whom Zabbix refuses for a while after anybody's wrong passwords: root has it forget them."""
    for _ in range(UNBLOCKED):
        try:
            return api.login(user="Admin", password=secret)
        except zabbix_utils.exceptions.APIRequestError as error:
            if "blocked" not in str(error):
                raise
        # It says the same where the password is not the one: then this fails.
        _set_password(secret, "--unblock")
    return api.login(user="Admin", password=secret)


@contextlib.contextmanager
def _session(url, secret):
    # What it says of its requests has secrets in it.
    logging.getLogger("zabbix_utils").setLevel(logging.WARNING)
    before = socket.getdefaulttimeout(), os.environ.get("no_proxy")
    socket.setdefaulttimeout(TIMEOUT)
    # Zabbix is this host's: no proxy is to hear of it.
    os.environ["no_proxy"] = "*"
    try:
        api = zabbix_utils.ZabbixAPI(url=url, timeout=TIMEOUT)
        _login(api, secret)
        try:
            yield api
        finally:
            # A frontend that went away meanwhile is what is to be told; the session ends by itself.
            with contextlib.suppress(zabbix_utils.exceptions.ModuleBaseException, OSError):
                api.logout()
    finally:
        socket.setdefaulttimeout(before[0])
        if before[1] is None:
            del os.environ["no_proxy"]
        else:
            os.environ["no_proxy"] = before[1]


def _without(secrets, text):
    text = str(text)
    for secret in filter(None, secrets):
        text = text.replace(secret, "********")
    return text


class _Zabbix:
    """One Zabbix that becomes what is wanted; what it takes is in `changes`."""

    def __init__(self, api, test, changes):
        self._api, self._test = api, test
        self._since_7 = api.version >= 6.2  # groups of hosts and of templates are apart
        self.changes = changes

    def become(self, plan):
        self._guest()
        self._general("housekeeping", plan["housekeeping"])
        self._general("settings", plan["settings"])
        # Before templates: an import puts some of it back without a word.
        self._by_hand(plan["hosts"])
        self._templates(plan)
        self._groups(sorted({group for host in plan["hosts"].values() for group in host["groups"]}))
        self._hosts(plan["hosts"], plan["maintenance"])
        self._reader(plan["reader"], plan["hosts"])
        self._obsolete_templates(plan)
        self._obsolete_groups(plan["hosts"])
        _become_dashboards(self, plan["dashboards"])
        self._mail(plan["mail"])
        self._maintenance(plan["maintenance"])

    def _tell(self, what, change, method, *several, **parameters):
        """Call *method*, unless that is only to be told, and note *change*."""
        name, _, function = method.partition(".")
        answer = None if self._test else getattr(getattr(self._api, name), function)(*several, **parameters)
        self.changes[what] = change
        return answer

    def _update(self, what, before, after, method, **parameters):
        """Call *method* with *parameters* where *before* and *after* differ."""
        if differing := _differing(before, after):
            self._tell(what, differing, method, **parameters)

    def _ids(self, kind, names, field="name"):
        """Return the ids of those *names* that there are; the rest is to be made, where that is only told."""
        if not names:
            return []
        key = {"hostgroup": "groupid", "template": "templateid", "host": "hostid"}[kind]
        found = getattr(self._api, kind).get(output=[key, field], filter={field: names})
        if len(found) != len(set(names)) and not self._test:
            missing = set(names) - {entry[field] for entry in found}
            raise CommandExecutionError(f"Zabbix has no {kind} {', '.join(sorted(missing))}")
        return [{key: entry[key]} for entry in found]

    # Zabbix itself

    def _guest(self):
        """Nobody comes in without a password."""
        for guest in self._api.user.get(
            output=["userid", "username"], filter={"username": ["guest"]}, selectUsrgrps=["usrgrpid", "users_status"]
        ):
            if all(group["users_status"] == "0" for group in guest["usrgrps"]):
                disabled = self._api.usergroup.get(output=["usrgrpid"], filter={"users_status": 1}, limit=1)
                groups = [{"usrgrpid": group["usrgrpid"]} for group in (*guest["usrgrps"], *disabled)]
                self._tell("user guest", "disabled", "user.update", userid=guest["userid"], usrgrps=groups)

    def _general(self, what, wanted):
        found = {key: str(value) for key, value in getattr(self._api, what).get(output="extend").items()}
        # What this Zabbix does not know it does not need.
        known = {key: value for key, value in wanted.items() if key in found}
        changed = {key: known[key] for key in _differing(found, known)}
        self._update(what, found, known, f"{what}.update", **changed)

    # Templates

    def _rules(self):
        every = {"createMissing": True, "updateExisting": True}
        parts = ("discoveryRules", "graphs", "httptests", "items", "templateDashboards", "triggers", "valueMaps")
        groups = ("template_groups", "host_groups") if self._since_7 else ("groups",)
        return (
            {"templates": every, "templateLinkage": {"createMissing": True, "deleteMissing": True}}
            | {part: every | {"deleteMissing": True} for part in parts}
            | {group: {"createMissing": True, "updateExisting": False} for group in groups}
        )

    def _templates(self, plan):
        for name, source in plan["files"].items():
            arguments = {"format": "yaml", "rules": self._rules(), "source": source}
            # Both name things of which before and after are the same, for ever: they are no difference.
            if differing := list(_told(self._api.configuration.importcompare(**arguments) or {})):
                self._tell(f"templates {name}", differing, "configuration.import", **arguments)

    def _obsolete_templates(self, plan):
        """Templates in the groups of ours that no file has."""
        kind = self._api.templategroup if self._since_7 else self._api.hostgroup
        ours = [group for group in plan["template_groups"] if OURS in group.lower()]
        groups = kind.get(output=["groupid"], filter={"name": ours}) if ours else []
        if not groups:
            return
        found = self._api.template.get(output=["templateid", "host"], groupids=[group["groupid"] for group in groups])
        for template in found:
            if template["host"] not in plan["templates"]:
                self._tell(f"template {template['host']}", "removed", "template.delete", template["templateid"])

    # Hosts

    def _groups(self, names):
        found = {group["name"] for group in self._api.hostgroup.get(output=["name"], filter={"name": names})}
        for name in names:
            if name not in found:
                self._tell(f"group {name}", "made", "hostgroup.create", name=name)

    def _obsolete_groups(self, hosts):
        wanted = {group for host in hosts.values() for group in host["groups"]}
        found = self._api.hostgroup.get(output=["groupid", "name"], search={"name": f"{OURS}/"}, startSearch=True)
        gone = {group["name"] for group in found} - wanted
        self._let_go({}, groups=gone)
        for group in found:
            if group["name"] in gone:
                self._tell(f"group {group['name']}", "removed", "hostgroup.delete", group["groupid"])

    def _known_hosts(self):
        groups = "hostgroups" if self._since_7 else "groups"
        select = "selectHostGroups" if self._since_7 else "selectGroups"
        by = "monitored_by" if self._since_7 else "proxy_hostid"
        found = self._api.host.get(
            output=["hostid", "host", "name", "status", "tls_connect", "tls_accept", "description", by],
            selectParentTemplates=["host", "templateid"],
            selectInterfaces=["interfaceid", "type", "main", "useip", "ip", "port"],
            selectMacros=["hostmacroid", "macro", "value"],
            **{select: ["name"]},
        )
        return {
            host["host"]: {
                "id": host["hostid"],
                "interfaces": host["interfaces"],
                "linked": {template["host"]: template["templateid"] for template in host["parentTemplates"]},
                "macros": {macro["macro"]: macro for macro in host["macros"]},
                "is": {
                    "name": host["name"],
                    "status": host["status"],
                    "groups": sorted(group["name"] for group in host[groups]),
                    "templates": sorted(template["host"] for template in host["parentTemplates"]),
                    "interface": [
                        [entry["ip"], entry["port"]]
                        for entry in host["interfaces"]
                        if (entry["type"], entry["main"], entry["useip"]) == ("1", "1", "1")
                    ],
                    "encryption": f"{host['tls_connect']}, {host['tls_accept']}",
                    # 0: the server itself, and no proxy.
                    "by": host[by],
                    "description": host["description"].replace("\r\n", "\n"),
                },
            }
            for host in found
        }

    def _hosts(self, wanted, planned):
        known = self._known_hosts()
        gone = [
            name
            for name, host in known.items()
            if name not in wanted
            and (name in FOREIGN_HOSTS or any(group.startswith(f"{OURS}/") for group in host["is"]["groups"]))
        ]
        self._let_go(planned, hosts=set(gone), staying=known.keys() - set(gone))
        for name in gone:
            self._tell(f"host {name}", "removed", "host.delete", known[name]["id"])
        digests = _digests() if any(host["psk"] for host in wanted.values()) else {}
        for name, host in wanted.items():
            by_key = "2" if host["psk"] else "1"
            after = {
                "name": name,
                "status": "0",
                "groups": host["groups"],
                "templates": host["templates"],
                "interface": [host["interface"]] if host["interface"] else [],
                "encryption": f"{by_key}, {by_key}",
                "by": "0",
                "description": DESCRIPTION,
            }
            there = known.get(name)
            if there and host["psk"]:
                same = digests.get(name) == _digest(name, host["psk"])
                there["is"]["key"], after["key"] = "the site's" if same else "another", "the site's"
            if there:
                self._macros(name, there, host["macros"])
            if there and not _differing(there["is"], after):
                continue
            parameters = {key: after[key] for key in ("name", "status", "description")} | {
                "host": name,
                "groups": self._ids("hostgroup", host["groups"]),
                "templates": self._ids("template", host["templates"], "host"),
                "interfaces": self._interfaces(host, there),
                "tls_connect": int(by_key),
                "tls_accept": int(by_key),
                "monitored_by" if self._since_7 else "proxy_hostid": 0,
            }
            if host["psk"]:
                parameters |= {"tls_psk_identity": f"{OURS}-{name}", "tls_psk": host["psk"]}
            if there:
                # A template that is only unlinked would leave its items behind.
                gone = [
                    {"templateid": there["linked"][template]}
                    for template in there["linked"].keys() - set(host["templates"])
                ]
                parameters |= {"hostid": there["id"], "templates_clear": gone}
                self._tell(f"host {name}", _differing(there["is"], after), "host.update", **parameters)
            else:
                macros = [{"macro": macro, "value": value} for macro, value in host["macros"].items()]
                self._tell(f"host {name}", "made", "host.create", macros=macros, **parameters)

    def _let_go(self, planned, hosts=frozenset(), groups=frozenset(), staying=frozenset()):
        """Have no work planned for nothing but *hosts* and *groups*: Zabbix would not let go of the last of them.

        Whosever it is: there is nobody left to do it on. That of the site moves on, as far as those of *staying* go.
        """
        if not hosts and not groups:
            return
        for name, entry in self._known_work().items():
            its = {*entry["is"]["hosts"], *entry["is"]["groups"]}
            if not its or its - hosts - groups:
                continue
            if left := sorted(set(planned.get(name, {}).get("hosts", [])) & staying):
                parameters = {"maintenanceid": entry["id"], "hosts": self._ids("host", left, "host")}
                self._tell(f"maintenance {name}", f"moved to {', '.join(left)}", "maintenance.update", **parameters)
            else:
                self._tell(f"maintenance {name}", "removed", "maintenance.delete", entry["id"])

    def _macros(self, host, there, wanted):
        """Those that say where things are. The others are the limits of this one host, which operators set."""
        for macro, value in wanted.items():
            what, known = f"macro {macro} of {host}", there["macros"].get(macro)
            if not known:
                self._tell(what, "made", "usermacro.create", hostid=there["id"], macro=macro, value=value)
            else:
                # 0: text, which can be read.
                self._update(
                    what, known, {"value": value}, "usermacro.update",
                    hostmacroid=known["hostmacroid"], value=value, type=0,
                )  # fmt: skip

    @staticmethod
    def _interfaces(host, there):
        if not host["interface"]:
            return []
        address, port = host["interface"]
        entry = {"type": 1, "main": 1, "useip": 1, "ip": address, "dns": "", "port": port}
        # Items hold on to the interface that there is.
        kept = [known for known in (there or {}).get("interfaces", []) if (known["type"], known["main"]) == ("1", "1")]
        return [entry | ({"interfaceid": kept[0]["interfaceid"]} if kept else {})]

    # Who looks

    def _reader(self, reader, hosts):
        """A user who may do nothing but read what the topology's hosts measure, and does not get into the frontend."""
        name = f"{OURS}: readers"
        role = self._role(name)
        group = self._group_of_readers(name, sorted({group for host in hosts.values() for group in host["groups"]}))
        found = self._api.user.get(
            output=["userid", "roleid"], filter={"username": [reader["name"]]}, selectUsrgrps=["usrgrpid"]
        )
        what = f"user {reader['name']}"
        if not found:
            self._tell(
                what, "made", "user.create", username=reader["name"], passwd=reader["password"], roleid=role,
                usrgrps=[{"usrgrpid": group}],
            )  # fmt: skip
            return
        there = {"role": found[0]["roleid"], "groups": [each["usrgrpid"] for each in found[0]["usrgrps"]]}
        self._update(
            what, there, {"role": role, "groups": [group]}, "user.update",
            userid=found[0]["userid"], roleid=role, usrgrps=[{"usrgrpid": group}],
        )  # fmt: skip

    def _role(self, name):
        wanted = {
            "ui": ["monitoring.problems"],  # of which Zabbix demands one
            "ui.default_access": "0",
            "services.read.mode": "0",
            "services.write.mode": "0",
            "modules.default_access": "0",
            "api.access": "1",
            "api.mode": "1",  # these methods, and no other
            "api": READS,
            "actions": [],
            "actions.default_access": "0",
        }
        what = f"role {name}"
        found = self._api.role.get(output=["roleid", "type"], filter={"name": name}, selectRules="extend")
        made = None
        if not found:
            made = self._tell(what, "made", "role.create", name=name, type=1, rules=_rules(wanted))
            if not made:
                return None
            # Only now is it known which elements there are.
            found = self._api.role.get(output=["roleid", "type"], roleids=made["roleids"], selectRules="extend")
        (role,) = found
        there = {key: value for key, value in role["rules"].items() if key in wanted}
        several = {key: there[key] for key in ("ui", "actions")}
        there = {key: value if isinstance(value, list) else str(value) for key, value in there.items()}
        for key, every in several.items():
            there[key] = [each["name"] for each in every if int(each["status"])]
        there["api"] = sorted(there["api"])
        before, after = {"type": role["type"]} | there, {"type": "1"} | wanted
        parameters = {"roleid": role["roleid"], "type": 1, "rules": _rules(wanted, several)}
        if made:
            self._api.role.update(**parameters)
        else:
            self._update(what, before, after, "role.update", **parameters)
        return role["roleid"]

    def _group_of_readers(self, name, hosts):
        rights, select = ("hostgroup_rights", "HostGroupRights") if self._since_7 else ("rights", "Rights")
        hosts = sorted(each["groupid"] for each in self._ids("hostgroup", hosts))
        # 3: not in the frontend; 2: to read.
        after = {"gui_access": "3", "users_status": "0", "rights": [["2", each] for each in hosts]}
        parameters = {
            "name": name,
            "gui_access": 3,
            "users_status": 0,
            rights: [{"permission": 2, "id": each} for each in hosts],
        }
        found = self._api.usergroup.get(
            output=["usrgrpid", "gui_access", "users_status"],
            filter={"name": [name]},
            **{f"select{select}": ["permission", "id"]},
        )
        if not found:
            made = self._tell(f"group {name}", "made", "usergroup.create", **parameters)
            return made["usrgrpids"][0] if made else None
        there = found[0] | {"rights": sorted([each["permission"], each["id"]] for each in found[0][rights])}
        self._update(f"group {name}", there, after, "usergroup.update", usrgrpid=there["usrgrpid"], **parameters)
        return there["usrgrpid"]

    def _by_hand(self, wanted):
        """What somebody changed on a host of what its template says."""
        hosts = self._api.host.get(output=["hostid"], filter={"host": list(wanted)})
        if not hosts:
            return
        for kind, key, name, fields in (
            ("trigger", "triggerid", "description", ["status", "priority"]),
            ("item", "itemid", "name", ["status", "delay", "history", "trends"]),
            ("httptest", "httptestid", "name", ["status"]),
        ):
            api = getattr(self._api, kind)
            found = api.get(
                output=[key, name, "templateid", *fields],
                hostids=[host["hostid"] for host in hosts],
                inherited=True,
                selectHosts=["host"],
            )
            if not found:
                continue
            origins = sorted({entry["templateid"] for entry in found})
            templates = api.get(output=[key, *fields], templated=True, **{f"{key}s": origins})
            said = {template.pop(key): template for template in templates}
            for entry in found:
                after = {field: said.get(entry["templateid"], entry)[field] for field in fields}
                # Switched off in a template by hand, it is about to be on again.
                after["status"] = "0" if after["status"] == "0" else entry["status"]
                what = f"{kind} {entry[name]} of {', '.join(host['host'] for host in entry['hosts'])}"
                changed = {field: after[field] for field in _differing(entry, after)}
                self._update(what, entry, after, f"{kind}.update", **{key: entry[key]}, **changed)

    # Whom it tells

    def _mail(self, mail):
        name = f"{OURS}: mail"
        media = self._api.mediatype.get(output="extend", filter={"name": [name]}, selectMessageTemplates="extend")
        action = self._api.action.get(
            output=["actionid", "status", "esc_period", "pause_suppressed"],
            filter={"name": [name]},
            selectFilter=["evaltype", "conditions"],
            selectOperations="extend",
            selectRecoveryOperations="extend",
        )
        if not mail["enabled"]:
            for entry in action:
                if entry["status"] == "0":
                    self._tell(f"action {name}", "switched off", "action.update", actionid=entry["actionid"], status=1)
            for entry in media:
                if entry["status"] == "0":
                    self._tell(
                        f"media {name}", "switched off", "mediatype.update", mediatypeid=entry["mediatypeid"], status=1
                    )
            return
        after = {
            "type": "0",
            "status": "0",
            "smtp_server": mail["server"],
            "smtp_port": str(mail["port_of_server"]),
            "smtp_email": mail["from"],
            # In the clear and as nobody: to a server of the site's own.
            "smtp_security": "0",
            "smtp_authentication": "0",
            # HTML would make one line of a message.
            "message_format" if self._since_7 else "content_type": "0",
        }
        if media:
            there = media[0] | {"texts": _texts(media[0]["message_templates"])}
            self._update(
                f"media {name}", there, after | {"texts": _texts(TEXTS)}, "mediatype.update",
                mediatypeid=there["mediatypeid"], message_templates=TEXTS, **after,
            )  # fmt: skip
        else:
            self._tell(
                f"media {name}", "made", "mediatype.create",
                name=name, smtp_helo=socket.gethostname(), message_templates=TEXTS, **after,
            )  # fmt: skip
        if self._test and not media:
            self.changes[f"action {name}"] = "made"
            return
        medium = self._api.mediatype.get(output=["mediatypeid"], filter={"name": [name]})[0]["mediatypeid"]
        self._addresses(medium, mail)
        self._action(name, action, mail)

    def _addresses(self, medium, mail):
        (admin,) = self._api.user.get(output=["userid"], filter={"username": ["Admin"]}, selectMedias="extend")
        # From a severity on: a bit for each.
        severity = str(sum(1 << level for level in range(SEVERITIES.index(mail["severity"]), len(SEVERITIES))))
        fields = ("mediatypeid", "sendto", "active", "severity", "period")
        there = [{field: entry[field] for field in fields} for entry in admin["medias"]]
        own = {"mediatypeid": medium, "sendto": mail["to"], "active": "0", "severity": severity}
        own["period"] = "1-7,00:00-24:00"
        others = [entry for entry in there if entry["mediatypeid"] != medium]
        if [entry for entry in there if entry["mediatypeid"] == medium] != [own]:
            self._tell(
                "user Admin",
                f"is told at {', '.join(mail['to'])}",
                "user.update",
                userid=admin["userid"],
                medias=[*others, own],
            )

    def _action(self, name, found, mail):
        level = str(SEVERITIES.index(mail["severity"]))
        (admin,) = self._api.user.get(output=["userid"], filter={"username": ["Admin"]})
        told = [{"userid": admin["userid"]}]
        operations = [{"operationtype": 0, "opmessage": {"default_msg": 1}, "opmessage_usr": told}]
        # 11: whoever was told of the problem.
        recovery = [{"operationtype": 11, "opmessage": {"default_msg": 1}}]
        # 4: severity, 5: at least.
        conditions = [{"conditiontype": 4, "operator": 5, "value": level}]
        # What begins while work is planned is told when that is over, if it still is.
        same = {"status": "0", "esc_period": "1h", "pause_suppressed": "1"}
        parameters = same | {
            "filter": {"evaltype": 0, "conditions": conditions},
            "operations": operations,
            "recovery_operations": recovery,
        }
        if not found:
            self._tell(f"action {name}", "made", "action.create", name=name, eventsource=0, **parameters)
            return
        (action,) = found
        there = {key: action[key] for key in same} | {
            "evaltype": action["filter"]["evaltype"],
            "conditions": _conditions(action["filter"]["conditions"]),
            "operations": _operations(action["operations"]),
            "recovery": _operations(action["recovery_operations"]),
        }
        after = same | {
            "evaltype": "0",
            "conditions": _conditions(conditions),
            "operations": _operations(operations),
            "recovery": _operations(recovery),
        }
        self._update(f"action {name}", there, after, "action.update", actionid=action["actionid"], **parameters)

    def _known_work(self):
        groups, select = ("hostgroups", "HostGroups") if self._since_7 else ("groups", "Groups")
        found = self._api.maintenance.get(
            output=["maintenanceid", "name", "active_since", "active_till", "maintenance_type"],
            selectHosts=["host"],
            selectTags="extend",
            selectTimeperiods="extend",
            **{f"select{select}": ["name"]},
        )
        return {
            entry["name"]: {
                "id": entry["maintenanceid"],
                "is": {
                    "since": int(entry["active_since"]),
                    "till": int(entry["active_till"]),
                    "hosts": sorted(host["host"] for host in entry["hosts"]),
                    "type": entry["maintenance_type"],
                    "periods": [
                        {key: period[key] for key in ("timeperiod_type", "start_date", "period")}
                        for period in entry["timeperiods"]
                    ],
                    "groups": sorted(group["name"] for group in entry[groups]),
                    "tags": entry.get("tags", []),
                },
            }
            for entry in found
        }

    def _maintenance(self, wanted):
        known = {name: entry for name, entry in self._known_work().items() if name.startswith(f"{OURS}: ")}
        for name in sorted(known.keys() - wanted.keys()):
            self._tell(f"maintenance {name}", "removed", "maintenance.delete", known[name]["id"])
        for name, window in wanted.items():
            work = _work(window)
            if name in known and known[name]["is"] == work:
                continue
            parameters = {
                "name": name,
                "active_since": work["since"],
                "active_till": work["till"],
                "maintenance_type": 0,
                "timeperiods": [{key: int(value) for key, value in period.items()} for period in work["periods"]],
                "hosts": self._ids("host", work["hosts"], "host"),
                "groups": work["groups"],
                "tags": work["tags"],
            }
            what = f"maintenance {name}"
            if name in known:
                differing = _differing(known[name]["is"], work)
                self._tell(what, differing, "maintenance.update", maintenanceid=known[name]["id"], **parameters)
            else:
                self._tell(what, "made", "maintenance.create", **parameters)


# --- dashboards -------------------------------------------------------------------------------------------------------

# Lines have the colour of their item, and of several hosts shades of it.
COLOURS = ("1A7C11", "2774A4", "F63100", "A54F10")
# Of a dashboard's columns, of which there are 24 (and since 7.0 three times as many), and its rows.
WIDTH, HEIGHT = 12, 5
# What of a graph's fields is ours to say. Others Zabbix adds by itself when somebody looks at its settings.
FIELDS = re.compile(r"ds\.(\d+\.)?(hosts|items|itemids|color)\.?|legend_lines$")


def _dashboards(hosts):
    """Return ``{name: {hosts, graphs}}`` of a dashboard for each role that a host has.

    A template's cannot show several hosts. These know hosts and items by their names: the same in every Zabbix.
    """
    cached = __salt__["cp.cache_file"]("salt://zabbix_server/files/dashboards.yaml")
    if not cached:
        raise CommandExecutionError("there is no salt://zabbix_server/files/dashboards.yaml")
    found = {}
    for role, graphs in yaml.load(pathlib.Path(cached).read_text(encoding="utf-8"), Loader).items():  # noqa: S506
        if of_role := sorted(name for name, host in hosts.items() if role in host["roles"]):
            found[f"{OURS}: {role}"] = {"hosts": of_role, "graphs": graphs}
    return found


def _become_dashboards(zabbix, wanted):
    """Have the dashboards of ours in Zabbix be as *wanted*; somebody's own, of other names, are left alone."""
    api = zabbix._api.dashboard
    found = api.get(
        output=["dashboardid", "name", "private"],
        selectPages="extend",
        search={"name": f"{OURS}: "},
        startSearch=True,
    )
    known = {entry["name"]: entry for entry in found}
    for name in sorted(known.keys() - wanted.keys()):
        zabbix._tell(f"dashboard {name}", "removed", "dashboard.delete", known[name]["dashboardid"])
    for name, dashboard in wanted.items():
        what = f"dashboard {name}"
        pages = [{"widgets": _widgets(dashboard, zabbix._api.version >= 7.0)}]
        # 0: for everybody who gets in.
        parameters = {"private": 0, "pages": pages}
        if name not in known:
            zabbix._tell(what, "made", "dashboard.create", name=name, **parameters)
            continue
        there = known[name]
        before = {"private": there["private"], **_shown(there["pages"])}
        after = {"private": "0", **_shown(pages)}
        zabbix._update(what, before, after, "dashboard.update", dashboardid=there["dashboardid"], **parameters)


def _widgets(dashboard, since_7):
    """Return the graphs of a dashboard, two in a row, as Zabbix takes them."""
    wide = 3 if since_7 else 1
    widgets = []
    for number, (title, items) in enumerate(dashboard["graphs"].items()):
        fields = []
        for n, item in enumerate(items):
            # Of which set of lines it is came to stand in front.
            name = f"ds.{n}.{{}}" if since_7 else f"ds.{{}}.{n}"
            for h, host in enumerate(dashboard["hosts"]):
                fields.append({"type": 1, "name": f"{name.format('hosts')}.{h}", "value": host})
            fields.append({"type": 1, "name": f"{name.format('items')}.0", "value": item})
            fields.append({"type": 1, "name": name.format("color"), "value": COLOURS[n]})
        # A legend has four columns, and rows that are seen.
        rows = min(-(-len(items) * len(dashboard["hosts"]) // 4), 5)
        fields.append({"type": 0, "name": "legend_lines", "value": rows})
        # Of which 7.0 wants one, other than that of any other graph of the dashboard.
        fields.append({"type": 1, "name": "reference", "value": chr(ord("A") + number) * 5})
        place = {"x": wide * WIDTH * (number % 2), "y": HEIGHT * (number // 2)}
        widgets.append(
            {"type": "svggraph", "name": title, **place, "width": wide * WIDTH, "height": HEIGHT, "fields": fields}
        )
    return widgets


def _shown(pages):
    """Return what is on the pages of a dashboard, in order: of each graph where it is and what it shows."""
    widgets = [widget for page in pages for widget in page["widgets"]]
    widgets.sort(key=lambda widget: (int(widget["y"]), int(widget["x"])))
    return {"pages": len(pages), "graphs": [widget["name"] for widget in widgets]} | {
        f"graph {widget['name']}": {key: str(widget[key]) for key in ("type", "x", "y", "width", "height")}
        | {field["name"]: str(field["value"]) for field in widget["fields"] if FIELDS.match(field["name"])}
        for widget in widgets
    }


# --- how things are compared ------------------------------------------------------------------------------------------


def _rules(wanted, there=None):
    """Return the rules of a role as Zabbix takes them: of what it has several of, one that is not named stays."""
    several = {
        key: [
            {"name": name, "status": int(name in wanted[key])}
            for name in ([each["name"] for each in there[key]] if there else wanted[key])
        ]
        for key in ("ui", "actions")
    }
    return wanted | several | {"services.read.list": [], "services.write.list": []}


def _conditions(conditions):
    return [f"{each['conditiontype']} {each['operator']} {each['value']}" for each in conditions]


def _operations(operations):
    """Return who is told by *operations* of an action, and whether with the texts of the media."""
    return [
        {
            "type": str(each["operationtype"]),
            "texts": str((each.get("opmessage") or {}).get("default_msg")),
            "users": sorted(user["userid"] for user in each.get("opmessage_usr", [])),
            "groups": sorted(group["usrgrpid"] for group in each.get("opmessage_grp", [])),
        }
        for each in operations
    ]


def _texts(templates):
    """Return *templates* of messages as one reads them; what a browser sends has other ends of lines."""
    words = ("eventsource", "recovery", "subject", "message")
    return sorted([str(each[key]).replace("\r\n", "\n") for key in words] for each in templates)


def _differing(before, after):
    return {key: {"old": before.get(key), "new": value} for key, value in after.items() if before.get(key) != value}


def _canonical(thing):
    """Return *thing* without what 7.0 tells apart and is the same: a default that is said, and the order of widgets."""
    if isinstance(thing, list):
        return [_canonical(each) for each in thing]
    if not isinstance(thing, dict):
        return thing
    plain = {key: _canonical(value) for key, value in thing.items() if (key, value) != ("type", "ZABBIX_PASSIVE")}
    if "widgets" in plain:
        plain["widgets"].sort(key=lambda widget: (int(widget.get("y", 0)), int(widget.get("x", 0))))
    return plain


def _told(differing, path=()):
    """Yield a line for each thing that an answer of importcompare names."""
    for section, changes in differing.items():
        for change, entries in changes.items():
            for entry in entries:
                thing = entry.get("after") or entry.get("before") or {}
                title = next((thing[key] for key in ("template", "name", "key", "expression") if key in thing), "?")
                here = (*path, f"{section} {title}")
                below = {
                    key: value
                    for key, value in entry.items()
                    if key not in ("before", "after") and isinstance(value, dict)
                }
                before, after = _canonical(entry.get("before", {})), _canonical(entry.get("after", {}))
                fields = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
                if change != "updated":
                    yield f"{': '.join(here)}: {change}"
                elif fields:
                    yield f"{': '.join(here)}: {', '.join(fields)}"
                yield from _told(below, here)
