"""The status page: what it makes of what Zabbix says, and what visitors get when somebody on its way is gone."""

import contextlib
import datetime
import http.server
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import pytest
import yaml
from tests.script import load

from rendering import ROOT, STATES

FILES = STATES / "status_page" / "files"
SCRIPT = FILES / "render-status-page"
HAPROXY, FALLBACK = "/etc/haproxy/haproxy.cfg", "/etc/haproxy/status-page.html"
PATIENCE = 30
DAY, HOUR = 86400, 3600
PASSWORD = "never-a-password-but-for-tests"  # noqa: S105


@pytest.fixture(scope="session")
def script():
    return load(SCRIPT)


def at(text):
    return int(datetime.datetime.fromisoformat(f"{text}+00:00").timestamp())


NOW = at("2026-11-23 03:40:30")
COMPONENT = {"name": "page", "title": "Pages", "item": "page.ok", "alerts": {"errors": [], "host-dead": ["lb", "web"]}}
SETTINGS = {
    "name": "Example",
    "path": "/status-page",
    "library": str(FILES),
    "seconds": 30,
    "patience": 180,
    "days": 90,
    "components": [COMPONENT],
    "show_alerts": False,
    "work_item": "hosts.out",
    "maintenance": [],
}


def looks(*good, last=NOW - 5, every=15):
    """Looks at a component, the newest first."""
    return [[last - n * every, each] for n, each in enumerate(good)]


def facts(**more):
    return {
        "form": 1,
        "asked": NOW,
        "looks": {"page.ok": looks(*[True] * 8)},
        "basis": [],
        "hours": {"page.ok": []},
        "alerts": [],
        "out": False,
    } | more


def alert(name, since=NOW - 600, roles=("hosts", "web")):
    return {"alert": name, "name": f"Something about {name}", "since": since, "roles": list(roles)}


def told(script, found=None, now=NOW, **settings):
    return script.status(SETTINGS | settings, facts() if found is None else found, now)


# --- the state of a component -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("good", "state"),
    [
        ([True, True], "up"),
        ([True], "up"),
        ([False, True, True], "degraded"),
        ([True, False, False], "degraded"),
        ([False], "degraded"),
        ([False, False, True], "down"),
        ([False] * 100, "down"),
        ([], "unknown"),
    ],
)
def test_the_two_newest_looks_decide(script, good, state):
    assert told(script, facts(looks={"page.ok": looks(*good)}))["components"][0]["state"] == state


def test_a_component_that_nobody_has_looked_at_lately_is_not_known(script):
    found = facts(looks={"page.ok": looks(True, True, last=NOW - 181)})
    assert told(script, found)["components"][0]["state"] == "unknown"
    assert told(script, found)["state"] == "unknown"
    assert told(script, facts(looks={}))["components"][0]["state"] == "unknown"


def test_a_component_is_degraded_while_an_alert_of_its_own_lasts(script):
    answer = told(script, facts(alerts=[alert("errors"), alert("disk-full")]))
    assert answer["components"][0]["state"] == answer["state"] == "degraded"
    assert told(script, facts(alerts=[alert("disk-full")]))["components"][0]["state"] == "up"


@pytest.mark.parametrize(("roles", "state"), [(["hosts", "web"], "degraded"), (["hosts", "data"], "up")])
def test_an_alert_concerns_a_component_by_the_role_of_its_host(script, roles, state):
    assert told(script, facts(alerts=[alert("host-dead", roles=roles)]))["components"][0]["state"] == state


def test_an_alert_does_not_make_better_what_is_down(script):
    found = facts(alerts=[alert("errors")], looks={"page.ok": looks(False, False, True)})
    assert told(script, found)["components"][0]["state"] == "down"


def test_the_worst_component_decides_for_all(script):
    assert script.worst(["up", "up"]) == "up"
    assert script.worst(["up", "unknown"]) == "unknown"
    assert script.worst(["unknown", "degraded"]) == "degraded"
    assert script.worst(["degraded", "down", "unknown"]) == "down"


# --- incidents --------------------------------------------------------------------------------------------------------


