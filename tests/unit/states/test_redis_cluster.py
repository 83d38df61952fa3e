"""Redis and Sentinel of the cluster, started as the rendered units would start them, on addresses of this machine."""

import concurrent.futures
import itertools
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time

import pytest
import redis

from rendering import SECRETS, load

NAMES = ["data1", "data2", "data3"]
NAME = "turnkey"
PASSWORDS = {
    "app": SECRETS["redis"]["password"],
    "replication": SECRETS["redis"]["replication_password"],
    "sentinel": SECRETS["sentinel"]["password"],
}
SEEDS = {"redis-server": "state", "redis-sentinel": "sentinel"}
UNIT = "/etc/systemd/system/{}.service.d/turnkey.conf"


class DataHost:
    """A data host of the cluster: its rendered files in a folder, its daemons on an address of 127.0.0.0/8."""

    def __init__(self, host, folder, network):
        self._rendered, self._folder = host, folder
        self._network = network
        self.address = f"{network}.{host_number(host)}"
        self.processes = {}
        for part in ("etc", "lib", "log", "run/redis", "run/sentinel", "sbin"):
            (folder / part).mkdir(parents=True)
        # By this name it is one, whether or not the package is here.
        (folder / "sbin" / "redis-sentinel").symlink_to(shutil.which("redis-server"))
        self._environment = os.environ | {"PATH": f"{folder / 'sbin'}:{os.environ['PATH']}"}
        for path in host.files:
            if path.startswith(("/etc/redis/", "/usr/local/sbin/")):
                self.place(path).write_text(self.here(host.text(path)))
                self.place(path).chmod(0o755 if "sbin" in path else 0o640)

    def here(self, text):
        """*text* with addresses and folders of this machine; who is dead is found sooner."""
        text = text.replace("10.77.2.", f"{self._network}.")
        # Only root could; it is their package that makes the user.
        text = re.sub(r"^chown redis:redis .*\n", "", text, flags=re.MULTILINE)
        text = re.sub(r"(down-after-milliseconds \S+) \d+", r"\1 1000", text)
        text = text.replace("tls-replication no", "tls-replication no\nrepl-diskless-sync-delay 0")
        for path, part in {
            "/etc/redis": "etc",
            "/var/lib/redis": "lib",
            "/var/log/redis": "log",
            "/run": "run",
            "/usr/local/sbin": "sbin",
        }.items():
            text = re.sub(rf"(?<![\w.]){path}\b", str(self._folder / part), text)
        text = text.replace("/usr/bin/redis-server", shutil.which("redis-server"))
        return text.replace("/usr/bin/redis-sentinel", str(self._folder / "sbin" / "redis-sentinel"))

    def place(self, path):
        return pathlib.Path(self.here(path))

    def run(self, state):
        """Do what the state of this name does."""
        (chunk,) = (chunk for chunk in self._rendered.chunks if (chunk["__id__"], chunk["fun"]) == (state, "run"))
        self.command(chunk["name"], check=True)

    def command(self, line, check=False):
        command = shlex.split(self.here(line))
        return subprocess.run(command, check=check, env=self._environment, capture_output=True, text=True)

    def start(self, unit):
        text = self._rendered.text(UNIT.format(unit)).replace("\\\n", " ")
        command = re.findall(r"^ExecStart=(.+)$", text, re.MULTILINE)[-1]
        with (self._folder / "log" / f"{unit}.out").open("ab") as out:
            self.processes[unit] = subprocess.Popen(shlex.split(self.here(command)), stdout=out, stderr=out)

    def apply(self, units=("redis-server", "redis-sentinel")):
        """What an apply does: seeds where there are none, then the daemons, unless they run."""
        for unit in units:
            seed = f"/var/lib/redis/{SEEDS[unit]}.conf"
            # Such a state there is only while the file is not.
            if not self.place(seed).exists():
                self.run(seed)
            if unit not in self.processes:
                self.start(unit)

    def end(self, unit, how=signal.SIGTERM):
        process = self.processes.pop(unit)
        process.send_signal(signal.SIGCONT)
        process.send_signal(how)
        process.wait(20)

    def ask(self, *command, user="app", port=6379):
        with redis.Redis(
            self.address, port, username=user, password=PASSWORDS[user], socket_timeout=5, decode_responses=True
        ) as client:
            return client.execute_command(*command)

    def sentinel(self, command, *arguments, user="app"):
        return self.ask(f"SENTINEL {command}", *arguments, user=user, port=26379)

    def replication(self):
        return self.ask("INFO", "replication")

    def static(self):
        """What Salt manages, with the time of its last change."""
        paths = sorted((self._folder / "etc").iterdir())
        return [(path, path.read_text(), path.stat().st_mtime_ns) for path in paths]


