#!/usr/bin/env python3
"""What Zabbix measures and when it speaks up: writes salt/states/zabbix_server/templates/, one file for each concern.

And files/dashboards.yaml of the same formula: what is shown of the hosts of each role.

Usage: salt/zabbix_templates.py [--check]

In Zabbix's own format (of 6.0, which 7.0 takes too) each item takes a dozen lines, most of them the same. Here it takes
one. What is written is versioned and meant to be read; with --check nothing is written, and what differs is named.

Two looks of {$INTERVAL} tell an alert from a slip: from a fault to its problem no more than a minute may pass. What
several hosts see of one thing (a web host, the queue, replicas) is asked once, in the template `stack`, over all hosts
of a role, and hosts that are known to be dead or without a daemon are left out there: one cause, one alert.
"""

import argparse
import copy
import hashlib
import pathlib
import re
import sys
from typing import Any

import yaml

FOLDER = pathlib.Path(__file__).resolve().parent / "states" / "zabbix_server" / "templates"
GROUP = "Templates/Turnkey"
# Of which hosts a role's group is: who imports the templates makes the groups.
ROLE_GROUP = "turnkey/"
RUNBOOKS = "docs/runbooks/alerts"
MACROS = {
    "{$INTERVAL}": ("15s", "How often it is looked; {$SIGN} and {$RECENT} follow from it."),
    "{$SLOW}": ("30s", "How often it is looked at what is told by a single look, or takes minutes."),
    "{$RECENT}": (
        "29s",
        "What is older is not counted; less than two looks: what was once so is not seen three times.",
    ),
    "{$SIGN}": ("20s", "Who has given no sign for so long is not well: a look, and what it may be late by."),
    "{$RUNBOOKS}": (RUNBOOKS, "Where the pages are that tell what to do; relative to the frontend, or a URL."),
}
# The first to be told of where scripts do not work.
FIRST = "chrony/unmeasured units.chrony.missing"
# What Zabbix calls the items that it makes of scenarios.
WEB = "web.test."
COLOURS = ["1A7C11", "2774A4", "F63100", "A54F10", "FC6EA3", "6C59DC", "AC8C14", "611F27"]
# Of a dashboard's 24 columns.
WIDTH, HEIGHT = 12, 5


def uuid(*names: str) -> str:
    """Return an id of the form that Zabbix asks for (UUID, version 4), always the same for the same names."""
    digits = list(hashlib.sha256("/".join(names).encode()).hexdigest()[:32])
    digits[12] = "4"
    digits[16] = "89ab"[int(digits[16], 16) % 4]
    return "".join(digits)