def test_an_incident_lasts_since_the_first_failure_in_a_row(script):
    (incident,) = told(script, facts(looks={"page.ok": looks(False, False, False, True, False)}))["incidents"]
    assert incident == {
        "component": "page",
        "title": "Pages",
        "state": "down",
        "since": script.instant(NOW - 5 - 30),
        "alerts": [],
    }


def test_of_a_failure_that_is_older_than_the_looks_an_alert_knows_the_beginning(script):
    found = facts(looks={"page.ok": looks(*[False] * 10)}, alerts=[alert("errors", since=NOW - 5 * HOUR)])
    assert told(script, found)["incidents"][0]["since"] == script.instant(NOW - 5 * HOUR)
    assert told(script, facts(looks=found["looks"]))["incidents"][0]["since"] == script.instant(NOW - 5 - 135)


def test_names_of_alerts_are_told_only_where_pillar_says_so(script):
    found = facts(alerts=[alert("errors"), alert("disk-full")])
    assert told(script, found)["incidents"][0]["alerts"] == []
    assert told(script, found, show_alerts=True)["incidents"][0]["alerts"] == ["Something about errors"]
    assert "Something about" not in page_of(script, told(script, found))


def test_there_is_no_incident_while_everything_works(script):
    assert told(script)["incidents"] == []


# --- availability -----------------------------------------------------------------------------------------------------


def test_days_are_made_of_hourly_averages_and_of_what_came_since(script):
    hours = [[at("2026-11-21 00:00:00"), 240, 1.0], [at("2026-11-21 23:00:00"), 240, 0.5]]
    recent = [[at("2026-11-23 03:30:00"), False], [at("2026-11-23 00:00:00"), True]]
    days = told(script, facts(hours={"page.ok": hours}, looks={"page.ok": recent}), days=3)["components"][0]["days"]
    assert days == [
        {"day": "2026-11-21", "availability": 75.0},
        {"day": "2026-11-22", "availability": None},
        {"day": "2026-11-23", "availability": 50.0},
    ]


def test_an_hour_counts_once_whether_as_average_or_look_by_look(script):
    hour = at("2026-11-23 02:00:00")
    found = facts(
        hours={"page.ok": [[hour, 240, 0.0]]},
        looks={"page.ok": [[hour + HOUR, True], [hour + 15, False], [hour, False]]},
    )
    assert told(script, found, days=2)["components"][0]["availability"] == script.share([(241, 1.0)])


def test_ninety_days_end_with_today(script):
    days = told(script)["components"][0]["days"]
    assert (len(days), days[0]["day"], days[-1]["day"]) == (90, "2026-08-26", "2026-11-23")


def test_what_is_older_than_the_days_that_are_shown_does_not_count(script):
    hours = [[at("2026-11-21 23:00:00"), 240, 0.0], [at("2026-11-22 00:00:00"), 240, 1.0]]
    assert told(script, facts(hours={"page.ok": hours}), days=2)["components"][0]["availability"] == 100.0


@pytest.mark.parametrize(
    ("parts", "percent"),
    [
        ([], None),
        ([(0, 0.0)], None),
        ([(3, 3.0)], 100.0),
        # Never better than it was,
        ([(1_000_000, 999_999.0)], 99.99),
        # and not worse by the way computers count.
        ([(240, 240 * 0.99999999999)], 100.0),
        ([(240, 0.0)], 0.0),
    ],
)
def test_a_share_is_rounded_down_and_never_made_up(script, parts, percent):
    assert script.share(parts) == percent


# --- maintenance ------------------------------------------------------------------------------------------------------

PLANNED = [
    {"title": "Later", "from": "2026-12-01 01:00", "until": "2026-12-01 03:00"},
    {"title": "Over", "from": "2026-11-01 01:00", "until": "2026-11-23 03:40"},
    {"title": "Now", "from": "2026-11-23 03:40", "until": "2026-11-23 05:00"},
]


def test_planned_work_is_told_until_it_is_over(script):
    works = told(script, maintenance=PLANNED)["maintenance"]
    assert [(work["title"], work["state"]) for work in works] == [("Now", "now"), ("Later", "planned")]
    assert works[0]["until"] == "2026-11-23T05:00:00Z"