def host_number(host):
    return {"data1": 31, "data2": 32, "data3": 33}[host.name]


@pytest.fixture
def site(hosts, tmp_path):
    # Of this process alone: others run the same tests at the same time.
    network = f"127.{64 + os.getpid() % 128}.{os.getpid() // 128 % 250}"
    made = {name: DataHost(hosts("Debian-12", f"cluster-{name}"), tmp_path / name, network) for name in NAMES}
    yield made
    for host in made.values():
        for unit in list(host.processes):
            host.end(unit, signal.SIGKILL)


@pytest.fixture
def running(site):
    """The site after its first apply: one primary, two replicas, three Sentinels that know each other and both."""
    for host in site.values():
        host.apply(["redis-server"])
    # Sentinel looks for replicas every ten seconds: so it finds them at once.
    until(lambda: site["data1"].replication()["connected_slaves"] == 2)
    for host in site.values():
        host.apply()
    assert settled(site) == "data1"
    return site


def until(holds, deadline=180):
    """Return what *holds* tells once it is true; until then it may fail an assertion, or Redis may not answer.

    A vote of the Sentinels that nobody won costs twice their failover timeout, and a machine that stood still 30 s of
    each Sentinel (TILT).
    """
    end = time.monotonic() + deadline
    while True:
        try:
            if told := holds():
                return told
        except (AssertionError, redis.RedisError) as error:
            told = error
        assert time.monotonic() < end, f"not within {deadline} seconds: {told!r}"
        time.sleep(0.1)


def settled(site):
    """Wait until all hosts agree on who is primary, and each of the others follows it; return its name.

    Which one is the Sentinels' to say: on a machine that stood still meanwhile they may have moved it once more.
    """

    def agree():
        primaries = [name for name, host in site.items() if host.replication()["role"] == "master"]
        assert len(primaries) == 1, primaries
        (primary,) = primaries
        for name, host in site.items():
            address, _ = host.sentinel("GET-MASTER-ADDR-BY-NAME", NAME)
            assert address == site[primary].address, name
            told = host.sentinel("MASTER", NAME)
            assert (told["num-slaves"], told["num-other-sentinels"]) == (2, 2), name
            found = host.replication()
            if name == primary:
                assert found["role"] == "master", name
                assert (found["connected_slaves"], found["min_slaves_good_slaves"]) == (2, 2), name
            else:
                follows = (found.get("master_host"), found.get("master_link_status"))
                assert follows == (site[primary].address, "up"), name
        return primary

    return until(agree)


def other_primary(site, asked, before):
    def new():
        address, _ = asked.sentinel("GET-MASTER-ADDR-BY-NAME", NAME)
        return address != site[before].address and address

    address = until(new)
    return next(name for name, host in site.items() if host.address == address)


def test_first_data_host_is_the_primary_at_first_and_most_sentinels_decide(running):
    running["data1"].ask("SET", "key", "value")
    for name in ("data2", "data3"):
        until(lambda host=running[name]: host.ask("GET", "key") == "value")
        with pytest.raises(redis.ReadOnlyError):
            running[name].ask("SET", "key", "other")
    for host in running.values():
        told = host.sentinel("MASTER", NAME)
        assert (told["quorum"], told["failover-timeout"]) == (2, 10_000)


def test_what_salt_manages_outlives_a_failover_and_an_apply_after_it_changes_nothing(running):
    before = {name: host.static() for name, host in running.items()}
    running["data1"].end("redis-server", signal.SIGKILL)
    other_primary(running, running["data2"], "data1")
    # systemd starts it again, and it hears that it is the primary no more.
    running["data1"].start("redis-server")
    primary = settled(running)
    assert {name: host.static() for name, host in running.items()} == before
    # Who is primary stands in the file that Redis keeps, and nowhere else.
    told = f"replicaof {running[primary].address} 6379"
    kept = {name: (host.place("/var/lib/redis/state.conf").read_text()) for name, host in running.items()}
    for name, text in kept.items():
        assert ("replicaof" not in text) if name == primary else (told in text), name
    for host in running.values():
        host.apply()
    assert {name: (host.place("/var/lib/redis/state.conf").read_text()) for name, host in running.items()} == kept
    assert settled(running) == primary


