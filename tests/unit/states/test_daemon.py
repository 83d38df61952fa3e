"""What daemon.running and daemon.only make systemd do, and when. It is a fake here; tests/infra has the real one."""

import datetime
import os
import time

import pytest

from rendering import load

NOW = 1_800_000_000.0
UNIT = "demo.service"


def stamp(seconds):
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%a %Y-%m-%d %H:%M:%S.%f UTC")


class FakeSystemd:
    """One unit, as `systemctl` would tell of it and change it; `asked` is what it was told to do."""

    def __init__(self):
        self.state, self.enabled = "active", "enabled"
        self.started = self.changed = self.booted = NOW - 100
        self.reloaded = None
        self.asked = []
        self.after_start = "active"

    def __call__(self, verb, *arguments):
        if verb == "show":
            return self.show(arguments)
        self.asked.append(verb)
        if verb in ("start", "restart"):
            self.state, self.started, self.changed = self.after_start, NOW, NOW
        elif verb == "reload":
            self.changed = NOW
        elif verb == "enable":
            self.enabled = "enabled"
        elif verb == "daemon-reload":
            self.reloaded = NOW
        elif verb == "reset-failed":
            self.state = "inactive"
        return ""

    def show(self, arguments):
        known = {
            "ActiveState": self.state,
            "LoadState": "loaded",
            "UnitFileState": self.enabled,
            "ActiveEnterTimestamp": stamp(self.started) if self.state == "active" else "",
            "StateChangeTimestamp": stamp(self.changed),
            "UnitsLoadStartTimestamp": stamp(self.booted),
            "UnitsLoadTimestamp": stamp(self.reloaded) if self.reloaded else "",
        }
        (wanted,) = (
            argument.partition("=")[2].split(",") for argument in arguments if argument.startswith("--property=")
        )
        if "--value" in arguments:
            return "".join(f"{known[name]}\n" for name in wanted)
        return "".join(f"{name}={known[name]}\n" for name in wanted)


@pytest.fixture
def systemd():
    return FakeSystemd()


@pytest.fixture
def running(systemd, monkeypatch):
    def run(test=False, **arguments):
        state = load("_states/daemon.py", __opts__={"test": test})
        monkeypatch.setattr(state, "_systemctl", systemd)
        monkeypatch.setattr(state, "_journal", lambda name: f"last words of {name}")
        return state.running(UNIT, **arguments)

    return run


@pytest.fixture
def file(tmp_path):
    """Make a file that was last changed so many seconds after (or before) the daemon last looked."""

    def make(name, age):
        path = tmp_path / name
        path.write_text("content")
        os.utime(path, (NOW - 100 + age, NOW - 100 + age))
        return str(path)

    return make


def test_daemon_that_is_up_to_date_is_left_alone(systemd, running, file):
    ret = running(restart=[file("unit", -1)], reload=[file("conf", -1)], check="true")
    assert systemd.asked == []
    assert (ret["result"], ret["changes"]) == (True, {})


def test_newer_file_of_the_start_restarts(systemd, running, file):
    ret = running(restart=[file("unit", +1)], reload=[file("conf", -1)])
    assert systemd.asked == ["restart"]
    assert ret["changes"] == {UNIT: "restart"}


def test_newer_file_of_a_reload_reloads_and_never_restarts(systemd, running, file):
    running(restart=[file("unit", -1)], reload=[file("conf", +1)])
    assert systemd.asked == ["reload"]


def test_restart_reads_all_so_no_reload_follows(systemd, running, file):
    running(restart=[file("unit", +1)], reload=[file("conf", +1)])
    assert systemd.asked == ["restart"]


def test_apply_that_was_cut_off_before_the_reload_is_made_good(systemd, running, file):
    """The file was written by an earlier run, so nothing changes in this one; the daemon still has the old one."""
    conf = file("conf", +1)
    assert running(reload=[conf])["changes"]
    assert running(reload=[conf])["changes"] == {}
    assert systemd.asked == ["reload"]


