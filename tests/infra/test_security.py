"""Who may do what: the app little, strangers nothing, and secrets are where they must be and nowhere else."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from client import Client, another_site
from machine import IN_LAB, REPOSITORY, SALT_PYTHON, Machine, rehearsed

# What `systemd-analyze security` may say of a unit that is ours, in tenths.
EXPOSURE = 30
# Applies the states, packages and all: what it may not do no state can.
MAY_DO_ANYTHING = {"salt-minion.service"}

# Where a secret could have leaked to; what belongs to the kernel, and packages as they came, are left out.
SEARCHED = "/etc /home /opt /root /run /srv /tmp /usr/local /var"

# Find the files that hold a secret of the site. The secret stays on the host and out of command lines.
FIND_SECRETS = """
import os, subprocess, sys, tempfile, yaml

def leaves(node):
    return [leaf for child in node.values() for leaf in leaves(child)] if isinstance(node, dict) else [str(node)]

secrets = leaves(yaml.safe_load(open(sys.argv[1])) or {})
if not secrets:
    sys.exit()  # a load balancer needs none; an empty line would be found everywhere
assert all(len(secret) >= 20 for secret in secrets)
with tempfile.NamedTemporaryFile("w") as needles:
    needles.write("\\n".join(secrets) + "\\n")
    needles.flush()
    found = subprocess.run(["grep", "--recursive", "--files-with-matches", "--fixed-strings", "--devices=skip",
                            "--file", needles.name, *sys.argv[2:]], capture_output=True, text=True).stdout.splitlines()
    print("\\n".join(path for path in found if path != needles.name))
    journal = subprocess.Popen(["journalctl", "--no-pager", "--output=cat"], stdout=subprocess.PIPE)
    count = subprocess.run(["grep", "--count", "--fixed-strings", "--file", needles.name], stdin=journal.stdout,
                           capture_output=True, text=True).stdout.strip()
    if count != "0":
        print("the journal")
    for line in subprocess.run(["ps", "-e", "-o", "args="], capture_output=True, text=True).stdout.splitlines():
        if any(secret in line for secret in secrets):
            print("the command line of", line.split()[0])
