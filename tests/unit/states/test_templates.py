"""What Zabbix is given: whether it holds together, before any Zabbix sees it."""

import importlib.util
import re

import pytest
import yaml

from rendering import ROOT, STATES

TEMPLATES = STATES / "zabbix_server" / "templates"
FILES = sorted(TEMPLATES.glob("*.yaml"))
DASHBOARDS = STATES / "zabbix_server" / "files" / "dashboards.yaml"
RUNBOOKS = ROOT / "docs" / "runbooks" / "alerts"
SCRIPTS = STATES / "zabbix_agent" / "files"
# Measured by the agent itself.
BUILT_IN = (
    r"agent\.(ping|version)|system\.(uptime|cpu\.(util|load)\b.*)|vm\.memory\.size\[.*"
    r"|vfs\.(fs\.get|file\.(contents|time)\[.*)"
)
# Seconds: how soon a fault must be told of, and what a script may take.
SOON, SCRIPT = 90, 3


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
    found = {path: path.read_text() for path in [*FILES, DASHBOARDS]}
    assert found == source.written(), "salt/zabbix_templates.py writes them"


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


def test_no_smaller_alert_silences_a_disaster():
    for (_, name, _), trigger in EVERY.items():
        others = {other["name"] for other in trigger.get("dependencies", [])}
        assert trigger["priority"] != "DISASTER" or others == {"Host is dead"}, name


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
        elif kind == "INTERNAL":
            assert re.fullmatch(r"zabbix\[(queue,1m|wcache,history,pused|process,history syncer,avg,busy)\]", key)
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


# What may take longer, in seconds: errors, which are told of when they last, and logs, which may wait for minutes.
LATE = {
    "Clients are answered with errors": 105,
    "nginx answers with errors": 125,
    "Logs wait for the log host": 260,
}


def seconds(text, macros):
    number, unit = re.fullmatch(r"(\d+)([smhd]?)", macros.get(text, text)).groups()
    return int(number) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[unit]


class Delays:
    """How long a fault is on its way through items, at the most."""

    def __init__(self):
        self.items = {key: item for document in documents().values() for key, item in items(document).items()}
        self.macros = {
            macro["macro"]: macro.get("value", "")
            for document in documents().values()
            for macro in document["templates"][0]["macros"]
        }

    def period(self, key):
        item = self.items[key]
        return self.period(item["master_item"]["key"]) if "master_item" in item else seconds(item["delay"], self.macros)

    def until_told(self, key):
        """Return until an item has a value that is of the fault."""
        item = self.items[key]
        if "master_item" in item:
            return self.until_told(item["master_item"]["key"])
        if item.get("type") != "CALCULATED":
            return self.period(key) + SCRIPT
        used = re.findall(
            r"([a-z]+)(?:_foreach)?\(/(?:\*|)/([a-z][a-z0-9_.]*)(?:\?\[[^\]]*\])?(?:,([^)]+))?\)", item["params"]
        )
        assert len(used) == item["params"].count("/turnkey.") + item["params"].count("/agent.ping"), item["params"]
        return self.period(key) + max(self.within(*each) for each in used)

    def within(self, function, key, time):
        """Return until a function of an item's last values is of the fault: most also see what was before it."""
        told = self.until_told(key)
        return told if function == "last" else max(told, seconds(time, self.macros))

    def says_who_is_well(self, key):
        """Whether an alert needs it to be as it was before the fault: it is nothing to wait for."""
        text = self.items[key].get("params", "")
        return bool(text) and not re.sub(r"count\(max_foreach\([^()]*\)\)|>0| and ", "", text)

    def of_alert(self, expression):
        """Return until it is told; None where it is told of what lasts for minutes."""
        found = []
        for key, look in re.findall(r"\(/[^/]+/([^,\[()]+(?:\[[^\]]*\])?)(?:,([^()]+))?\)", expression):
            if look and not look.startswith("#"):
                return None
            if not self.says_who_is_well(key):
                found.append(self.until_told(key) + (int(look[1:] or 1) - 1 if look else 0) * self.period(key))
        return max(found)


