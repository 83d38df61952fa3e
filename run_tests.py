#!/usr/bin/env python3
"""Everything that proves Turnkey right, in one run: ./run_tests.py --help

Needs nothing but Python: what the suites need is installed here, the Python packages into .cache/venv and, as root on
Debian, the rest with apt-get. What cannot be had is a failure of the suites that need it; no suite is skipped.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import importlib.util
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from xml.etree import ElementTree

ROOT = pathlib.Path(__file__).resolve().parent
CACHE = ROOT / ".cache"
VENV = CACHE / "venv"
SCREENSHOTS = pathlib.Path(os.environ.get("SCREENSHOTS", CACHE / "screenshots"))
LOCK = ROOT / "requirements" / "dev.txt"
BUILD_LOCK = ROOT / "requirements" / "build.txt"
PYTHON = str(VENV / "bin" / "python")

# The Debian packages of each command that a suite may need.
PACKAGES = {
    "apt-ftparchive": "apt-utils",
    "chromium": "chromium",
    "chronyd": "chrony",
    "git": "git",
    # It makes keys.
    "gpg": "gpg gpg-agent",
    "haproxy": "haproxy",
    "ip": "iproute2",
    "keepalived": "keepalived",
    "nft": "nftables",
    "nginx": "nginx-light",
    "openssl": "openssl",
    "promtool": "prometheus",
    "redis-server": "redis-server",
    "rsyslogd": "rsyslog rsyslog-relp",
    "ruby": "ruby",
    "shellcheck": "shellcheck",
    "socat": "socat",
    "ss": "iproute2",
    "ssh": "openssh-client",
    "systemd-analyze": "systemd",
}

# Where commands are looked for: an administrator's too, which are not on everybody's PATH.
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"

# Seconds for lab/down: it waits for a lab/up that is at work on this machine, even one of another tree.
DOWN_LIMIT = 40 * 60

# For tests that wait for processes as much as they calculate: two more at a time than there are cores.
ALL_CORES = (f"--numprocesses={len(os.sched_getaffinity(0)) + 2}", "--dist=worksteal")


@dataclasses.dataclass(frozen=True)
class Suite:
    """A set of checks that prove one thing; `run` does them, each told to the `Report`."""

    proves: str
    needs: tuple[str, ...]
    run: Callable[["Report", argparse.Namespace], None]
    # Whether states may be applied meanwhile: it leaves the cores idle, and whatever it waits for may take long.
    is_idle: bool = False
    # Another that may run meanwhile, on hosts of its own: it mostly waits.
    beside: str = ""


class CannotRunError(Exception):
    """What a suite needs is missing and cannot be had; the message says what to do."""


# --- the suites -------------------------------------------------------------------------------------------------------


def lint(report: "Report", options: argparse.Namespace) -> None:
    files = repository_files()
    states = [file for file in files if file.startswith("salt/") and file.endswith((".sls", ".jinja"))]
    yaml = [file for file in files if file.endswith((".yaml", ".yml")) or (file.endswith(".sls") and is_plain(file))]
    shell = [file for file in files if is_shell(file)]

    report.tool("ruff check", venv("ruff", "check", "--quiet", "."))
    report.tool("ruff format", venv("ruff", "format", "--quiet", "--diff", "."))
    # In separate runs: Salt has modules and states of the same name.
    for place in (
        "app",
        "run_tests.py",
        "salt/keyring.py",
        "salt/zabbix_templates.py",
        "salt/states/_modules",
        "salt/states/_returners",
        "salt/states/_runners",
        "salt/states/_states",
    ):
        report.tool(f"mypy {place}", venv("mypy", "--no-error-summary", place))
    report.tool("salt-lint", venv("salt-lint", *states))
    report.tool("yamllint", venv("yamllint", "--strict", *yaml))
    report.tool("shellcheck", ["shellcheck", *shell])
    report.tool("ruby -c", ["ruby", "-wc", "Vagrantfile"])
    report.pytest("house rules", ["tests/lint"], options)


def unit(report: "Report", options: argparse.Namespace) -> None:
    report.pytest("unit tests", ["tests/unit", "--ignore=tests/unit/states", *ALL_CORES], options, unprivileged())


def states(report: "Report", options: argparse.Namespace) -> None:
    report.pytest("rendered states", ["tests/unit/states", *ALL_CORES], options, unprivileged())


def browser(report: "Report", options: argparse.Namespace) -> None:
    # Made here, for the tree's owner: the tests have no privileges.
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        owner = ROOT.stat()
        os.chown(SCREENSHOTS, owner.st_uid, owner.st_gid)
    where = [f"--screenshots={SCREENSHOTS}"]
    report.pytest("the explorer", ["tests/browser", *where], options, unprivileged(), limit=10 * 60)


def infra(report: "Report", options: argparse.Namespace) -> None:
    running_hosts(report, options, TOPOLOGIES["infra"], ["tests/infra", "--ignore=tests/infra/cluster"])


def cluster(report: "Report", options: argparse.Namespace) -> None:
    # What each host of a cluster must show besides; what takes a host apart is proved on one host alone.
    names = ("clock", "firewall", "frontend_door", "monitoring", "security", "status", "status_page")
    each = [f"tests/infra/test_{name}.py" for name in names]
    chosen = ["tests/infra/cluster", *each, "-m", "cluster or not disruptive"]
    running_hosts(report, options, TOPOLOGIES["cluster"], chosen)


def running_hosts(report: "Report", options: argparse.Namespace, topology: str, tests: list[str]) -> None:
    """Run *tests* on hosts, of *topology* unless the options name another: those of a lab, or of an installation."""
    topology = options.topology or topology
    with contextlib.ExitStack() as stack:
        config, environment = options.ssh_config, {}
        if not config:
            if os.geteuid() != 0:
                raise CannotRunError(
                    "a lab needs root (try sudo); with --ssh-config a running installation is tested instead"
                )
            stack.enter_context(lab(report, options, topology))
            config, environment = CACHE / "lab-ssh-config", {"TURNKEY_LAB": "1"}
            told = subprocess.run(["vagrant", "ssh-config"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
            if told.returncode:
                raise CannotRunError("vagrant ssh-config failed")
            config.write_text(told.stdout)
        where = [f"--hosts={options.hosts}", f"--ssh-config={config}", f"--topology={topology}"]
        where.append(f"--screenshots={SCREENSHOTS}")
        report.pytest(
            "running hosts", [*tests, *where], options, environment=environment, test_limit=900, limit=60 * 60
        )


SUITES = {
    "lint": Suite("style, types, and the rules of this house", ("git", "ruby", "shellcheck"), lint),
    "unit": Suite(
        "the app, and the lab's scripts: no root, no hosts", ("promtool", "redis-server", "ruby", "ss"), unit
    ),
    "states": Suite(
        "the states, rendered by the real Salt: no root, no hosts",
        (
            *("apt-ftparchive", "chronyd", "gpg", "haproxy", "ip", "keepalived", "nft", "nginx", "openssl", "rsyslogd"),
            *("ruby", "shellcheck", "socat", "systemd-analyze"),
        ),
        states,
    ),
    # The last before hosts are needed: meanwhile they become what they are to be.
    "browser": Suite(
        "the explorer in a real browser: no root, no hosts", ("chromium", "redis-server"), browser, is_idle=True
    ),
    "cluster": Suite(
        "the stack on several hosts, any of which is lost meanwhile", ("git", "ssh"), cluster, beside="infra"
    ),
    "infra": Suite(
        "the whole stack on one host (of a lab, unless --ssh-config names another)",
        ("apt-ftparchive", "chromium", "gpg", "ruby", "ssh"),
        infra,
    ),
}
# What the suites of running hosts run on, unless --topology says otherwise.
TOPOLOGIES = {"cluster": "cluster", "infra": "single"}

# --- the lab ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def lab(report: "Report", options: argparse.Namespace, topology: str) -> Iterator[None]:
    """Hosts that run the stack. Those that were up before stay up; so do new ones with --keep."""
    ahead = LabAhead.started
    found = None if ahead else lab_in_the_way(topology)
    wanted = {"topology": topology, "os": options.os, "repository": str(ROOT)}
    if found and found != wanted:
        told = "{topology} on {os}, of the repository in {repository}".format_map(found)
        down = ["lab/down", "--of", found["repository"]]
        # Another repository's lab is another person's. On CI nobody is left to take it down.
        if found["repository"] != str(ROOT) and "CI" not in os.environ:
            raise CannotRunError(f"another lab is up: {told}; end it first: {' '.join(down)}")
        print(f"Taking down the lab that is up: {told}", flush=True)
        report.tool("lab/down", down if found["repository"] != str(ROOT) else down[:1], DOWN_LIMIT)
    try:
        is_up = not ahead or ahead.told(report)
        # Never once more, where one has failed to apply the states: that would be forgiven.
        if is_up and not (ahead and ahead.applies):
            is_up = report.tool("lab/up", ["lab/up", topology, "--os", options.os], limit=45 * 60)
        if not is_up:
            raise CannotRunError("without a lab there is nothing to test; the log of lab/up is above")
        Beside.begin(options, SUITES[report.suite].beside)
        yield
    except KeyboardInterrupt:
        # First, or lab/down would wait for a lab/up that nobody has told to end.
        Beside.stop()
        raise
    finally:
        if found != wanted and not options.keep:
            report.tool("lab/down", ["lab/down"], DOWN_LIMIT)


class LabAhead:
    """Hosts that are brought up while other suites run: on a bare machine that takes minutes.

    During a suite that leaves the cores idle the states are applied on them too, and the lab/up of their own suite has
    nothing left to do.
    """

    started: "LabAhead | None" = None

    def __init__(self, topology: str, options: argparse.Namespace) -> None:
        self.applies = False
        self._command = ["lab/up", topology, "--os", options.os]
        self._log = CACHE / "lab-ahead.log"
        self._children: list[subprocess.Popen[bytes]] = []
        CACHE.mkdir(exist_ok=True)
        self._log.write_text("")

    def go_on(self, apply: bool) -> None:
        """Bring the hosts up, with their states or without; what is at it already is waited for by lab/up itself."""
        self.applies = apply
        self._children.append(start([*self._command, *([] if apply else ["--no-apply"])], ROOT, self._log))

    @classmethod
    def begin(cls, options: argparse.Namespace, suite: str, *later: str) -> None:
        """Begin, where there is something to gain: *suite*, which is next, needs no hosts, and one of *later* does."""
        topology = next((TOPOLOGIES[name] for name in later if name in TOPOLOGIES), None)
        apply = SUITES[suite].is_idle
        if suite in TOPOLOGIES or not topology:
            return
        if cls.started:
            if apply and not cls.started.applies:
                cls.started.go_on(apply)
            return
        topology = options.topology or topology
        if options.ssh_config or os.geteuid() != 0 or lab_in_the_way(topology):
            return
        # No two may install packages at once: all of them now. What cannot be had is told by the suite.
        with contextlib.suppress(CannotRunError):
            install_commands(need for name in (suite, *later) for need in SUITES[name].needs)
            install_venv_needs()
            cls.started = cls(topology, options)
            cls.started.go_on(apply)

    @classmethod
    def clear_away(cls) -> None:
        """Take down what no suite has asked for."""
        if cls.started:
            cls.started._end(limit=0)
            run(["lab/down"], DOWN_LIMIT)

    def told(self, report: "Report") -> bool:
        """Wait until it has ended, and report what it said and, of one that was the only one, whether it failed."""
        self._end(limit=45 * 60)
        # Had one that applies nothing failed, the lab/up after it tells why.
        failed = self.applies and self._children[-1].returncode != 0
        tell = ["sh", "-c", 'cat "$0"; exit "$1"', str(self._log), str(int(failed))]
        return report.tool(f"{' '.join(self._command)}, begun with an earlier suite", tell)

    def _end(self, limit: float) -> None:
        """Wait until it has ended, and end it after *limit* seconds."""
        type(self).started = None
        try:
            for child in self._children:
                child.wait(timeout=limit)
        except BaseException as error:
            for child in self._children:
                end(child)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise


class Beside:
    """A suite that runs meanwhile: by this very script, in a copy of the tree, as a lab is one of its tree."""

    started: "Beside | None" = None

    def __init__(self, suite: str, options: argparse.Namespace) -> None:
        self.suite = suite
        self.began = time.monotonic()
        self._tree, self._log, self._results = CACHE / "beside", CACHE / "beside.log", CACHE / "beside.results"
        # A run that was killed may have left its hosts.
        self._clear_away()
        for folder in (self._tree, self._results):
            shutil.rmtree(folder, ignore_errors=True)
        copy_tree(self._tree)
        self._command = ["./run_tests.py", "--suite", suite, "--os", options.os, "--hosts", options.hosts]
        self._log.write_text("")
        command = [sys.executable, *self._command, "--junit", str(self._results)]
        self._child = start(command, self._tree, self._log, os.environ | {"SCREENSHOTS": str(SCREENSHOTS)})

    @classmethod
    def begin(cls, options: argparse.Namespace, suite: str) -> None:
        """Begin *suite*, where the whole of it is to run; not where hosts are to be kept for a look at them."""
        if suite not in options.suite or options.topology or options.keep or options.k:
            return
        try:
            cls.started = cls(suite, options)
        except (CannotRunError, OSError) as error:
            print(f"{suite} cannot run at the same time, so it runs afterwards: {error}", flush=True)

    @classmethod
    def stop(cls) -> None:
        """End what nobody has waited for, if it has not ended yet. It is given the time to put its hosts in order."""
        if (started := cls.started) and started._child.poll() is None:
            # In the background of a shell SIGINT would be ignored; this signal it takes for an interruption, too.
            end(started._child, signal.SIGTERM, patience=180)
            started._clear_away()

    @classmethod
    def clear_away(cls, reports: list["Report"]) -> None:
        """Stop it, and have its report tell what it came to by then."""
        cls.stop()
        if started := cls.started:
            cls.started = None
            for report in reports:
                if report.suite == started.suite:
                    report.ran = True
                    report.seconds = time.monotonic() - started.began
                    report.take_over(started._results)
                    if "interrupted" not in report.failures:
                        report.fail("interrupted")

    def _clear_away(self) -> None:
        run(["lab/down", "--of", str(self._tree)], DOWN_LIMIT, log=CACHE / "beside.down.log")

    def told(self, report: "Report") -> None:
        """Tell what it says until it has ended, and take over what it came to."""
        print(f"-- {' '.join(self._command)}, begun with an earlier suite", flush=True)
        limit = time.monotonic() + 60 * 60
        with self._log.open(errors="replace") as log:
            is_over = False
            while not is_over and time.monotonic() < limit:
                is_over = self._child.poll() is not None
                print(log.read(), end="", flush=True)
                time.sleep(1)
        if not is_over:
            report.fail("did not end within an hour")
            self.stop()
        type(self).started = None
        report.take_over(self._results)
        if self._child.returncode != 0 and not report.failures:
            report.fail(f"ended with {self._child.returncode}")
        # Of one that was killed.
        if self._child.returncode not in (0, 1):
            self._clear_away()


def copy_tree(target: pathlib.Path) -> None:
    """Copy what belongs to the tree, and have the copy use the same virtual environment."""
    for file in tree():
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, target / file, follow_symlinks=False)
    (target / CACHE.name).mkdir()
    (target / VENV.relative_to(ROOT)).symlink_to(VENV)


def lab_in_the_way(topology: str) -> dict[str, str] | None:
    """Return what is known of the lab that is this tree's, or of another's with the same hosts."""
    if not shutil.which("docker"):
        return None
    labels = "\t".join(f'{{{{.Label "turnkey.{label}"}}}}' for label in ("lab", "os", "root"))
    command = ["docker", "ps", "--all", "--filter", "label=turnkey.lab", "--format", labels]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    labs = (dict(zip(("topology", "os", "repository"), line.split("\t"), strict=True)) for line in told)
    return next((lab for lab in labs if lab["repository"] == str(ROOT) or lab["topology"] == topology), None)


# --- what the suites need ---------------------------------------------------------------------------------------------


def install(packages: Iterable[str], reason: str) -> None:
    packages = sorted(set(packages))
    if not packages:
        return
    by_hand = f"{reason}; install {' '.join(packages)}"
    if os.geteuid() != 0:
        raise CannotRunError(f"{by_hand} (as root this is done here)")
    if not shutil.which("apt-get"):
        raise CannotRunError(f"{by_hand} (there is no apt-get to do it here)")
    print(f"Installing {' '.join(packages)}", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    # Somebody else may be at it: a machine that has just been made looks for upgrades by itself.
    apt_get = ["apt-get", "-o", "DPkg::Lock::Timeout=300"]
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
        done = run([*apt_get, *command], 15 * 60, environment=environment, log=CACHE / "apt.log")
        if done != 0:
            raise CannotRunError(f"{by_hand}: apt-get {command[0]} {done}\n{tail(CACHE / 'apt.log')}")


def install_commands(needs: Iterable[str]) -> None:
    missing = sorted({need for need in needs if not shutil.which(need, path=PATH)})
    install((package for need in missing for package in PACKAGES[need].split()), f"{', '.join(missing)} not found")


def install_venv_needs() -> None:
    packages = []
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        packages.append("python3-venv")
    # timelib, one of Salt's dependencies, comes as source only: hence the compiler.
    if not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").is_file():
        packages.append("python3-dev")
    if not shutil.which("gcc"):
        packages += ["gcc", "libc6-dev"]
    install(packages, "the virtual environment cannot be made")


def make_venv() -> None:
    """Bring .cache/venv to what the lock says."""
    stamp = VENV / "stamp"
    python = f"{sys.version} {sys.executable} {VENV.resolve()}".encode()
    wanted = hashlib.sha256(BUILD_LOCK.read_bytes() + LOCK.read_bytes() + python).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted and works([PYTHON, "-c", "import pytest, salt"]):
        return
    install_venv_needs()
    print(f"Making {VENV.relative_to(ROOT)} (two minutes)", flush=True)
    if VENV.is_symlink():
        VENV.unlink()  # or --clear would empty another tree's
    log = CACHE / "venv.log"
    log.unlink(missing_ok=True)
    environment = dict(os.environ)
    authorities = "/etc/ssl/certs/ca-certificates.crt"
    if os.path.exists(authorities):
        # pip brings authorities of its own; those of the machine may be more.
        environment.setdefault("PIP_CERT", authorities)
    pip = [PYTHON, "-m", "pip", "--disable-pip-version-check", "install", "--no-input", "--no-deps", "--require-hashes"]
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(VENV)],
        # No isolated build: pip would fetch tools for that, neither pinned nor checked.
        [*pip, "--requirement", str(BUILD_LOCK)],
        [*pip, "--no-build-isolation", "--requirement", str(LOCK)],
    ):
        done = run(command, 30 * 60, environment=environment, log=log)
        if done != 0:
            raise CannotRunError(f"{' '.join(command)}: {done}\n{tail(log)}")
    stamp.write_text(wanted)


def works(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def unprivileged() -> list[str]:
    """What to put before a command to prove that it needs no root: the tree's owner runs it, without privileges."""
    if os.geteuid() != 0:
        return []
    owner = ROOT.stat()
    drop = ["setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups"]
    drop += ["--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "--no-new-privs"]
    if works(
        [*drop, PYTHON, "-c", "import subprocess, sys; subprocess.check_call([sys.executable, '-c', 'import salt'])"]
    ):
        return drop
    # A container may itself be short of privileges, and root's own Python out of the owner's reach.
    print("(as root: its privileges cannot be dropped here)", flush=True)
    return []


# --- files ------------------------------------------------------------------------------------------------------------


def tree() -> list[str]:
    """The files and links that git has, or would take; as root in another user's clone too."""
    git = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    told = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False)
    if told.returncode:
        raise CannotRunError(f"git cannot say which files belong here: {told.stderr.strip()}")
    paths = ((name, ROOT / name) for name in told.stdout.split("\0") if name)
    return sorted({name for name, path in paths if path.is_file() or path.is_symlink()})


