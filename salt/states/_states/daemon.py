"""A daemon that runs what the disk says.

Salt's own ``service.running`` reloads a service when, in the same run, a file was changed. A run that is cut off
between the two leaves the service on its old configuration for ever, as the next run finds nothing to change. Here the
question is put to systemd instead: is a file newer than what the daemon has loaded?
"""

import datetime
import os
import pathlib
import shlex
import subprocess
import time

PROPERTIES = (
    "ActiveState",
    "UnitFileState",
    "ActiveEnterTimestamp",
    "StateChangeTimestamp",
)
NEVER = 0.0
UNITS = "/etc/systemd/system/"


def running(name, restart=(), reload=(), check=None, deadline=60, runs_us=False, speaks=None):
    """Keep the unit *name* enabled, running, and up to date with its files.

    restart
        Files that the daemon reads when it starts: one newer than its start restarts it.
    reload
        Files (or links) that it reads again on a reload: one newer than its last reload reloads it.
    check
        A command that succeeds while the daemon does its work with these files. A reload may fail without a word, so it
        is asked in any case; where it fails the daemon is told once more, and asked until *deadline* seconds are over.
    runs_us
        Whether this may be the very daemon that runs the states: then it is not restarted in the midst of them.
    speaks
        The unit whose journal says why the check fails, where it is another one: of a timer that which it starts.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "runs, up to date"}
    try:
        actions = _actions(name, restart, reload)
        if __opts__["test"]:
            return ret | ({"result": None, "comment": "would " + ", ".join(actions)} if actions else {})
        if not actions and check and not _succeeds(check):
            actions = ["reload" if reload else "restart"]
        if not actions:
            return ret
        for action in actions:
            if action == "restart" and runs_us and __opts__.get("__cli") == "salt-minion":
                _restart_after_this(name)
                return ret | {"changes": {name: "restart"}, "comment": "restarts when these states are through"}
            _systemctl(*([action] if action == "daemon-reload" else [action, name]))
        _wait_until_active(name, deadline)
        if check:
            _wait_for(check, deadline)
    except RuntimeError as error:
        return ret | {"result": False, "comment": f"{error}\n{_journal(speaks or name)}".strip()}
    return ret | {"changes": {name: ", ".join(actions)}, "comment": "now runs what the disk says"}


def _restart_after_this(name):
    # A job is a process of its own, which ends once its result is with the master.
    waiting = f"tail --pid={os.getpid()} --follow /dev/null; exec systemctl restart {shlex.quote(name)}"
    command = ["systemd-run", "--collect", "--quiet", "/bin/sh", "-c", waiting]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)}: {done.stderr.strip() or done.returncode}")


def only(name, keep=()):
    """Stop and disable the units that the pattern *name* matches, such as ``celery@*.service``, except those in *keep*.

    Units of a kind that pillar lists: what it no longer lists has no state of its own that could stop it.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "no other"}
    try:
        doomed = sorted(_present(name) - set(keep))
        if not doomed:
            return ret
        if __opts__["test"]:
            return ret | {"result": None, "comment": f"would stop {', '.join(doomed)}"}
        _systemctl("disable", "--now", *doomed)
        # Of a failed one systemd would tell for ever.
        if failed := [unit for unit in doomed if _show(unit)["ActiveState"] == "failed"]:
            _systemctl("reset-failed", *failed)
    except RuntimeError as error:
        return ret | {"result": False, "comment": str(error)}
    return ret | {"changes": {"stopped": doomed}, "comment": f"stopped {', '.join(doomed)}"}


def _present(pattern):
    """The units that match *pattern* and run, or would at the next boot."""
    states = "--state=active,reloading,activating,deactivating,failed"
    listed = _systemctl("list-units", "--plain", "--no-legend", states, pattern)
    enabled = (path.name for path in pathlib.Path(UNITS).glob(f"*.wants/{pattern}"))
    return {*(line.split()[0] for line in listed.splitlines()), *enabled}


def _actions(name, restart, reload):
    unit = _show(name)
    actions = []
    # Not NeedDaemonReload: systemd 252 does not see the first drop-in of a unit.
    if _newest(path for path in (*restart, *reload) if path.startswith(UNITS)) > _units_loaded():
        actions.append("daemon-reload")
    if unit["UnitFileState"] not in ("enabled", "static", "indirect", "alias", "generated"):
        actions.append("enable")
    if unit["ActiveState"] == "failed":
        actions.append("reset-failed")
    if unit["ActiveState"] not in ("active", "reloading"):
        actions.append("start")
    elif _newest(restart) > _time(unit["ActiveEnterTimestamp"]):
        actions.append("restart")
    elif _newest(reload) > _time(unit["StateChangeTimestamp"]):
        actions.append("reload")
    return actions


def _show(name):
    shown = _systemctl("show", "--timestamp=us+utc", f"--property={','.join(PROPERTIES)}", name)
    return dict(line.split("=", 1) for line in shown.splitlines())


def _units_loaded():
    # At the boot, and by the last daemon-reload since, if there was one.
    properties = "--property=UnitsLoadStartTimestamp,UnitsLoadTimestamp"
    return max(map(_time, _systemctl("show", "--timestamp=us+utc", properties, "--value").splitlines()))


def _time(stamp):
    """Seconds since the epoch of systemd's ``Sun 2026-11-22 00:07:21.123456 UTC``; empty where it never happened."""
    if stamp in ("", "n/a"):
        return NEVER
    parsed = datetime.datetime.strptime(stamp, "%a %Y-%m-%d %H:%M:%S.%f UTC")
    return parsed.replace(tzinfo=datetime.UTC).timestamp()


def _newest(paths):
    # A link's own time, not its target's: switching it is the change.
    times = [
        pathlib.Path(path).lstat().st_mtime
        for path in paths
        if pathlib.Path(path).is_symlink() or pathlib.Path(path).exists()
    ]
    return max(times, default=NEVER)


def _systemctl(*arguments):
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"systemctl {' '.join(arguments)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _wait_until_active(name, deadline):
    until = time.monotonic() + deadline
    while (state := _show(name)["ActiveState"]) != "active":
        if state == "failed" or time.monotonic() > until:
            raise RuntimeError(f"{name} is {state}")
        time.sleep(0.1)


def _succeeds(check):
    return subprocess.run(shlex.split(check), capture_output=True, check=False).returncode == 0


def _wait_for(check, deadline):
    until = time.monotonic() + deadline
    while not _succeeds(check):
        if time.monotonic() > until:
            raise RuntimeError(f"still failing after {deadline} s: {check}")
        time.sleep(0.2)


def _journal(name):
    done = subprocess.run(
        ["journalctl", "--unit", name, "--lines", "15", "--no-pager", "--output", "cat"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout
