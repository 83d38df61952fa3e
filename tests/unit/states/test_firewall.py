"""The rules of every host, loaded by the real nft and tried from everywhere: on a network of namespaces."""

import copy
import re

import jinja2
import pytest
import yaml
from salt.exceptions import CommandExecutionError
from tests.reach import STRANGER, Door, doors, may_reach

from lan import story
from rendering import CLUSTER, ROOT, SECRETS, SINGLE, SPREAD, STATES, load

RULES, CHECK, UNIT = "/etc/nftables/turnkey.nft", "/usr/local/sbin/check-firewall", "firewall.service"
APP = yaml.safe_load((ROOT / "salt" / "pillar" / "app.sls").read_text())["app"]


def library(topology=CLUSTER, pillar=None, states=STATES):
    return load(
        "_modules/turnkey.py",
        __grains__={"osfinger": "Debian-13"},
        __pillar__={**SECRETS, "app": APP, "topology": topology, **(pillar or {})},
        __salt__={
            "cp.cache_file": lambda url: str(states / url.removeprefix("salt://")),
            "cp.list_master": lambda prefix="": [
                str(path.relative_to(states)) for path in states.rglob(f"{prefix}*") if path.is_file()
            ],
            "cp.hash_file": lambda url: {"hsum": url},
        },
    )


def text(file, name, topology=CLUSTER, pillar=None):
    """A file of the formula as that host would have it; the whole of Salt renders the same in test_configuration.py."""
    turnkey = library(topology, pillar)
    known = {f"turnkey.{function}": getattr(turnkey, function) for function in ("settings", "addresses", "families")}
    known["turnkey.openings"] = lambda: turnkey.openings(name)
    known["turnkey.fingerprint"] = turnkey.fingerprint
    templates = jinja2.Environment(  # noqa: S701
        loader=jinja2.FileSystemLoader(STATES), keep_trailing_newline=True, extensions=["jinja2.ext.do"]
    )
    template = templates.get_template(f"firewall/files/{file}.jinja")
    return template.render(salt=known, pillar=turnkey.__pillar__, grains={"id": name})


def rules(name, topology=CLUSTER, **firewall):
    return text("firewall.nft", name, topology, {"firewall": firewall})


def rules_of_all(topology, **firewall):
    return {name: rules(name, topology, **firewall) for name in topology["hosts"]}


def settings(formula):
    return library().settings(formula)


def services(*more):
    """Each door once, as the stories take them, and one that nobody has opened."""
    return [[door.protocol, door.port] for door in doors(settings)] + [["tcp", 9999], *more]


def addresses(topology, **more):
    return {name: host["address"] for name, host in topology["hosts"].items()} | more


# --- what is open, and to whom ----------------------------------------------------------------------------------------


def in_the_sixth_version(topology):
    other = copy.deepcopy(topology)
    for host in other["hosts"].values():
        host["address"] = "fd00::" + host["address"].rpartition(".")[2]
    return other


@pytest.mark.parametrize(
    ("topology", "stranger"),
    [
        (CLUSTER, "10.77.2.99"),
        (SPREAD, "10.77.9.99"),
        (SINGLE, "10.77.1.99"),
        (in_the_sixth_version(SPREAD), "fd00::99"),
    ],
    ids=["cluster", "spread", "single", "spread in IPv6"],
)
def test_each_host_reaches_what_the_topology_says_and_nothing_else(topology, stranger):
    asked = services()
    told = story(
        "every_host_to_every_host",
        hosts=addresses(topology, **{STRANGER: stranger}),
        rules=rules_of_all(topology),
        services=asked,
    )
    reach = may_reach(topology, settings)
    expected = {}
    for (source, target), found in reach.items():
        closed = "silence" if source == STRANGER else "denied"
        known = {str(door) for door in found}
        expected.setdefault(source, {})[target] = {
            f"{protocol} {port}": "open" if f"{protocol} {port}" in known else closed for protocol, port in asked
        }
    assert told == {name: expected.get(name, {}) for name in told}
    assert len(told) == len(topology["hosts"]) + 1


def test_who_may_reach_what_in_the_cluster_is_what_was_meant():
    """In words of its own, so that a slip in what a formula says is found."""
    reach = may_reach(CLUSTER, settings)

    def sources(service, target):
        return {
            source for (source, to), found in reach.items() if to == target for door in found if door.service == service
        }

    lbs, webs, datas = {"lb1", "lb2"}, {"web1", "web2"}, {"data1", "data2", "data3"}
    everybody = {*CLUSTER["hosts"], STRANGER}
    assert sources("haproxy:port", "lb1") == everybody - {"lb1"}
    assert sources("nginx:port", "web1") == lbs
    assert sources("redis:port", "data1") == webs | datas - {"data1"}
    assert sources("ssh", "web2") == everybody - {"web2"}
    assert sources("ntp:port", "data2") == everybody - {"data2", STRANGER}
    assert sources("redis:port", "web1") == sources("nginx:port", "lb1") == sources("haproxy:port", "data1") == set()


