"""What Zabbix is to watch, as this repository and the topology have it, told to it through its own API.

Hosts, their groups, templates and keys, who is told of problems, planned work, and how long what is kept. Only what
differs is told; what somebody changed by hand is put back, and said. Hosts that somebody added by hand, in groups of
his own, are left alone.
"""

import contextlib
import datetime
import hashlib
import logging
import os
import pathlib
import socket
import subprocess
import time

import yaml
from salt.exceptions import CommandExecutionError

try:
    import zabbix_utils
except ImportError:  # Salt is older than this file: salt/bootstrap.sh brings it.
    zabbix_utils = None

# What is ours in Zabbix is known by this.
OURS = "turnkey"
# Of Zabbix's own: a host whose agent nobody has asked for.
FOREIGN_HOSTS = {"Zabbix server"}
SET_PASSWORD = ["php", "/usr/local/lib/turnkey/set-zabbix-password.php"]
# Seconds: for one answer, and for a user that was refused for a while after somebody's wrong passwords.
TIMEOUT = 60
PATIENCE = 40
SEVERITIES = ("not_classified", "information", "warning", "average", "high", "disaster")
DAY = 86400


def password(test=False):
    """Give Zabbix's user Admin the site's password; return whether he had another (or, with *test*, has).

    CLI Example:

    .. code-block:: bash

        salt-call monitoring.password test=true
    """
    secret = __salt__["turnkey.settings"]("zabbix_server")["password"]
    command = [*SET_PASSWORD, *(["--check"] if test else [])]
    try:
        done = subprocess.run(command, input=secret, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandExecutionError(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or done.returncode
        raise CommandExecutionError(f"{' '.join(command)}: {_without([secret], said)}")
    return done.stdout.strip() == "changed"


def configure(url, test=False):
    """Have the Zabbix behind *url* be as `wanted` says; return ``{what: what was changed}``; *test*: what would be.

    CLI Example:

    .. code-block:: bash

        salt-call monitoring.configure http://127.0.0.1:8090/zabbix/ test=true
    """
    if zabbix_utils is None:
        raise CommandExecutionError("Salt's Python has no zabbix_utils; salt/bootstrap.sh, run again, installs it")
    secret = __salt__["turnkey.settings"]("zabbix_server")["password"]
    plan = wanted()
    secrets = [secret, *(host["psk"] for host in plan["hosts"].values())]
    try:
        with _session(url, secret) as api:
            return _Zabbix(api, test).become(plan)
    except (zabbix_utils.exceptions.ModuleBaseException, OSError) as error:
        raise CommandExecutionError(f"Zabbix's API: {_without(secrets, error)}") from error


def wanted():
    """Return what Zabbix is to know, in its own terms as far as they are words. It has the keys of all hosts.

    CLI Example:

    .. code-block:: bash

        salt-call monitoring.wanted
    """
    settings = __salt__["turnkey.settings"]("zabbix_server")
    topology = __pillar__["topology"]
    files = _files(settings["templates"])
    agents = _agents()
    keys = __pillar__.get("zabbix", {}).get("psks", {})
    hosts = {}
    for name, host in topology["hosts"].items():
        roles = ["hosts", *host["roles"]]
        hosts[name] = {
            "groups": sorted(f"{OURS}/{role}" for role in roles),
            "templates": _templates_for(roles, files),
            "interface": list(agents.get(name, ())),
            "psk": keys.get(name, "") if name in agents else "",
            "macros": {},
        }
    # What clients see, apart from any one host.
    if of_service := _templates_for(["service"], files):
        hosts[f"{topology['name']}-service"] = {
            "groups": [f"{OURS}/service"],
            "templates": of_service,
            "interface": [],
            "psk": "",
            "macros": {"{$URL}": _url()},
        }
    return {
        "hosts": hosts,
        "files": {name: file["source"] for name, file in files.items()},
        "templates": sorted(template for file in files.values() for template in file["templates"]),
        "template_groups": sorted({group for file in files.values() for group in file["groups"]}),
        "housekeeping": _housekeeping(settings["retention"]),
        "mail": settings["mail"],
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
        templates = yaml.safe_load(source)["zabbix_export"].get("templates", [])
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


def _url():
    topology = __pillar__["topology"]
    first = next(host["address"] for host in topology["hosts"].values() if "lb" in host["roles"])
    address = topology.get("virtual_address", first)
    port = __salt__["turnkey.settings"]("haproxy")["port"]
    return f"http://{f'[{address}]' if ':' in address else address}{'' if port == 80 else f':{port}'}"


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
    return {"since": since, "till": till, "hosts": sorted(hosts)}


def _seconds(text):
    return int(datetime.datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=datetime.UTC).timestamp())


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
        until = time.monotonic() + PATIENCE
        while True:
            try:
                api.login(user="Admin", password=secret)
                break
            except zabbix_utils.exceptions.APIRequestError as error:
                if "blocked" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(2)
        try:
            yield api
        finally:
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

    def __init__(self, api, test):
        self._api, self._test = api, test
        self._since_7 = api.version >= 6.2  # groups of hosts and of templates are apart
        self.changes = {}

    def become(self, plan):
        self._guest()
        self._housekeeping(plan["housekeeping"])
        # Before templates: an import switches on some of it without a word.
        self._switched_off(plan["hosts"])
        self._templates(plan)
        self._groups(sorted({group for host in plan["hosts"].values() for group in host["groups"]}))
        self._hosts(plan["hosts"])
        self._obsolete_templates(plan)
        self._obsolete_groups(plan["hosts"])
        self._mail(plan["mail"])
        self._maintenance(plan["maintenance"])
        return self.changes

    def _tell(self, what, change, method, *several, **parameters):
        """Note *change* and call *method*, unless that is only to be told."""
        self.changes[what] = change
        if self._test:
            return None
        name, _, function = method.partition(".")
        return getattr(getattr(self._api, name), function)(*several, **parameters)

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

    def _housekeeping(self, wanted):
        found = {key: str(value) for key, value in self._api.housekeeping.get(output="extend").items()}
        # What this Zabbix does not know it does not need.
        known = {key: value for key, value in wanted.items() if key in found}
        changed = {key: known[key] for key in _differing(found, known)}
        self._update("housekeeping", found, known, "housekeeping.update", **changed)

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
        for group in found:
            if group["name"] not in wanted:
                self._tell(f"group {group['name']}", "removed", "hostgroup.delete", group["groupid"])

    def _known_hosts(self):
        groups = "hostgroups" if self._since_7 else "groups"
        select = "selectHostGroups" if self._since_7 else "selectGroups"
        found = self._api.host.get(
            output=["hostid", "host", "name", "status", "tls_connect", "tls_accept", "description"],
            selectParentTemplates=["host", "templateid"],
            selectInterfaces=["interfaceid", "type", "main", "useip", "ip", "port"],
            selectMacros=["macro", "value"],
            **{select: ["name"]},
        )
        return {
            host["host"]: {
                "id": host["hostid"],
                "interfaces": host["interfaces"],
                "linked": {template["host"]: template["templateid"] for template in host["parentTemplates"]},
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
                    "macros": {macro["macro"]: macro.get("value") for macro in host["macros"]},
                    "description": host["description"].replace("\r\n", "\n"),
                },
            }
            for host in found
        }

    def _hosts(self, wanted):
        known = self._known_hosts()
        for name, host in known.items():
            ours = any(group.startswith(f"{OURS}/") for group in host["is"]["groups"])
            if name not in wanted and (ours or name in FOREIGN_HOSTS):
                self._tell(f"host {name}", "removed", "host.delete", host["id"])
        for name, host in wanted.items():
            by_key = "2" if host["psk"] else "1"
            after = {
                "name": name,
                "status": "0",
                "groups": host["groups"],
                "templates": host["templates"],
                "interface": [host["interface"]] if host["interface"] else [],
                "encryption": f"{by_key}, {by_key}",
                "macros": host["macros"],
                "description": _description(host["psk"]),
            }
            there = known.get(name)
            if there and not _differing(there["is"], after):
                continue
            parameters = {key: after[key] for key in ("name", "status", "description")} | {
                "host": name,
                "groups": self._ids("hostgroup", host["groups"]),
                "templates": self._ids("template", host["templates"], "host"),
                "interfaces": self._interfaces(host, there),
                "macros": [{"macro": macro, "value": value} for macro, value in host["macros"].items()],
                "tls_connect": int(by_key),
                "tls_accept": int(by_key),
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
                self._tell(f"host {name}", "made", "host.create", **parameters)

    @staticmethod
    def _interfaces(host, there):
        if not host["interface"]:
            return []
        address, port = host["interface"]
        entry = {"type": 1, "main": 1, "useip": 1, "ip": address, "dns": "", "port": port}
        # Items hold on to the interface that there is.
        kept = [known for known in (there or {}).get("interfaces", []) if (known["type"], known["main"]) == ("1", "1")]
        return [entry | ({"interfaceid": kept[0]["interfaceid"]} if kept else {})]

    def _switched_off(self, wanted):
        """What somebody switched off on a host, and its template has switched on."""
        hosts = self._api.host.get(output=["hostid"], filter={"host": list(wanted)})
        ids = [host["hostid"] for host in hosts]
        for kind, key, name, off in (
            ("trigger", "triggerid", "description", "1"),
            ("item", "itemid", "name", "1"),
            ("httptest", "httptestid", "name", "1"),
        ):
            api = getattr(self._api, kind)
            found = (
                api.get(
                    output=[key, name, "templateid"],
                    hostids=ids,
                    inherited=True,
                    filter={"status": off},
                    selectHosts=["host"],
                )
                if ids
                else []
            )
            if not found:
                continue
            templates = api.get(
                output=[key, "status"], templated=True, **{f"{key}s": [entry["templateid"] for entry in found]}
            )
            switched_on = {entry[key] for entry in templates if entry["status"] == "0"}
            for entry in found:
                if entry["templateid"] in switched_on:
                    host = ", ".join(host["host"] for host in entry["hosts"])
                    what = f"{kind} {entry[name]} of {host}"
                    self._tell(what, "switched on again", f"{kind}.update", **{key: entry[key]}, status=0)

    # Whom it tells

    def _mail(self, mail):
        name = f"{OURS}: mail"
        media = self._api.mediatype.get(output="extend", filter={"name": [name]})
        action = self._api.action.get(
            output=["actionid", "status"], filter={"name": [name]}, selectFilter=["conditions"]
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
            "status": "0",
            "smtp_server": mail["server"],
            "smtp_port": str(mail["port_of_server"]),
            "smtp_email": mail["from"],
        }
        if media:
            there = media[0]
            self._update(f"media {name}", there, after, "mediatype.update", mediatypeid=there["mediatypeid"], **after)
        else:
            texts = [
                {
                    "eventsource": 0,
                    "recovery": recovery,
                    "subject": subject,
                    "message": "Host: {HOST.NAME}\nSeverity: {EVENT.SEVERITY}\nSince: {EVENT.DATE} {EVENT.TIME}\n"
                    "{EVENT.OPDATA}\n{TRIGGER.URL}\n",
                }
                for recovery, subject in ((0, "Problem: {EVENT.NAME}"), (1, "Resolved: {EVENT.NAME}"))
            ]
            self._tell(
                f"media {name}",
                "made",
                "mediatype.create",
                name=name,
                type=0,
                smtp_helo=socket.gethostname(),
                message_templates=texts,
                **after,
            )
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
        operation = {"operationtype": 0, "opmessage": {"default_msg": 1}, "opmessage_usr": told}
        # 4: severity, 5: at least.
        parameters = {
            "status": 0,
            "filter": {"evaltype": 0, "conditions": [{"conditiontype": 4, "operator": 5, "value": level}]},
        }
        if not found:
            self._tell(
                f"action {name}", "made", "action.create", name=name, eventsource=0, esc_period="1h",
                operations=[operation], recovery_operations=[{"operationtype": 11, "opmessage": {"default_msg": 1}}],
                **parameters,
            )  # fmt: skip
            return
        there = {
            "status": found[0]["status"],
            "severity": [condition["value"] for condition in found[0]["filter"]["conditions"]],
        }
        self._update(
            f"action {name}", there, {"status": "0", "severity": [level]}, "action.update",
            actionid=found[0]["actionid"], **parameters,
        )  # fmt: skip

    def _maintenance(self, wanted):
        found = self._api.maintenance.get(
            output=["maintenanceid", "name", "active_since", "active_till"],
            search={"name": f"{OURS}: "},
            startSearch=True,
            selectHosts=["host"],
        )
        known = {
            entry["name"]: {
                "since": int(entry["active_since"]),
                "till": int(entry["active_till"]),
                "hosts": sorted(host["host"] for host in entry["hosts"]),
            }
            for entry in found
        }
        ids = {entry["name"]: entry["maintenanceid"] for entry in found}
        for name in known.keys() - wanted.keys():
            self._tell(f"maintenance {name}", "removed", "maintenance.delete", ids[name])
        for name, window in wanted.items():
            if known.get(name) == window:
                continue
            parameters = {
                "name": name,
                "active_since": window["since"],
                "active_till": window["till"],
                "hosts": self._ids("host", window["hosts"], "host"),
                "timeperiods": [
                    {
                        "timeperiod_type": 0,
                        "start_date": window["since"],
                        # Zabbix has a bound for one period; the window as a whole has none.
                        "period": min(window["till"] - window["since"], 999 * DAY),
                    }
                ],
            }
            if name in known:
                differing = _differing(known[name], window)
                self._tell(
                    f"maintenance {name}", differing, "maintenance.update", maintenanceid=ids[name], **parameters
                )
            else:
                self._tell(f"maintenance {name}", "made", "maintenance.create", **parameters)


def _description(psk):
    """What a host is said to be: with a mark of its key, which Zabbix tells nobody, so that a new one is seen."""
    mark = hashlib.sha256(psk.encode()).hexdigest()[:16] if psk else "none"
    return f"From the topology, by Salt: what is changed here by hand is put back. Key: {mark}."


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
