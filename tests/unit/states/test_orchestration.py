"""Hosts changed one after the other: a real Salt master and minions, a real HAProxy, states that do next to nothing."""

import json
import os
import pathlib
import socket
import subprocess
import tempfile

import pytest
import yaml

import test_master
from rendering import ROOT, STATES, grains, load, minion
from test_master import BIN, ME, PATIENCE, eventually
from test_switching import WEB1, WEB2, House, Websocket, wait_until

TOPOLOGY = {
    "name": "tiny",
    "network": "127.0.0.0/8",
    "hosts": {
        "lb1": {"address": "127.0.0.11", "roles": ["lb"]},
        "web1": {"address": WEB1, "roles": ["web"]},
        "web2": {"address": WEB2, "roles": ["web"]},
        "data1": {"address": "127.0.0.31", "roles": ["data"]},
        "monitor": {"address": "127.0.0.40", "roles": ["monitor"]},
    },
}
MINIONS = ("lb1", "web1", "web2")
OLD, NEW = "1" * 16, "2" * 16
ADMIN_SOCKET = '__salt__["turnkey.settings"]("haproxy")["admin_socket"]'
RUNNER = "_runners/rolling.py"
# What an apply does here: it notes who did it, what HAProxy made of the hosts just then, and what pillar said.
STATE = """
note:
  cmd.run:
    - name: >-
        (echo {{{{ grains.id }}}} {{{{ pillar.app.get('pinned') or 'new' }}}};
        echo show servers state web | socat -t 5 - UNIX-CONNECT:{admin} | cut -d ' ' -f 4,6,7) >> {notes}
more:
  cmd.run:
    - name: {more}
"""


class Site(test_master.Site):
    """A master and the minions of two web hosts and their load balancer."""

    def __init__(self, folder, master_of_the_formula, house):
        self.folder, self.daemons, self.house = folder, {}, house
        self.door = house.door()
        self.tree, self.notes = folder / "tree", folder / "notes"
        (self.tree / "_modules").mkdir(parents=True)
        # HAProxy's sockets lie where the schema has them; here they cannot.
        text = (STATES / "_modules" / "balancer.py").read_text()
        for there, here in (('"/run/haproxy-master.sock"', "master"), (ADMIN_SOCKET, "admin")):
            assert there in text
            text = text.replace(there, repr(f"{self.door.folder}/{here}.sock"))
        (self.tree / "_modules" / "balancer.py").write_text(text)
        (self.tree / "top.sls").write_text("base: {'*': [tiny]}\n")
        self.release()
        roots = [str(self.tree), str(STATES), str(ROOT / "salt" / "sources")]
        with socket.socket() as one, socket.socket() as other:
            for each in (one, other):
                each.bind(("127.0.0.1", 0))
            ports = one.getsockname()[1], other.getsockname()[1]
        for name in MINIONS:
            options = minion(folder / name, name, TOPOLOGY)
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
                "sock_dir": str(folder / name / "s"),
                "pidfile": str(folder / name / "pid"),
                "pki_dir": str(folder / name / "pki"),
                "log_file": str(folder / name / "log"),
                "keysize": 2048,
                "extension_modules": str(folder / name / "cache" / "extmods"),
            }
            self.write(name, "minion", options)
        self.pillar(folder / "m" / "pillar", {"redis": {"password": "none-that-counts"}})
        (folder / "m" / "pillar" / "topology" / "tiny.sls").write_text(yaml.safe_dump({"topology": TOPOLOGY}))
        self.settings()
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
            "extension_modules": str(folder / "m" / "cache" / "extmods"),
            "turnkey": {"topology": "tiny", "pillar": ["lab"]},
            "file_roots": {"base": roots},
            "pillar_roots": {"base": [str(folder / "m" / "pillar")]},
        }
        self.write("m", "master", master)

    def settings(self, **orchestration):
        site = {
            "nginx": {"port": int(self.house.at(1)[1])},
            "app": {"root": str(self.folder / "app")},
            "salt_master": {"orchestration": {"answer": 60, **orchestration}},
        }
        (self.folder / "m" / "pillar" / "site.sls").write_text(yaml.safe_dump(site))

    def release(self, more="'true'"):
        """What the next apply does besides taking notes."""
        admin = self.door.folder / "admin.sock"
        (self.tree / "tiny.sls").write_text(STATE.format(admin=admin, notes=self.notes, more=more))

    def orchestrate(self, name, **pillar):
        return self.run(*self.command(name, **pillar))

    def command(self, name, **pillar):
        asked = [f"pillar={json.dumps(pillar)}"] if pillar else []
        return [BIN / "salt-run", self.etc("m"), "state.orchestrate", f"orch.{name}", *asked]

    def applied(self):
        """Who applied, in order, with what, and who was drained then: ``[(host, release, {drained})]``."""
        found = []
        for line in self.notes.read_text().splitlines() if self.notes.exists() else []:
            words = line.split()
            if len(words) == 2:
                found.append((*words, set()))
            elif len(words) == 3 and words[0].startswith("web") and int(words[2]) & 0x08:
                found[-1][2].add(words[0])
        return found