class Template:
    """One concern: its items, triggers and graphs; *macros* are limits that a site may change."""

    every: dict[str, "Template"] = {}  # noqa: RUF012

    def __init__(self, name: str, about: str, macros: dict[str, tuple[str, str]] | None = None) -> None:
        self.name, self.about = name, about
        self.title = f"Turnkey {name}"
        self.macros = macros or {}
        self.items: dict[str, dict[str, Any]] = {}
        self.triggers: dict[str, dict[str, Any]] = {}
        self.graphs: list[dict[str, Any]] = []
        self.scenarios: list[dict[str, Any]] = []
        Template.every[name] = self

    def item(self, key: str, name: str, units: str = "", *, kind: str = "FLOAT", **more: Any) -> None:
        """Add an item that the agent is asked for."""
        # On a host no two have one name, whichever templates they are of: dashboards know them by it.
        name = f"{self.name}: {name.removeprefix(f'{self.name}: ')}"
        it: dict[str, Any] = {"uuid": uuid(self.name, "item", key), "name": name, **more, "key": key}
        it.setdefault("delay", "{$INTERVAL}")
        if kind != "UNSIGNED":
            it["value_type"] = kind
        if kind in ("TEXT", "CHAR"):
            it["trends"] = "0"
        if units:
            it["units"] = units
        it["tags"] = [{"tag": "component", "value": self.name}]
        self.items[key] = it

    def script(self, name: str, **more: Any) -> None:
        """Add what a script prints: `turnkey.NAME`; its parts are told by `part`."""
        self.item(f"turnkey.{name}", f"{name}: all of it", kind="TEXT", history="1h", **more)

    def part(
        self, field: str, name: str, units: str = "", *, rate: bool = False, optional: bool = False, kind: str = "FLOAT"
    ) -> None:
        """Add `SCRIPT.FIELD` of what a script prints; with *rate* its growth in a second.

        An *optional* one is not always there, and what is not there is no fault.
        """
        key = f"turnkey.{field}"
        master = max((k for k in self.items if key.startswith(f"{k}.") and "master_item" not in self.items[k]), key=len)
        path = key.removeprefix(f"{master}.")
        steps: list[dict[str, Any]] = [{"type": "JSONPATH", "parameters": [f"$.{path}"]}]
        if optional:
            steps[0]["error_handler"] = "DISCARD_VALUE"
        if rate:
            steps.append({"type": "CHANGE_PER_SECOND", "parameters": [""]})
        self._dependent(key, name, units, kind, master, steps)

    def pattern(self, field: str, name: str, master: str, pattern: str, *, units: str = "", rate: bool = False) -> None:
        """Add what a regular expression finds in another item's text."""
        steps: list[dict[str, Any]] = [{"type": "REGEX", "parameters": [pattern, "\\1"]}]
        if rate:
            steps.append({"type": "CHANGE_PER_SECOND", "parameters": [""]})
        self._dependent(f"turnkey.{field}", name, units, "FLOAT", master, steps)

    def path(self, field: str, name: str, master: str, path: str, units: str = "", kind: str = "FLOAT") -> None:
        """Add what a JSONPath finds in another item's text."""
        self._dependent(f"turnkey.{field}", name, units, kind, master, [{"type": "JSONPATH", "parameters": [path]}])

    def _dependent(self, key: str, name: str, units: str, kind: str, master: str, steps: list[dict[str, Any]]) -> None:
        self.item(
            key, name, units, kind=kind, type="DEPENDENT", delay="0", preprocessing=steps, master_item={"key": master}
        )

    def formula(self, field: str, name: str, formula: str, units: str = "") -> None:
        """Add what the server calculates of other items."""
        self.item(f"turnkey.{field}", name, units, type="CALCULATED", params=formula)

    def scenario(self, name: str, step: str, url: str) -> None:
        """Add a page that the server itself asks for, as a browser does; Zabbix makes the items (`WEB`) of it."""
        steps = [{"name": step, "url": url, "timeout": "5s", "status_codes": "200"}]
        tags = [{"tag": "component", "value": self.name}]
        one = {"uuid": uuid(self.name, "httptest", name), "name": name, "steps": steps, "tags": tags}
        self.scenarios.append(one)

    def units(self, name: str, well: str = "", **more: Any) -> None:
        """Add what systemd says of the units of *name*; *well* is what a host is that does what they are for."""
        self.script(f"units.{name}", **more)
        if well:
            self.part(f"units.{name}.well", well, optional=True)
        self.part(f"units.{name}.missing", f"{name}: daemons that should run and do not")
        self.part(f"units.{name}.down", f"{name}: which", kind="CHAR")
        self.part(f"units.{name}.restarts", f"{name}: restarts")
        self.unmeasured(f"units.{name}.missing", what=f"Daemons of {name}")

    def trigger(
        self, page: str, name: str, severity: str, expression: str, *after: str, told: str = "", suffix: str = ""
    ) -> None:
        """Add an alert with its runbook *page*; *after* are those that explain it, TEMPLATE/PAGE: then it is silent.

        In *expression* an item is FUNCTION(KEY, …), its key without `turnkey.`; *told* is what the problem quotes.
        """
        full = re.sub(r"\b([a-z]+)\(([a-z][a-z0-9_.]*)(?=[,)])", rf"\1(/{self.title}/turnkey.\2", expression)
        it = {"uuid": uuid(self.name, "trigger", page, suffix), "expression": full, "name": name}
        if told:
            it["event_name"] = f"{name}: {told}"
        self.triggers[page + suffix] = it | {
            "priority": severity,
            "url": f"{{$RUNBOOKS}}/{page}.rst",
            "after": [*after, *([] if page == "host-dead" else ["system/host-dead"])],
        }

    def unmeasured(self, field: str, *after: str, what: str = "", minutes: int = 4) -> None:
        """Add the alert that a script has told nothing for *minutes*, by a *field* that it always tells.

        One that every host has is told of sooner: where no script works at all, it is the only one.
        """
        if f"{self.name}/unmeasured {field}" == FIRST:
            minutes = 3
        else:
            after = (*after, FIRST)
        name = f"{what or self.name.capitalize()} cannot be measured"
        self.trigger("unmeasured", name, "WARNING", f"nodata({field},{minutes}m)=1", *after, suffix=f" {field}")

    def graph(self, name: str, *fields: str) -> None:
        """Add a graph of some items."""
        keys = [field if field in self.items or field.startswith(WEB) else f"turnkey.{field}" for field in fields]
        for key in keys:
            if key not in self.items and not key.startswith(WEB):
                raise KeyError(f"{self.name}: graph {name!r}: there is no item {key}")
        # On a host no two have one name, whichever templates they are of.
        self.graphs.append({"name": f"{self.name}: {name}", "keys": keys})

    def rest(self) -> None:
        """Add a graph for each number that has none: what exists can be looked at."""
        drawn = {key for it in self.graphs for key in it["keys"]}
        for key, it in self.items.items():
            if key not in drawn and it.get("value_type") not in ("TEXT", "CHAR"):
                self.graph(it["name"].removeprefix(f"{self.name}: "), key)

    def document(self) -> dict[str, Any]:
        """Return all of it as Zabbix exports it."""
        items = copy.deepcopy(self.items)
        used = yaml.safe_dump([items, self.triggers, self.scenarios])
        macros = {name: it for name, it in (MACROS | self.macros).items() if name in used}
        template: dict[str, Any] = {
            "uuid": uuid(self.name, "template"),
            "template": self.title,
            "name": self.title,
            "description": self.about,
            "groups": [{"name": GROUP}],
            "items": list(items.values()),
            "tags": [{"tag": "concern", "value": self.name}],
            "macros": [
                # What is empty an export leaves out.
                {"macro": name, **({"value": value} if value else {}), "description": text}
                for name, (value, text) in sorted(macros.items())
            ],
        }
        if self.scenarios:
            template["httptests"] = self.scenarios
        if self.graphs:
            template["dashboards"] = [self._dashboard()]
        export: dict[str, Any] = {
            "version": "6.0",
            "groups": [{"uuid": uuid("group", GROUP), "name": GROUP}],
            "templates": [template],
        }
        of_several = []
        for it in self.triggers.values():
            told = {name: value for name, value in it.items() if name != "after"}
            # In the order of an export, lest importcompare tell of another.
            told["dependencies"] = sorted(map(reference, it["after"]), key=lambda other: other["name"].lower())
            if not told["dependencies"]:
                del told["dependencies"]
            told["tags"] = [{"tag": "scope", "value": self.name}]
            keys = set(re.findall(rf"/{self.title}/([^,\[)]+(?:\[[^\]]*\])?)", it["expression"]))
            if len(keys) == 1:
                items[keys.pop()].setdefault("triggers", []).append(told)
            else:
                of_several.append(told)
        for item in items.values():
            item.get("triggers", []).sort(key=lambda trigger: trigger["name"].lower())
        if of_several:
            export["triggers"] = of_several
        if self.graphs:
            export["graphs"] = [self._graph(it) for it in self.graphs]
        return {"zabbix_export": export}

    def _graph(self, it: dict[str, Any]) -> dict[str, Any]:
        lines = [
            {"sortorder": str(n), "color": COLOURS[n], "item": {"host": self.title, "key": key}}
            for n, key in enumerate(it["keys"])
        ]
        for line in lines:
            # What an export leaves out.
            if line["sortorder"] == "0":
                del line["sortorder"]
        return {"uuid": uuid(self.name, "graph", it["name"]), "name": it["name"], "graph_items": lines}

    def _dashboard(self) -> dict[str, Any]:
        widgets = []
        for n, it in enumerate(self.graphs):
            place = {"x": str(WIDTH * (n % 2)), "y": str(HEIGHT * (n // 2))}
            place = {name: value for name, value in place.items() if value != "0"}
            field = {"type": "GRAPH", "name": "graphid", "value": {"host": self.title, "name": it["name"]}}
            widgets.append(
                {"type": "GRAPH_CLASSIC", **place, "width": str(WIDTH), "height": str(HEIGHT), "fields": [field]}
            )
        return {
            "uuid": uuid(self.name, "dashboard"),
            "name": f"{self.name.capitalize()}",
            "pages": [{"widgets": widgets}],
        }


def reference(other: str) -> dict[str, str]:
    """Return how a trigger is referred to, given as TEMPLATE/PAGE."""
    name, _, page = other.partition("/")
    trigger = Template.every[name].triggers[page]
    return {"name": trigger["name"], "expression": trigger["expression"]}


def well(field: str, role: str) -> str:
    """Return a formula for how many hosts of a role said just now that they are *field*.

    They say it only while they are: so it always has a value, and a host that dies is out of it before anything that
    follows from its death has been seen often enough for an alert.
    """
    # Not last_foreach: to older servers of Zabbix it may not be given a time.
    return over("count", "max", field, role, within="{$SIGN}")


def over(function: str, each: str, field: str, role: str, recent: bool = True, within: str = "{$RECENT}") -> str:
    """Return a formula over all hosts of a role; *recent* leaves out those that have told nothing *within* a time."""
    time = f",{within}" if recent else ""
    key = field if field == "agent.ping" else f"turnkey.{field}"
    return f'{function}({each}_foreach(/*/{key}?[group="{ROLE_GROUP}{role}"]{time}))'


# --- every host -------------------------------------------------------------------------------------------------------

T = Template(
    "system",
    "Every host: whether it answers, and whether it has cores, memory and room left.",
    {
        "{$CPU.LIMIT}": ("95", "Percent of the cores, for ten minutes."),
        "{$DISK.LIMIT}": ("90", "Percent of the fullest file system, of bytes or of files."),
        "{$MEMORY.LIMIT}": ("5", "Percent of memory that is left."),
    },
)
T.item("agent.ping", "Agent answers", kind="UNSIGNED", history="7d")
T.item("agent.version", "Agent's version", kind="CHAR", delay="1h")
T.item("system.uptime", "Uptime", "uptime", kind="UNSIGNED")
T.item("system.cpu.util", "CPU: busy", "%")
T.item("system.cpu.util[,iowait]", "CPU: waiting for disks", "%")
T.item("system.cpu.load[all,avg1]", "Load")
T.item("vm.memory.size[pavailable]", "Memory left", "%")
T.item("vm.memory.size[available]", "Memory left, in bytes", "B", kind="UNSIGNED")
T.item("vfs.fs.get", "File systems: all of it", kind="TEXT", history="1h")
REAL = '"^(ext[234]|xfs|btrfs|zfs|f2fs|overlay|tmpfs)$"'
T.path("disk.used", "Fullest file system: bytes", "vfs.fs.get", f"$[?(@.fstype =~ {REAL})].bytes.pused.max()", "%")
T.path("disk.inodes", "Fullest file system: files", "vfs.fs.get", f"$[?(@.fstype =~ {REAL})].inodes.pused.max()", "%")
T.item(
    "vfs.file.contents[/proc/net/dev]",
    "Network: all of it",
    kind="TEXT",
    history="1h",
    preprocessing=[
        {
            "type": "JAVASCRIPT",
            "parameters": [
                "var sum = {in: 0, out: 0, errors: 0};\n"
                "value.split('\\n').forEach(function (line) {\n"
                "    var found = line.match(/^\\s*(\\S+):\\s*(.*)$/);\n"
                "    if (!found || found[1] === 'lo') { return; }\n"
                "    var n = found[2].split(/\\s+/).map(Number);\n"
                "    sum.in += n[0]; sum.out += n[8]; sum.errors += n[2] + n[3] + n[10] + n[11];\n"
                "});\n"
                "return JSON.stringify(sum);\n"
            ],
        }
    ],
)
for field, name, units in (("in", "in", "Bps"), ("out", "out", "Bps"), ("errors", "errors and drops", "")):
    T._dependent(
        f"turnkey.network.{field}",
        f"Network: {name}",
        units,
        "FLOAT",
        "vfs.file.contents[/proc/net/dev]",
        [{"type": "JSONPATH", "parameters": [f"$.{field}"]}, {"type": "CHANGE_PER_SECOND", "parameters": [""]}],
    )
T.formula("alive", "Answers of the agent lately", "count(//agent.ping,{$RECENT})")
T.trigger("host-dead", "Host is dead", "HIGH", "max(alive,#2)=0")
T.trigger("disk-full", "Disk is nearly full", "HIGH", "min(disk.used,#2)>{$DISK.LIMIT}", told="{ITEM.LASTVALUE1}")
T.trigger(
    "inodes-full",
    "Disk has nearly no room for files",
    "HIGH",
    "min(disk.inodes,#2)>{$DISK.LIMIT}",
    told="{ITEM.LASTVALUE1}",
)
LEFT, BUSY = f"/{T.title}/vm.memory.size[pavailable]", f"/{T.title}/system.cpu.util"
T.trigger(
    "memory-short", "Memory is nearly used up", "AVERAGE", f"max({LEFT},5m)<{{$MEMORY.LIMIT}}", told="{ITEM.LASTVALUE1}"
)
T.trigger("cpu-busy", "Cores are busy", "WARNING", f"min({BUSY},10m)>{{$CPU.LIMIT}}", told="{ITEM.LASTVALUE1}")
T.graph("CPU", "system.cpu.util", "system.cpu.util[,iowait]")
T.graph("Load", "system.cpu.load[all,avg1]")
T.graph("Memory left", "vm.memory.size[pavailable]")
T.graph("Fullest file system", "disk.used", "disk.inodes")
T.graph("Network", "network.in", "network.out")
T.graph("Network: errors", "network.errors")
T.graph("Agent", "alive")

T = Template(
    "chrony",
    "Every host's clock.",
    {"{$CLOCK.LIMIT}": ("0.1", "Seconds that a clock may be wrong by."), "{$CLOCK.LOST}": ("15m", "Without a source.")},
)
T.units("chrony")
T.script("chrony")
T.part("chrony.offset", "Clock is wrong by", "s")
T.part("chrony.error", "Clock may be wrong by, at the most", "s")
T.part("chrony.stratum", "Stratum")
T.part("chrony.synchronised", "Clock follows a source")
T.part("chrony.reference", "Source, by its id", kind="CHAR")
T.trigger("chrony-down", "The daemon of the clock does not run", "AVERAGE", "min(units.chrony.missing,#2)>0")
T.trigger(
    "clock-off", "Clock is wrong", "HIGH", "min(chrony.offset,#2)>{$CLOCK.LIMIT}", "chrony/chrony-down",
    told="by {ITEM.LASTVALUE1}",
)  # fmt: skip
T.trigger(
    "clock-alone",
    "Clock follows no source",
    "WARNING",
    "max(chrony.synchronised,{$CLOCK.LOST})=0",
    "chrony/chrony-down",
)
T.unmeasured("chrony.offset", "chrony/chrony-down")
T.graph("Clock", "chrony.offset", "chrony.error")
T.graph("Stratum", "chrony.stratum", "chrony.synchronised")

T = Template("rsyslog", "Every host's logs on their way to the log host.")
T.units("rsyslog")
T.script("rsyslog", delay="{$SLOW}")
T.part("rsyslog.sent", "Lines sent", "lps", rate=True)
T.part("rsyslog.received", "Lines received from hosts", "lps", rate=True)
T.part("rsyslog.waiting", "Logs that wait to be sent", "B")
T.part("rsyslog.oldest", "Time for which the oldest line waits", "s")
T.part("rsyslog.lost", "Lines lost", "lps", rate=True)
T.trigger("log-shipping-stopped", "Logs are not shipped", "AVERAGE", "min(units.rsyslog.missing,#2)>0")
T.trigger(
    "log-lines-lost", "Log lines are lost", "HIGH", "max(rsyslog.lost,5m)>0", "rsyslog/log-shipping-stopped"
)  # fmt: skip
T.unmeasured("rsyslog.waiting", "rsyslog/log-shipping-stopped")
T.graph("Log lines", "rsyslog.sent", "rsyslog.received", "rsyslog.lost")
T.graph("Logs that wait", "rsyslog.waiting")

T = Template(
    "salt",
    "How Salt's applies end on every host.",
    {"{$SALT.AGE}": ("30d", "After which a host without an apply that succeeded is told of.")},
)
T.script("salt", delay="{$SLOW}")
T.part("salt.noted", "An apply was noted")
T.part("salt.ok", "Last apply succeeded", optional=True)
T.part("salt.age", "Time since the last apply", "s", optional=True)
T.part("salt.success_age", "Time since the last apply that succeeded", "s", optional=True)
T.part("salt.failed", "States that failed", optional=True)
T.part("salt.changed", "States that changed something", optional=True)
T.trigger("salt-apply-failed", "Salt's last apply failed", "AVERAGE", "last(salt.ok)=0")
T.trigger(
    "salt-apply-old", "Salt has not been applied for long", "INFO", "last(salt.success_age)>{$SALT.AGE}",
    "salt/salt-apply-failed",
)  # fmt: skip
# Where several hosts are led by one of them.
T.units("salt_minion", delay="{$SLOW}")
T.trigger("salt-minion-down", "The Salt minion does not run", "AVERAGE", "min(units.salt_minion.missing,#2)>0")
T.unmeasured("salt.noted")
T.graph("States", "salt.failed", "salt.changed")
T.graph("Age", "salt.age", "salt.success_age")

# --- load balancers ---------------------------------------------------------------------------------------------------

T = Template(
    "haproxy", "The door: HAProxy.", {"{$SESSIONS.LIMIT}": ("80", "Percent of the connections that it takes.")}
)
T.units("haproxy", "Is well")
T.script("haproxy")
T.part("haproxy.sessions", "Connections")
T.part("haproxy.sessions_limit", "Connections at the most")
T.part("haproxy.requests", "Requests", "rps", rate=True)
T.part("haproxy.answers_5xx", "Answers 5xx of the service", "rps", rate=True)
T.part("haproxy.answers_4xx", "Answers 4xx", "rps", rate=True)
T.part("haproxy.denied", "Refused for asking too often", "rps", rate=True)
T.part("haproxy.retries", "Asked again of another web host", "rps", rate=True)
T.part("haproxy.bytes_out", "Sent to clients", "Bps", rate=True)
T.part("haproxy.queue", "Requests that wait for a web host")
T.part("haproxy.milliseconds", "Time of an answer of the service", "ms")
T.part("haproxy.up", "Web hosts that are ready")
T.part("haproxy.ready", "Has a web host that is ready", optional=True)
T.part("haproxy.out", "Web hosts that were taken out")
T.part("haproxy.down", "Web hosts that are not ready", kind="CHAR")
T.trigger("haproxy-down", "HAProxy does not run", "HIGH", "min(units.haproxy.missing,#2)>0")
T.units("keepalived")
T.trigger("keepalived-down", "Keepalived does not run", "HIGH", "min(units.keepalived.missing,#2)>0")
T.trigger(
    "haproxy-full", "HAProxy has nearly all connections that it takes", "AVERAGE",
    "min(haproxy.sessions,#4)>{$SESSIONS.LIMIT}/100*last(haproxy.sessions_limit)", "haproxy/haproxy-down",
)  # fmt: skip
T.trigger("haproxy-queue", "Requests wait for a web host", "WARNING", "min(haproxy.queue,#4)>0", "haproxy/haproxy-down")
T.unmeasured("haproxy.sessions", "haproxy/haproxy-down")
T.graph("Requests", "haproxy.requests", "haproxy.answers_5xx", "haproxy.answers_4xx", "haproxy.denied")
T.graph("Connections", "haproxy.sessions", "haproxy.queue")
T.graph("Web hosts", "haproxy.up", "haproxy.out", "haproxy.ready", "units.haproxy.well")
T.graph("Time of an answer", "haproxy.milliseconds")
T.graph("Sent to clients", "haproxy.bytes_out")
T.graph("Asked again", "haproxy.retries", "units.haproxy.restarts")

T = Template(
    "certificate",
    "Certificates that the load balancers show.",
    {"{$CERTIFICATE.DAYS}": ("14", "Days before its end on which a certificate is told of.")},
)
T.script("certificate", delay="{$SLOW}")
T.part("certificate.certificates", "Certificates")
T.part("certificate.days", "Days left of the first one to end", "d", optional=True)
T.trigger(
    "certificate-ends", "A certificate ends soon", "HIGH",
    # One that is shown no more is told of no more.
    "last(certificate.days)<{$CERTIFICATE.DAYS} and last(certificate.certificates)>0",
    told="in {ITEM.LASTVALUE1}",
)  # fmt: skip
T.unmeasured("certificate.certificates")
T.graph("Certificates: days left", "certificate.days")

# --- web hosts --------------------------------------------------------------------------------------------------------

T = Template("gunicorn", "What runs the app: gunicorn, for requests and for websockets.")
T.units("gunicorn")
T.script("gunicorn")
for kind, name in (("requests", "Requests"), ("stream", "Websockets")):
    T.part(f"gunicorn.{kind}.well", f"{name}: well", optional=kind == "stream")
    T.part(f"gunicorn.{kind}.workers", f"{name}: workers", optional=True)
    T.part(f"gunicorn.{kind}.wanted", f"{name}: workers wanted", optional=True)
    T.part(f"gunicorn.{kind}.busy", f"{name}: workers busy", optional=True)
    T.part(f"gunicorn.{kind}.stuck", f"{name}: workers stuck")
    T.part(f"gunicorn.{kind}.handling", f"{name}: at work", optional=True)
    T.part(f"gunicorn.{kind}.oldest", f"{name}: oldest at work", "s", optional=True)
    T.part(f"gunicorn.{kind}.busy_percent", f"{name}: threads busy", "%", optional=True)
    T.part(f"gunicorn.{kind}.requests", f"{name}: ended", "rps", rate=True, optional=True)
    T.part(f"gunicorn.{kind}.errors", f"{name}: failed", "rps", rate=True, optional=True)
    T.part(f"gunicorn.{kind}.restarts", f"{name}: workers replaced", optional=True)
    T.part(f"gunicorn.{kind}.memory", f"{name}: memory", "B", optional=True)
    T.part(f"gunicorn.{kind}.backlog", f"{name}: waiting to be accepted", optional=True)
T.part("gunicorn.stream.dropped", "Websockets: readers dropped", "rps", rate=True, optional=True)
T.trigger("gunicorn-down", "Gunicorn does not run", "HIGH", "min(units.gunicorn.missing,#2)>0")
T.trigger(
    "gunicorn-stuck", "A worker of gunicorn is stuck", "HIGH",
    "min(gunicorn.requests.stuck,#2)>0 or min(gunicorn.stream.stuck,#2)>0", "gunicorn/gunicorn-down",
)  # fmt: skip
T.trigger(
    "gunicorn-busy", "Gunicorn has no thread left", "WARNING", "min(gunicorn.requests.busy_percent,5m)>95",
    "gunicorn/gunicorn-down", "gunicorn/gunicorn-stuck",
)  # fmt: skip
T.unmeasured("gunicorn.requests.well", "gunicorn/gunicorn-down")
for kind, name in (("requests", "Requests"), ("stream", "Websockets")):
    prefix = f"gunicorn.{kind}"
    T.graph(f"{name}: workers", f"{prefix}.workers", f"{prefix}.wanted", f"{prefix}.busy", f"{prefix}.stuck")
    T.graph(f"{name}: at work", f"{prefix}.handling", f"{prefix}.backlog")
    T.graph(f"{name}: ended", f"{prefix}.requests", f"{prefix}.errors")
    T.graph(f"{name}: threads busy", f"{prefix}.busy_percent")
    T.graph(f"{name}: memory", f"{prefix}.memory")
    T.graph(f"{name}: restarts and age", f"{prefix}.restarts", f"{prefix}.oldest")
T.graph("Websockets: readers dropped", "gunicorn.stream.dropped")

T = Template("nginx", "The cache: nginx.", {"{$NGINX.ERRORS}": ("20", "Answers 5xx of a minute.")})
T.units("nginx", "Is well, gunicorn too")
T.item("turnkey.nginx.status", "nginx's own figures", kind="TEXT", history="1h")
STATUS = "turnkey.nginx.status"
T.pattern("nginx.connections", "Connections", STATUS, r"Active connections: ([0-9]+)")
T.pattern("nginx.waiting", "Connections that are idle", STATUS, r"Waiting: ([0-9]+)")
T.pattern("nginx.writing", "Connections that are answered", STATUS, r"Writing: ([0-9]+)")
HANDLED = r"requests\s+[0-9]+ [0-9]+ ([0-9]+)"
T.pattern("nginx.handled", "Requests", STATUS, HANDLED, units="rps", rate=True)
T.script("nginx")
T.part("nginx.requests", "Requests in the log", "rps")
T.part("nginx.hit_percent", "Served from the cache", "%", optional=True)
T.part("nginx.cacheable", "Asked of the cache")
T.part("nginx.answers_5xx", "Answers 5xx of a minute")
T.part("nginx.answers_4xx", "Answers 4xx of a minute")
T.part("nginx.p95", "Time that 95 % of answers take less than", "s")
T.trigger("nginx-down", "nginx does not run", "HIGH", "min(units.nginx.missing,#2)>0")
T.trigger(
    # Each look tells of a minute: what was mended within another is not told afterwards.
    "nginx-errors", "nginx answers with errors", "AVERAGE", "min(nginx.answers_5xx,#8)>{$NGINX.ERRORS}",
    "nginx/nginx-down", "gunicorn/gunicorn-down", "gunicorn/gunicorn-stuck",
)  # fmt: skip
T.unmeasured("nginx.requests", "nginx/nginx-down")
T.unmeasured(
    "nginx.connections", "nginx/nginx-down", "nginx/unmeasured nginx.requests", what="nginx's own count", minutes=5
)  # fmt: skip
T.graph("Requests", "nginx.handled", "nginx.requests")
T.graph("Connections", "nginx.connections", "nginx.waiting", "nginx.writing")
T.graph("Served from the cache", "nginx.hit_percent")
T.graph("Answers of a minute", "nginx.cacheable", "nginx.answers_5xx", "nginx.answers_4xx")
T.graph("Time of answers", "nginx.p95")
T.graph("Well", "units.nginx.well", "units.nginx.restarts")

# --- workers ----------------------------------------------------------------------------------------------------------

T = Template("celery", "What does the app's long work: Celery.")
T.units("celery", "Has a worker")
T.part("units.celery.wanted", "celery: daemons that should run")
T.part("units.celery.children", "celery: processes that do tasks")
T.trigger("celery-down", "A Celery worker does not run", "HIGH", "min(units.celery.missing,#2)>0")
T.graph("Workers", "units.celery.wanted", "units.celery.missing", "units.celery.well")
T.graph("Processes", "units.celery.children")
T.graph("Restarts", "units.celery.restarts")

# --- data hosts -------------------------------------------------------------------------------------------------------

T = Template("redis", "What the hosts share: Redis.", {"{$REDIS.EVICTED}": ("100", "Keys that give way in a second.")})
T.units("redis", "Is well")
T.script("redis")
T.part("redis.primary", "Is the primary")
T.part("redis.writable", "Is a primary that takes writes", optional=True)
T.part("redis.replicas", "Replicas that follow it")
T.part("redis.follows", "Follows a primary")
T.part("redis.lag", "Replication lag", "s")
T.part("redis.memory", "Memory", "B")
T.part("redis.memory_percent", "Memory, of what it may have", "%")
T.part("redis.fragmentation", "Memory, of the system's to its own")
T.part("redis.evicted", "Keys that gave way", "kps", rate=True)
T.part("redis.expired", "Keys that expired", "kps", rate=True)
T.part("redis.hits", "Keys found", "kps", rate=True)
T.part("redis.misses", "Keys not found", "kps", rate=True)
T.part("redis.commands", "Commands", "cps", rate=True)
T.part("redis.clients", "Clients")
T.part("redis.blocked", "Clients that wait")
T.part("redis.refused", "Clients refused", rate=True)
T.part("redis.saved", "Log on the disk is well")
T.part("redis.uptime", "Uptime", "uptime")
T.script("jobs")
T.part("jobs.kept", "Has jobs to tell of")
T.part("jobs.queued", "Jobs that wait")
T.part("jobs.running", "Jobs at work")
T.part("jobs.oldest", "Oldest job that waits", "s")
T.part("jobs.done", "Jobs done in five minutes")
T.part("jobs.failed", "Jobs failed in five minutes")
T.part("jobs.runtime", "Time that a job takes", "s")
T.part("jobs.runtime_longest", "Time that the longest job takes", "s")
T.trigger("redis-down", "Redis does not run", "HIGH", "min(units.redis.missing,#2)>0")
T.trigger(
    "redis-unsaved",
    "Redis cannot write its log",
    "HIGH",
    "max(redis.saved,#2)=0",
    "redis/redis-down",
    "system/disk-full",
)
T.trigger(
    "redis-evicts", "Redis is full, and much gives way", "WARNING", "min(redis.evicted,5m)>{$REDIS.EVICTED}",
    "redis/redis-down",
)  # fmt: skip
T.trigger("redis-refuses", "Redis refuses clients", "AVERAGE", "min(redis.refused,#2)>0", "redis/redis-down")
T.unmeasured("redis.memory", "redis/redis-down")
T.unmeasured(
    "jobs.kept", "redis/redis-down", "redis/unmeasured redis.memory", what="Jobs of the app", minutes=5
)  # fmt: skip
T.graph("Memory", "redis.memory")
T.graph("Memory, in percent", "redis.memory_percent", "redis.fragmentation")
T.graph("Keys", "redis.hits", "redis.misses", "redis.evicted", "redis.expired")
T.graph("Commands", "redis.commands")
T.graph("Clients", "redis.clients", "redis.blocked", "redis.refused")
T.graph("Replication", "redis.primary", "redis.writable", "redis.replicas", "redis.follows", "redis.lag")
T.graph("Well", "units.redis.well", "redis.saved", "units.redis.restarts")
T.graph("Jobs", "jobs.queued", "jobs.running", "jobs.done", "jobs.failed")
T.graph("Jobs: oldest", "jobs.oldest")
T.graph("Jobs: time", "jobs.runtime", "jobs.runtime_longest")

T = Template("sentinel", "Who watches over Redis: Sentinel, where there are several.")
T.units("sentinel")
T.script("sentinel")
T.part("sentinel.quorum", "Could make another the primary")
T.part("sentinel.primary", "Primary", kind="CHAR", optional=True)
T.part("sentinel.primary_up", "Primary is up", optional=True)
T.part("sentinel.replicas", "Replicas that it knows", optional=True)
T.part("sentinel.sentinels", "Sentinels that it knows", optional=True)
T.part("sentinel.epoch", "Failovers so far", optional=True)
T.trigger("sentinel-down", "Sentinel does not run", "AVERAGE", "min(units.sentinel.missing,#2)>0")
T.unmeasured("sentinel.quorum", "sentinel/sentinel-down")
T.graph("Sentinel", "sentinel.quorum", "sentinel.primary_up")
T.graph("Who it knows", "sentinel.replicas", "sentinel.sentinels")
T.graph("Failovers", "sentinel.epoch")

# --- who watches ------------------------------------------------------------------------------------------------------

T = Template(
    "monitor",
    "What the host that watches is besides: Zabbix itself, who copies its database, the Salt master of several hosts.",
    {
        "{$BACKUP.AGE}": ("2d", "Without a new copy of Zabbix's database."),
        "{$ZABBIX.LATE}": ("10", "Items that may be late by a minute."),
        "{$ZABBIX.CACHE}": ("75", "Percent of the memory for values that wait for the database."),
    },
)
T.units("salt_master")
T.units("zabbix", delay="{$SLOW}")
# What the server says of itself, on whichever host it is asked for.
LATE, CACHE = "zabbix[queue,1m]", "zabbix[wcache,history,pused]"
T.item(LATE, "Items that are late by a minute", type="INTERNAL", kind="UNSIGNED")
T.item(CACHE, "Memory for values that wait for the database: used", "%", type="INTERNAL")
T.item("zabbix[process,history syncer,avg,busy]", "Who writes to the database: busy", "%", type="INTERNAL")
T.script("backup", delay="{$SLOW}")
T.part("backup.made", "Copies of Zabbix's database are made")
T.part("backup.failed", "Last copy of Zabbix's database failed", optional=True)
T.part("backup.age", "Age of the newest copy of Zabbix's database", "s", optional=True)
T.part("backup.copies", "Copies of Zabbix's database", optional=True)
T.part("backup.size", "Size of the copies of Zabbix's database", "B", optional=True)
T.trigger("salt-master-down", "The Salt master does not run", "AVERAGE", "min(units.salt_master.missing,#2)>0")
# Without server or database nobody would tell.
T.trigger("zabbix-down", "A part of Zabbix does not run", "AVERAGE", "min(units.zabbix.missing,#2)>0")
T.trigger(
    # What is late, or lost from a cache that is full, is no fault of those that are watched.
    "zabbix-behind", "Zabbix is behind", "AVERAGE",
    f"min(/{T.title}/{LATE},5m)>{{$ZABBIX.LATE}} or min(/{T.title}/{CACHE},5m)>{{$ZABBIX.CACHE}}",
    "monitor/zabbix-down",
)  # fmt: skip
T.trigger(
    "backup-missing", "Zabbix's database is not copied", "AVERAGE",
    # Where somebody switched it off, what it told last is of another time.
    "last(backup.made)=1 and (last(backup.failed)=1 or last(backup.age)>{$BACKUP.AGE})",
)  # fmt: skip
T.unmeasured("backup.made")
T.graph("Items that are late", LATE)
T.graph("Writing to the database", CACHE, "zabbix[process,history syncer,avg,busy]")
T.graph("Copies", "backup.copies", "backup.failed")
T.graph("Age of the newest copy", "backup.age")

# --- the whole, asked once --------------------------------------------------------------------------------------------

T = Template(
    "stack",
    "What several hosts see of one thing, asked once.",
    {
        "{$JOBS.AGE}": ("120", "Seconds that a job may wait."),
        "{$JOBS.QUEUED}": ("50", "Jobs that may wait."),
        "{$LOGS.WAITING}": ("512K", "Bytes that may wait for the log host, of all hosts."),
        "{$LOGS.OLDEST}": ("600", "Seconds that a line may wait for the log host, be it the only one."),
    },
)
T.formula("stack.lb.well", "Load balancers that are well", well("units.haproxy.well", "lb"))
T.formula("stack.lb.ready", "Load balancers that have a web host that is ready", well("haproxy.ready", "lb"))
T.formula("stack.web.well", "Web hosts that are well", well("units.nginx.well", "web"))
T.formula("stack.web.hosts", "Web hosts", over("count", "last", "alive", "web", False))
T.formula(
    "stack.web.up",
    "Web hosts that are ready, by the load balancer that sees fewest",
    over("min", "min", "haproxy.up", "lb"),
)
T.formula("stack.web.out", "Web hosts that were taken out", over("max", "max", "haproxy.out", "lb"))
T.formula("stack.worker.well", "Worker hosts that are well", well("units.celery.well", "worker"))
T.formula("stack.redis.well", "Data hosts that are well", well("units.redis.well", "data"))
T.formula("stack.redis.primaries", "Primaries", over("sum", "min", "redis.primary", "data"))
T.formula("stack.redis.follow", "Replicas that follow", over("sum", "min", "redis.follows", "data"))
T.formula(
    "stack.redis.quorum", "Sentinels that could make another the primary", over("sum", "max", "sentinel.quorum", "data")
)
T.formula("stack.jobs.queued", "Jobs that wait", over("max", "max", "jobs.queued", "data"))
T.formula("stack.jobs.oldest", "Oldest job that waits", over("max", "max", "jobs.oldest", "data"), "s")
T.formula("stack.jobs.failed", "Jobs failed in five minutes", over("max", "max", "jobs.failed", "data"))
T.formula("stack.logs.well", "Log hosts that are alive", well("agent.ping", "logs"))
WAITING = over("sum", "min", "rsyslog.waiting", "hosts", within="2m")
T.formula("stack.logs.waiting", "Logs that wait on any host", WAITING, "B")
OLDEST = over("max", "min", "rsyslog.oldest", "hosts", within="2m")
T.formula("stack.logs.oldest", "Oldest line that waits on any host", OLDEST, "s")
# Of what is asked of several hosts nothing is known while none of them answers: each trigger has a term for that which
# always has a value, and is 0 then. That no web host at all is ready is no trifle of some web host's: service-page.
T.trigger(
    "web-host-out", "A web host is not ready, though its daemons run", "HIGH",
    "min(stack.web.well,#3)-max(stack.web.up,#3)-max(stack.web.out,#3)>0 and min(stack.lb.ready,#3)>0",
)  # fmt: skip
T.trigger(
    # Not while a new one is being voted for.
    "no-primary",
    "Redis has no primary",
    "DISASTER",
    "max(stack.redis.primaries,#4)=0 and min(stack.redis.well,#4)>0",
)
T.trigger(
    "two-primaries", "Redis has two primaries", "HIGH", "min(stack.redis.primaries,#3)>1 and min(stack.redis.well,#3)>1"
)
T.trigger(
    "replica-missing", "A replica of Redis does not follow", "HIGH",
    "min(stack.redis.well,#3)-1-max(stack.redis.follow,#3)>0", "stack/no-primary", "stack/two-primaries",
)  # fmt: skip
T.trigger(
    "no-quorum", "No Sentinel could make another Redis the primary", "HIGH",
    "max(stack.redis.quorum,#2)=0 and min(stack.redis.well,#2)>1",
)  # fmt: skip
T.trigger(
    "jobs-wait", "Jobs wait", "AVERAGE",
    "(min(stack.jobs.oldest,#2)>{$JOBS.AGE} or min(stack.jobs.queued,#2)>{$JOBS.QUEUED}) and last(stack.worker.well)>0"
    " and last(stack.redis.well)>0",
    "stack/no-primary",
)  # fmt: skip
T.trigger(
    "jobs-fail",
    "Jobs fail",
    "WARNING",
    "last(stack.jobs.failed)>0 and last(stack.redis.well)>0",
    told="{ITEM.LASTVALUE1} in five minutes",
)
T.trigger(
    # Longer than it takes to look twice: a host's first look finds all that it has said so far on its way. Of fewer
    # values Zabbix would be content with those that there are.
    "logs-wait", "Logs wait for the log host", "AVERAGE",
    "(min(stack.logs.waiting,#9)>{$LOGS.WAITING} and count(stack.logs.waiting,#9)=9"
    " or min(stack.logs.oldest,#3)>{$LOGS.OLDEST}) and last(stack.logs.well)>0",
)  # fmt: skip
T.graph(
    "Hosts that are well", "stack.lb.well", "stack.web.well", "stack.worker.well", "stack.redis.well", "stack.logs.well"
)
T.graph("Web hosts", "stack.web.hosts", "stack.web.well", "stack.web.up", "stack.web.out")
T.graph("Load balancers that have a web host", "stack.lb.ready")
T.graph("Redis", "stack.redis.primaries", "stack.redis.follow", "stack.redis.quorum")
T.graph("Jobs", "stack.jobs.queued", "stack.jobs.failed")
T.graph("Jobs: oldest", "stack.jobs.oldest")
T.graph("Logs that wait", "stack.logs.waiting")
T.graph("Logs that wait: oldest", "stack.logs.oldest")

T = Template(
    "service",
    "The service as clients see it: a page, a websocket, a job, asked for at the address of clients.",
    {
        "{$PAGE}": ("", "The address of a page, asked for by Zabbix's own scenario; the monitor is told which."),
        "{$ERRORS.LIMIT}": ("1", "Answers 5xx in a second, of all load balancers."),
    },
)
# Where no host is left that could, that is what is told. Asked of those hosts at once, and not by way of the template
# `stack`, so that it is known sooner than that the service fails.
POSSIBLE = f"{well('units.nginx.well', 'web')}>0 and {well('units.haproxy.well', 'lb')}>0"
WRITABLE = f"{well('redis.writable', 'data')}>0"
T.formula("service.possible", "Some host of each kind is well", POSSIBLE)
T.formula("service.writable", "Redis takes writes", WRITABLE)
T.formula(
    "service.job_possible",
    "Some host of each kind is well, for jobs",
    f"{POSSIBLE} and {WRITABLE} and {well('units.celery.well', 'worker')}>0",
)
T.formula("service.errors", "Answers 5xx", over("sum", "avg", "haproxy.answers_5xx", "lb"), "rps")
T.formula("service.requests", "Requests", over("sum", "avg", "haproxy.requests", "lb"), "rps")
for kind in ("page", "websocket", "job"):
    T.script(f"service.{kind}")
    T.part(f"service.{kind}.asked", f"{kind.capitalize()}: is asked for")
    T.part(f"service.{kind}.ok", f"{kind.capitalize()}: as it should be", optional=True)
    T.part(f"service.{kind}.seconds", f"{kind.capitalize()}: time", "s", optional=True)
    T.part(f"service.{kind}.fault", f"{kind.capitalize()}: what is wrong", kind="CHAR", optional=True)
# Silent only where something is told that explains that all of it fails. Each of the others takes a look longer, so
# that what explains it comes first.
T.trigger(
    "service-page", "The service gives no page", "DISASTER",
    "max(service.page.ok,#4)=0 and min(service.possible,#4)=1",
)  # fmt: skip
T.trigger(
    "service-websocket", "The service gives no websocket", "HIGH",
    "max(service.websocket.ok,#5)=0 and min(service.possible,#5)=1", "service/service-page",
)  # fmt: skip
T.trigger(
    "service-job", "The service does no jobs", "HIGH",
    "max(service.job.ok,#5)=0 and min(service.job_possible,#5)=1", "service/service-page", "stack/jobs-wait",
)  # fmt: skip
T.trigger(
    # What a host that dies leaves behind is over by then.
    "errors", "Clients are answered with errors", "HIGH",
    "min(service.errors,#5)>{$ERRORS.LIMIT} and min(service.possible,#5)=1 and last(service.writable)=1",
    "service/service-page",
)  # fmt: skip
T.unmeasured("service.page.asked", what="The page")
for kind in ("websocket", "job"):
    T.unmeasured(
        f"service.{kind}.asked", "service/unmeasured service.page.asked", what=f"The {kind}", minutes=5
    )  # fmt: skip
# fuzzytime compares with the server's clock: once nobody writes the page any more.
WRITTEN = "vfs.file.time[/var/lib/status-page/public/status.json]"
T.item(WRITTEN, "Status page: written", "unixtime", kind="UNSIGNED")
T.trigger("status-page-old", "The status page is old", "AVERAGE", f"fuzzytime(/{T.title}/{WRITTEN},4m)=0")
T.graph("Requests", "service.requests", "service.errors")
T.graph("Service", "service.page.ok", "service.websocket.ok", "service.job.ok")
T.graph("Service: whether it can be", "service.possible", "service.writable", "service.job_possible")
T.graph("Service: time", "service.page.seconds", "service.websocket.seconds", "service.job.seconds")
# By Zabbix's own client, with the pieces that its time is of. Who is told of a fault is told by the above.
T.scenario("Service", "page", "{$PAGE}")
T.graph("Page: time, by Zabbix's scenario", "web.test.time[Service,page,resp]")
T.graph("Page: speed, by Zabbix's scenario", "web.test.in[Service,page,bps]")
T.graph("Page: fails, by Zabbix's scenario", "web.test.fail[Service]")


for T in Template.every.values():
    T.rest()

# --- what is shown of each role ---------------------------------------------------------------------------------------

# Of each graph its title, and the items of which there is a line for each host of the role, as TEMPLATE/KEY.
HOST = {
    "CPU": ["system/system.cpu.util"],
    "Memory left": ["system/vm.memory.size[pavailable]"],
    "Fullest file system": ["system/disk.used"],
}
DASHBOARDS: dict[str, dict[str, list[str]]] = {
    "lb": {
        "Requests": ["haproxy/haproxy.requests", "haproxy/haproxy.answers_5xx"],
        "Connections": ["haproxy/haproxy.sessions", "haproxy/haproxy.queue"],
        "Web hosts that are ready": ["haproxy/haproxy.up"],
        "Time of an answer": ["haproxy/haproxy.milliseconds"],
        "Sent to clients": ["haproxy/haproxy.bytes_out"],
        "Days left of certificates": ["certificate/certificate.days"],
    },
    "web": {
        "Requests that ended": ["gunicorn/gunicorn.requests.requests", "gunicorn/gunicorn.requests.errors"],
        "Workers": ["gunicorn/gunicorn.requests.workers", "gunicorn/gunicorn.requests.busy"],
        "Threads busy": ["gunicorn/gunicorn.requests.busy_percent"],
        "Websockets": ["gunicorn/gunicorn.stream.handling"],
        "Asked of nginx": ["nginx/nginx.handled"],
        "Served from the cache": ["nginx/nginx.hit_percent"],
        "Time that 95 % of answers take less than": ["nginx/nginx.p95"],
        "Memory of gunicorn": ["gunicorn/gunicorn.requests.memory", "gunicorn/gunicorn.stream.memory"],
    },
    "worker": {
        "Workers": ["celery/units.celery.wanted", "celery/units.celery.missing"],
        "Processes that do tasks": ["celery/units.celery.children"],
        "Restarts": ["celery/units.celery.restarts"],
        "Load": ["system/system.cpu.load[all,avg1]"],
    },
    "data": {
        "Memory": ["redis/redis.memory"],
        "Commands": ["redis/redis.commands"],
        "Keys": ["redis/redis.hits", "redis/redis.misses", "redis/redis.evicted"],
        "Clients": ["redis/redis.clients", "redis/redis.blocked"],
        "Replication": ["redis/redis.primary", "redis/redis.follows"],
        "Replication lag": ["redis/redis.lag"],
        "Jobs": ["redis/jobs.queued", "redis/jobs.running"],
        "Oldest job that waits": ["redis/jobs.oldest"],
    },
    "monitor": {
        "Hosts that are well": [
            "stack/stack.lb.well", "stack/stack.web.well", "stack/stack.worker.well", "stack/stack.redis.well",
        ],
        "Requests": ["service/service.requests", "service/service.errors"],
        "The service as it should be": [
            "service/service.page.ok", "service/service.websocket.ok", "service/service.job.ok",
        ],
        "The service's time": [
            "service/service.page.seconds", "service/service.websocket.seconds", "service/service.job.seconds",
        ],
        "Jobs": ["stack/stack.jobs.queued", "stack/stack.jobs.failed"],
        "Zabbix: items that are late": ["monitor/zabbix[queue,1m]"],
        "Age of the newest copy of the database": ["monitor/backup.age"],
    },
    "logs": {
        "Lines received": ["rsyslog/rsyslog.received"],
        "Lines lost": ["rsyslog/rsyslog.lost"],
        "Logs that wait": ["rsyslog/rsyslog.waiting"],
        "Network": ["system/network.in", "system/network.out"],
    },
}  # fmt: skip


def dashboards() -> dict[str, dict[str, list[str]]]:
    """Return what is shown of each role: for each graph the names of its items."""
    return {
        role: {title: [name_of(each) for each in items] for title, items in (shown | HOST).items()}
        for role, shown in DASHBOARDS.items()
    }


def name_of(other: str) -> str:
    """Return the name of an item, given as TEMPLATE/KEY."""
    name, _, key = other.partition("/")
    items = Template.every[name].items
    return str((items.get(key) or items[f"turnkey.{key}"])["name"])


class Dumper(yaml.SafeDumper):
    """Texts of several lines as such, and lists within their keys, so that people can read it."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent what a list holds."""
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    # Zabbix reads each value as text: what YAML would take for a number is quoted by the dumper itself.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


Dumper.add_representer(str, _text)


def text_of(template: Template) -> str:
    """Return the file of a template."""
    head = f"# Written by salt/zabbix_templates.py. {template.about}\n"
    return head + yaml.dump(template.document(), Dumper=Dumper, sort_keys=False, width=100, allow_unicode=True)


def written() -> dict[pathlib.Path, str]:
    """Return all that is written, by where."""
    head = "# Written by salt/zabbix_templates.py. What is shown of each role's hosts: graphs, and the items on them.\n"
    shown = head + yaml.dump(dashboards(), Dumper=Dumper, sort_keys=False, width=100, allow_unicode=True)
    templates = {FOLDER / f"{name}.yaml": text_of(template) for name, template in Template.every.items()}
    return templates | {FOLDER.parent / "files" / "dashboards.yaml": shown}


def main() -> int:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 and the names of what differs")
    check = parser.parse_args().check
    wanted = written()
    for path in sorted({*wanted, *FOLDER.glob("*.yaml")}):
        if path.is_file() and path.read_text() == wanted.get(path):
            continue
        print(f"{'differs' if check else 'written' if path in wanted else 'removed'}: {path}")
        if check:
            continue
        if path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path])
        else:
            path.unlink()
    return int(check and any(not p.is_file() or p.read_text() != text for p, text in wanted.items()))


if __name__ == "__main__":
    sys.exit(main())