def test_link_that_moved_counts_though_its_target_is_old(systemd, running, file, tmp_path):
    link = tmp_path / "current"
    link.symlink_to(file("release", -1000))
    os.utime(link, (NOW, NOW), follow_symlinks=False)
    running(reload=[str(link)])
    assert systemd.asked == ["reload"]


def test_file_that_is_not_there_is_no_reason(systemd, running, tmp_path):
    running(restart=[str(tmp_path / "none")], reload=[str(tmp_path / "none")])
    assert systemd.asked == []


def test_stopped_daemon_is_enabled_and_started(systemd, running):
    systemd.state, systemd.enabled = "inactive", "disabled"
    ret = running()
    assert systemd.asked == ["enable", "start"]
    assert ret["changes"] == {UNIT: "enable, start"}


def test_failed_daemon_is_forgiven_and_started(systemd, running):
    systemd.state = "failed"
    running()
    assert systemd.asked == ["reset-failed", "start"]


def test_static_unit_needs_no_enabling(systemd, running):
    systemd.enabled = "static"
    running()
    assert systemd.asked == []


@pytest.mark.parametrize(("reloaded", "asked"), [(None, ["daemon-reload", "restart"]), (NOW, ["restart"])])
def test_unit_file_newer_than_boot_and_last_daemon_reload_is_loaded_first(
    systemd, file, tmp_path, monkeypatch, reloaded, asked
):
    systemd.reloaded = reloaded
    state = load("_states/daemon.py", __opts__={"test": False}, UNITS=f"{tmp_path}/")
    monkeypatch.setattr(state, "_systemctl", systemd)
    state.running(UNIT, restart=[file("demo.service", +1)])
    assert systemd.asked == asked


def test_unit_file_that_the_boot_has_read_is_not_loaded_again(systemd, file, tmp_path, monkeypatch):
    state = load("_states/daemon.py", __opts__={"test": False}, UNITS=f"{tmp_path}/")
    monkeypatch.setattr(state, "_systemctl", systemd)
    state.running(UNIT, restart=[file("demo.service", -1)])
    assert systemd.asked == []


@pytest.mark.parametrize(("cli", "asked", "later"), [("salt-minion", [], [UNIT]), ("salt-call", ["restart"], [])])
def test_daemon_that_runs_these_states_is_restarted_when_they_are_through(
    systemd, file, monkeypatch, cli, asked, later
):
    state = load("_states/daemon.py", __opts__={"test": False, "__cli": cli})
    put_off = []
    monkeypatch.setattr(state, "_systemctl", systemd)
    monkeypatch.setattr(state, "_restart_after_this", put_off.append)
    ret = state.running(UNIT, restart=[file("conf", +1)], runs_us=True)
    assert (systemd.asked, put_off) == (asked, later)
    assert (ret["result"], ret["changes"]) == (True, {UNIT: "restart"})


def test_dry_run_tells_and_does_nothing(systemd, running, file):
    ret = running(test=True, reload=[file("conf", +1)])
    assert (ret["result"], ret["changes"]) == (None, {})
    assert "would reload" in ret["comment"]
    assert systemd.asked == []


def test_dry_run_of_what_is_up_to_date_is_no_change(running):
    assert running(test=True)["result"] is True


def test_daemon_that_dies_on_the_new_configuration_is_a_failure_with_its_last_words(systemd, running, file):
    systemd.after_start = "failed"
    ret = running(restart=[file("unit", +1)])
    assert ret["result"] is False
    assert f"{UNIT} is failed" in ret["comment"]
    assert f"last words of {UNIT}" in ret["comment"]


def test_daemon_that_never_gets_there_is_a_failure(systemd, running, file):
    systemd.after_start = "activating"
    began = time.monotonic()
    assert running(restart=[file("unit", +1)], deadline=0.2)["result"] is False
    assert time.monotonic() - began < 30