@pytest.fixture(scope="module")
def running(hosts):
    house = House(hosts)
    # A short path, in which settings of the app may lie: without the signs that mkdtemp likes.
    folder = pathlib.Path(tempfile.gettempdir()) / f"o{os.getpid()}"
    folder.mkdir()
    house.web_hosts(1, 2)
    site = Site(folder, hosts("Debian-13", "cluster-monitor").text("/etc/salt/master"), house)
    fingerprint = site.keyring("m", "fingerprint", "--master").stdout.strip()
    try:
        site.start("salt-master", "m")
        for name in MINIONS:
            assert site.keyring(name, "trust", fingerprint).returncode == 0
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
        house.close()
        subprocess.run(["rm", "-rf", str(folder)], check=True)


@pytest.fixture
def site(running):
    """With both web hosts in service and nothing noted."""
    for number in (1, 2):
        if number not in running.house._webs:
            running.house.web_hosts(number)
        running.door.tell(f"set server web/web{number} state ready")
    wait_until(lambda: running.door.states() == {"web1": "UP", "web2": "UP"})
    running.notes.unlink(missing_ok=True)
    for pin in (running.folder / "m" / "pillar").glob("pins/*"):
        pin.unlink()
    running.release()
    running.settings()
    return running


def test_a_release_goes_to_one_drained_host_after_the_other(site):
    done = site.orchestrate("deploy")
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.applied() == [("web1", "new", {"web1"}), ("web2", "new", {"web2"})]
    assert site.door.states() == {"web1": "UP", "web2": "UP"}
    # What it tells while it is at it.
    told = [line.split(" ", 1)[1] for line in done.stderr.splitlines() if line[2:3] == ":"]
    assert [line for line in told if line.startswith("---")] == ["--- web1, 1 of 2", "--- web2, 2 of 2"]
    assert told[1:4] == [
        "web1: drained; it gets nothing new",
        "web1: 0 requests and websockets under way",
        "web1: applies",
    ]
    assert told[-1] == "done"


def test_a_release_that_fails_stops_at_the_first_host_and_the_next_attempt_begins_there(site):
    site.release("echo it will not start >&2; exit 3")
    done = site.orchestrate("deploy")
    assert done.returncode == 1
    assert [host for host, *_ in site.applied()] == ["web1"]
    assert site.door.states() == {"web1": "DRAIN", "web2": "UP"}
    assert {site.door.ask("/") for _ in range(6)} == {WEB2}
    for words in ("STOPPED: web1: ", "it will not start", "web1 is out of service; untouched: web2", "Next: salt-run "):
        assert words in done.stderr, done.stderr

    site.release()
    site.door.tell("set server web/web1 state ready")
    site.door.tell("set server web/web2 state drain")
    done = site.orchestrate("deploy")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [host for host, *_ in site.applied()] == ["web1", "web2", "web1"]
    assert site.door.states() == {"web1": "UP", "web2": "UP"}


