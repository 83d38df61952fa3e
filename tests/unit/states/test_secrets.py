"""Who is told which secret of a site."""

import json
import subprocess
import sys

import pytest
import yaml
from salt.exceptions import CommandExecutionError

from rendering import CLUSTER, ROOT, SINGLE, STATES, grains, load, minion

ROLES_OF = yaml.safe_load((ROOT / "salt" / "pillar" / "secrets_of_roles.yaml").read_text())
# More secrets than formulas have today, so that every role knows and misses some.
MANY = {
    "redis:password": ["data", "web", "worker"],
    "redis:replication": ["data"],
    "keepalived:password": ["lb"],
    "logs:password": ["logs"],
}
# One that each host has its own of.
EACH = {"zabbix:psk": {"each": "host", "by": ["monitor"]}}
# In a process of its own: what Salt loads keeps the options it was last loaded with.
COMPILE = """
import json, sys
import salt.config, salt.pillar
pillars = []
for options, grains in json.load(sys.stdin):
    options = salt.config.apply_minion_config(options)
    pillars.append(salt.pillar.Pillar(options, grains, grains["id"], "base").compile_pillar())
json.dump(pillars, sys.stdout)
"""


def value_of(path):
    return f"the secret of {path}"


def keys_of(hosts):
    return {name: f"the key of {name}" for name in hosts}


def tree(paths, keys=None):
    told = {"zabbix": {"psk": keys_of(keys)}} if keys else {}
    for path in paths:
        formula, key = path.split(":")
        told.setdefault(formula, {})[key] = value_of(path)
    return told


# What is asked of `pillars`, by a name: host, topology, the site's secrets, and what the host claims of itself.
ORDERS = {
    **{name: (name, CLUSTER, tree(MANY, CLUSTER["hosts"]), {}) for name in CLUSTER["hosts"]},
    "single": ("single", SINGLE, tree(MANY, SINGLE["hosts"]), {}),
    "liar": ("lb1", CLUSTER, tree(MANY, CLUSTER["hosts"]), {"roles": ["data", "web", "monitor"]}),
    "own": ("lb1", CLUSTER, tree(["keepalived:password"], ["lb1"]), {}),
    "none": ("web1", CLUSTER, {}, {}),
    "another": ("web1", CLUSTER, tree(["redis:replication"]), {}),
}


@pytest.fixture(scope="module")
def pillars(tmp_path_factory):
    """The pillar of each of `ORDERS`."""
    asked = []
    for name, topology, secrets, claims in ORDERS.values():
        folder = tmp_path_factory.mktemp(name)
        options = minion(folder, name, topology)
        (folder / "pillar" / "secrets_of_roles.yaml").write_text(yaml.safe_dump(MANY | EACH))
        (folder / "pillar" / "secrets.sls").write_text(yaml.safe_dump(secrets))
        asked.append((options, grains(name, "Debian-13") | claims))
    command = [sys.executable, "-c", COMPILE]
    told = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=True).stdout
    return dict(zip(ORDERS, json.loads(told), strict=True))


def known_to(pillar):
    """The paths whose secrets the pillar holds, wherever it holds them."""
    text = json.dumps(pillar)
    return {path for path in MANY if value_of(path) in text}


@pytest.mark.parametrize("name", CLUSTER["hosts"])
def test_a_host_is_told_the_secrets_of_its_roles_and_no_other(pillars, name):
    wanted = {path for path, roles in MANY.items() if set(roles) & set(CLUSTER["hosts"][name]["roles"])}
    assert known_to(pillars[name]) == wanted
    assert {formula: pillars[name][formula] for formula in tree(wanted)} == tree(wanted)
    assert set(pillars[name]["withheld"]) == set(MANY) - wanted


@pytest.mark.parametrize("name", CLUSTER["hosts"])
def test_a_host_is_told_its_own_key_and_only_the_monitor_those_of_all(pillars, name):
    told = pillars[name]["zabbix"]
    assert told["psk"] == f"the key of {name}"
    assert told.get("psks") == (keys_of(CLUSTER["hosts"]) if name == "monitor" else None)
    assert json.dumps(pillars[name]).count("the key of") == (1 + len(CLUSTER["hosts"]) if name == "monitor" else 1)


def test_a_host_that_claims_to_be_the_monitor_is_told_no_key_of_others(pillars):
    assert json.dumps(pillars["liar"]).count("the key of") == 1


def test_no_pillar_has_an_error(pillars):
    assert {name: pillar["_errors"] for name, pillar in pillars.items() if "_errors" in pillar} == {}


def test_one_host_of_every_role_is_told_all_that_it_needs(pillars):
    assert known_to(pillars["single"]) == set(MANY)


def test_roles_that_a_host_claims_for_itself_open_nothing(pillars):
    assert known_to(pillars["liar"]) == {"keepalived:password"}


def test_a_host_needs_no_secret_of_others_on_its_disk(pillars):
    assert pillars["own"] == pillars["lb1"]


@pytest.mark.parametrize("case", ["none", "another"])
def test_a_secret_that_is_missing_is_not_taken_for_one_that_is_withheld(pillars, case):
    assert known_to(pillars[case]) == set()
    assert "redis:password" not in pillars[case]["withheld"]


def test_what_is_withheld_is_not_required_of_a_host():
    def refused(pillar):
        library = load(
            "_modules/turnkey.py",
            __grains__={"osfinger": "Debian-13"},
            __pillar__=pillar,
            __salt__={"cp.cache_file": lambda url: str(STATES / url.removeprefix("salt://"))},
        )
        try:
            library.settings("redis")
        except CommandExecutionError as error:
            return str(error)
        return None

    assert "redis:password: is required" in refused({})
    assert "redis:password: is required" in refused({"withheld": ["haproxy:password"]})
    assert refused({"withheld": ["redis:password"]}) is None
    assert "redis:port" in refused({"withheld": ["redis:password"], "redis": {"port": "x"}})


def test_every_secret_of_a_formula_is_told_to_somebody():
    schemas = {path.parent.name: yaml.safe_load(path.read_text()) for path in ROOT.glob("salt/states/*/schema.yaml")}
    secret = {
        f"{formula}:{key}"
        for formula, schema in schemas.items()
        for key, part in schema["properties"].items()
        if part.get("writeOnly")
    }
    # The keys of agents are no formula's: agents and server have them in common.
    assert secret == set(ROLES_OF) - {"zabbix:psk"}