def test_planned_work_is_told_while_zabbix_is_silent(script):
    assert len(script.status(SETTINGS | {"maintenance": PLANNED}, None, NOW)["maintenance"]) == 2


def test_work_that_goes_on_is_told(script):
    assert "out of service on purpose" in page_of(script, told(script, facts(out=True)))
    assert "out of service on purpose" not in page_of(script, told(script))


# --- data that is old -------------------------------------------------------------------------------------------------


def test_after_a_while_without_zabbix_nothing_is_known_but_the_past(script):
    hours = {"page.ok": [[at("2026-11-21 00:00:00"), 240, 0.5]]}
    answer = told(script, facts(hours=hours, alerts=[alert("errors")], out=True), now=NOW + 181)
    assert (answer["known"], answer["state"], answer["out"]) == (False, "unknown", False)
    assert answer["components"][0]["state"] == "unknown"
    assert answer["incidents"] == []
    assert {"day": "2026-11-21", "availability": 50.0} in answer["components"][0]["days"]
    text = page_of(script, answer, NOW + 181)
    assert "has not answered since" in text
    assert "2026-11-23 03:40 UTC" in text
    assert "3 minutes ago" in text
    assert "Everything works" not in text


def test_a_short_silence_changes_nothing(script):
    assert told(script, now=NOW + 180)["state"] == "up"


def test_before_zabbix_has_ever_answered_nothing_is_known(script):
    answer = script.status(SETTINGS, None, NOW)
    assert (answer["known"], answer["asked"], answer["state"]) == (False, None, "unknown")
    assert "has not answered yet" in page_of(script, answer)


def test_the_page_says_when_it_was_written(script):
    assert '<time datetime="2026-11-23T03:40:30Z">2026-11-23 03:40:30 UTC</time>' in page_of(script, told(script))


# --- the page ---------------------------------------------------------------------------------------------------------


def page_of(script, answer, now=NOW):
    return script.page(FILES, answer, SETTINGS, now)


def test_what_pillar_and_zabbix_say_is_text_and_never_markup(script):
    evil = '<script>alert("1")</script>'
    component = COMPONENT | {"title": evil}
    found = facts(alerts=[alert("errors") | {"name": evil}])
    work = [PLANNED[0] | {"title": evil}]
    answer = told(script, found, name=evil, components=[component], maintenance=work, show_alerts=True)
    text = page_of(script, answer)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 5


def test_the_page_needs_no_script_and_no_other_file(script):
    text = page_of(script, told(script))
    assert not re.search(r"<(script|link|img|iframe|form)\b|\bon[a-z]+=|\bstyle=|url\(|@import", text)
    assert set(re.findall(r'(?:href|src)="([^"]*)"', text)) == {"/status-page/status.json"}


def test_the_policy_allows_the_pages_own_style_and_nothing_else(script):
    text = page_of(script, told(script))
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = script.base64.b64encode(script.hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


@pytest.mark.parametrize(
    ("good", "headline"),
    [
        ([True, True], "Everything works"),
        ([False, True], "In service, with faults"),
        ([False, False], "Out of service: Pages"),
        ([], "Not everything is known at the moment"),
    ],
)
def test_the_headline_says_it_in_a_sentence(script, good, headline):
    second = COMPONENT | {"name": "job", "title": "Jobs", "item": "job.ok"}
    found = facts(looks={"page.ok": looks(*good), "job.ok": looks(True, True)})
    text = page_of(script, told(script, found, components=[COMPONENT, second]))
    assert f"<title>Example: {headline}</title>" in text
    all_down = facts(looks={"page.ok": looks(False, False), "job.ok": looks(False, False)})
    assert script.headline(told(script, all_down, components=[COMPONENT, second])) == "Out of service"


def test_each_day_has_words_for_those_who_do_not_see_colours(script):
    hours = [[at("2026-11-20 00:00:00"), 240, 0.5], [at("2026-11-21 00:00:00"), 240, 0.99]]
    text = page_of(script, told(script, facts(hours={"page.ok": hours}), days=4))
    assert re.findall(r'<i class="([a-z]+)" title="([^"]*)">', text) == [
        ("bad", "2026-11-20: 50 %"),
        ("impaired", "2026-11-21: 99 %"),
        ("none", "2026-11-22: no data"),
        ("good", "2026-11-23: 100 %"),
    ]
    assert 'aria-label="Availability of Pages over 4 days: ' in text
    assert "Days with failures: 2" in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 seconds"), (119, "119 seconds"), (120, "2 minutes"), (7199, "119 minutes"), (3 * DAY, "3 days")],
)
def test_a_time_that_has_passed_is_told_in_one_unit(script, seconds, words):
    assert script.lasts(seconds) == words