"""


def test_our_own_units_are_little_exposed(host: Machine) -> None:
    ours = host.check("grep --files-with-matches 'Managed by Salt' /etc/systemd/system/*.service || true").split()
    if "web" in host.roles:
        assert ours
    for path in ours:
        unit = path.rpartition("/")[2]
        if unit in MAY_DO_ANYTHING:
            continue
        done = host.run("systemd-analyze security --no-pager --threshold=%s %s", str(EXPOSURE), unit)
        assert done.rc == 0, done.stdout.splitlines()[-1]


@pytest.mark.roles("web", "worker")
def test_the_app_runs_as_a_user_without_any_privilege(host: Machine) -> None:
    uid = host.check("id --user %s", host.settings("app")["user"])
    units = [unit for unit in host.units if unit.startswith(("gunicorn", "celery")) and unit.endswith(".service")]
    # It does not run the app, and as another user.
    units = [unit for unit in units if unit != "gunicorn-status.service"]
    families = [host.processes(unit) for unit in units]
    processes = [pid for family in families for pid in family]
    assert uid != "0"
    assert families
    assert [family for family in families if len(family) < 2] == []

    for pid in processes:
        status = dict(line.split(":", 1) for line in host.read(f"/proc/{pid}/status").splitlines())
        assert set(status["Uid"].split()) == {uid}
        assert {status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")


@pytest.mark.roles("web")
def test_the_app_cannot_write_its_own_code(host: Machine) -> None:
    user = host.settings("app")["user"]

    writable = host.check("find %s -xdev \\( -user %s -o -perm /o+w \\) -not -type l", host.root, user)

    assert writable == ""


def listeners(host: Machine) -> set[tuple[str, str, str]]:
    """Return protocol, address with port, and program of all that listens beyond loopback."""
    found = set()
    for line in host.check("ss --tcp --udp --listening --numeric --processes --no-header").splitlines():
        protocol, _, _, _, local, *rest = line.split()
        address, _, _ = local.rpartition(":")
        if not address.startswith(("127.", "[::1]")):
            found.add((protocol, local.replace("*:", "0.0.0.0:"), rest[-1].split('"')[1]))
    return found


def test_only_the_load_balancer_and_ssh_listen_beyond_loopback(
    host: Machine, topology: dict[str, Any], settings: Callable[[str], Any]
) -> None:
    if len(topology["hosts"]) > 1:
        return  # hosts that need each other listen for each other
    door = settings("haproxy")
    ports = host.check("sshd -T | sed -n 's/^listenaddress //p'").split()
    expected = {("tcp", address, "sshd") for address in ports} | {("tcp", f"0.0.0.0:{door['port']}", "haproxy")}
    if door["ipv6"]:
        expected |= {("tcp", f"[::]:{door['port']}", "haproxy")}

    assert listeners(host) == expected


@pytest.mark.roles("data")
@pytest.mark.parametrize("credentials", ["", "AUTH wrong\n", "AUTH app wrong\n", "AUTH default\n", "AUTH default x\n"])
def test_redis_refuses_strangers(host: Machine, credentials: str) -> None:
    address = host.offers("redis:port")
    for command in ("PING", "GET x", "SET x 1", "CONFIG GET *", "ACL LIST", "FLUSHALL", "SHUTDOWN NOSAVE"):
        done = host.run(
            "printf %s | redis-cli -h %s -p %s",
            f"{credentials}{command}\n",
            address,
            str(host.settings("redis")["port"]),
        )
        assert done.stdout.split()[-1] != "OK"
        assert done.stdout.rstrip().splitlines()[-1].startswith(("NOAUTH", "WRONGPASS")), command


@pytest.mark.roles("web")
def test_the_app_may_use_redis_and_not_manage_it(host: Machine) -> None:
    assert host.redis("PING") == "True"
    assert "used_memory" in host.redis("INFO", "memory")
    for command in (
        "CONFIG GET maxmemory", "CONFIG SET dir /tmp", "ACL LIST", "ACL SETUSER x on", "FLUSHALL", "FLUSHDB", "KEYS *",
        "SHUTDOWN NOSAVE", "MONITOR", "REPLICAOF no one", "MODULE LIST", "SAVE", "CLIENT KILL ID 1",
    ):  # fmt: skip
        assert "no permissions" in host.redis(*command.split()), command


def mode(host: Machine, path: str) -> str:
    return host.check("stat --dereference --format='%%a %%U:%%G' %s", path)


def test_the_sites_secrets_are_roots_alone(host: Machine) -> None:
    assert mode(host, f"{REPOSITORY}/salt/pillar/secrets.sls") == "600 root:root"


@pytest.mark.roles("web")
def test_the_environment_of_a_release_is_the_apps_and_nobody_elses(host: Machine) -> None:
    group = host.settings("app")["user"]

    for release in host.releases():
        assert mode(host, f"{host.root}/releases/{release}/environment") == f"640 root:{group}"


def test_what_root_runs_is_roots_to_write(host: Machine) -> None:
    paths = [REPOSITORY, "/opt/salt", "/etc/salt", "/usr/local"]

    others = host.check(
        f"find {' '.join(['%s'] * len(paths))} -xdev -not -type l \\( -not -user root -o -perm /go+w \\)", *paths
    )

    # Debian lets its group staff write to some folders of /usr/local; nobody is in it.
    strange = [path for path in others.splitlines() if not path.startswith("/usr/local/") and path != "/usr/local"]
    assert strange == []
    assert host.check("getent group staff | cut --delimiter=: --fields=4") == ""


@pytest.mark.parametrize("as_whom", ["nobody", "the app"])
def test_others_cannot_read_what_is_secret(
    host: Machine, settings: Callable[[str], dict[str, Any]], as_whom: str
) -> None:
    app = settings("app")["user"]
    user = app if as_whom == "the app" else "nobody"
    secret = [f"{REPOSITORY}/salt/pillar/secrets.sls", "/etc/rsyslog-sender.pem", "/var/lib/rsyslog"]
    if "logs" in host.roles:
        secret += ["/etc/rsyslog-receiver.pem", host.settings("rsyslog")["archive"]]
    if "data" in host.roles:
        secret += ["/etc/redis/users.acl", "/etc/redis/redis.conf", "/var/lib/redis", "/var/log/redis"]
    if "monitor" in host.roles:
        secret += ["/etc/zabbix/zabbix_server.conf", "/etc/zabbix/zabbix.conf.php", "/var/backups/zabbix"]
        secret += ["/etc/status-page.secret", "/var/lib/status-page/session"]
        secret += [f"/var/lib/postgresql/{host.settings('postgresql')['version']}/main"]
    if "web" in host.roles:
        secret += [host.settings("nginx")["cache"]["path"], "/var/log/nginx/access.log"]
        secret += ["/run/gunicorn/scoreboard"] if user == "nobody" else []
        secret += [f"{host.release()}/environment"] if user == "nobody" else []

    readable = [path for path in secret if host.run("runuser --user %s -- test -r %s", user, path).rc == 0]

    assert readable == []


@pytest.mark.roles("web")
def test_gunicorns_sockets_are_closed_to_other_users(host: Machine) -> None:
    assert_closed(host, host.settings("gunicorn")["socket"], "nobody", "haproxy", "redis")
    assert_closed(host, "/run/gunicorn/control.sock", "nobody", "haproxy", "redis", "www-data", "gunicorn-status")
    assert_closed(host, "/run/gunicorn-status/status.sock", "nobody", "haproxy", "redis")


@pytest.mark.roles("lb")
def test_haproxys_socket_is_closed_to_other_users(host: Machine) -> None:
    users = ("nobody", "www-data", host.settings("app")["user"]) if "web" in host.roles else ("nobody", "www-data")
    assert_closed(host, host.settings("haproxy")["admin_socket"], *users)


def assert_closed(host: Machine, path: str, *users: str) -> None:
    """Fail unless root can connect to a socket, and none of those *users* who are there."""
    connect = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    assert host.run("/usr/bin/python3 -c %s %s", connect, path).rc == 0, "root can"
    # Which of the formulas' users a host has depends on its roles; nobody is everywhere.
    there = [user for user in users if host.run("getent passwd %s", user).rc == 0]
    assert "nobody" in there
    for user in there:
        refused = host.run("runuser --user %s -- /usr/bin/python3 -c %s %s", user, connect, path)
        assert "PermissionError" in refused.stderr, (path, user)


@pytest.fixture(scope="session")
def _everything_has_spoken(client: Client, machines: dict[str, Machine]) -> None:
    """Let each part write to its logs, about failures too."""
    for target in ("/", "/readyz", "/api/v1/fibonacci?page=0", "/api/v1/fibonacci?page=1"):
        client.ask(target, another_site())
    # A lab's hosts were applied a moment ago, which wrote all that a rehearsal does and more.
    if not IN_LAB:
        rehearsed(machines)


@pytest.mark.usefixtures("_everything_has_spoken")
def test_secrets_are_where_they_are_used_and_nowhere_else(host: Machine) -> None:
    found = host.check(
        "%s -c %s %s " + SEARCHED, SALT_PYTHON, FIND_SECRETS, f"{REPOSITORY}/salt/pillar/secrets.sls"
    ).splitlines()

    expected = {f"{REPOSITORY}/salt/pillar/secrets.sls"}
    if "web" in host.roles:
        expected |= {f"{host.root}/releases/{release}/environment" for release in host.releases()}
    # What the agent of Zabbix comes to the server with, and to Redis.
    expected |= {"/etc/zabbix/agent.psk"} | ({"/etc/zabbix/measure-redis"} if "data" in host.roles else set())
    # By which hosts of one topology know each other's clocks.
    if "/etc/chrony/chrony.keys" in found:
        assert mode(host, "/etc/chrony/chrony.keys") == "640 root:root"
        expected |= {"/etc/chrony/chrony.keys"}
    if "monitor" in host.roles:
        expected |= {"/etc/status-page.secret"}
        # The server asks each agent with its key.
        expected |= {path for path in found if path.startswith("/var/lib/postgresql/")}
    if "salt-master.service" in host.units:
        # What the master remembers of the minions' pillars.
        assert mode(host, "/var/cache/salt/master") == "700 root:root"
        expected |= {path for path in found if path.startswith("/var/cache/salt/master/")}
    if "data" in host.roles and host.is_replicated:
        # With what one Redis logs in at another; they and the Sentinels keep a copy in the file that each rewrites.
        for path in ("/etc/redis/replication.conf", "/etc/redis/turnkey-sentinel.conf"):
            assert mode(host, path) == "640 root:redis"
            expected |= {path, "/var/lib/redis/state.conf", "/var/lib/redis/sentinel.conf"}
    assert set(found) - expected == set()
    # There is no host without a secret: each has a key of its own.
    assert f"{REPOSITORY}/salt/pillar/secrets.sls" in found


@pytest.mark.roles("web")
def test_an_apply_does_not_print_secrets(host: Machine) -> None:
    password = host.settings("redis")["password"]

    talkative = host.check("salt-call --local --log-level=info state.apply queue=10 test=True 2>&1")

    assert "gunicorn" in talkative
    assert password not in talkative


@pytest.mark.roles("web")
def test_a_stranger_reads_nothing_from_the_answers(client: Client, host: Machine) -> None:
    password = host.settings("redis")["password"]

    for target in ("/readyz", "/healthz", "/", "/api/v1/fibonacci?page=x"):
        answer = client.ask(target)
        assert password not in json.dumps(dict(answer.headers)) + answer.plain.decode()
