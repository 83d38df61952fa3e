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


def tree(paths):
    told = {}
    for path in paths:
        formula, key = path.split(":")
        told.setdefault(formula, {})[key] = value_of(path)
    return told


# What is asked of `pillars`, by a name: host, topology, the site's secrets, and what the host claims of itself.
ORDERS = {
    **{name: (name, CLUSTER, tree(MANY), {}) for name in CLUSTER["hosts"]},
    "single": ("single", SINGLE, tree(MANY), {}),
    "liar": ("lb1", CLUSTER, tree(MANY), {"roles": ["data", "web"]}),
    "own": ("lb1", CLUSTER, tree(["keepalived:password"]), {}),
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
        (folder / "pillar" / "secrets_of_roles.yaml").write_text(yaml.safe_dump(MANY))
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
    assert secret == set(ROLES_OF)
