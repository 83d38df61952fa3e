"""Hosts changed one after the other: what is asked of them in which order, and when it stops.

The hosts are played here, but HAProxy is real; a real master orders real hosts in tests/infra/cluster/test_orders.py.
"""

import fcntl
import re

import pytest
import yaml

from rendering import CLUSTER, STATES, load
from test_switching import House, Websocket, wait_until

RUNNER = "_runners/rolling.py"
OLD, NEW = "1" * 16, "2" * 16


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

FAILED = {"note": {"result": False, "comment": "failed", "changes": {"stderr": "it will not start"}}}


class Played:
    """The cluster as the master's client has it: hosts that answer as they would, and what was done to them."""

    def __init__(self):
        self.down, self.deeds, self.drained, self.silent = set(), [], set(), set()
        self.primary, self.holder, self.keepalived = "data1", "lb1", {"lb1", "lb2"}
        self.fails = ("", "")
        self.nobody_takes_over = False
        # What a load balancer counts at a host when it is asked.
        self.sessions = {"web1": lambda: 0, "web2": lambda: 0}
        self.health = "200"
        self.releases = {}
        # (host, the release that pillar held it at) for each apply.
        self.applied, self.pins = [], None

    def cmd(self, hosts, function, arguments, tgt_type, full_return, kwarg):
        assert (tgt_type, full_return) == ("list", True)
        answers = {}
        for host in hosts:
            if host in self.silent:
                continue
            if (host, function) == self.fails:
                answers[host] = {"ret": "ERROR: it cannot", "retcode": 1}
                continue
            told = self.answer(host, function, *arguments)
            answers[host] = {"ret": told, "retcode": 2 if told == FAILED else 0}
        return answers

    def answer(self, host, function, *arguments):
        addresses = {name: entry["address"] for name, entry in CLUSTER["hosts"].items()}
        data = [name for name in addresses if name.startswith("data") and name not in self.down]
        if function == "balancer.servers":
            return {
                name: {"up": name not in self.down, "drained": name in self.drained, "sessions": counted()}
                for name, counted in self.sessions.items()
            }
        if function == "balancer.probe":
            return self.health
        if function == "release.kept":
            return self.releases[host]
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
            # Nobody comes to it, and somebody to another.
            assert not host.startswith("web") or self.drained == {host}
            pin = self.pins / f"{host}.sls"
            held = yaml.safe_load(pin.read_text())["app"]["pinned"] if pin.exists() else None
            self.applied.append((host, held))
            if (host, "result") == self.fails:
                return FAILED
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
        __opts__={"conf_file": "", "cachedir": str(tmp_path), "pillar_roots": {"base": [str(tmp_path)]}},
        __jid_event__=type("Events", (), {"fire_event": staticmethod(lambda data, tag: None)}),
    )
    monkeypatch.setattr(told.salt.client, "get_local_client", lambda path: played)
    played.pins = tmp_path / "pins"
    return told


SETTINGS = {"drain": 0, "healthy": 0, "answer": 0}


def test_each_orchestration_calls_the_function_of_its_name(runner):
    called = {path.stem: path.read_text() for path in (STATES / "orch").glob("*.sls")}
    assert set(called) == {"deploy", "rollback", "maintenance", "failover", "upgrade"}
    for name, text in called.items():
        assert f"'rolling.{name}'" in text
        assert callable(getattr(runner, name))