def test_reload_without_effect_is_tried_again(systemd, running, file, tmp_path):
    """The check fails though nothing is newer: a reload that had no effect, without a word."""
    conf = file("conf", -1)
    ret = running(reload=[conf], check=f"test -e {tmp_path}/never", deadline=0.2)
    assert systemd.asked == ["reload"]
    assert ret["result"] is False
    assert "still failing" in ret["comment"]


def test_check_that_succeeds_after_the_reload_is_a_change(systemd, running, file, tmp_path):
    conf, done = file("conf", +1), tmp_path / "done"
    done.touch()
    ret = running(reload=[conf], check=f"test -e {done}")
    assert (ret["result"], ret["changes"]) == (True, {UNIT: "reload"})


def test_what_a_timer_starts_says_why_the_check_fails(running, tmp_path):
    ret = running(check=f"test -e {tmp_path}/never", deadline=0.2, speaks="demo-work.service")
    assert ret["result"] is False
    assert ret["comment"].endswith("last words of demo-work.service")


def test_refusal_of_systemd_is_a_failure_with_its_words(running, monkeypatch):
    state = load("_states/daemon.py", __opts__={"test": False})

    def refuse(*arguments):
        raise RuntimeError("systemctl show: no such unit")

    monkeypatch.setattr(state, "_systemctl", refuse)
    monkeypatch.setattr(state, "_journal", lambda name: "")
    ret = state.running(UNIT)
    assert (ret["result"], ret["comment"]) == (False, "systemctl show: no such unit")


def test_systemctl_that_fails_says_why(monkeypatch, tmp_path):
    state = load("_states/daemon.py", __opts__={"test": False})
    command = tmp_path / "systemctl"
    command.write_text("#!/bin/sh\necho 'Unit demo.service not found.' >&2\nexit 5\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(RuntimeError, match=r"systemctl start demo: Unit demo\.service not found\."):
        state._systemctl("start", "demo")


# --- daemon.only: of a kind of units, those that pillar still names ---------------------------------------------------


@pytest.fixture
def only(monkeypatch, tmp_path):
    """Run the state on a fake systemd with these units; return what it did and what systemd was told."""

    def run(running=(), enabled=(), states=None, test=False, keep=()):
        state = load("_states/daemon.py", __opts__={"test": test})
        wants = tmp_path / "multi-user.target.wants"
        wants.mkdir()
        for unit in enabled:
            (wants / unit).symlink_to("/etc/systemd/system/worker@.service")
        asked = []

        def systemctl(verb, *arguments):
            if verb == "list-units":
                assert arguments[-1] == "worker@*.service"
                return "".join(f"{unit} loaded active running A worker\n" for unit in running)
            if verb == "show":
                return f"ActiveState={(states or {}).get(arguments[-1], 'inactive')}\n"
            asked.append((verb, *arguments))
            return ""

        monkeypatch.setattr(state, "UNITS", str(tmp_path))
        monkeypatch.setattr(state, "_systemctl", systemctl)
        return state.only("worker@*.service", keep=keep), asked

    return run


def test_units_that_pillar_names_are_left_alone(only):
    ret, asked = only(running=["worker@a.service"], enabled=["worker@a.service"], keep=["worker@a.service"])
    assert (ret["result"], ret["changes"], asked) == (True, {}, [])


def test_units_that_run_or_would_at_the_next_boot_are_stopped_for_good(only):
    ret, asked = only(running=["worker@b.service"], enabled=["worker@c.service"], keep=["worker@a.service"])
    assert asked == [("disable", "--now", "worker@b.service", "worker@c.service")]
    assert ret["changes"] == {"stopped": ["worker@b.service", "worker@c.service"]}


def test_a_failed_unit_that_nobody_wants_is_forgotten(only):
    _, asked = only(running=["worker@b.service"], states={"worker@b.service": "failed"})
    assert asked[-1] == ("reset-failed", "worker@b.service")


def test_dry_run_stops_no_unit(only):
    ret, asked = only(running=["worker@b.service"], test=True)
    assert (ret["result"], asked) == (None, [])
    assert "worker@b.service" in ret["comment"]