def test_single_host_opens_its_door_and_ssh_only():
    assert {str(door) for door in may_reach(SINGLE, settings)[STRANGER, "single"]} == {"tcp 80", "tcp 22"}
    accepted = re.findall(r"^ +ip saddr .* accept comment \"(.*)\"$", rules("single", SINGLE), re.MULTILINE)
    assert accepted == ["ssh", "haproxy:port"]


def test_what_anyone_may_come_to_cannot_fill_the_table_of_connections():
    untracked = re.compile(r"tcp [ds]port \{ ([0-9, ]+) \} notrack")
    assert untracked.findall(rules("lb1")) == ["80", "80"]
    assert untracked.findall(rules("data1")) == []


def test_a_host_more_is_let_in_and_one_less_is_not():
    larger = copy.deepcopy(CLUSTER)
    larger["hosts"]["web3"] = {"address": "10.77.2.23", "roles": ["web", "worker"]}
    assert "10.77.2.23" not in rules("data1")
    (line,) = (line for line in rules("data1", larger).splitlines() if '"redis:port"' in line)
    assert "10.77.2.23" in line


@pytest.fixture
def demo(tmp_path):
    """A house with one formula, whose services are those given."""

    def make(serves, topology=CLUSTER, pillar=None):
        (tmp_path / "demo").mkdir()
        defaults = {"port": 26379, "allow": [], "serves": serves}
        (tmp_path / "demo" / "defaults.yaml").write_text(yaml.safe_dump(defaults))
        (tmp_path / "demo" / "schema.yaml").write_text("type: object\nproperties: {port: {type: integer}}\n")
        for name in ("serves.yaml", "topology.yaml"):
            (tmp_path / name).write_text((STATES / name).read_text())
        return library(topology, pillar, tmp_path)

    return make


def test_a_new_formula_opens_its_port_from_its_own_room(demo):
    turnkey = demo({"port": {"protocol": "tcp", "by": ["data"], "to": ["web", "data"], "alone": False}})
    assert turnkey.openings("data1") == [
        {
            "service": "demo:port",
            "protocol": "tcp",
            "port": 26379,
            "sources": ["10.77.2.21", "10.77.2.22", "10.77.2.32", "10.77.2.33"],
        }
    ]
    assert turnkey.openings("web1") == []
    assert turnkey.addresses("demo:port")["data2"] == "10.77.2.32"


def test_a_service_of_several_is_closed_where_there_is_one(demo):
    turnkey = demo({"port": {"protocol": "tcp", "by": ["data"], "to": ["web"], "alone": False}}, SPREAD)
    assert turnkey.openings("memory") == []


def test_a_protocol_without_ports_is_opened_among_those_who_speak_it(demo):
    turnkey = demo({"vrrp": {"protocol": "vrrp", "by": ["lb"], "to": ["lb"]}})
    assert turnkey.openings("lb2") == [
        {"service": "demo:vrrp", "protocol": "vrrp", "port": None, "sources": ["10.77.2.11"]}
    ]
    assert turnkey.openings("web1") == []


def test_networks_of_a_setting_come_too(demo):
    facts = {"port": {"protocol": "udp", "by": "hosts", "to": "hosts", "networks": "allow"}}
    turnkey = demo(facts, SINGLE, {"demo": {"allow": ["192.0.2.0/24"]}})
    assert [opening["sources"] for opening in turnkey.openings("single")] == [["192.0.2.0/24"]]


@pytest.mark.parametrize(
    ("serves", "says"),
    [
        ({"port": {"protocol": "tcp", "by": ["dtaa"], "to": "hosts"}}, "demo:serves:port:by: "),
        (
            {"port": {"protocol": "sctp", "by": "hosts", "to": "hosts"}},
            "demo:serves:port:protocol: 'sctp' is not one of",
        ),
        ({"port": {"protocol": "tcp", "by": "hosts"}}, "demo:serves:port:to: is required"),
    ],
)
def test_a_slip_in_what_a_formula_serves_is_named(demo, serves, says):
    with pytest.raises(CommandExecutionError, match=r"^wrong pillar, nothing applied: ") as caught:
        demo(serves, pillar={"redis": {}, "app": {}, "demo": {}}).check()
    assert says in str(caught.value)


def test_a_service_that_no_formula_has_is_no_service():
    with pytest.raises(CommandExecutionError, match="nginx:door is no service"):
        library().addresses("nginx:door")


