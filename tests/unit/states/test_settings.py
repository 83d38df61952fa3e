"""The settings of every formula: what they come to, what is refused, and what a refusal says."""

import re

import jsonschema
import pytest
import yaml
from salt.exceptions import CommandExecutionError

from rendering import FORMULAS, IDENTITY, OSES, ROOT, SECRET, STATES, load

HERE = ROOT / "tests" / "unit" / "states"
LIBRARY = "_modules/turnkey.py"
ABSENT = "(absent)"

# What a site says in any case.
PILLAR = {
    "app": yaml.safe_load((ROOT / "salt" / "pillar" / "app.sls").read_text())["app"],
    "redis": {"password": SECRET},
    "rsyslog": {"identity": IDENTITY, "server_identity": IDENTITY, "files": {"mine": {"paths": ["/var/log/mine.log"]}}},
    "status_page": {"password": SECRET},
    "zabbix_server": {"password": SECRET},
    # So that a bad example needs to be bad in one key only.
    "celery": {"workers": {"mine": {"queues": ["mine"]}}},
    "logrotate": {"logs": {"mine": {"paths": ["/var/log/mine.log"], "create": "0640 root adm"}}},
}


def read(path):
    return yaml.safe_load(path.read_text())


def settings(formula, pillar, osfinger="Debian-13"):
    """The settings as turnkey.settings merges and checks them, for *pillar* and not what the repository's says."""
    library = load(
        LIBRARY,
        __grains__={"osfinger": osfinger},
        __pillar__=pillar,
        __salt__={"cp.cache_file": lambda url: str(STATES / url.removeprefix("salt://"))},
    )
    return library.settings(formula)


def refusal(formula, pillar):
    with pytest.raises(CommandExecutionError) as caught:
        settings(formula, pillar)
    return str(caught.value)


def schema_of(formula):
    return read(STATES / formula / "schema.yaml")


def walk(schema, path=()):
    """Every part of a schema that speaks of one key: ``(path of the key, the part)``; ``*`` stands for any name."""
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from walk(part, (*path, name))
    for name, key in (("*", "additionalProperties"), ("*", "items")):
        if isinstance(schema.get(key), dict):
            yield from walk(schema[key], (*path, name))


def changed(pillar, path, value):
    """*pillar* with *value* at *path*."""
    key, *rest = path
    if isinstance(pillar, list) or (key.isdigit() and not isinstance(pillar, dict)):
        return [changed(None, rest, value) if rest else value]
    pillar = dict(pillar or {})
    if rest:
        pillar[key] = changed(pillar.get(key), rest, value)
    elif value == ABSENT:
        pillar.pop(key, None)
    else:
        pillar[key] = value
    return pillar


BAD = [
    pytest.param(formula, path.split(":"), value, says, id=f"{formula}:{path}={value!r:.20}")
    for formula in FORMULAS
    for path, examples in read(HERE / "bad" / f"{formula}.yaml").items()
    for value, says in examples
]


@pytest.mark.parametrize(("formula", "path", "value", "says"), BAD)
def test_bad_pillar_is_refused_by_the_name_of_its_key(formula, path, value, says):
    fault = refusal(formula, changed(PILLAR, [formula, *path], value))
    assert fault.startswith("wrong pillar, nothing applied: "), fault
    # A wrong name is a fault of what holds it, and stands in the message itself; so is a wrong combination.
    named = ":".join([formula, *path])
    assert f" {named}: " in fault or (f" {named.rpartition(':')[0]}: '{path[-1]}' " in fault), fault
    assert says in fault


def test_mail_without_a_reader_is_refused():
    mail = {"enabled": True, "to": []}
    assert "zabbix_server:mail:to: [] should be non-empty" in refusal(
        "zabbix_server", PILLAR | {"zabbix_server": PILLAR["zabbix_server"] | {"mail": mail}}
    )
    mail = {"enabled": True, "to": ["ops@site.example"]}
    told = settings("zabbix_server", PILLAR | {"zabbix_server": PILLAR["zabbix_server"] | {"mail": mail}})
    assert told["mail"]["to"] == ["ops@site.example"]


def generic(path, schema):
    """*path* with ``*`` for what may have any name, as `walk` has it."""
    for name in path:
        known = schema.get("properties", {})
        yield name if name in known else "*"
        schema = known.get(name) or schema.get("items") or schema.get("additionalProperties") or {}


@pytest.mark.parametrize("formula", FORMULAS)
def test_every_key_of_a_schema_has_a_bad_example(formula):
    schema = schema_of(formula)
    tried = {tuple(generic(path.split(":"), schema)) for path in read(HERE / "bad" / f"{formula}.yaml")}
    wanted = {path for path, _ in walk(schema) if path}
    assert {":".join(path) for path in wanted - tried} == set()


@pytest.mark.parametrize("formula", FORMULAS)
def test_schema_is_one_and_closed(formula):
    schema = schema_of(formula)
    jsonschema.Draft202012Validator.check_schema(schema)
    for path, part in walk(schema):
        if part.get("type") == "object":
            assert "additionalProperties" in part, path
        elif "$ref" not in part:
            assert {"type", "enum", "anyOf", "const"} & set(part), f"{path} allows anything"


