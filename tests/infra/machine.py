"""One host of the topology, over ssh as root: what runs on it, what its settings are, and a way to change them."""

import base64
import contextlib
import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import yaml
from testinfra.backend.base import CommandResult
from testinfra.host import Host

T = TypeVar("T")

IN_LAB = os.environ.get("TURNKEY_LAB") == "1"

# Where the repository lies on a host, and the site's own pillar in it: git ignores the file, states load it last.
REPOSITORY = "/srv/turnkey"
SITE = f"{REPOSITORY}/salt/pillar/site.sls"
# It has yaml, which Debian's need not have.
SALT_PYTHON = "/opt/salt/bin/python"

# The units that each role brings, as far as they run all the time.
UNITS = {
    "data": ["redis-server.service"],
    "web": [
        "gunicorn.socket",
        "gunicorn.service",
        "gunicorn-stream.socket",
        "gunicorn-stream.service",
        "gunicorn-status.socket",
        "gunicorn-status.service",
        "nginx-error.socket",
        "nginx-error.service",
        "nginx.service",
    ],
    "worker": ["celery@short.service", "celery@all.service"],
    "lb": ["haproxy.service"],
    "monitor": [
        "postgresql.service",
        "zabbix-server.service",
        "zabbix-php.service",
        "zabbix-web.service",
        "status-page.timer",
    ],
}
# Those that a role brings only where there is more to do: several hosts with the role data, or an address that moves.
UNITS_OF_REPLICATION = {"data": ["redis-sentinel.service"]}
UNITS_OF_MOVING = {"lb": ["keepalived.service"]}
UNITS_EVERYWHERE = [
    "chrony.service",
    "logrotate.timer",
    "rsyslog.service",
    "ship-logs.service",
    "systemd-journald.service",
    "zabbix-agent2.service",
]

# What can be compared before and after: what there is of configuration, with owner and mode, and the content of files.
# Not what the minion notes of its next runs, nor the keys of masters and minions: those are given, not configured. Nor
# /etc/hosts, which an engine writes at each start: what of it is Salt's a rehearsal looks at.
LIST_CONFIGURATION = r"""
found() { find /etc /usr/local/sbin -xdev -not -path '/etc/salt/pki/*' "$@"; }
found -printf '%p %M %u:%g %l\n' | sort
found -type f -not -name _schedule.conf -not -path /etc/hosts -print0 | sort -z | xargs --null sha256sum
"""


ASK_REDIS = """
import redis, redis.sentinel, shlex, sys
from urllib.parse import unquote, urlsplit
_, environment, *command = sys.argv
variables = dict(entry.split("=", 1) for entry in shlex.split(open(environment).read(), comments=True))
url = variables["REDIS_URL"]
def connected():
    parts = urlsplit(url)
    if parts.scheme != "sentinel":
        return redis.Redis.from_url(url, decode_responses=True)
    login, _, places = parts.netloc.rpartition("@")
    login = dict(zip(("username", "password"), map(unquote, login.split(":"))))
    asked = redis.sentinel.Sentinel([place.split(":") for place in places.split(",")], sentinel_kwargs=login)
    return asked.master_for(parts.path.split("/")[1], decode_responses=True, **login)
try:
    reply = connected().execute_command(*command)
    print("\\n".join(f"{name}:{value}" for name, value in reply.items()) if isinstance(reply, dict) else reply)
except redis.RedisError as error:
    print("refused:", error)
"""


ASK_HAPROXY = """
import socket, sys
with socket.socket(socket.AF_UNIX) as admin:
    admin.connect(sys.argv[1])
    admin.sendall(sys.argv[2].encode() + b"\\n")
    print(admin.makefile().read())
"""


@dataclass(frozen=True)
class Applied:
    """What an apply did."""

    retcode: int
    output: str
    states: dict[str, dict[str, Any]] = field(repr=False)
    errors: list[str]

    @property
    def ok(self) -> bool:
        return self.retcode == 0 and not self.errors and not self.failed

    @property
    def rendered(self) -> bool:
        """Whether the states were rendered at all; if not, nothing was touched."""
        return bool(self.states)

    @property
    def changed(self) -> dict[str, Any]:
        return {state["__id__"]: state["changes"] for state in self.states.values() if state["changes"]}

    @property
    def would_change(self) -> dict[str, str]:
        """What an apply with test=True reports."""
        return {state["__id__"]: state["comment"] for state in self.states.values() if state["result"] is None}

    @property
    def failed(self) -> dict[str, str]:
        """The states that failed, with all they say. Those that only follow a failure are not among them."""
        return {
            state["__id__"]: f"{state['comment']}\n{state['changes'] or ''}".strip()
            for state in self.states.values()
            if state["result"] is False and "__run_num__" in state
        }

    @property
    def message(self) -> str:
        """All that it says about what went wrong."""
        return "\n".join([*self.errors, *(f"{name}: {text}" for name, text in self.failed.items())])