# --- asking Zabbix ----------------------------------------------------------------------------------------------------


class Zabbix:
    """As much of the API as the page needs, over HTTP; `version` decides how a session is shown."""

    def __init__(self, version="7.0.10"):
        self.version = version
        self.asked = []
        self.sessions = set()
        self.refuses = {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                body = outer.answer(asked, self.headers["Authorization"])
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps({"jsonrpc": "2.0", "id": 1} | body).encode())

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/api_jsonrpc.php"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def answer(self, asked, authorization):
        method, parameters = asked["method"], asked["params"]
        self.asked.append(method)
        shown = authorization.removeprefix("Bearer ") if authorization else asked.get("auth")
        if self.version.startswith("7"):
            assert "auth" not in asked
        if method == "apiinfo.version":
            return {"result": self.version}
        if method == "user.login":
            if parameters != {"username": "status-page", "password": PASSWORD}:
                return {"error": {"code": -32500, "message": "Application error.", "data": "Incorrect user name."}}
            self.sessions.add(f"session-{len(self.asked)}")
            return {"result": f"session-{len(self.asked)}"}
        if shown not in self.sessions:
            return {"error": {"code": -32602, "message": "Invalid params.", "data": "Session terminated, re-login."}}
        if method in self.refuses:
            return {"error": self.refuses[method]}
        return {"result": getattr(self, method.replace(".", "_"))(parameters)}

    def item_get(self, parameters):
        assert parameters["filter"] == {"key_": ["hosts.out", "page.ok"]}
        now = str(int(time.time()))
        return [
            {"itemid": "7", "key_": "page.ok", "value_type": "0", "lastvalue": "1", "lastclock": now},
            {"itemid": "8", "key_": "hosts.out", "value_type": "3", "lastvalue": "1", "lastclock": now},
        ]

    def history_get(self, parameters):
        assert (parameters["history"], parameters["itemids"]) == (0, ["7"])
        now = int(time.time())
        return [{"clock": str(now - n * 15), "value": "1.0000"} for n in range(5)]

    def trend_get(self, parameters):
        assert parameters["time_till"] < int(time.time()) // HOUR * HOUR
        return [{"clock": str(parameters["time_from"]), "num": "240", "value_avg": "0.5"}]

    def trigger_get(self, parameters):
        groups = "hostgroups" if "selectHostGroups" in parameters else "groups"
        assert (groups == "hostgroups") == self.version.startswith("7")
        return [
            {
                "description": "Clients are answered with errors",
                "lastchange": "1795402265",
                "url": "https://docs.example/alerts/errors.rst",
                groups: [{"name": "turnkey/hosts"}, {"name": "turnkey/monitor"}],
            }
        ]


@pytest.fixture(params=["7.0.10", "6.0.14"])
def zabbix(request):
    zabbix = Zabbix(request.param)
    yield zabbix
    zabbix.close()


@pytest.fixture
def settings(tmp_path, zabbix):
    (tmp_path / "secret").write_text(f"# Managed by Salt.\n{PASSWORD}\n")
    return SETTINGS | {
        "api": zabbix.url,
        "user": "status-page",
        "secret": str(tmp_path / "secret"),
        "folder": str(tmp_path / "folder"),
    }