def test_orchestration_sees_who_the_primary_is_and_moves_it(running):
    """As orch.failover has it, by the module that asks a host's Sentinel."""
    asked = {
        name: load(
            "_modules/primary.py",
            ASK=str(host.place("/usr/local/sbin/ask-sentinel")),
            __salt__={
                "turnkey.settings": {"sentinel": {"name": NAME, "down_after": 5000}, "redis": {"port": 6379}}.get
            },
            __grains__={"id": name},
            __pillar__={"topology": {"hosts": {name: {"address": host.address}}}},
        )
        for name, host in running.items()
    }
    addresses = {name: host.address for name, host in running.items()}

    def seen(primary):
        others = sorted(set(addresses.values()) - {primary})
        return {"primary": primary, "well": True, "replicas": others, "sentinels": 3}

    until(lambda: all(each.view() == seen(addresses["data1"]) for each in asked.values()))
    over = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(4) as writers:
        writing = [writers.submit(write_until, over, running, number) for number in range(4)]
        try:
            asked["data1"].move()
            until(lambda: asked["data1"].view()["primary"] != addresses["data1"])
            now = asked["data1"].view()["primary"]
            until(lambda: all(each.view() == seen(now) for each in asked.values()))
        finally:
            # Else the writers would be waited for when something here fails.
            over.set()
        kept = [key for each in writing for key in each.result()]
    primary = next(host for host in running.values() if host.address == now)
    # What a replica had, too, when its writer was told so: jobs are promised on the strength of it.
    assert len(kept) > 100
    assert primary.ask("EXISTS", *kept) == len(kept)


def write_until(over, site, number):
    """Write to whatever is the primary, as the app does; return the keys that a replica has acknowledged."""
    kept, client = [], None
    for count in itertools.count():
        if over.is_set():
            return kept
        try:
            if client is None:
                address, _ = site["data2"].sentinel("GET-MASTER-ADDR-BY-NAME", NAME)
                client = redis.Redis(address, 6379, username="app", password=PASSWORDS["app"], socket_timeout=1)
            client.set(f"key-{number}-{count}", "value")
            if client.wait(1, 200):
                kept.append(f"key-{number}-{count}")
            # The cores are for Redis and its Sentinels, too.
            time.sleep(0.002)
        except redis.RedisError:
            client = None
            time.sleep(0.05)


def test_what_salt_changes_wins_over_what_redis_and_sentinel_have_rewritten(running):
    """A rewritten file repeats all settings that differ from Redis's defaults; Salt's come after it."""
    one = running["data2"]
    one.ask("CONFIG", "REWRITE", user="sentinel")
    assert "maxmemory 512mb" in one.place("/var/lib/redis/state.conf").read_text()
    for unit, path, old, new in [
        ("redis-server", "/etc/redis/redis.conf", "maxmemory 512mb", "maxmemory 256mb"),
        ("redis-server", "/etc/redis/replication.conf", "min-replicas-max-lag 3", "min-replicas-max-lag 7"),
        (
            "redis-sentinel",
            "/etc/redis/turnkey-sentinel.conf",
            f"failover-timeout {NAME} 10000",
            "failover-timeout {NAME} 20000",
        ),
    ]:
        text = one.place(path).read_text()
        assert old in text
        one.place(path).write_text(text.replace(old, new.format(NAME=NAME)))
        one.end(unit)
        one.start(unit)
    assert settled(running) == "data1"
    assert one.ask("INFO", "memory")["maxmemory"] == 256 * 2**20
    assert one.sentinel("MASTER", NAME)["failover-timeout"] == 20_000
    one.ask("CONFIG", "REWRITE", user="sentinel")
    written = one.place("/var/lib/redis/state.conf").read_text()
    assert "maxmemory 256mb" in written
    assert "min-replicas-max-lag 7" in written
    # Those that can be said several times do not add up.
    assert written.count("save 3600 1") == 1
    # And what only Sentinel's own file can hold is set in it by Sentinel.
    one.sentinel("SET", NAME, "quorum", "3", user="sentinel")
    one.run(f"ask-sentinel SENTINEL SET {NAME} quorum 2")
    assert one.sentinel("MASTER", NAME)["quorum"] == 2
    assert (
        f"sentinel monitor {NAME} {running['data1'].address} 6379 2"
        in one.place("/var/lib/redis/sentinel.conf").read_text()
    )


def test_host_that_is_built_anew_follows_the_present_primary_and_not_the_first_host(running):
    """The hardest case: it is the first host itself."""
    running["data1"].ask("SET", "key", "kept")
    running["data1"].ask("WAIT", "2", "5000")
    for unit in ("redis-server", "redis-sentinel"):
        running["data1"].end(unit, signal.SIGKILL)
    primary = other_primary(running, running["data2"], "data1")
    for path in running["data1"].place("/var/lib/redis").rglob("*"):
        if path.is_file():
            path.unlink()
    running["data1"].apply()
    state = running["data1"].place("/var/lib/redis/state.conf").read_text()
    assert f"replicaof {running[primary].address} 6379" in state
    seen = running["data1"].place("/var/lib/redis/sentinel.conf").read_text()
    assert f"sentinel monitor {NAME} {running[primary].address} 6379 2" in seen
    until(lambda: running["data1"].ask("GET", "key") == "kept")
    # With a new name for its Sentinel, of which the others know the old one too.
    until(lambda: running["data1"].sentinel("MASTER", NAME)["num-other-sentinels"] == 2)
    assert running[primary].ask("GET", "key") == "kept"


