"""What Zabbix is given: whether it holds together, before any Zabbix sees it."""

import importlib.util
import re

import pytest
import yaml

from rendering import ROOT, STATES

TEMPLATES = STATES / "zabbix_server" / "templates"
FILES = sorted(TEMPLATES.glob("*.yaml"))
RUNBOOKS = ROOT / "docs" / "runbooks" / "alerts"
SCRIPTS = STATES / "zabbix_agent" / "files"
# Measured by the agent itself.
BUILT_IN = (
    r"agent\.(ping|version)|system\.(uptime|cpu\.(util|load)\b.*)|vm\.memory\.size\[.*"
    r"|vfs\.(fs\.get|file\.contents\[.*)"
)
# How soon a fault must be told of, in seconds, and how often it is looked.
SOON, INTERVAL = 90, 15


def documents():
    return {path.stem: yaml.safe_load(path.read_text())["zabbix_export"] for path in FILES}


def template(name):
    (found,) = documents()[name]["templates"]
    return found


def items(document):
    return {item["key"]: item for item in document["templates"][0]["items"]}


def triggers(document):
    nested = [trigger for item in document["templates"][0]["items"] for trigger in item.get("triggers", [])]
    return nested + document.get("triggers", [])


EVERY = {
    (name, trigger["name"], trigger["expression"]): trigger
    for name, document in documents().items()
    for trigger in triggers(document)
}


def page_of(trigger):
    return trigger["url"].rpartition("/")[2]


@pytest.fixture(params=documents())
def document(request):
    return documents()[request.param]


def test_files_are_what_their_source_says():
    spec = importlib.util.spec_from_file_location("zabbix_templates", ROOT / "salt" / "zabbix_templates.py")
    source = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(source)
    wanted = {f"{name}.yaml": source.text_of(it) for name, it in source.Template.every.items()}
    assert {path.name: path.read_text() for path in FILES} == wanted, "salt/zabbix_templates.py writes them"


def test_every_trigger_has_a_runbook_page_and_every_page_a_trigger():
    assert {page_of(trigger) for trigger in EVERY.values()} == {path.name for path in RUNBOOKS.glob("*.rst")}


def test_every_alert_is_in_the_table_of_the_docs():
    table = dict(
        re.findall(r"^(\S+\.rst) +(.+?)  +[a-z]+$", (ROOT / "docs" / "monitoring.rst").read_text(), re.MULTILINE)
    )
    told = {page_of(trigger): trigger["name"] for trigger in EVERY.values()}
    assert table == told | {"unmeasured.rst": "… cannot be measured"}


@pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("*.rst")), ids=lambda path: path.stem)
def test_a_runbook_says_what_it_means_and_what_to_do(path):
    text = path.read_text()
    assert text.startswith(f"{path.stem}: ")
    for heading in ("What it means", "What to look at", "What to do"):
        (body,) = re.findall(rf"^{heading}\n-+\n(.+?)(?=\n\n\S[^\n]*\n---|\Z)", text, re.DOTALL | re.MULTILINE)
        assert len(body.strip()) > 20, heading


def test_every_alert_says_how_bad_it_is_and_recovers_by_itself():
    for trigger in EVERY.values():
        assert trigger["priority"] in ("INFO", "WARNING", "AVERAGE", "HIGH", "DISASTER")
        assert trigger.get("recovery_mode", "EXPRESSION") == "EXPRESSION"
        assert trigger.get("manual_close", "NO") == "NO"


def test_every_dependency_is_a_trigger():
    known = {(name, expression) for _, name, expression in EVERY}
    for trigger in EVERY.values():
        for other in trigger.get("dependencies", []):
            assert (other["name"], other["expression"]) in known, trigger["name"]
            assert other["name"] != trigger["name"] or other["expression"] != trigger["expression"]


def test_a_dead_host_silences_all_else_of_it():
    for (_, name, _), trigger in EVERY.items():
        others = {other["name"] for other in trigger.get("dependencies", [])}
        assert ("Host is dead" in others) != (name == "Host is dead"), name


def test_no_alert_depends_on_itself_by_way_of_others():
    after = {
        (name, expression): [(other["name"], other["expression"]) for other in trigger.get("dependencies", [])]
        for (_, name, expression), trigger in EVERY.items()
    }
    for start in after:
        reached, left = set(), list(after[start])
        while left:
            one = left.pop()
            assert one != start
            if one not in reached:
                reached.add(one)
                left += after[one]