def test_a_release_goes_to_one_drained_host_after_the_other(runner, played, capsys):
    assert runner.deploy(CLUSTER, SETTINGS) == {"done": ["web1", "web2"]}
    assert played.applied == [("web1", None), ("web2", None)]
    assert played.drained == set()
    # What it tells while it is at it.
    told = [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert [line for line in told if line.startswith("---")] == ["--- web1, 1 of 2", "--- web2, 2 of 2"]
    assert told[1:4] == [
        "web1: drained; it gets nothing new",
        "web1: 0 requests and websockets under way",
        "web1: applies",
    ]
    assert told[-1] == "done"


def test_a_release_that_fails_stops_at_the_first_host_and_the_next_attempt_begins_there(runner, played):
    played.fails = ("web1", "result")
    told = runner.deploy(CLUSTER, SETTINGS)
    for words in ("STOPPED: web1: ", "it will not start", "web1 is out of service; untouched: web2", "Next: salt-run "):
        assert words in told["Error"]
    assert played.applied == [("web1", None)]
    assert played.drained == {"web1"}

    # Had it been the other one.
    played.fails, played.drained, played.applied = ("", ""), {"web2"}, []
    assert "Error" not in runner.deploy(CLUSTER, SETTINGS)
    assert played.applied == [("web2", None), ("web1", None)]
    assert played.drained == set()


def test_a_host_that_is_not_healthy_after_its_apply_stays_out_of_service(runner, played):
    played.health = "503"
    told = runner.deploy(CLUSTER, SETTINGS)
    assert "not healthy within 0 s, asked from outside: lb1 got 503, lb2 got 503" in told["Error"]
    assert played.applied == [("web1", None)]
    assert played.drained == {"web1"}

    # The other is the last one now: it is not taken out.
    told = runner.maintenance(CLUSTER, SETTINGS, "web2", "out")
    assert told["Error"].startswith("refused, nothing was touched: web2 is the last web host that serves, says lb1")
    assert played.drained == {"web1"}

    played.health = "200"
    assert "Error" not in runner.maintenance(CLUSTER, SETTINGS, "web1", "in")
    assert played.drained == set()


def test_a_host_is_not_changed_while_something_is_under_way_before_the_deadline(runner, played, capsys):
    left = iter(range(20, -1, -1))
    played.sessions["web1"] = lambda: next(left, 0)
    assert "Error" not in runner.deploy(CLUSTER, {**SETTINGS, "drain": 3600})
    told = capsys.readouterr().err
    counted = [int(n) for n in re.findall(r"web1: (\d+) requests and websockets under way", told)]
    assert counted[0] > counted[-1] == 0
    assert counted == sorted(counted, reverse=True)
    assert "not all ended" not in told


def test_what_does_not_end_holds_nothing_up_past_the_deadline(runner, played, capsys):
    played.sessions["web1"] = lambda: 1
    assert runner.deploy(CLUSTER, SETTINGS) == {"done": ["web1", "web2"]}
    assert "web1: not all ended within 0 s" in capsys.readouterr().err


def test_a_rollback_holds_hosts_at_the_release_before_until_the_next_deploy(runner, played):
    played.releases = {"web1": kept(NEW, [NEW, OLD]), "web2": kept(NEW, [NEW, OLD])}
    assert "Error" not in runner.rollback(CLUSTER, SETTINGS, "/opt/app")
    assert played.applied == [("web1", OLD), ("web2", OLD)]
    # To which one a second time, nobody could guess.
    assert "rolled back already" in runner.rollback(CLUSTER, SETTINGS, "/opt/app")["Error"]

    # What fails leaves a host held where it was.
    played.fails = ("web1", "result")
    assert "STOPPED: web1" in runner.deploy(CLUSTER, SETTINGS)["Error"]
    played.fails, played.applied = ("", ""), []
    assert yaml.safe_load((played.pins / "web1.sls").read_text()) == {"app": {"pinned": OLD}}
    assert "Error" not in runner.deploy(CLUSTER, SETTINGS)
    assert played.applied == [("web1", None), ("web2", None)]


def test_a_host_that_is_down_stops_all_before_it_begins_unless_it_is_left_aside(runner, played):
    played.silent = {"web2"}
    told = runner.deploy(CLUSTER, SETTINGS)
    assert told["Error"].startswith("refused, nothing was touched: web2 does not answer the master")
    assert played.deeds == []
    assert runner.deploy(CLUSTER, SETTINGS, without=["web2"]) == {"done": ["web1"]}


def test_two_orchestrations_do_not_run_at_the_same_time(runner, played, tmp_path):
    with (tmp_path / "rolling.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = runner.deploy(CLUSTER, SETTINGS)
    assert told["Error"].startswith("refused, nothing was touched: another orchestration is at work")
    assert played.deeds == []
    assert "Error" not in runner.deploy(CLUSTER, SETTINGS)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"host": "web9", "mode": "out"}, "there is no host 'web9'; there are lb1, lb2, web1"),
        ({"host": "", "mode": "out"}, "there is no host ''"),
        ({"host": "web1", "mode": "off"}, "mode is 'off': it must be in or out"),
        ({"host": "monitor", "mode": "out"}, "monitor (monitor, logs) has nothing to give away"),
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