def test_each_service_names_settings_of_its_formula():
    for door, facts in doors(settings).items():
        formula, _, key = door.service.partition(":")
        if door.service != "ssh" and door.protocol != "vrrp":
            assert isinstance(settings(formula)[key], int)
            assert "networks" not in facts or isinstance(settings(formula)[facts["networks"]], list)


def test_no_two_doors_are_one():
    found = [(door.protocol, door.port) for door in doors(settings)]
    assert len(found) == len(set(found))


def test_networks_within_others_are_left_out():
    """nft refuses a set whose intervals overlap."""
    given = ["10.0.0.1", "10.0.0.0/8", "10.0.0.0/8", "192.0.2.1", "192.0.2.0", "::1", "::/0"]
    assert library().families(given) == {"ip": ["10.0.0.0/8", "192.0.2.0", "192.0.2.1"], "ip6": ["::/0"]}


# --- how rules come and go --------------------------------------------------------------------------------------------

SSH_AND_DOOR = [["tcp", 80], ["tcp", 8080]]
PAIR = {"single": "10.77.1.10", STRANGER: "10.77.1.99"}
OF_OTHERS = 'table ip nat {\n\tchain docker {\n\t\ttcp dport 8080 counter comment "of others"\n\t}\n}\n'
BROKEN = {"snippets": {"input": "tcp dport eighty accept"}}


def test_rules_that_nft_refuses_leave_the_old_ones_live():
    good, bad = rules("single", SINGLE), rules("single", SINGLE, **BROKEN)
    first, second = story(
        "loaded_in_turn", hosts=PAIR, target="single", texts=[good, bad], services=SSH_AND_DOOR, caller=STRANGER
    )
    assert first["complaint"] == ""
    assert "eighty" in second["complaint"]
    assert second["ruleset"] == first["ruleset"]
    assert second["knocks"] == {STRANGER: {"tcp 80": "open", "tcp 8080": "silence"}}


def test_rules_are_replaced_as_a_whole_and_those_of_others_stay():
    wider = rules("single", SINGLE, snippets={"input": "tcp dport 8080 accept"})
    texts = [OF_OTHERS, rules("single", SINGLE), wider, rules("single", SINGLE)]
    told = story("loaded_in_turn", hosts=PAIR, target="single", texts=texts, services=SSH_AND_DOOR)
    assert [step["complaint"] for step in told] == [""] * 4
    assert [step["knocks"][STRANGER]["tcp 8080"] for step in told] == ["open", "silence", "open", "silence"]
    assert [step["ruleset"].count("table ip nat") for step in told] == [1] * 4
    assert [step["ruleset"].count("chain input") for step in told] == [0, 1, 1, 1]
    assert told[1]["ruleset"] == told[3]["ruleset"]


def test_a_connection_that_is_open_survives_even_rules_that_would_refuse_it():
    texts = [rules("single", SINGLE), rules("single", SINGLE, ssh_networks=[])]
    told = story("loaded_in_turn", hosts=PAIR, target="single", texts=texts, services=[["tcp", 2222]], caller=STRANGER)
    assert [step["carries"] for step in told] == [True, True]
    assert "tcp dport 22" not in told[1]["ruleset"]


def test_the_old_rules_go_when_the_unit_is_stopped():
    (stop,) = re.findall(
        r'^ExecStop=/usr/sbin/nft "(.*)"$', (STATES / "firewall/files/firewall.service").read_text(), re.MULTILINE
    )
    texts = [OF_OTHERS, rules("single", SINGLE), stop, stop]
    told = story("loaded_in_turn", hosts=PAIR, target="single", texts=texts, services=SSH_AND_DOOR)
    assert told[1]["knocks"][STRANGER]["tcp 8080"] == "silence"
    assert [step["complaint"] for step in told] == [""] * 4
    assert told[3]["ruleset"] == told[0]["ruleset"]


# --- what pillar may say ----------------------------------------------------------------------------------------------


def test_ssh_is_for_the_networks_of_pillar():
    hosts = {"single": "10.77.1.10", "near": "10.77.1.20", "far": "10.77.1.200"}
    told = story(
        "every_host_to_every_host",
        hosts=hosts,
        rules={"single": rules("single", SINGLE, ssh_networks=["10.77.1.0/27", "10.77.1.20"], ssh_port=2222)},
        services=[["tcp", 22], ["tcp", 2222], ["tcp", 80]],
    )
    assert told["near"]["single"] == {"tcp 22": "silence", "tcp 2222": "open", "tcp 80": "open"}
    assert told["far"]["single"] == {"tcp 22": "silence", "tcp 2222": "silence", "tcp 80": "open"}


@pytest.mark.parametrize("hosts", [PAIR, {"single": "fd00::10", STRANGER: "fd00::99"}], ids=["IPv4", "IPv6"])
def test_who_knocks_at_ssh_too_often_gets_no_answer(hosts):
    limited = rules("single", SINGLE, ssh_rate=3)
    knocks = story(
        "many_knocks", hosts=hosts, rules={"single": limited}, source=STRANGER, target="single", port=22, times=5
    )
    assert knocks == ["open"] * 3 + ["silence"] * 2