def test_an_alert_is_about_items_of_its_own_template(document):
    (it,) = document["templates"]
    for trigger in triggers(document):
        found = re.findall(r"\(/([^/]+)/([^,\[()]+(?:\[[^\]]*\])?)[,)]", trigger["expression"])
        assert found, trigger["expression"]
        for title, key in found:
            assert title == it["name"]
            assert key in items(document), trigger["expression"]


def test_every_measurement_is_one_that_some_agent_or_the_server_makes(document):
    """By the parameters of map.jinja, by the agent's own keys, or from other items."""
    named = (STATES / "zabbix_agent" / "map.jinja").read_text()
    known = items(document)
    for key, item in known.items():
        kind = item.get("type", "ZABBIX_PASSIVE")
        if kind == "DEPENDENT":
            assert item["master_item"]["key"] in known, key
        elif kind == "CALCULATED":
            assert item["params"]
        elif key.startswith("turnkey.units."):
            # As a group of units.
            assert re.search(rf"\b{key.removeprefix('turnkey.units.')}(=|': )", named), key
        elif key.startswith("turnkey.service."):
            assert f"('{key.removeprefix('turnkey.service.')}', " in named, key
        elif key.startswith("turnkey."):
            name = key.removeprefix("turnkey.")
            assert re.search(rf"\b{name}='measure-|'{name}': 'measure-|'turnkey\.{name}': ", named), key
        else:
            assert re.fullmatch(BUILT_IN, key), key


def test_what_is_calculated_is_of_items_that_there_are():
    known = {key for document in documents().values() for key in items(document)}
    for document in documents().values():
        for item in items(document).values():
            used = re.findall(r"/(?:\*|)/([a-z][a-z0-9_.]*)", item.get("params", ""))
            assert set(used) <= known, item["key"]


def test_each_part_of_a_script_is_told_by_it(document):
    for item in items(document).values():
        if item.get("type") != "DEPENDENT" or not item["master_item"]["key"].startswith("turnkey."):
            continue
        step = item["preprocessing"][0]
        script = item["master_item"]["key"].split(".")[1]
        source = SCRIPTS / f"measure-{script}"
        # Those of other formulas come with them.
        if step["type"] == "JSONPATH" and source.is_file():
            field = step["parameters"][0].rpartition(".")[2]
            text = source.read_text()
            assert f'"{field}"' in text or (script == "gunicorn" and field in ("busy", "idle", "stuck")), item["key"]


# A job takes its time, and so does a vote; errors are told of when they last.
LATE = {"The service does no jobs", "Redis has no primary", "nginx answers with errors"}


def test_alerts_of_faults_come_in_time():
    """The way of a value through scripts, calculations and repeated looks is shorter than the time that there is."""
    slow = {"5m", "10m", "3m", "{$CLOCK.LOST}"}
    for (name, title, expression), _ in EVERY.items():
        looks = [int(number) for number in re.findall(r",#(\d)\)", expression)] or [1]
        if slow & set(re.findall(r",([^,()#]+)\)", expression)) or title in LATE:
            continue
        stages = {"stack": 2, "service": 1}.get(name, 1)
        assert (stages + max(looks) - 1) * INTERVAL <= SOON, title


def test_what_is_looked_at_is_looked_at_every_quarter_of_a_minute(document):
    """But for what a single look tells of, or what takes minutes."""
    slow = {"agent.version": "1h"} | {f"turnkey.{name}": "{$SLOW}" for name in ("salt", "certificate", "rsyslog")}
    for key, item in items(document).items():
        wanted = "0" if item.get("type") == "DEPENDENT" else slow.get(key, "{$INTERVAL}")
        assert item["delay"] == wanted, key


def test_ids_are_version_4_and_nobody_elses():
    ids = [found for path in FILES for found in re.findall(r"uuid: (\S+)", path.read_text())]
    assert all(re.fullmatch(r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}", found) for found in ids)
    groups = [group["uuid"] for document in documents().values() for group in document["groups"]]
    assert len(set(groups)) == 1
    others = [found for found in ids if found not in groups]
    assert len(set(others)) == len(others)


def test_every_number_that_is_measured_is_in_a_graph(document):
    drawn = {line["item"]["key"] for graph in document.get("graphs", []) for line in graph["graph_items"]}
    for key, item in items(document).items():
        assert key in drawn or item.get("value_type") in ("TEXT", "CHAR"), key


def test_every_graph_is_on_the_dashboard(document):
    (it,) = document["templates"]
    (dashboard,) = it["dashboards"]
    shown = [widget["fields"][0]["value"]["name"] for page in dashboard["pages"] for widget in page["widgets"]]
    assert shown == [graph["name"] for graph in document["graphs"]]