def repository_files() -> list[str]:
    return [file for file in tree() if not (ROOT / file).is_symlink()]


def is_plain(file: str) -> bool:
    return "{%" not in (text := (ROOT / file).read_text()) and "{{" not in text


def is_shell(file: str) -> bool:
    with (ROOT / file).open("rb") as opened:
        first = opened.readline(100)
    return first.startswith((b"#!/bin/bash", b"#!/bin/sh", b"# shellcheck shell="))


# --- running and reporting --------------------------------------------------------------------------------------------


def venv(command: str, *arguments: str) -> list[str]:
    return [str(VENV / "bin" / command), *arguments]


def run(
    command: list[str], limit: float, environment: dict[str, str] | None = None, log: pathlib.Path | None = None
) -> int | str:
    """Run *command*, its output going where ours does or into *log*; return 0, or how it ended otherwise."""
    CACHE.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(log.open("a")) if log else None
        # In a session of its own, so that all that it started can be told to end.
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT if log else None,
            start_new_session=True,
        )
        try:
            code = child.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            end(child)
            return f"did not end within {limit:.0f} s"
        except BaseException:
            end(child)
            raise
    return code and (f"ended with {code}" if code > 0 else f"was ended by signal {-code}")


def start(
    command: list[str], cwd: pathlib.Path, log: pathlib.Path, environment: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start *command*, which goes on by itself, its output going to the end of *log*."""
    with log.open("a") as out:
        # In a session of its own, so that all that it started can be told to end.
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def end(child: subprocess.Popen[bytes], politely: signal.Signals = signal.SIGINT, patience: float = 30) -> None:
    # Politely first: lab/up and pytest have something to tidy.
    for number, seconds in ((politely, patience), (signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=seconds)
            break
    # The child is gone; what it started may not be.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def tail(log: pathlib.Path, lines: int = 20) -> str:
    return "\n".join(f"    {line}" for line in log.read_text(errors="replace").splitlines()[-lines:])


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


class Report:
    """What the checks of one suite came to."""

    def __init__(self, suite: str, work: pathlib.Path) -> None:
        self.suite = suite
        self.passed = self.skipped = 0
        self.failures: list[str] = []
        self.seconds = 0.0
        self.ran = False
        self._work = work
        self._cases = ElementTree.Element("testsuite", name=suite)

    def fail(self, what: str) -> None:
        self.failures.append(what)
        print(f"\nFAILED: {self.suite}: {what}", flush=True)

    def tool(self, name: str, command: list[str], limit: float = 600) -> bool:
        """Run *command* as one check, which passes where it ends with 0."""
        print(f"-- {name}", flush=True)
        began = time.monotonic()
        done = run(command, limit)
        took = f"{time.monotonic() - began:.3f}"
        case = ElementTree.SubElement(self._cases, "testcase", classname=self.suite, name=name, time=took)
        if done == 0:
            self.passed += 1
            return True
        ElementTree.SubElement(case, "failure", message=str(done))
        self.fail(f"{name} {done}")
        return False

    def pytest(
        self,
        name: str,
        arguments: list[str],
        options: argparse.Namespace,
        prefix: Iterable[str] = (),
        environment: dict[str, str] | None = None,
        test_limit: int = 300,
        limit: float = 30 * 60,
    ) -> None:
        """Run pytest, each of its tests being a check."""
        print(f"-- {name}", flush=True)
        results = self._work / f"{self.suite}.xml"
        command = [*prefix, PYTHON, "-m", "pytest", *arguments]
        command += [f"--timeout={test_limit}", f"--junit-xml={results}", "-p", "no:cacheprovider"]
        if options.k:
            command += ["-k", options.k]
        home = {"HOME": str(self._work)} if prefix else {}
        failed_before = len(self.failures)
        try:
            done = run(command, limit, os.environ | {"TMPDIR": str(self._work)} | home | (environment or {}))
        finally:
            # An interrupted pytest has written what it came to, too.
            if results.exists():
                self._count(results)
        nothing_chosen = options.k and done == "ended with 5"
        if done != 0 and len(self.failures) == failed_before and not nothing_chosen:
            self.fail(f"{name}: pytest {done}")

    def take_over(self, folder: pathlib.Path) -> None:
        """Make what the suite came to elsewhere, as `write_junit` writes it, what it came to here."""
        for results in sorted(folder.glob(f"{self.suite}*.xml")):
            self._count(results)
            if results.stem == self.suite:
                shutil.copyfile(results, self._work / results.name)
            else:
                self._cases.extend(ElementTree.parse(results).iter("testcase"))  # noqa: S314  our own

    def _count(self, results: pathlib.Path) -> None:
        for case in ElementTree.parse(results).iter("testcase"):  # noqa: S314  pytest's own
            if case.find("failure") is not None or case.find("error") is not None:
                self.failures.append(f"{case.get('classname')}::{case.get('name')}")
            elif case.find("skipped") is not None:
                self.skipped += 1
            else:
                self.passed += 1

    def write_junit(self, folder: pathlib.Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        results = self._work / f"{self.suite}.xml"
        if results.exists():
            shutil.copyfile(results, folder / results.name)
        if len(self._cases):
            self._cases.set("tests", str(len(self._cases)))
            self._cases.set("failures", str(len(self._cases.findall("testcase/failure"))))
            ElementTree.ElementTree(self._cases).write(folder / f"{self.suite}-tools.xml", encoding="utf-8")


def run_suites(reports: list[Report], options: argparse.Namespace) -> None:
    try:
        for number, report in enumerate(reports):
            LabAhead.begin(options, *(each.suite for each in reports[number:]))
            run_suite(report, options)
    finally:
        Beside.clear_away(reports)
        LabAhead.clear_away()


def run_suite(report: Report, options: argparse.Namespace) -> None:
    suite = SUITES[report.suite]
    print(f"\n== {report.suite}: {suite.proves}", flush=True)
    report.ran = True
    began = time.monotonic()
    try:
        if Beside.started and Beside.started.suite == report.suite:
            began = Beside.started.began
            Beside.started.told(report)
            return
        install_commands(suite.needs)
        make_venv()
        suite.run(report, options)
    except CannotRunError as error:
        report.fail(str(error))
    except KeyboardInterrupt:
        report.fail("interrupted")
        raise
    finally:
        report.seconds = time.monotonic() - began
        print(f"== {report.suite}: {clock(report.seconds)}", flush=True)


def summarize(reports: list[Report], seconds: float) -> int:
    """Print the one table and the closing line; return how many checks failed."""
    print(f"\n{'suite':<10}{'passed':>8}{'failed':>8}{'skipped':>9}{'time':>8}")
    for report in reports:
        if report.ran:
            counts = f"{report.passed:>8}{len(report.failures):>8}{report.skipped:>9}"
            print(f"{report.suite:<10}{counts}{clock(report.seconds):>8}")
        else:
            print(f"{report.suite:<10}   not run")
    failures = [f"{report.suite}: {failure}" for report in reports for failure in report.failures]
    if failures:
        print("\nFailed:", *(failure.splitlines()[0] for failure in failures), sep="\n  ")
    passed, skipped = sum(report.passed for report in reports), sum(report.skipped for report in reports)
    print(f"\n{passed} passed, {len(failures)} failed, {skipped} skipped, in {clock(seconds)}", flush=True)
    return len(failures)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Prove Turnkey right. Without options: all suites, on a Debian 13 lab."
    )
    parser.add_argument("--list", action="store_true", help="list the suites and end")
    parser.add_argument("--suite", nargs="+", action="extend", metavar="NAME", choices=SUITES, help="only these")
    parser.add_argument("-k", metavar="EXPR", help="only the tests that match, as pytest has it")
    parser.add_argument("--junit", type=pathlib.Path, metavar="DIR", help="write JUnit files there")
    group = parser.add_argument_group("infra and cluster")
    group.add_argument("--os", choices=("debian-13", "debian-12"), default="debian-13", help="of the lab's hosts")
    group.add_argument("--topology", metavar="NAME", help="salt/pillar/topology/NAME.sls (single, cluster)")
    group.add_argument("--keep", action="store_true", help="leave the lab up")
    group.add_argument("--hosts", default="all", metavar="NAMES", help="only these hosts, separated by commas")
    group.add_argument(
        "--ssh-config",
        type=pathlib.Path,
        metavar="FILE",
        help="test a running installation, reached in this way: no lab",
    )
    options = parser.parse_args(arguments)
    options.suite = options.suite or list(SUITES)
    if options.topology and not (ROOT / "salt" / "pillar" / "topology" / f"{options.topology}.sls").is_file():
        parser.error(f"there is no salt/pillar/topology/{options.topology}.sls")
    if options.ssh_config:
        options.ssh_config = options.ssh_config.resolve()
        if not options.ssh_config.is_file():
            parser.error(f"there is no file {options.ssh_config}")
    return options


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    if options.list:
        for name, suite in SUITES.items():
            print(f"{name:<8}{suite.proves}")
        return 0

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    os.environ["PYTHONUNBUFFERED"] = "1"
    began, interrupted = time.monotonic(), False
    with tempfile.TemporaryDirectory(prefix="turnkey-tests-") as work:
        owner = ROOT.stat()
        if os.geteuid() == 0:
            os.chown(work, owner.st_uid, owner.st_gid)
        reports = [Report(name, pathlib.Path(work)) for name in SUITES if name in options.suite]
        try:
            run_suites(reports, options)
            if not any(report.passed + report.skipped + len(report.failures) for report in reports):
                reports[-1].fail(f"no test matches -k {options.k}")
        except KeyboardInterrupt:
            interrupted = True
        if options.junit:
            for report in reports:
                report.write_junit(options.junit)
        failed = summarize(reports, time.monotonic() - began)
    return 130 if interrupted else 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
