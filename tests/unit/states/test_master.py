"""A real Salt master and real minions on loopback: who is let in, and what nobody gets by asking otherwise.

On real hosts: tests/infra/cluster/test_master.py.
"""

import contextlib
import json
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import pytest
import yaml
from cryptography.hazmat.primitives import serialization

from rendering import CLUSTER, ROOT, grains, minion

BIN = pathlib.Path(sys.executable).parent
KEYRING = ROOT / "salt" / "keyring.py"
SECRETS = {
    "redis": {"password": "known-to-data-and-web-only", "replication_password": "known-to-data-hosts-only"},
    "sentinel": {"password": "known-to-sentinels-only"},
    "keepalived": {"password": "known-to-balancers-only"},
}
ROLES_OF = {
    "redis:password": ["data", "web", "worker"],
    "redis:replication_password": ["data"],
    "sentinel:password": ["data"],
    # There is none today: so that either of the two hosts knows what the other does not.
    "keepalived:password": ["lb"],
}
MINIONS = ("lb1", "data1")
# A third host of the topology, whose key nobody accepts.
STRANGER = "web1"
PATIENCE = 120
ME = pwd.getpwuid(os.geteuid()).pw_name

# As a minion whose key is accepted: ask for what is another's, in the ways that the protocol has.
STEAL = """
import json, sys
import salt.channel.client, salt.config, salt.fileclient
options = salt.config.minion_config(sys.argv[1])
options.update(master_uri=f"tcp://127.0.0.1:{options['master_port']}")
got = []
with salt.channel.client.ReqChannel.factory(options) as channel:
    grains = {"id": "data1", "osfinger": "Debian-13", "roles": ["data"]}
    common = {"cmd": "_pillar", "saltenv": "base", "pillarenv": "base", "ver": "2", "ext": None}
    attempts = [
        {**common, "id": "data1", "grains": grains},
        {**common, "id": options["id"], "grains": grains},
        {**common, "id": options["id"], "grains": grains, "pillar_override": {"roles": ["data"]}},
        {**common, "id": "../data1", "grains": grains},
    ]
    for load in attempts:
        try:
            got.append(channel.crypted_transfer_decode_dictentry(load, dictkey="pillar", tries=1, timeout=20))
        except Exception as error:
            got.append(f"refused: {type(error).__name__}")
    for path in ("secrets.sls", "../pillar/secrets.sls", "../../pillar/secrets.sls", sys.argv[2]):
        load = {"cmd": "_serve_file", "path": path, "saltenv": "base", "loc": 0, "id": options["id"]}
        try:
            got.append(channel.send(load, tries=1, timeout=20))
        except Exception as error:
            got.append(f"refused: {type(error).__name__}")
print(json.dumps([repr(answer) for answer in got]))
"""