def test_a_host_that_is_not_healthy_after_its_apply_stays_out_of_service(site):
    site.settings(healthy=5)
    pid = site.house._webs[1].pid
    site.release(f"test {{{{ grains.id }}}} != web1 || kill {pid}")
    done = site.orchestrate("deploy")
    assert done.returncode == 1
    assert "not healthy within 5 s, asked from outside: lb1 got no answer" in done.stderr
    assert [host for host, *_ in site.applied()] == ["web1"]
    site.house.kill(1)
    assert {site.door.ask("/") for _ in range(6)} == {WEB2}

    # The other is the last one now: it is not taken out.
    done = site.orchestrate("maintenance", host="web2", mode="out")
    assert done.returncode == 1
    assert "refused, nothing was touched: web2 is the last web host that serves, says lb1" in done.stderr
    assert site.door.states()["web2"] == "UP"

    site.house.web_hosts(1)
    done = site.orchestrate("maintenance", host="web1", mode="in")
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.door.states() == {"web1": "UP", "web2": "UP"}


def test_a_host_is_not_changed_while_a_websocket_is_open_before_the_deadline(site):
    site.settings(drain=3600)
    sockets = [Websocket(site.door), Websocket(site.door)]
    mine = next(each for each in sockets if each.web_host == WEB1)
    with subprocess.Popen(
        [str(part) for part in site.command("deploy")],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=site.environment,
    ) as deploying:
        for line in deploying.stderr:
            if "web1: 1 requests and websockets under way" in line:
                break
        assert site.applied() == []
        assert mine.is_alive()
        for each in sockets:
            each.close()
        rest = deploying.stderr.read()
        assert deploying.wait(PATIENCE) == 0, rest
    assert [host for host, *_ in site.applied()] == ["web1", "web2"]


def test_a_websocket_that_does_not_end_holds_nothing_up_past_the_deadline(site):
    site.settings(drain=1)
    sockets = [Websocket(site.door), Websocket(site.door)]
    done = site.orchestrate("deploy")
    for each in sockets:
        each.close()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "web1: not all ended within 1 s" in done.stderr
    assert [host for host, *_ in site.applied()] == ["web1", "web2"]


def test_a_rollback_lasts_over_applies_until_the_next_deploy(site):
    root = site.folder / "app"
    for age, release in ((20, OLD), (10, NEW)):
        marker = root / "releases" / release / "tried"
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        os.utime(marker, (1_000_000_000 - age,) * 2)
    (root / "current").unlink(missing_ok=True)
    (root / "current").symlink_to(root / "releases" / NEW)
    done = site.orchestrate("rollback")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"web1: goes to {OLD}" in done.stderr
    assert site.applied() == [("web1", OLD, {"web1"}), ("web2", OLD, {"web2"})]
    site.ask("web1", "state.apply")
    assert site.applied()[2:] == [("web1", OLD, set())]
    # To which one a second time, nobody could guess.
    done = site.orchestrate("rollback")
    assert done.returncode == 1
    assert "rolled back already" in done.stderr

    # What fails leaves a host held where it was.
    site.release("exit 3")
    assert site.orchestrate("deploy").returncode == 1
    assert yaml.safe_load((site.folder / "m/pillar/pins/web1.sls").read_text()) == {"app": {"pinned": OLD}}
    site.release()
    site.notes.unlink()
    done = site.orchestrate("deploy")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [note[:2] for note in site.applied()] == [("web1", "new"), ("web2", "new")]


def test_a_host_that_is_down_stops_all_before_it_begins_unless_it_is_left_aside(site):
    # Long enough for one that is there, however busy this machine is.
    site.settings(answer=20)
    site.stop("web2")
    try:
        done = site.orchestrate("deploy")
        assert done.returncode == 1
        assert "refused, nothing was touched: web2 does not answer the master" in done.stderr
        assert site.applied() == []
        done = site.orchestrate("deploy", without=["web2"])
        assert done.returncode == 0, done.stdout + done.stderr
        assert [host for host, *_ in site.applied()] == ["web1"]
    finally:
        site.start("salt-minion", "web2")
        eventually(lambda: set(site.ask("*", "test.ping")) == set(MINIONS), site)