def test_first_host_that_wrongly_begins_as_a_primary_is_put_right_and_has_taken_no_write(running):
    """Its disk is new, and nobody could be asked when it was built."""
    running["data1"].ask("SET", "key", "kept")
    running["data1"].ask("WAIT", "2", "5000")
    for unit in ("redis-server", "redis-sentinel"):
        running["data1"].end(unit, signal.SIGKILL)
    primary = other_primary(running, running["data2"], "data1")
    for path in running["data1"].place("/var/lib/redis").rglob("*"):
        if path.is_file():
            path.unlink()
    running["data1"].place("/var/lib/redis/state.conf").write_text("# as the first host of a new site\n")
    running["data1"].start("redis-server")
    refusals = []

    def converted():
        try:
            running["data1"].ask("SET", "key", "wrong")
        except redis.ResponseError as error:
            refusals.append(str(error).split()[0])
        return running["data1"].replication()["role"] == "slave" and running["data1"].ask("GET", "key") == "kept"

    until(converted)
    assert "NOREPLICAS" in refusals[0] or "You" in refusals[0]
    assert running[primary].ask("GET", "key") == "kept"


def test_primary_that_hears_of_no_replica_takes_no_writes(running):
    for name in ("data2", "data3"):
        running[name].processes["redis-server"].send_signal(signal.SIGSTOP)

    def refused():
        try:
            running["data1"].ask("SET", "key", "value")
        except redis.ResponseError as error:
            return "NOREPLICAS" in str(error)
        return False

    until(refused)
    assert running["data1"].ask("GET", "key") == "value"
    # One of them is enough.
    running["data3"].processes["redis-server"].send_signal(signal.SIGCONT)
    until(lambda: running["data1"].ask("SET", "key", "again"))


def test_each_user_may_do_what_it_is_for_and_no_more(running):
    one = running["data1"]
    for user, port, command in [
        ("app", 6379, ["REPLICAOF", "NO", "ONE"]),
        ("app", 6379, ["CONFIG", "GET", "masterauth"]),
        ("replication", 6379, ["GET", "key"]),
        ("replication", 6379, ["SET", "key", "value"]),
        ("sentinel", 6379, ["GET", "key"]),
        ("sentinel", 6379, ["CONFIG", "SET", "maxmemory", "1"]),
        ("app", 26379, ["SENTINEL", "FAILOVER", NAME]),
        ("app", 26379, ["SENTINEL", "SET", NAME, "quorum", "1"]),
        ("app", 26379, ["SENTINEL", "CONFIG", "GET", "sentinel-pass"]),
        ("app", 26379, ["SHUTDOWN"]),
        ("replication", 26379, ["SENTINEL", "RESET", "*"]),
    ]:
        with pytest.raises(redis.exceptions.NoPermissionError):
            one.ask(*command, user=user, port=port)
    for port in (6379, 26379):
        with redis.Redis(one.address, port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.execute_command("PING")
    assert one.sentinel("GET-MASTER-ADDR-BY-NAME", NAME, user="replication") == (one.address, 6379)


@pytest.mark.parametrize(
    ("checker", "path", "wrong"),
    [
        ("check-redis-config", "/etc/redis/redis.conf", "maxmemory plenty"),
        ("check-redis-config", "/etc/redis/replication.conf", "min-replicas-max-lag long"),
        ("check-redis-config --aclfile", "/etc/redis/users.acl", "user app on +wrong"),
        ("check-sentinel-config", "/etc/redis/turnkey-sentinel.conf", f"sentinel down-after-milliseconds {NAME} long"),
        ("check-sentinel-config --aclfile", "/etc/redis/sentinel.acl", "user app on +wrong"),
    ],
)
def test_daemon_itself_judges_what_would_become_its_configuration(site, checker, path, wrong):
    one = site["data1"]
    draft = one.place("/var/lib/redis") / "draft"

    def judged(text):
        draft.write_text(text)
        return one.command(f"{checker} /var/lib/redis/draft")

    right = one.place(path).read_text()
    assert judged(right).returncode == 0, judged(right).stderr
    refused = judged(f"{right}{wrong}\n")
    assert refused.returncode == 1
    assert "refuses" in refused.stderr
