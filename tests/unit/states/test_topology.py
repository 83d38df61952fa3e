"""Who reaches whom, and by which address."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
import yaml
from salt.exceptions import CommandExecutionError

from rendering import CLUSTER, IDENTITY, ROOT, SECRET, SINGLE, SPREAD, STATES, grains, load, minion

LOOPBACK = "127.0.0.1"


def addresses(topology, service):
    library = load(
        "_modules/turnkey.py",
        __pillar__={"topology": topology},
        __salt__={"cp.cache_file": lambda url: str(STATES / url.removeprefix("salt://"))},
    )
    return library.addresses(service)


def test_single_host_reaches_itself_by_loopback():
    assert addresses(SINGLE, "redis:port") == {"single": LOOPBACK}
    assert addresses(SINGLE, "nginx:port") == {"single": LOOPBACK}


def test_what_anyone_may_come_to_has_its_hosts_address():
    assert addresses(SINGLE, "haproxy:port") == {"single": SINGLE["hosts"]["single"]["address"]}


def test_servers_that_others_need_have_their_address():
    assert addresses(SPREAD, "redis:port") == {"memory": "10.77.9.13"}
    assert addresses(SPREAD, "nginx:port") == {"web1": "10.77.9.11", "web2": "10.77.9.12"}


def test_server_that_nobody_else_needs_stays_on_loopback():
    hosts = {
        "door": {"address": "10.0.0.1", "roles": ["lb"]},
        "all": {"address": "10.0.0.2", "roles": ["web", "worker", "data"]},
    }
    assert addresses({"hosts": hosts}, "redis:port") == {"all": LOOPBACK}
    assert addresses({"hosts": hosts}, "nginx:port") == {"all": "10.0.0.2"}


def test_server_that_is_a_client_itself_is_reached_by_all_at_its_address():
    hosts = {
        "both": {"address": "10.0.0.1", "roles": ["web", "data"]},
        "web": {"address": "10.0.0.2", "roles": ["web"]},
    }
    assert addresses({"hosts": hosts}, "redis:port") == {"both": "10.0.0.1"}


def test_servers_that_need_each_other_have_their_address():
    assert addresses(CLUSTER, "sentinel:port") == {f"data{number}": f"10.77.2.3{number}" for number in (1, 2, 3)}


def test_role_of_nobody_has_no_servers():
    assert addresses(SPREAD, "salt_master:publish_port") == {}


@pytest.fixture
def salt_call(tmp_path):
    """The command of an operator, without privileges and in a folder of its own."""

    def call(name, site=None):
        options = minion(tmp_path / "root", name, site=site)
        fixed = grains(name, "Debian-13")
        fixed.pop("id")
        (tmp_path / "minion").write_text(yaml.safe_dump(json.loads(json.dumps(options | {"grains": fixed}))))
        command = [
            pathlib.Path(sys.executable).parent / "salt-call",
            f"--config-dir={tmp_path}",
            "--local",
            "--out=json",
        ]
        command += ["--retcode-passthrough", "state.apply", "test=True"]
        environment = os.environ | {"HOME": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        return done.returncode, done.stdout + done.stderr

    return call


def test_host_that_the_topology_does_not_have_gets_nothing(salt_call):
    code, said = salt_call("stranger")
    assert code != 0
    assert "topology single has no host stranger; it has: single" in said


def test_bad_pillar_ends_the_apply_before_anything_is_done(salt_call):
    code, said = salt_call("single", site={"nginx": {"gzip": {"level": 11}}})
    assert code != 0
    assert "nginx:gzip:level: 11 is greater than the maximum of 9" in said
    # Had any state been looked at, the report would have its result.
    assert '"result"' not in said


# --- the pillar as a whole --------------------------------------------------------------------------------------------


def check(pillar):
    known = {"topology": SINGLE, "roles": []} | {
        name: {"password": SECRET} for name in ("redis", "status_page", "zabbix_server")
    }
    known["rsyslog"] = {"identity": IDENTITY, "server_identity": IDENTITY}
    known["app"] = yaml.safe_load((ROOT / "salt" / "pillar" / "app.sls").read_text())["app"]
    return load(
        "_modules/turnkey.py",
        __grains__={"osfinger": "Debian-13"},
        __pillar__={**known, **pillar},
        __salt__={
            "cp.cache_file": lambda url: str(STATES / url.removeprefix("salt://")),
            "cp.list_master": lambda: [str(path.relative_to(STATES)) for path in STATES.rglob("*")],
        },
    ).check()


def test_pillar_of_the_repository_passes():
    check({})
    check({"topology": SPREAD})
    check({"topology": CLUSTER})


def test_one_more_host_is_one_more_block():
    check({"topology": cluster(web3={"address": "10.77.2.23", "roles": ["web", "worker"]})})


def host(**changes):
    return {"address": "10.0.0.1", "roles": ["lb", "web", "worker", "data"], **changes}


def cluster(virtual_address=CLUSTER["virtual_address"], **hosts):
    """The cluster with *hosts* added or in the place of those of the same name; None takes one away."""
    hosts = {name: entry for name, entry in {**CLUSTER["hosts"], **hosts}.items() if entry}
    changed = {**CLUSTER, "virtual_address": virtual_address, "hosts": hosts}
    return {key: value for key, value in changed.items() if value}


@pytest.mark.parametrize(
    ("pillar", "says"),
    [
        ({"ngnix": {"gzip": {"level": 5}}}, "ngnix: unknown key"),
        ({"topology": {**SINGLE, "netwrok": "x"}}, "topology:netwrok: unknown key"),
        ({"topology": {**SINGLE, "network": "10.0.0.1/24"}}, "topology:network: 10.0.0.1/24 has host bits set"),
        ({"topology": {**SINGLE, "hosts": {"a": host(address="10.0.0.300")}}}, "topology:hosts:a:address: "),
        (
            {"topology": {**SINGLE, "hosts": {"a": host(roles=["wbe"])}}},
            "topology:hosts:a:roles:0: 'wbe' is not one of",
        ),
        (
            {"topology": {**SINGLE, "hosts": {"a": host(), "b": host()}}},
            "topology:hosts:b:address: 10.0.0.1 is a's already",
        ),
        ({"topology": {**SINGLE, "hosts": {"a": host(roles=["lb", "web"])}}}, "no host has the role data"),
        ({"topology": {**SINGLE, "hosts": {"a": host(roles=["lb", "web", "data"])}}}, "no host has the role worker"),
        (
            {"topology": cluster(data1=None, data2=None, data3=None)},
            "topology:hosts: no host has the role data",
        ),
        ({"topology": cluster(data3=None)}, "topology:hosts: 2 hosts have the role data (data1, data2); a majority"),
        (
            {"topology": cluster(data4={"address": "10.77.2.34", "roles": ["data"]})},
            "topology:hosts: 4 hosts have the role data (data1, data2, data3, data4); a majority",
        ),
        (
            {"topology": cluster(other={"address": "10.77.2.41", "roles": ["monitor"]})},
            "topology:hosts: 2 hosts have the role monitor (monitor, other); at most one may",
        ),
        (
            {"topology": cluster(other={"address": "10.77.2.41", "roles": ["logs"]})},
            "topology:hosts: 2 hosts have the role logs (monitor, other); at most one may",
        ),
        (
            {"topology": cluster(web3={"address": "10.77.2.21", "roles": ["web"]})},
            "topology:hosts:web3:address: 10.77.2.21 is web1's already",
        ),
        (
            {"topology": cluster(virtual_address=None)},
            "topology:virtual_address: is required, as lb1, lb2 all have the role lb",
        ),
        ({"topology": cluster("10.77.2.5/24")}, "topology:virtual_address: '10.77.2.5/24' does not match"),
        ({"topology": cluster("10.77.2.500")}, "topology:virtual_address: '10.77.2.500' does not appear to be"),
        (
            {"topology": cluster("10.77.3.5")},
            "topology:virtual_address: 10.77.3.5 is not in topology:network, 10.77.2.0/24",
        ),
        ({"topology": cluster("fd00::5")}, "topology:virtual_address: fd00::5 is not in topology:network"),
        ({"topology": cluster("10.77.2.255")}, "topology:virtual_address: 10.77.2.255 is no host's address in"),
        ({"topology": cluster("10.77.2.31")}, "topology:virtual_address: 10.77.2.31 is data1's already"),
        ({"haproxy": {"port": 8080}}, "nginx:port: 8080 is haproxy:port's already"),
        ({"nginx": {"status_port": 6379}}, "redis:port: 6379 is nginx:status_port's already"),
    ],
)
def test_wrong_pillar_is_refused_by_the_name_of_its_key(pillar, says):
    with pytest.raises(CommandExecutionError, match=r"^wrong pillar, nothing applied: ") as caught:
        check(pillar)
    assert says in str(caught.value)


def test_key_that_yaml_takes_for_a_truth_is_named():
    with pytest.raises(CommandExecutionError, match="app:environment:True: a key must be text"):
        check({"app": {"environment": {True: "1"}}})