def test_ping_is_answered():
    told = story(
        "every_host_to_every_host", hosts=PAIR, rules={"single": rules("single", SINGLE)}, services=[["icmp", None]]
    )
    assert told[STRANGER]["single"] == {"icmp None": "open"}


@pytest.mark.parametrize(("snippet", "outcome"), [("", "silence"), ("tcp dport 8080 accept", "open")])
def test_nothing_passes_through_a_host_unless_pillar_says_so(snippet, outcome):
    hosts = {"here": "10.77.1.2", "single": "10.77.1.10", "there": "10.77.1.3"}
    router = rules("single", SINGLE, snippets={"forward": snippet})
    assert story("through_another", hosts=hosts, rules={"single": router}, router="single", port=8080) == outcome


def test_what_is_denied_is_logged_at_the_rate_of_pillar():
    logged = rules("single", SINGLE, log_rate=7)
    (told,) = story("loaded_in_turn", hosts=PAIR, target="single", texts=[logged], services=SSH_AND_DOOR)
    assert told["complaint"] == ""
    assert told["ruleset"].count('limit rate 7/minute log prefix "denied: "') == 2
    assert "log" not in rules("single", SINGLE)


def test_own_snippets_are_put_in_as_they_are(hosts, osfinger):
    own = hosts(osfinger, "web1").text(RULES)
    for place in ("input", "forward", "table"):
        assert f"# own {place}\n" in own


# --- what is checked before -------------------------------------------------------------------------------------------


@pytest.fixture
def check(tmp_path):
    """Have the script of the formula check rules, where somebody listens on a port."""

    def run(checked, port=22, **firewall):
        script = tmp_path / "check-firewall"
        script.write_text(text("check-firewall", "single", SINGLE, {"firewall": firewall}))
        return story("checked", hosts=PAIR, script=str(script), text=checked, port=port)

    return run


def test_good_rules_pass_and_are_not_loaded_by_that(check):
    assert check(rules("single", SINGLE)) == [0, "", ""]


def test_rules_that_nft_refuses_do_not_pass(check):
    code, said, live = check(rules("single", SINGLE, **BROKEN))
    assert (code != 0, live) == (True, "")
    assert "eighty" in said


def test_rules_by_which_nobody_could_log_in_do_not_pass(check):
    code, said, _ = check(rules("single", SINGLE), port=2222)
    assert code == 1
    assert "firewall:ssh_port: nothing listens on 22 here" in said
    assert check(rules("single", SINGLE, ssh_port=2222), port=2222, ssh_port=2222)[0] == 0


def test_a_host_that_nobody_comes_to_by_ssh_needs_nobody_who_listens(check):
    assert check(rules("single", SINGLE, ssh_networks=[]), port=2222, ssh_networks=[]) == [0, "", ""]


# --- as Salt has it ---------------------------------------------------------------------------------------------------


def test_salt_renders_the_rules_that_are_tried_here(hosts, osfinger):
    def neutral(rules):
        return re.sub(r'comment "[0-9a-f]{16}"', 'comment "ID"', rules)

    for name in ("lb1", "web1", "data1", "monitor"):
        assert neutral(hosts(osfinger, f"cluster-{name}").text(RULES)) == neutral(rules(name))


def test_live_rules_are_told_by_what_the_daemon_is_asked(hosts, osfinger):
    host = hosts(osfinger, "single")
    (asked,) = (chunk["check"] for chunk in host.chunks if chunk["name"] == UNIT)
    fingerprint = asked.rpartition("grep -q ")[2].rstrip('"')
    assert re.fullmatch("[0-9a-f]{16}", fingerprint)
    assert f'comment "{fingerprint}"' in host.text(RULES)
    assert fingerprint not in hosts(osfinger, "door").text(RULES)


def test_walls_stand_before_what_they_protect(host):
    names = [chunk["__sls__"] for chunk in host.chunks]
    assert set(names[: names.index("ntp")]) == {"firewall", "names"}


def test_firewall_and_names_can_be_left_to_others(hosts, osfinger):
    custom = hosts(osfinger, "custom")
    assert not {RULES, "/usr/local/sbin/put-names"} & set(custom.files)
    for unit in (UNIT, "names.service"):
        functions = [chunk["fun"] for chunk in custom.chunks if chunk["name"] == unit]
        assert functions == ["only"]
        assert f"/etc/systemd/system/{unit}" in {chunk["name"] for chunk in custom.chunks if chunk["fun"] == "absent"}


def test_the_matrix_knows_every_door_by_its_port():
    assert Door("haproxy:port", "tcp", 80) in doors(settings)