class Site:
    """One master and its minions, each with a folder of its own below *folder*."""

    def __init__(self, folder, master_of_the_formula):
        self.folder, self.daemons = folder, {}
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
            for each in sockets:
                each.bind(("127.0.0.1", 0))
            ports = [each.getsockname()[1] for each in sockets]
        for name in (*MINIONS, STRANGER):
            options = minion(folder / name, name, CLUSTER)
            fixed = grains(name, "Debian-13")
            fixed.pop("id")
            options |= {
                "file_client": "remote",
                "master": "127.0.0.1",
                "publish_port": ports[0],
                "master_port": ports[1],
                "user": ME,
                "grains": json.loads(json.dumps(fixed)),
                "acceptance_wait_time": 1,
                "random_reauth_delay": 1,
                "rejected_retry": True,
                "recon_default": 200,
                "recon_max": 1000,
                "sock_dir": str(folder / name / "s"),
                "pidfile": str(folder / name / "pid"),
                "pki_dir": str(folder / name / "pki"),
                "log_file": str(folder / name / "log"),
                "keysize": 2048,
                "extension_modules": str(folder / name / "cache" / "extmods"),
            }
            options["pillar_roots"] = {"base": [str(self.own_pillar(name, options))]}
            self.write(name, "minion", options)
        master = yaml.safe_load(master_of_the_formula) | {
            "interface": "127.0.0.1",
            "publish_port": ports[0],
            "ret_port": ports[1],
            "user": ME,
            "timeout": 3,
            "gather_job_timeout": 3,
            "root_dir": str(folder / "m"),
            "cachedir": str(folder / "m" / "cache"),
            "pki_dir": str(folder / "m" / "pki"),
            "sock_dir": str(folder / "m" / "s"),
            "pidfile": str(folder / "m" / "pid"),
            "log_file": str(folder / "m" / "log"),
            "turnkey": {"topology": "cluster", "pillar": ["lab"], "repository": str(ROOT)},
        }
        master["pillar_roots"] = {"base": [str(self.pillar(folder / "m" / "pillar", SECRETS))]}
        # What the first apply has not written yet, salt/bootstrap.sh has: who the master is, for one.
        self.write("m", "minion", {key: master.pop(key) for key in ("id", "keysize")})
        self.write("m", "master", master)
        # As its unit has it (CacheDirectoryMode).
        (folder / "m" / "cache").mkdir(mode=0o700)
        told = self.keyring("m", "fingerprint", "--master")
        assert told.returncode == 0, told.stderr
        self.fingerprint = told.stdout.strip()
        self.write("m", "master", yaml.safe_load(master_of_the_formula) | master)

    def pillar(self, folder, secrets):
        shutil.copytree(ROOT / "salt" / "pillar", folder, ignore=shutil.ignore_patterns("secrets.sls", "site.sls"))
        (folder / "secrets_of_roles.yaml").write_text(yaml.safe_dump(ROLES_OF))
        (folder / "secrets.sls").write_text(yaml.safe_dump(secrets))
        return folder

    def own_pillar(self, name, options):
        """The pillar on the disk of a minion: with its own secrets only."""
        shutil.rmtree(options["pillar_roots"]["base"][0])
        own = {
            path.split(":")[0]: SECRETS[path.split(":")[0]]
            for path, roles in ROLES_OF.items()
            if set(roles) & set(CLUSTER["hosts"][name]["roles"])
        }
        return self.pillar(self.folder / name / "pillar", own)

    def write(self, name, role, options):
        (self.folder / name / "etc").mkdir(parents=True, exist_ok=True)
        (self.folder / name / "etc" / role).write_text(yaml.safe_dump(options))

    def etc(self, name):
        return f"--config-dir={self.folder / name / 'etc'}"

    def start(self, command, name):
        log = (self.folder / name / "output").open("ab")
        self.daemons[name] = subprocess.Popen(
            [BIN / command, self.etc(name)], stdout=log, stderr=log, env=self.environment, start_new_session=True
        )
        log.close()

    def stop(self, name):
        """Kill a daemon with all of its processes, as a power cut does."""
        daemon = self.daemons.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(daemon.pid, 9)
        daemon.wait()

    @property
    def environment(self):
        return os.environ | {"HOME": str(self.folder)}

    def run(self, *command, given=None):
        return subprocess.run(
            [str(part) for part in command],
            input=given,
            capture_output=True,
            text=True,
            check=False,
            env=self.environment,
            timeout=PATIENCE,
        )

    def keyring(self, name, *arguments, given=None):
        return self.run(sys.executable, KEYRING, self.etc(name), *arguments, given=given)

    def keys(self):
        return json.loads(self.run(BIN / "salt-key", self.etc("m"), "--out=json", "--list=all").stdout)

    def ask(self, target, *arguments):
        """What the minions answer to the master, by name."""
        done = self.run(BIN / "salt", self.etc("m"), "--out=json", "--static", target, *arguments)
        # Before the answers it says so where it knows no minion at all.
        told = json.loads(done.stdout[done.stdout.find("{") :] or "{}")
        return {name: answer for name, answer in told.items() if answer is not False}

    def logs(self):
        return "\n".join(f"{path}:\n{path.read_text()[-3000:]}" for path in self.folder.glob("*/output"))


