"""What each host gets, by its roles."""

import pathlib
import re
import subprocess

from rendering import SECRET

# Where more than one host has the role data.
WATCHED = {"sentinel"}
EVERYWHERE = {"firewall", "names", "ntp", "logrotate"}
BY_ROLE = {
    "lb": {"haproxy"},
    "web": {"app", "gunicorn", "gunicorn_status", "nginx"},
    "worker": {"app", "celery"},
    "data": {"redis"},
    "monitor": {"postgresql", "zabbix_server", "zabbix_frontend", "status_page"},
    "logs": {"logstash"},
}
# What salt/bootstrap.sh and salt/keyring.py leave on a host, and what dpkg notes of a package of others.
FOUND = {
    *("/etc/salt/minion", "/etc/salt/minion.d/trust.conf", "/opt/salt/.installed"),
    "/var/lib/dpkg/info/logstash.list",
}


def test_roles_decide_what_a_host_gets(host):
    of_a_master = {"salt_minion"} if host.has_master else set()
    of_a_master |= {"salt_master"} if host.has_master and "monitor" in host.roles else set()
    moving = {"keepalived"} if "lb" in host.roles and "virtual_address" in host.topology else set()
    watched = WATCHED if host.name in ("data1", "data2", "data3") else set()
    kept = any("logs" in other["roles"] for other in host.topology["hosts"].values())
    sent = {"rsyslog"} if kept else set()
    measured = (
        {"zabbix_agent"} if any("monitor" in other["roles"] for other in host.topology["hosts"].values()) else set()
    )
    assert host.formulas == EVERYWHERE.union(
        of_a_master, moving, watched, sent, measured, *(BY_ROLE[role] for role in host.roles)
    )


def test_every_state_function_exists_in_the_pinned_salt(host):
    assert host.unknown == set()


def test_every_file_renders(host):
    for path in host.files:
        text = host.text(path)
        assert text.endswith("\n"), path
        assert "{{" not in text, path
        assert "{%" not in text, path
        # The line that tells a reader where to change it; an ACL file of Redis and a key know no comments.
        assert "Managed by Salt" in text or path.endswith((".acl", ".asc", ".psk", "requirements.txt")), path


def test_files_are_named_by_their_path_and_have_a_quoted_mode(host):
    for path, chunk in host.files.items():
        assert chunk["__id__"] == path
        assert re.fullmatch(r"0[0-7]{3}", str(chunk["mode"])), path
        assert isinstance(chunk["mode"], str), path


def test_configuration_is_checked_before_it_replaces_the_old_one(host):
    """Drop-ins and templates for units, and files of variables, have no checker."""
    for path, chunk in host.files.items():
        if path.startswith("/etc/") and not re.search(r"\.d/turnkey\.conf$|^/etc/(default|celery)/|@\.[a-z]+$", path):
            assert chunk.get("check_cmd"), path


def test_every_file_of_a_daemon_reaches_it(host):
    """A file under /etc that no daemon is told about would wait for the next restart by chance."""
    told = set()
    for chunk in host.chunks:
        if chunk["state"] == "daemon":
            told.update(chunk.get("restart", []), chunk.get("reload", []))
    configuration = {path for path in host.files if path.startswith("/etc/")}
    # logrotate, apt and tmpfiles read their files each time they run, try-release has systemd read those of its trial.
    # A host without workers has nothing that reads the template of theirs.
    templates = "try-release@" if any("celery@" in path for path in told) else "(try-release|celery)@"
    later = re.compile(rf"/etc/(logrotate\.d|apt|tmpfiles\.d)/|/etc/systemd/system/{templates}")
    assert {path for path in configuration - told if not later.match(path)} == set()
    known = set(host.files) | {chunk["name"] for chunk in host.chunks if chunk["fun"] == "symlink"}
    assert told - known - FOUND == set()


def test_a_host_of_several_roles_gets_each_formula_once(hosts, osfinger):
    names = [(chunk["__id__"], chunk["fun"]) for chunk in hosts(osfinger, "single").chunks]
    assert len(names) == len(set(names))


def test_secrets_are_shown_to_nobody(host):
    for path, chunk in host.files.items():
        if SECRET in host.text(path) or path.endswith(".acl"):
            assert chunk["mode"].endswith("0"), path
            assert chunk.get("show_changes") is False, path
    for chunk in host.chunks:
        assert SECRET not in str(chunk), chunk["__id__"]


def test_packages_are_lists(host):
    for chunk in host.chunks:
        if chunk["state"] == "pkg":
            # One that is a file on the host is a list of its own.
            assert isinstance(chunk.get("pkgs", chunk.get("sources")), list), chunk["__id__"]


def test_rendered_scripts_pass_shellcheck(host, tmp_path):
    scripts = {path: host.text(path) for path in host.files if host.text(path).startswith("#!")}
    scripts = {path: text for path, text in scripts.items() if "python" not in text.partition("\n")[0]}
    if "web" in host.roles:
        assert "/usr/local/sbin/try-release" in scripts
    for path, text in scripts.items():
        script = tmp_path / pathlib.Path(path).name
        script.write_text(text)
        done = subprocess.run(
            ["shellcheck", "--exclude=SC2317,SC2329", script], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


def test_the_last_thing_made_of_a_release_is_what_keeps_it(hosts, osfinger):
    """release.pruned takes a release without the marker for one that was cut off."""
    host = hosts(osfinger, "single")
    names = [chunk["name"] for chunk in host.chunks if chunk["__sls__"] == "app"]
    link = next(index for index, name in enumerate(names) if name.endswith("/current"))
    assert names[link - 1].endswith("/tried")
    assert [chunk["fun"] for chunk in host.chunks][-1] == "pruned"