@pytest.mark.parametrize("formula", FORMULAS)
def test_every_setting_of_the_schema_is_documented_in_the_defaults(formula):
    """As a key with its default, or in a comment where pillar has to say it."""
    text = (STATES / formula / "defaults.yaml").read_text()
    comments = " ".join(re.findall(r"#(.*)", text))
    keys = set(re.findall(r"^\s*(?:#\s+)?([a-z_]+):", text, re.MULTILINE))
    for path, _ in walk(schema_of(formula)):
        if path and path[-1] != "*":
            assert path[-1] in keys or re.search(rf"\b{path[-1]}\b", comments), ":".join(path)


@pytest.mark.parametrize("formula", FORMULAS)
def test_every_default_is_a_setting_of_the_schema(formula):
    def keys(values, path=()):
        for name, value in values.items():
            yield (*path, name)
            if isinstance(value, dict):
                yield from keys(value, (*path, name))

    defaults = read(STATES / formula / "defaults.yaml")
    by_os = defaults.pop("by_os", {})
    # What it serves is no setting.
    defaults.pop("serves", None)
    assert set(by_os) <= set(OSES)
    schema = schema_of(formula)
    known = {path for path, _ in walk(schema)}
    for path in {*keys(defaults), *(path for values in by_os.values() for path in keys(values))}:
        assert tuple(generic(path, schema)) in known, ":".join(path)


@pytest.mark.parametrize("osfinger", OSES)
@pytest.mark.parametrize("formula", FORMULAS)
def test_merged_settings_are_the_reference(formula, osfinger, hosts, request):
    """What a lab host gets. Changed on purpose? --update-reference writes the files anew, for the review."""
    merged = hosts(osfinger, "single").settings[formula]
    text = yaml.safe_dump(merged, sort_keys=True, explicit_start=True).replace(SECRET, "(a secret)")
    file = HERE / "reference" / osfinger / f"{formula}.yaml"
    if request.config.getoption("--update-reference"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert file.is_file(), "--update-reference writes it"
    assert text == file.read_text()


def test_there_is_a_reference_for_every_formula_and_no_other():
    files = {str(path.relative_to(HERE / "reference")) for path in (HERE / "reference").rglob("*") if path.is_file()}
    assert files == {f"{osfinger}/{formula}.yaml" for osfinger in OSES for formula in FORMULAS}


def test_pillar_of_the_site_wins_key_by_key():
    merged = settings("nginx", {"nginx": {"gzip": {"level": 9}}})
    assert merged["gzip"] == settings("nginx", {})["gzip"] | {"level": 9}


def test_lists_of_the_site_replace_those_of_the_defaults():
    assert settings("ntp", {"ntp": {"pools": []}})["pools"] == []


def test_what_differs_on_one_system_lies_between_defaults_and_pillar(tmp_path):
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "defaults.yaml").write_text("a: 1\nb: 1\nc: 1\nby_os:\n  Debian-12:\n    b: 2\n    c: 2\n")
    (folder / "schema.yaml").write_text("{type: object}")

    def merged(osfinger):
        return load(
            LIBRARY,
            __grains__={"osfinger": osfinger},
            __pillar__={"demo": {"c": 3}},
            __salt__={"cp.cache_file": lambda url: str(tmp_path / url.removeprefix("salt://"))},
        ).settings("demo")

    assert merged("Debian-12") == {"a": 1, "b": 2, "c": 3}
    assert merged("Debian-13") == {"a": 1, "b": 1, "c": 3}


def test_all_faults_are_told_at_once():
    fault = refusal("nginx", {"nginx": {"port": "x", "gzip": {"level": 11, "levle": 1}}})
    assert all(f"nginx:{key}: " in fault for key in ("port", "gzip:level", "gzip:levle"))


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("secret", ["hunter-2\n", ["hunter-2"], {"hunter-2": "hunter-2"}], ids=repr)
def test_no_refusal_tells_a_secret(formula, secret):
    secrets = [path for path, part in walk(schema_of(formula)) if part.get("writeOnly")]
    for path in secrets:
        path = ["EXAMPLE" if part == "*" else part for part in path]
        fault = refusal(formula, changed(PILLAR, [formula, *path], secret))
        assert ":".join([formula, *path]) in fault
        assert "hunter-2" not in fault


@pytest.mark.parametrize(
    ("formula", "name"),
    [
        ("ntp", "key"),
        ("redis", "measure_password"),
        ("redis", "password"),
        ("redis", "replication_password"),
        ("rsyslog", "identity"),
        ("rsyslog", "server_identity"),
        ("sentinel", "password"),
        ("status_page", "password"),
        ("zabbix_server", "password"),
    ],
)
def test_password_is_marked_as_a_secret(formula, name):
    assert schema_of(formula)["properties"][name]["writeOnly"] is True