class Machine:
    """One host of the topology."""

    def __init__(self, name: str, topology: dict[str, Any], host: Host) -> None:
        self.name = name
        self._topology = topology
        self.address: str = topology["hosts"][name]["address"]
        self.roles: list[str] = topology["hosts"][name]["roles"]
        self._host = host
        self._settings: dict[str, dict[str, Any]] = {}
        # By a test: then it need not be as it was before all tests, such as in its keys of ssh.
        self.made_anew = False

    def __repr__(self) -> str:
        return self.name

    def run(self, command: str, *arguments: str) -> CommandResult:
        """Run a shell command as root, each %s in it replaced by an argument, quoted."""
        try:
            return self._host.run(command, *arguments)
        except RuntimeError as error:  # ssh itself failed
            raise ConnectionError(f"{self.name} is not to be reached: {error}") from error

    def check(self, command: str, *arguments: str) -> str:
        """Return the output of a command, which must succeed."""
        done = self.run(command, *arguments)
        assert done.rc == 0, f"{command % arguments if arguments else command}: {done.rc}\n{done.stdout}\n{done.stderr}"
        return str(done.stdout).rstrip("\n")

    def python(self, source: str, *arguments: str, interpreter: str = "/usr/bin/python3") -> str:
        """Return what a piece of Python prints on the host."""
        return self.check(f"{interpreter} -c %s {' '.join(['%s'] * len(arguments))}", source, *arguments)

    def read(self, path: str) -> str:
        return self.check("cat %s", path)

    def write(self, path: str, text: str, mode: str = "0644") -> None:
        encoded = base64.b64encode(text.encode()).decode()
        self.check("echo %s | base64 --decode | install -D -m %s /dev/stdin %s", encoded, mode, path)

    def call(self, *arguments: str) -> Any:
        """Return what an execution module of Salt returns."""
        marks = " ".join(["%s"] * len(arguments))
        return json.loads(self.check(f"salt-call --local --out=json --log-level=critical {marks}", *arguments))["local"]

    def settings(self, formula: str) -> dict[str, Any]:
        """Return the settings of a formula as its states see them: defaults, OS, pillar."""
        if formula not in self._settings:
            self._settings[formula] = self.call("turnkey.settings", formula)
        return self._settings[formula]

    def offers(self, service: str) -> str:
        """Return the address at which this host offers a service, such as ``redis:port``."""
        if service not in self._settings:
            self._settings[service] = self.call("turnkey.addresses", service)
        return str(self._settings[service][self.name])

    # States

    def apply(self, test: bool = False, only: str = "") -> Applied:
        """Apply the states, or *only* those of one formula, as an operator does on one host; without a master."""
        command = "salt-call --local --retcode-passthrough --out=json --log-level=critical state.apply"
        done = self.run(f"{command} {only} queue=10 test={test} 2>&1")
        try:
            # After the warnings of Debian 12's Python, if there are any.
            returned = json.loads(done.stdout[done.stdout.index("{") :])["local"]
        except (ValueError, KeyError, TypeError):
            returned = [done.stdout]
        states = returned if isinstance(returned, dict) else {}
        return Applied(done.rc, done.stdout, states, [] if states else [str(line) for line in returned])

    def heal(self, only: str = "") -> None:
        """Apply the states, or *only* those of one formula, which must succeed."""
        applied = self.apply(only=only)
        assert applied.ok, applied.message

    @contextlib.contextmanager
    def site(self, pillar: dict[str, Any]) -> Iterator[None]:
        """Let the site's own pillar say *pillar* within the block; nothing is applied."""
        before = self.read(SITE) if self.run("test -e %s", SITE).rc == 0 else None
        # Plain YAML: in a pillar file braces would be Jinja's.
        self.write(SITE, "#!yaml\n" + yaml.safe_dump(pillar, allow_unicode=True), mode="0600")
        known, self._settings = self._settings, {}
        try:
            yield
        finally:
            # To ask takes seconds, and they are again what they were.
            self._settings = known
            if before is None:
                self.check("rm -f %s", SITE)
            else:
                self.write(SITE, before, mode="0600")

    @contextlib.contextmanager
    def applied(self, pillar: dict[str, Any], only: str = "") -> Iterator[Applied]:
        """Apply *pillar* for the block, whether that succeeds or not, and put the host back afterwards.

        *only* names the one formula whose settings these are, where the apply is but a means: it takes seconds less.
        """
        result = None
        try:
            with self.site(pillar):
                result = self.apply(only=only)
                yield result
        finally:
            if result is None or result.rendered:
                self.heal(only)

    # What runs

    @property
    def units(self) -> list[str]:
        brought = [UNITS]
        if self.is_replicated:
            brought.append(UNITS_OF_REPLICATION)
        if "virtual_address" in self._topology:
            brought.append(UNITS_OF_MOVING)
        of_roles = [unit for units in brought for role in self.roles for unit in units.get(role, [])]
        # A host alone needs no master.
        of_a_master = []
        if len(hosts := self._topology["hosts"]) > 1 and any("monitor" in entry["roles"] for entry in hosts.values()):
            of_a_master = ["salt-minion.service", *(["salt-master.service"] if "monitor" in self.roles else [])]
        return [*UNITS_EVERYWHERE, *of_roles, *of_a_master]

    @property
    def is_replicated(self) -> bool:
        """Whether more than one host has the role data: one Redis is the primary, and Sentinels watch."""
        return sum("data" in entry["roles"] for entry in self._topology["hosts"].values()) > 1

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.check("systemctl show --value --property=%s %s", name, unit)

    def are_active(self) -> bool:
        """Fail unless every unit that this host should run does."""
        states = self.check(f"systemctl show --value --property=ActiveState {' '.join(self.units)}").split()
        assert set(states) == {"active"}, (self.name, dict(zip(self.units, states, strict=True)))
        return True

    def main_pid(self, unit: str) -> int:
        return int(self.show(unit, "MainPID"))

    def processes(self, unit: str) -> list[int]:
        """Return the main process of a unit and all that descend from it, parents first."""
        found = [self.main_pid(unit)]
        parents = [tuple(map(int, line.split())) for line in self.check("ps -e -o pid= -o ppid=").splitlines()]
        for parent in found:
            found.extend(pid for pid, its_parent in parents if its_parent == parent)
        return found

    def children(self, unit: str) -> list[int]:
        """Return the workers of a unit's main process."""
        return [int(pid) for pid in self.run("pgrep --parent %s", str(self.main_pid(unit))).stdout.split()]

    def journal(self, units: str) -> list[str]:
        """Return the last lines of *units* (a pattern) in the journal, all that has been said by now."""
        self.check("journalctl --sync")
        return self.check("journalctl --unit=%s --output=cat --since=-15min", units).splitlines()

    def started(self) -> dict[str, str]:
        """Tell for each unit which process it is and since when: the same twice means that nobody restarted it."""
        names = " ".join(["%s"] * len(self.units))
        shown = self.check(f"systemctl show --property=Id,MainPID,ActiveEnterTimestampMonotonic {names}", *self.units)
        return dict(zip(self.units, shown.split("\n\n"), strict=True))

    def configuration(self) -> list[str]:
        """Return a line for each file of the configuration that changes with it."""
        return self.check(LIST_CONFIGURATION).splitlines()

    # The app

    @property
    def root(self) -> str:
        return str(self.settings("app")["root"])

    def release(self) -> str:
        """Return the folder of the release that serves."""
        return self.check("readlink --canonicalize-existing %s/current", self.root)

    def releases(self) -> list[str]:
        return self.check("ls %s/releases", self.root).split()

    def redis(self, *command: str) -> str:
        """Return what Redis says to a command of the app's user, the way the app comes to it."""
        # The password stays on the host and out of command lines: ps shows those, and sudo's log keeps them.
        return self.check(
            "%s -c %s %s " + " ".join(["%s"] * len(command)),
            f"{self.root}/current/venv/bin/python",
            ASK_REDIS,
            f"{self.root}/current/environment",
            *command,
        )

    # The load balancer

    def balance(self) -> list[dict[str, str]]:
        """Return HAProxy's statistics: a row for each server, with `pxname`, `svname`, `status` and more."""
        told = self.python(ASK_HAPROXY, self.settings("haproxy")["admin_socket"], "show stat")
        return list(csv.DictReader(told.lstrip("# ").splitlines()))


def at_once(machines: Iterable[Machine], asked: Callable[[Machine], T]) -> dict[str, T]:
    """Return what each host answers, by its name; they are asked at the same time."""
    machines = list(machines)
    with ThreadPoolExecutor(len(machines)) as pool:
        return dict(zip(map(str, machines), pool.map(asked, machines), strict=True))


def rehearsed(machines: dict[str, Machine]) -> dict[str, Applied]:
    """Return what an apply would do on each host."""
    return at_once(machines.values(), lambda machine: machine.apply(test=True))