def eventually(probe, site):
    until = time.monotonic() + PATIENCE
    while not (found := probe()):
        assert time.monotonic() < until, site.logs()
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def site(hosts):
    """A master and two minions that run, trust it, and had their keys accepted."""
    # A short path: it is part of those of sockets.
    with tempfile.TemporaryDirectory(prefix="s-") as folder:
        site = Site(pathlib.Path(folder), hosts("Debian-13", "cluster-monitor").text("/etc/salt/master"))
        try:
            site.start("salt-master", "m")
            for name in (*MINIONS, STRANGER):
                assert site.keyring(name, "trust", site.fingerprint).returncode == 0
            # Before they run: a minion that finds no key makes one.
            told = "".join(site.keyring(name, "fingerprint").stdout for name in MINIONS)
            for name in MINIONS:
                site.start("salt-minion", name)
            done = site.keyring("m", "accept", given=told)
            assert done.returncode == 0, done.stderr + site.logs()
            eventually(lambda: set(site.ask("*", "test.ping")) == set(MINIONS), site)
            yield site
        finally:
            for name in list(site.daemons):
                site.stop(name)


@pytest.fixture(scope="module")
def refusal(site):
    """What the stranger is told who asks for his pillar; from then on his key waits for somebody to accept it."""
    return site.run(BIN / "salt-call", site.etc(STRANGER), "--out=json", "pillar.items", "unmask=True")


def test_the_masters_key_is_of_the_size_that_its_host_says(site):
    key = serialization.load_pem_public_key((site.folder / "m" / "pki" / "master.pub").read_bytes())
    assert key.key_size == 3072


def test_a_minion_whose_key_nobody_accepted_is_told_nothing(site, refusal):
    assert refusal.returncode != 0
    assert "has the minion key been accepted?" in refusal.stdout
    assert "known-to-" not in refusal.stdout + refusal.stderr
    assert site.keys()["minions_pre"] == [STRANGER]


@pytest.mark.usefixtures("refusal")
def test_a_key_with_another_fingerprint_is_not_accepted(site):
    own, other = (site.keyring(name, "fingerprint").stdout.split()[1] for name in (STRANGER, "lb1"))
    done = site.keyring("m", "accept", given=f"{STRANGER} {other}\n")
    assert done.returncode == 1
    wanted = f"{STRANGER}: not accepted: the key that waits has the fingerprint {own}, not {other}"
    assert wanted in done.stderr
    assert STRANGER in site.keys()["minions_pre"]


@pytest.mark.usefixtures("refusal")
@pytest.mark.parametrize("given", ["", f"{STRANGER} 12:34\n"], ids=["nothing", "no fingerprint"])
def test_nobody_is_accepted_without_a_fingerprint(site, given):
    assert site.keyring("m", "accept", given=given).returncode == 1
    assert STRANGER in site.keys()["minions_pre"]


def test_a_minion_cannot_have_the_secrets_of_another(site):
    config = site.folder / "lb1" / "etc" / "minion"
    secrets = site.folder / "m" / "pillar" / "secrets.sls"
    done = site.run(sys.executable, "-c", STEAL, config, secrets)
    assert done.returncode == 0, done.stderr
    # It was let in and told its own, so the attempts were real ones.
    assert "known-to-balancers-only" in done.stdout
    assert "known-to-data-and-web-only" not in done.stdout


def test_a_minion_follows_no_master_but_the_one_it_trusts(site):
    trusted = site.folder / "lb1" / "etc" / "minion.d" / "trust.conf"
    known = site.folder / "lb1" / "pki" / "minion_master.pub"
    before = {path: path.read_text() for path in (trusted, known)}
    # Any fingerprint but the master's.
    own = site.keyring("lb1", "fingerprint").stdout.split()[1]
    assert site.keyring("lb1", "trust", own).returncode == 0
    try:
        # What it knew of another master is gone, so that this one is looked at.
        assert not known.exists()
        done = site.run(BIN / "salt-call", site.etc("lb1"), "test.ping")
        assert done.returncode != 0
        assert "Does not match the authenticating master's" in done.stdout + done.stderr
    finally:
        for path, text in before.items():
            path.write_text(text)