def written(settings):
    folder = os.path.join(settings["folder"], "public")
    assert sorted(os.listdir(folder)) == ["index.html", "status.json"]
    with open(os.path.join(folder, "status.json"), encoding="utf-8") as file:
        return json.load(file)


def test_what_zabbix_says_becomes_a_page(script, zabbix, settings):
    assert script.render(settings, int(time.time())) is None
    answer = written(settings)
    assert (answer["known"], answer["state"], answer["out"]) == (True, "degraded", True)
    assert answer["components"][0]["days"][0]["availability"] == 50.0
    assert answer["incidents"][0]["component"] == "page"
    assert zabbix.asked[:3] == ["apiinfo.version", "user.login", "item.get"]


def test_a_session_lasts_over_many_runs_and_averages_over_an_hour(script, zabbix, settings):
    now = int(time.time())
    script.render(settings, now)
    before = list(zabbix.asked)
    script.render(settings, now)
    assert zabbix.asked[len(before) :] == ["item.get", "history.get", "trigger.get"]
    script.render(settings, now + HOUR)
    assert zabbix.asked[-3:] == ["history.get", "trend.get", "trigger.get"]


def test_a_session_that_has_ended_is_begun_anew(script, zabbix, settings):
    script.render(settings, int(time.time()))
    zabbix.sessions.clear()
    assert script.render(settings, int(time.time())) is None
    assert zabbix.asked.count("user.login") == 2


@pytest.mark.parametrize("code", [-32500, -32602])
def test_what_zabbix_refuses_costs_no_login_unless_the_session_may_be_over(script, zabbix, settings, code):
    script.render(settings, int(time.time()))
    zabbix.refuses["item.get"] = {"code": code, "message": "Some error.", "data": "In whatever language."}
    for _ in range(3):
        assert isinstance(script.render(settings, int(time.time())), script.RefusedError)
    assert zabbix.asked.count("user.login") == (1 if code == -32500 else 4)


def test_nobody_else_reads_the_session(script, settings):
    script.render(settings, int(time.time()))
    assert os.stat(os.path.join(settings["folder"], "session")).st_mode & 0o077 == 0
    for name in ("index.html", "status.json"):
        assert os.stat(os.path.join(settings["folder"], "public", name)).st_mode & 0o777 == 0o644


def test_without_zabbix_the_page_is_written_and_says_so(script, zabbix, settings, capsys):
    now = int(time.time())
    script.render(settings, now)
    zabbix.close()
    assert type(script.render(settings, now + 60)) is script.ZabbixError
    assert written(settings)["state"] == "degraded"
    assert script.render(settings, now + 600) is not None
    answer = written(settings)
    assert (answer["known"], answer["asked"], answer["written"]) == (
        False,
        script.instant(now),
        script.instant(now + 600),
    )
    assert answer["components"][0]["days"][0]["availability"] == 50.0
    assert "Zabbix has not told how things are" in capsys.readouterr().err


def test_a_refused_password_is_told_and_not_shown(script, settings, tmp_path, capsys):
    (tmp_path / "secret").write_text("# Managed by Salt.\nanother-password-of-twenty\n")
    assert isinstance(script.render(settings, int(time.time())), script.RefusedError)
    said = capsys.readouterr().err
    assert "user.login: Application error. Incorrect user name." in said
    assert "another-password" not in said
    assert not written(settings)["known"]


def test_a_zabbix_that_never_answers_is_given_up_on(script, settings, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(script, "LIMIT", 0.5)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert type(script.render(settings | {"api": url}, int(time.time()))) is script.ZabbixError
    assert not written(settings)["known"]


class Dripping(http.server.BaseHTTPRequestHandler):
    """Says something each tenth of a second, and never comes to an end: no wait for the next byte is long."""

    def do_POST(self):
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.over.wait(0.1):
                self.wfile.write(b" ")

    def log_message(self, *_):
        pass


def test_a_zabbix_that_never_comes_to_an_end_is_given_up_on(script, settings, monkeypatch):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dripping) as server:
        server.over = threading.Event()
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setattr(script, "LIMIT", 0.5)
        fault = script.render(settings | {"api": f"http://127.0.0.1:{server.server_port}/"}, int(time.time()))
        server.over.set()
        server.shutdown()
    assert (type(fault), str(fault)) == (script.ZabbixError, "no answer within 0.5 s")
    assert not written(settings)["known"]