# --- what HAProxy is asked --------------------------------------------------------------------------------------------


@pytest.fixture
def door(hosts):
    house = House(hosts)
    house.web_hosts(1, 2)
    yield house.door()
    house.close()


def balancer(door):
    settings = {"admin_socket": f"{door.folder}/admin.sock"}
    return load(
        "_modules/balancer.py",
        MASTER=f"{door.folder}/master.sock",
        __salt__={"turnkey.settings": lambda formula: settings},
    )


def test_websockets_of_a_process_that_a_reload_has_replaced_are_counted(door):
    asked = balancer(door)
    sockets = [Websocket(door), Websocket(door)]
    assert {name: own["sessions"] for name, own in asked.servers().items()} == {"web1": 1, "web2": 1}
    assert asked.drain("web1") == {"up": True, "drained": True, "sessions": 1}
    door.reload()
    wait_until(lambda: asked.servers()["web1"] == {"up": True, "drained": True, "sessions": 1})
    assert asked.servers()["web2"] == {"up": True, "drained": False, "sessions": 1}
    for each in sockets:
        each.close()
    wait_until(lambda: not any(own["sessions"] for own in asked.servers().values()))
    assert asked.put_back("web1")["drained"] is False


def test_a_host_that_haproxy_does_not_know_is_said_to_be_unknown(door):
    with pytest.raises(Exception, match="HAProxy knows no web host web9"):
        balancer(door).drain("web9")


# --- the rest of the cluster, played ----------------------------------------------------------------------------------

CLUSTER = yaml.safe_load((ROOT / "salt" / "pillar" / "topology" / "cluster.sls").read_text())["topology"]


class Played:
    """The cluster as the master's client has it: hosts that answer as they would, and what was done to them."""

    def __init__(self):
        self.down, self.deeds, self.drained, self.silent = set(), [], set(), set()
        self.primary, self.holder, self.keepalived = "data1", "lb1", {"lb1", "lb2"}
        self.fails = ("", "")
        self.nobody_takes_over = False

    def cmd(self, hosts, function, arguments, tgt_type, full_return, kwarg):
        assert (tgt_type, full_return) == ("list", True)
        answers = {}
        for host in hosts:
            if host in self.silent:
                continue
            if (host, function) == self.fails:
                answers[host] = {"ret": "ERROR: it cannot", "retcode": 1}
                continue
            answers[host] = {"ret": self.answer(host, function, *arguments), "retcode": 0}
        return answers

    def answer(self, host, function, *arguments):
        addresses = {name: entry["address"] for name, entry in CLUSTER["hosts"].items()}
        data = [name for name in addresses if name.startswith("data") and name not in self.down]
        if function == "balancer.servers":
            return {
                name: {"up": name not in self.down, "drained": name in self.drained, "sessions": 0}
                for name in ("web1", "web2")
            }
        if function == "balancer.probe":
            return "200"
        if function == "balancer.state":
            return {"works": True, "takes_part": host in self.keepalived, "holds_address": host == self.holder}
        if function == "primary.view":
            return {
                "primary": addresses[self.primary],
                "well": True,
                "replicas": [addresses[name] for name in data if name != self.primary],
                "sentinels": 3,
            }
        if function == "file.file_exists":
            return False
        if function == "saltutil.sync_modules":
            return []
        self.deeds.append((host, function, *arguments))
        if function == "balancer.drain":
            self.drained.add(arguments[0])
        elif function == "balancer.put_back":
            self.drained.discard(arguments[0])
        elif function == "primary.move":
            self.primary = next(name for name in data if name != self.primary)
        elif function == "service.stop":
            self.keepalived.discard(host)
            if host == self.holder and not self.nobody_takes_over:
                self.holder = next(iter(self.keepalived))
        elif function == "service.start":
            self.keepalived.add(host)
        elif function == "pkg.upgrade":
            # By then nobody comes to it any more.
            assert host not in (self.primary, self.holder)
            assert not host.startswith("web") or host in self.drained
            return {"some-package": {"old": "1", "new": "2"}}
        elif function == "state.apply":
            return {"state": {"result": True, "changes": {}}}
        return True