def test_alerts_of_faults_come_in_time():
    """The way of a value through scripts, calculations and repeated looks is shorter than the time that there is."""
    delays, late = Delays(), {}
    for (_, title, expression), _ in EVERY.items():
        taken = delays.of_alert(expression)
        if taken is not None and taken > SOON:
            late[title] = taken
    assert late.keys() == LATE.keys(), late
    assert not {title: taken for title, taken in late.items() if taken > LATE[title]}


def test_the_way_of_a_fault_is_known():
    """By hand: looks of 15 s, what is older than 29 s is not counted, and a script may take three seconds."""
    delays = Delays()
    told = {title: delays.of_alert(expression) for _, title, expression in EVERY}
    assert told["nginx does not run"] == 18 + 15
    assert told["Salt's last apply failed"] == 33
    assert told["Host is dead"] == 29 + 15 + 15
    assert told["A web host is not ready, though its daemons run"] == 29 + 15 + 30
    assert told["A replica of Redis does not follow"] == 29 + 15 + 30
    assert told["The service gives no page"] == 18 + 45
    assert told["Cores are busy"] is None


def test_what_is_looked_at_is_looked_at_every_quarter_of_a_minute(document):
    """But for what a single look tells of, or what takes minutes."""
    slow = {"agent.version": "1h"} | {
        f"turnkey.{name}": "{$SLOW}"
        for name in ("salt", "certificate", "rsyslog", "backup", "units.salt_minion", "units.zabbix")
    }
    for key, item in items(document).items():
        wanted = "0" if item.get("type") == "DEPENDENT" else slow.get(key, "{$INTERVAL}")
        assert item["delay"] == wanted, key


def is_always_told(item):
    steps = item["preprocessing"]
    return not any("error_handler" in step or step["type"] == "CHANGE_PER_SECOND" for step in steps)


def test_whatever_is_measured_is_missed_when_nothing_comes_of_it(document):
    """By something that is always told while it is measured."""
    known, missed = items(document), set()
    for trigger in triggers(document):
        if page_of(trigger) == "unmeasured.rst":
            (key,) = re.findall(r"^nodata\(/[^/]+/([^,]+),[345]m\)=1$", trigger["expression"])
            assert is_always_told(known[key]), key
            missed.add(known[key]["master_item"]["key"])
    masters = {item["master_item"]["key"] for item in known.values() if item.get("type") == "DEPENDENT"}
    assert missed == {key for key in masters if key.startswith("turnkey.")}


def test_that_no_script_works_is_told_once_by_a_host():
    first = "Daemons of chrony cannot be measured"
    for (_, name, expression), trigger in EVERY.items():
        if page_of(trigger) == "unmeasured.rst":
            others = {other["name"] for other in trigger["dependencies"]}
            assert (first in others) != (name == first), name
            assert (",3m)" in expression) == (name == first), "the first one is told of sooner than what depends on it"


def test_no_formula_asks_for_the_last_value_within_a_time():
    """Older servers of Zabbix refuse it; the least and the greatest within a time every one knows."""
    for document in documents().values():
        for item in items(document).values():
            assert not re.search(r"last_foreach\([^()]*,[^()]*\)", item.get("params", "")), item["key"]


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


def test_every_role_has_a_dashboard_and_its_items_are_on_every_host_of_it():
    roles = {
        role
        for path in (ROOT / "salt" / "pillar" / "topology").glob("*.sls")
        for host in yaml.safe_load(path.read_text())["topology"]["hosts"].values()
        for role in host["roles"]
    }
    shown = yaml.safe_load(DASHBOARDS.read_text())
    of_roles = yaml.safe_load((STATES / "zabbix_server" / "defaults.yaml").read_text())["templates"]
    names = {name: {item["name"] for item in items(document).values()} for name, document in documents().items()}

    assert set(shown) == roles
    for role, graphs in shown.items():
        there = {item for name, them in names.items() if {"hosts", role} & set(of_roles[name]) for item in them}
        for title, of_graph in graphs.items():
            assert of_graph, title
            assert set(of_graph) <= there, title


def test_no_two_items_have_one_name():
    """Dashboards know them by it."""
    names = [item["name"] for document in documents().values() for item in items(document).values()]
    assert len(set(names)) == len(names)