@pytest.mark.parametrize("result", [None, [], [{}], "no", [{"itemid": "7", "key_": "page.ok"}]])
def test_an_answer_that_makes_no_sense_ends_nothing(script, zabbix, settings, result):
    zabbix.trigger_get = lambda _: [{"no": "trigger"}]
    zabbix.item_get = lambda _: result
    assert script.render(settings, int(time.time())) is not None
    assert written(settings)["components"][0]["state"] == "unknown"


@pytest.mark.parametrize(
    "answer",
    [{"error": "of another form"}, {"error": {"message": "without a code"}}, {"result": [{"url": None}]}, {}],
    ids=["error as text", "error without a code", "alert without a runbook", "nothing"],
)
def test_an_answer_of_another_form_ends_nothing(script, zabbix, settings, monkeypatch, answer):
    known = zabbix.answer
    trigger = {"description": "", "lastchange": "0"}
    answer = {"result": [trigger | each for each in answer["result"]]} if "result" in answer else answer
    monkeypatch.setattr(
        zabbix, "answer", lambda asked, *r: answer if asked["method"] == "trigger.get" else known(asked, *r)
    )
    assert script.render(settings, int(time.time())) is not None
    assert not written(settings)["known"]


# --- what systemd and an apply are told -------------------------------------------------------------------------------


def run(settings, tmp_path):
    file = tmp_path / "configuration.json"
    file.write_text(json.dumps(settings))
    return subprocess.run([sys.executable, "-B", SCRIPT, file], capture_output=True, text=True, check=False)


def test_a_run_that_was_told_all_says_nothing_and_succeeds(settings, tmp_path):
    done = run(settings, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("how", ["gone", "without its database"])
def test_a_zabbix_that_is_away_is_told_and_is_no_failure(zabbix, settings, tmp_path, how):
    """It is back by itself: no unit is to stay failed, and no apply to fail, for that."""
    if how == "gone":
        zabbix.close()
    else:
        run(settings, tmp_path)
        zabbix.refuses["item.get"] = {"code": 1, "message": "", "data": "Error connecting to database"}
    done = run(settings, tmp_path)
    assert (done.returncode, written(settings)["known"]) == (0, how != "gone")
    assert "Zabbix has not told how things are" in done.stderr


def test_a_zabbix_that_refuses_is_told_and_is_a_failure(settings, tmp_path):
    (tmp_path / "secret").write_text("# Managed by Salt.\nanother-password-of-twenty\n")
    done = run(settings, tmp_path)
    assert (done.returncode, written(settings)["known"]) == (1, False)
    assert "Incorrect user name" in done.stderr


def test_what_is_said_passes_the_units_own_filter(hosts, osfinger):
    unit = hosts(osfinger, "single").text("/etc/systemd/system/status-page.service").splitlines()
    levels = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"]
    settings = dict(line.split("=", 1) for line in unit if "=" in line)
    assert levels.index(settings["SyslogLevel"]) <= levels.index(settings["LogLevelMax"])


def test_an_apply_is_content_with_what_zabbix_tells_now_and_not_with_what_it_once_told(
    hosts, osfinger, zabbix, settings, tmp_path, monkeypatch
):
    (state,) = (chunk for chunk in hosts(osfinger, "single").chunks if chunk["name"] == "status-page.timer")
    assert state["speaks"] == "status-page.service"
    # systemd as far as it matters: a start is a run, and ends as that does.
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\nexec {sys.executable} -B {SCRIPT} {tmp_path}/configuration.json\n")
    systemctl.chmod(0o755)
    (tmp_path / "sleep").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "configuration.json").write_text(json.dumps(settings))
    check = state["check"].replace("/var/lib/status-page", settings["folder"])

    def content():
        return subprocess.run(shlex.split(check), capture_output=True, check=False).returncode == 0

    assert content()
    # A moment later: the page is still known to be right, and nobody has said so.
    zabbix.close()
    time.sleep(1.1)
    assert not content()
    assert written(settings)["known"]