@pytest.fixture
def played():
    return Played()


@pytest.fixture
def runner(played, tmp_path, monkeypatch):
    told = load(
        RUNNER,
        PAUSE=0,
        __opts__={"conf_file": "", "pillar_roots": {"base": [str(tmp_path)]}},
        __jid_event__=type("Events", (), {"fire_event": staticmethod(lambda data, tag: None)}),
    )
    monkeypatch.setattr(told.salt.client, "get_local_client", lambda path: played)
    return told


SETTINGS = {"drain": 0, "healthy": 1, "answer": 1}


def test_each_orchestration_calls_the_function_of_its_name(runner):
    called = {path.stem: path.read_text() for path in (STATES / "orch").glob("*.sls")}
    assert set(called) == {"deploy", "rollback", "maintenance", "failover", "upgrade"}
    for name, text in called.items():
        assert f"'rolling.{name}'" in text
        assert callable(getattr(runner, name))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"host": "web9", "mode": "out"}, "there is no host 'web9'; there are lb1, lb2, web1"),
        ({"host": "", "mode": "out"}, "there is no host ''"),
        ({"host": "web1", "mode": "off"}, "mode is 'off': it must be in or out"),
        ({"host": "monitor", "mode": "out"}, "monitor (monitor) has nothing to give away"),
        ({"host": "web1", "mode": "out", "without": ["web7"]}, "there is no host web7"),
        ({"host": "web1", "mode": "out", "without": "web2"}, "it must be a list"),
        ({"host": "web1", "mode": "out", "without": ["web1"]}, "cannot be the host and be left aside"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_touched(runner, played, asked, says):
    told = runner.maintenance(CLUSTER, SETTINGS, **asked)
    assert told["Error"].startswith("refused, nothing was touched: ")
    assert says in told["Error"]
    assert played.deeds == []


@pytest.mark.parametrize(
    ("host", "makes", "says"),
    [
        ("web1", {"down": {"web2"}}, "web1 is the last web host that serves"),
        ("web1", {"drained": {"web2"}}, "web1 is the last web host that serves"),
        ("lb1", {"keepalived": {"lb1"}}, "no load balancer but lb1 is fit"),
        ("data1", {"down": {"data2"}}, "data2 is not up and following"),
        ("data3", {"down": {"data2"}}, "data2 is not up and following"),
    ],
)
def test_the_last_that_can_do_it_is_not_taken_out(runner, played, host, makes, says):
    vars(played).update(makes)
    told = runner.maintenance(CLUSTER, SETTINGS, host, "out")
    assert told["Error"].startswith("refused, nothing was touched: ")
    assert says in told["Error"]
    assert played.deeds == []


def test_a_load_balancer_gives_the_address_away_and_does_not_take_it_back(runner, played):
    assert "Error" not in runner.maintenance(CLUSTER, SETTINGS, "lb1", "out")
    assert (played.holder, played.keepalived) == ("lb2", {"lb2"})
    assert "Error" not in runner.maintenance(CLUSTER, SETTINGS, "lb1", "in")
    assert (played.holder, played.keepalived) == ("lb2", {"lb1", "lb2"})


def test_a_load_balancer_whose_address_nobody_takes_keeps_it(runner, played):
    played.nobody_takes_over = True
    told = runner.maintenance(CLUSTER, SETTINGS, "lb1", "out")
    assert "nobody took the address 10.77.2.5; keepalived was started again on lb1" in told["Error"]
    assert (played.holder, played.keepalived) == ("lb1", {"lb1", "lb2"})


def test_a_primary_hands_over_before_it_goes_and_a_replica_just_goes(runner, played):
    assert "Error" not in runner.maintenance(CLUSTER, SETTINGS, "data2", "out")
    assert played.deeds == []
    assert "Error" not in runner.maintenance(CLUSTER, SETTINGS, "data1", "out")
    assert played.primary != "data1"
    assert [deed[1] for deed in played.deeds] == ["primary.move"]
    assert "Error" not in runner.maintenance(CLUSTER, SETTINGS, "data1", "in")


def test_a_failover_is_ordered_once_and_ends_when_another_is_the_primary(runner, played):
    assert runner.failover(CLUSTER, SETTINGS) == {"done": ["data2"]}
    assert [deed[1] for deed in played.deeds] == ["primary.move"]


def test_there_is_no_failover_without_a_replica(runner, played):
    played.down = {"data2", "data3"}
    assert "no replica of data1 is up" in runner.failover(CLUSTER, SETTINGS)["Error"]
    assert played.deeds == []


def test_packages_come_to_idle_hosts_and_last_of_their_kind_to_the_one_in_charge(runner, played):
    assert runner.upgrade(CLUSTER, SETTINGS)["done"] == [
        "data2", "data3", "data1", "web1", "web2", "lb2", "lb1", "monitor"
    ]  # fmt: skip
    assert played.drained == set()
    assert played.keepalived == {"lb1", "lb2"}
    upgraded = [host for host, function, *_ in played.deeds if function == "pkg.upgrade"]
    assert len(upgraded) == len(CLUSTER["hosts"])
    assert [deed[1] for deed in played.deeds].count("primary.move") == 1


def test_an_upgrade_stops_at_the_first_failure_with_that_host_out_of_service(runner, played):
    played.fails = ("web1", "pkg.upgrade")
    told = runner.upgrade(CLUSTER, SETTINGS)
    assert told["done"] == ["data2", "data3", "data1"]
    assert "STOPPED: web1: pkg.upgrade: ERROR: it cannot" in told["Error"]
    assert "untouched: web2, lb2, lb1, monitor" in told["Error"]
    assert played.drained == {"web1"}


def test_an_upgrade_of_hosts_that_nobody_can_stand_in_for_is_refused(runner, played):
    lonely = {**CLUSTER, "hosts": {name: host for name, host in CLUSTER["hosts"].items() if name != "web2"}}
    assert "web1 is the last of its role" in runner.upgrade(lonely, SETTINGS)["Error"]
    assert played.deeds == []


def test_an_apply_without_an_answer_is_said_to_be_under_way_perhaps(runner, played):
    asked = played.cmd

    def cmd(hosts, function, *arguments, **named):
        return {} if function == "state.apply" else asked(hosts, function, *arguments, **named)

    played.cmd = cmd
    told = runner.deploy(CLUSTER, SETTINGS)
    assert "STOPPED: web1: no answer to state.apply: it may be at it still" in told["Error"]
    assert played.drained == {"web1"}


def kept(current, names, switched=1, system="Debian-13"):
    return {"current": current, "kept": names, "switched": switched, "os": system}


def test_a_half_deployed_release_is_taken_back_where_it_is_and_kept_from_the_rest(runner):
    told = {"web1": kept("c", ["c", "b", "a"], switched=2), "web2": kept("b", ["b", "a"])}
    assert runner._targets(told, "") == {"web1": "b", "web2": "b"}
    assert runner._targets(told, "a") == {"web1": "a", "web2": "a"}


@pytest.mark.parametrize(
    ("told", "release", "says"),
    [
        ({"web1": kept("b", ["b"])}, "", "web1 keeps no release before b"),
        ({"web1": kept("b", ["b", "a"]), "web2": kept("b", ["b"])}, "a", "not kept everywhere: web2 keeps b"),
        ({"web1": kept(None, [])}, "", "web1 runs no release yet"),
        ({"web1": kept("b", ["b", "a"]), "web2": kept("d", ["d", "c"], system="Debian-12")}, "", "several systems"),
    ],
)
def test_there_is_no_rollback_to_what_is_not_there(runner, told, release, says):
    with pytest.raises(runner.Stopped, match=says):
        runner._targets(told, release)
