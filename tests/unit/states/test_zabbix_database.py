"""Copies of Zabbix's database and the way back: the scripts as they are, with nobody behind their commands."""

import os
import re
import subprocess

import pytest

from rendering import ROOT

PATH = "/usr/local/bin:/usr/bin:/bin"
FOLDER = "/var/backups/zabbix"
RUNBOOK = ROOT / "docs" / "runbooks" / "zabbix-database.rst"
# Whoever does something says so; root is played, and so is who becomes another.
COMMANDS = {
    "id": "echo 0",
    "systemctl": 'echo "systemctl $*" >>said',
    "runuser": 'shift 3; exec "$@"',
    "sync": ":",
    "pg_dump": 'echo pg_dump >>said; echo "what was there" >"$(printf "%s\\n" "$@" | sed -n s/^--file=//p)"',
    "pg_restore": 'grep -q . "${!#}" && cat "${!#}"',
    "psql": 'case "$*" in *--command*) echo 1;; *) { echo psql; cat; } >>said;; esac',
}
# As many as are kept.
OLD = [f"zabbix-2026010{number}T031700.000000000.dump" for number in range(1, 8)]


class Monitor:
    def __init__(self, host, folder):
        self._folder, self.copies = folder, folder / "copies"
        self.copies.mkdir()
        texts = {name: host.text(f"/usr/local/sbin/{name}") for name in ("backup-zabbix", "restore-zabbix")}
        for name, text in texts.items():
            assert FOLDER in text
            self.command(name, text.replace(FOLDER, str(self.copies)))
        for name, text in COMMANDS.items():
            self.command(name, f"#!/bin/bash\ncd {folder}\n{text}\n")

    def command(self, name, text):
        (self._folder / name).write_text(text)
        (self._folder / name).chmod(0o755)

    def __call__(self, *command):
        environment = {"PATH": f"{self._folder}:{PATH}"}
        return subprocess.run(
            [self._folder / command[0], *command[1:]],
            capture_output=True, text=True, check=False, env=environment, cwd=self.copies,
        )  # fmt: skip

    def kept(self, folder="."):
        return sorted(path.name for path in (self.copies / folder).iterdir() if path.is_file())

    @property
    def said(self):
        path = self._folder / "said"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def monitor(hosts, osfinger, tmp_path):
    return Monitor(hosts(osfinger, "single"), tmp_path)


def test_what_is_replaced_is_copied_first_and_lies_apart(monitor):
    (monitor.copies / "zabbix-1.dump").write_text("of long ago\n")

    done = monitor("restore-zabbix", "zabbix-1.dump")

    assert (done.returncode, done.stderr) == (0, "")
    assert monitor.said[:3] == ["systemctl stop zabbix-web.service zabbix-server.service", "pg_dump", "psql"]
    assert monitor.said[-3:] == ["of long ago", "commit;", "systemctl start zabbix-server.service zabbix-web.service"]
    # As a nightly copy it could be taken for the newest one, and would push out another.
    assert monitor.kept() == ["zabbix-1.dump"]
    (replaced,) = (monitor.copies / "replaced").iterdir()
    assert replaced.read_text() == "what was there\n"
    assert [oct(path.stat().st_mode & 0o777) for path in (replaced, replaced.parent)] == ["0o600", "0o700"]
    assert str(replaced) in done.stdout


def test_those_that_were_replaced_are_bounded_and_the_one_that_is_asked_for_comes_all_the_same(monitor):
    (monitor.copies / "replaced").mkdir()
    for name in OLD:
        (monitor.copies / "replaced" / name).write_text(f"all of {name}\n")

    done = monitor("restore-zabbix", f"replaced/{OLD[0]}")

    assert (done.returncode, done.stderr) == (0, "")
    assert f"all of {OLD[0]}" in monitor.said
    *kept, newest = monitor.kept("replaced")
    assert (kept, newest > OLD[-1]) == (OLD[1:], True)
    assert monitor.kept() == []


def test_what_cannot_be_copied_is_not_replaced_unless_that_is_wanted(monitor):
    (monitor.copies / "zabbix-1.dump").write_text("of long ago\n")
    monitor.command("pg_dump", "#!/bin/sh\necho 'no space left' >&2; exit 1\n")

    refused = monitor("restore-zabbix", "zabbix-1.dump")

    assert refused.returncode == 1
    assert "no space left" in refused.stderr
    assert "nothing is changed (--without-copy" in refused.stderr
    assert "psql" not in monitor.said
    assert monitor.said[-1] == "systemctl start zabbix-server.service zabbix-web.service"
    assert monitor("restore-zabbix", "--without-copy", "zabbix-1.dump").returncode == 0
    assert "of long ago" in monitor.said


def test_which_copy_is_never_guessed(monitor):
    for name, time in (("zabbix-1.dump", 2000), ("zabbix-2.dump", 1000)):
        (monitor.copies / name).write_text(name)
        os.utime(monitor.copies / name, (0, time))

    done = monitor("restore-zabbix")

    assert done.returncode == 2
    assert re.findall(r"zabbix-.\.dump", done.stderr) == ["zabbix-2.dump", "zabbix-1.dump"]
    assert monitor.said == []


@pytest.mark.parametrize(("text", "says"), [(None, "cannot read "), ("", "is no copy of a database")])
def test_what_is_no_copy_is_refused_before_anything_stops(monitor, text, says):
    if text is not None:
        (monitor.copies / "zabbix-1.dump").write_text(text)

    done = monitor("restore-zabbix", "zabbix-1.dump")

    assert (done.returncode, says in done.stderr) == (1, True)
    assert monitor.said == []


def test_the_last_nightly_copies_are_kept(monitor):
    (monitor.copies / "replaced").mkdir()
    for name in OLD:
        (monitor.copies / name).write_text("of a night")
        (monitor.copies / "replaced" / name).write_text("of a restore")

    done = monitor("backup-zabbix")

    *kept, newest = monitor.kept()
    assert (done.returncode, done.stdout) == (0, f"backup-zabbix: {monitor.copies}/{newest}\n")
    assert (kept, newest > OLD[-1]) == (OLD[1:], True)
    assert monitor.kept("replaced") == OLD