@pytest.mark.parametrize("rubbish", ["", "null", "[]", '{"form": 0}', "\x00"])
def test_what_an_earlier_version_left_behind_is_no_obstacle(script, settings, rubbish):
    os.makedirs(settings["folder"])
    for name in ("facts.json", "session"):
        with open(os.path.join(settings["folder"], name), "w", encoding="utf-8") as file:
            file.write(rubbish)
    assert script.render(settings, int(time.time())) is None


def test_a_page_that_cannot_be_made_leaves_the_one_before(script, settings, tmp_path, monkeypatch):
    script.render(settings, int(time.time()))
    before = (tmp_path / "folder" / "public" / "index.html").read_text()
    monkeypatch.setattr(script.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no room")))
    with pytest.raises(OSError, match="no room"):
        script.render(settings, int(time.time()) + 60)
    monkeypatch.undo()
    assert (tmp_path / "folder" / "public" / "index.html").read_text() == before
    # Nor is anything half written left about.
    written(settings)


# --- what a host gets -------------------------------------------------------------------------------------------------


def configuration(host):
    return json.loads(host.text("/etc/status-page.json"))


def test_the_configuration_of_a_host_can_be_used(hosts, osfinger, script, tmp_path):
    for name in ("single", "cluster-monitor"):
        settings = configuration(hosts(osfinger, name)) | {"library": str(FILES)}
        text = script.page(FILES, script.status(settings, None, NOW), settings, NOW)
        assert "<h1>Fibonacci</h1>" in text


def test_another_app_is_named_by_its_pillar_alone():
    """No file of the page has a word of this one; salt/pillar/app.sls has all of them."""
    for path in [*(STATES / "status_page").rglob("*"), *(STATES / "haproxy" / "files").iterdir()]:
        if path.is_file():
            assert not re.search(r"fibonacci|sequence|stream of terms", path.read_text(), re.IGNORECASE), path


def test_what_the_app_has_not_is_no_component(hosts, osfinger):
    kinds = [component["name"] for component in configuration(hosts(osfinger, "single"))["components"]]
    assert kinds == ["page", "websocket", "job"]
    asked = configuration(hosts(osfinger, "custom"))
    assert [component["name"] for component in asked["components"]] == ["page"]
    assert asked["maintenance"] == [{"title": "New disks", "from": "2026-12-24 22:00", "until": "2026-12-25 02:00"}]


def test_every_alert_of_a_component_has_a_runbook_and_every_item_is_measured():
    defaults = yaml.safe_load((STATES / "status_page" / "defaults.yaml").read_text())
    runbooks = {path.stem for path in (ROOT / "docs" / "runbooks" / "alerts").glob("*.rst")}
    keys = {
        item["key"]
        for path in (STATES / "zabbix_server" / "templates").glob("*.yaml")
        for item in yaml.safe_load(path.read_text())["zabbix_export"]["templates"][0]["items"]
    }
    for component in defaults["components"].values():
        assert set(component["alerts"]) <= runbooks
        assert component["item"] in keys
    assert defaults["work_item"] in keys


# --- through the load balancer ----------------------------------------------------------------------------------------


class Files(http.server.ThreadingHTTPServer):
    """As nginx serves the page: with an ETag that begins with the time at which it was written."""

    allow_reuse_address = True

    def __init__(self, address=("127.0.0.1", 0)):
        self.written = time.time()
        self.asked = 0
        super().__init__(address, self.Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if not self.path.endswith(".json"):
                self.server.asked += 1
            body = b"the page"
            self.send_response(200)
            self.send_header("ETag", f'"{int(self.server.written):x}-8"')
            self.send_header("Cache-Control", "public, max-age=15")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    def close(self):
        self.shutdown()
        self.server_close()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Door:
    """HAProxy with the part of *host*'s configuration that is about the page, on this machine."""

    def __init__(self, host, files):
        self.port = free_port()
        self.folder = tempfile.mkdtemp(prefix="page-")
        fallback = os.path.join(self.folder, "fallback.html")
        text = host.text(HAPROXY)
        defaults = re.search(r"^defaults\n.*?\n(?=\S)", text, re.DOTALL | re.MULTILINE)[0]
        defaults = re.sub(r".*(server-state|load-server-state|log global).*\n", "", defaults)
        (uses,) = re.findall(r".*use_backend status_page.*", text)
        own = re.search(r"^cache status_page\n.*?^backend status_page\n.*?(?=^\S|\Z)", text, re.DOTALL | re.MULTILINE)[
            0
        ]
        own = re.sub(r"\d+\.\d+\.\d+\.\d+:8090", f"127.0.0.1:{files.server_port}", own).replace(FALLBACK, fallback)
        own = own.replace("inter 5s", "inter 100ms")
        with open(fallback, "w", encoding="utf-8") as file:
            file.write(host.text(FALLBACK))
        path = os.path.join(self.folder, "haproxy.cfg")
        with open(path, "w", encoding="utf-8") as file:
            file.write(
                f"{defaults}\nfrontend clients\n    bind 127.0.0.1:{self.port}\n{uses}\n    default_backend web\n"
                f"backend web\n    server web1 127.0.0.1:{files.server_port}\n    server web2 127.0.0.1:1 disabled\n"
                f"{own}\n"
            )
        haproxy = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert haproxy, "haproxy is not installed"
        self._process = subprocess.Popen([haproxy, "-db", "-f", path], stderr=subprocess.DEVNULL)

    def ask(self, path="/status-page"):
        """``(status, headers, text)``"""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode()

    def until(self, outcome):
        end = time.monotonic() + PATIENCE
        while True:
            try:
                found = self.ask()
                if outcome(found):
                    return found
            except (OSError, urllib.error.URLError) as error:
                found = error
            assert time.monotonic() < end, found
            time.sleep(0.05)

    def close(self):
        self._process.terminate()
        self._process.wait(PATIENCE)
        shutil.rmtree(self.folder)


@pytest.fixture
def files():
    files = Files()
    yield files
    files.close()


@pytest.fixture
def door(hosts, files):
    door = Door(hosts("Debian-13", "cluster-lb1"), files)
    yield door
    door.close()


def test_visitors_get_the_page_and_the_load_balancer_keeps_it_for_a_while(door, files):
    door.until(lambda answer: answer[0] == 200)
    before = files.asked
    for _ in range(20):
        status, headers, text = door.ask()
        assert (status, text) == (200, "the page")
    assert files.asked == before
    assert headers["Age"] is not None


def assert_honest(answer):
    status, headers, text = answer
    assert (status, headers["Content-Type"], headers["Cache-Control"]) == (503, "text/html; charset=utf-8", "no-store")
    assert "cannot be had" in text
    assert re.search(r"at 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC:\nweb hosts that say they are ready: 1\.", text)
    assert "%" not in text


def test_without_the_monitor_visitors_are_told_what_the_load_balancer_sees(door, files):
    files.close()
    assert_honest(door.until(lambda answer: answer[0] == 503))
    again = Files(files.server_address)
    try:
        assert door.until(lambda answer: answer[0] == 200)[2] == "the page"
    finally:
        again.close()


def test_a_page_that_nobody_writes_any_more_is_not_shown(door, files):
    files.written = time.time() - 181
    assert_honest(door.until(lambda answer: answer[0] == 503))
    files.written = time.time() - 100
    assert door.until(lambda answer: answer[0] == 200)[2] == "the page"


def test_haproxy_refuses_a_page_that_it_could_not_answer_with(hosts, tmp_path):
    check = [shutil.which("bash"), STATES / "haproxy" / "files" / "check-haproxy-page"]
    environment = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    page = tmp_path / "page.html"
    page.write_text(hosts("Debian-13", "cluster-lb1").text(FALLBACK))
    assert subprocess.run([*check, page], check=False, env=environment).returncode == 0
    page.write_text("%[nbsrv(nobody)]")
    refused = subprocess.run([*check, page], check=False, env=environment, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "nobody" in refused.stderr
