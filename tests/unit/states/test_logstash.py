"""Logstash, which is not to be had here: its configuration by its grammar, its patterns by real lines, and what is
around it by a stand-in from a repository that is signed.

On a real host, with the stand-in: tests/infra/test_logstash.py.
"""

import contextlib
import functools
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import threading

import jinja2
import pytest
import yaml
from logstash_pipeline_parser.tree import ParseError
from tests import logstash, stand_in

from rendering import ROOT, STATES
from test_settings import settings

PIPELINE, SOURCES = "/etc/logstash/turnkey.conf", "/etc/apt/sources.list.d/turnkey-logstash.sources"
PREFERENCES, FIND = "/etc/apt/preferences.d/turnkey-logstash", "/usr/local/sbin/find-logstash"
TEMPLATES = {
    PIPELINE: "turnkey.conf",
    SOURCES: "logstash.sources",
    PREFERENCES: "preferences",
    FIND: "find-logstash",
    "/etc/logstash/logstash.yml": "logstash.yml",
    "/etc/systemd/system/logstash.service.d/turnkey.conf": "unit.conf",
}
# As conftest.py has it for the host `custom`.
URL = "https://repository.example/packages"
KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\nKEY\n-----END PGP PUBLIC KEY BLOCK-----"
CUSTOM = {
    "workers": 2,
    "output": {"kind": "opensearch", "hosts": ["https://search.example:9200"], "login": "/etc/logstash-login"},
}
SECRETS = dict.fromkeys(("identity", "server_identity"), "A" * 100)


class RefusedError(Exception):
    """A template has refused the pillar."""


def refuse(message):
    raise RefusedError(message)


def rendered(path, url=URL, key=KEY, **pillar):
    """The file *path* as the formula would have it for this *pillar*; proved below to be what Salt makes of it."""
    site = {"enabled": True, "repository": {"url": url, "key": key}} | pillar
    merged = {
        "logstash": settings("logstash", {"logstash": site}),
        "rsyslog": settings("rsyslog", {"rsyslog": SECRETS}),
    }
    environment = jinja2.Environment(  # noqa: S701  no HTML
        loader=jinja2.FileSystemLoader(STATES), extensions=["jinja2.ext.do"], keep_trailing_newline=True
    )
    environment.globals |= {"salt": {"turnkey.settings": merged.get}, "raise": refuse}
    environment.filters["json"] = json.dumps
    return environment.get_template(f"logstash/files/{TEMPLATES[path]}.jinja").render()


@pytest.mark.parametrize("path", TEMPLATES)
def test_what_is_tried_here_is_what_salt_makes_of_it(hosts, osfinger, path):
    assert rendered(path, **CUSTOM).rstrip("\n") == hosts(osfinger, "custom").text(path).rstrip("\n")


# --- its configuration ------------------------------------------------------------------------------------------------

HOSTS = ["https://a.example:9200", "https://b.example:9200"]
OUTPUTS = {
    "a file": (
        {},
        "file",
        {"path": "/var/log/logstash-out/%{+YYYY-MM-dd}/%{[host][name]}.json", "codec": "json_lines"},
    ),
    "Elasticsearch": (
        {"kind": "elasticsearch", "hosts": HOSTS, "login": "/etc/login"},
        "elasticsearch",
        {
            "hosts": HOSTS,
            "index": "turnkey-%{+YYYY.MM.dd}",
            "action": "create",
            "data_stream": "false",
            "ilm_enabled": "false",
            "ssl_certificate_authorities": "/etc/ssl/certs/ca-certificates.crt",
            "user": "${OUTPUT_USER}",
            "password": "${OUTPUT_PASSWORD}",
        },
    ),
    "Elasticsearch, neither encrypted nor with a login": (
        {"kind": "elasticsearch", "hosts": ["http://127.0.0.1:9200"], "index": "own"},
        "elasticsearch",
        {
            "hosts": ["http://127.0.0.1:9200"],
            "index": "own",
            "action": "create",
            "data_stream": "false",
            "ilm_enabled": "false",
        },
    ),
    "OpenSearch": (
        {"kind": "opensearch", "hosts": HOSTS, "authority": "/etc/ca.pem", "login": "/etc/login"},
        "opensearch",
        {
            "hosts": HOSTS,
            "index": "turnkey-%{+YYYY.MM.dd}",
            "action": "create",
            "cacert": "/etc/ca.pem",
            "user": "${OUTPUT_USER}",
            "password": "${OUTPUT_PASSWORD}",
        },
    ),
}


@pytest.mark.parametrize(("output", "plugin", "options"), OUTPUTS.values(), ids=OUTPUTS)
def test_configuration_is_one_by_its_grammar_and_ends_where_pillar_says(output, plugin, options):
    sections = logstash.parse(rendered(PIPELINE, output=output))
    assert list(sections) == ["input", "filter", "output"]
    assert list(logstash.plugins(sections["output"])) == [(plugin, options)]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("input {", "input"), ('=> "plain"', "=>"), ("} else if ", "} otherwise if "), ('"line"', '"line')],
)
def test_grammar_refuses_what_is_none(right, wrong):
    text = rendered(PIPELINE)
    assert right in text
    with pytest.raises(ParseError):
        logstash.parse(text.replace(right, wrong, 1))


def test_filter_that_the_tests_cannot_tell_is_refused():
    text = rendered(PIPELINE).replace("  json {", '  kv { source => "message" }\n  json {', 1)
    with pytest.raises(logstash.UnknownError, match="filter kv"):
        logstash.Filters(text).run("/var/log/turnkey/web1/nginx.log", "{}")


def test_it_reads_what_rsyslog_keeps_the_rotated_file_too_and_not_itself(hosts, osfinger):
    archive = hosts(osfinger, "custom").settings["rsyslog"]["archive"]
    ((plugin, options),) = logstash.plugins(logstash.parse(hosts(osfinger, "custom").text(PIPELINE))["input"])
    assert plugin == "file"
    assert options["path"] == [f"{archive}/*/*.log", f"{archive}/*/*.log.1"]
    assert options["exclude"] == ["logstash.log", "logstash.log.1"]
    assert (options["mode"], options["start_position"]) == ("tail", "beginning")


def test_pipeline_queue_dead_letters_and_java_are_as_pillar_says():
    pillar = {"queue": "3gb", "dead_letters": "5mb", "heap": "2g", "workers": 3, "batch": 250, "port": 9601}
    said = yaml.safe_load(rendered("/etc/logstash/logstash.yml", **pillar))
    assert said["queue.type"] == "persisted"
    assert (said["queue.max_bytes"], said["dead_letter_queue.max_bytes"]) == ("3gb", "5mb")
    assert said["dead_letter_queue.enable"] is True
    assert (said["pipeline.workers"], said["pipeline.batch.size"]) == (3, 250)
    assert (said["api.http.host"], said["api.http.port"]) == ("127.0.0.1", 9601)
    unit = rendered("/etc/systemd/system/logstash.service.d/turnkey.conf", **pillar)
    assert 'Environment="LS_JAVA_OPTS=-Xms2g -Xmx2g"' in unit
    (pipeline,) = yaml.safe_load((STATES / "logstash" / "files" / "pipelines.yml").read_text())
    assert pipeline == {"pipeline.id": "turnkey", "path.config": PIPELINE}


def test_unit_may_read_the_archive_write_its_own_folders_and_little_else(tmp_path):
    unit = rendered("/etc/systemd/system/logstash.service.d/turnkey.conf")
    assert "SupplementaryGroups=adm" in unit
    assert "ReadWritePaths=/var/lib/logstash /var/log/logstash /var/log/logstash-out\n" in unit
    # As systemd has it on the host: Elastic's unit, and ours on top of it.
    sections = dict(re.findall(r"^\[(\w+)\]\n((?:[^\[\n].*\n|\n)*)", unit, re.MULTILINE))
    whole = stand_in.UNIT.replace("[Service]\n", f"[Service]\n{sections['Service']}")
    whole = whole.replace("/usr/share/logstash/bin/logstash", "/bin/true")
    file = tmp_path / "logstash.service"
    file.write_text(whole)
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=30", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


def test_login_is_never_read_by_a_shell(hosts, osfinger):
    """It is systemd's to read: a password such as a$bc, or $(id), is none to a shell."""
    check = hosts(osfinger, "custom").text("/usr/local/sbin/check-logstash")
    assert "/etc/logstash-login" not in check
    assert "export OUTPUT_USER=test OUTPUT_PASSWORD=test\n" in check
    assert "EnvironmentFile=/etc/logstash-login\n" in hosts(osfinger, "custom").text(
        "/etc/systemd/system/logstash.service.d/turnkey.conf"
    )


WRONG = {
    "no repository": ({"repository": {"url": "", "key": ""}}, "logstash:repository: url and key are required"),
    "no key": ({"repository": {"url": URL, "key": ""}}, "logstash:repository: url and key are required"),
    "nowhere to send to": ({"output": {"kind": "elasticsearch"}}, "logstash:output:hosts: is required"),
    "a plugin for files": ({"output": {"plugin": "/srv/x.zip"}}, "logstash:output:plugin: is none of kind file"),
}


@pytest.mark.parametrize(("pillar", "says"), WRONG.values(), ids=WRONG)
def test_what_does_not_go_together_is_refused_by_its_key(pillar, says):
    with pytest.raises(RefusedError, match=f"wrong pillar, nothing applied: {says}"):
        rendered(PIPELINE, **pillar)


def test_nothing_is_touched_before_it_is_known_that_logstash_is_to_be_had(hosts, osfinger):
    states = [chunk for chunk in hosts(osfinger, "custom").chunks if chunk["__sls__"] == "logstash"]
    names = [(chunk["state"], chunk["name"]) for chunk in states]
    before = names[: names.index(("pkg", "logstash"))]
    # A tool, the source once it was checked, and the pin.
    assert before == [
        ("pkg", "needs of logstash"),
        ("file", FIND),
        ("file", SOURCES),
        ("cmd", f"{FIND} --update"),
        ("file", PREFERENCES),
    ]
    checks = {chunk["name"]: chunk.get("check_cmd") for chunk in states}
    assert checks[SOURCES] == "find-logstash"
    assert checks[PIPELINE] == "check-logstash turnkey.conf"


# --- lines ------------------------------------------------------------------------------------------------------------

# Captured; where, the file says.
LINES = [
    line
    for line in pathlib.Path(__file__).with_name("archived_lines.jsonl").read_text().splitlines()
    if not line.startswith("#")
]


@functools.cache
def filters():
    return logstash.Filters(rendered(PIPELINE))


@functools.cache
def captured():
    """The filters that the captured lines went through, and nothing else, and each line with what became of it."""
    through = logstash.Filters(rendered(PIPELINE))
    return through, [(line, through.run(path_of(line), line)) for line in LINES]


def events():
    return captured()[1]


def path_of(line):
    told = json.loads(line)
    return f"/var/log/turnkey/{told['host']}/{told['program']}.log"


def flat(event, above=""):
    for name, value in event.items():
        if isinstance(value, dict):
            yield from flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def test_every_captured_line_is_understood_and_every_pattern_was_needed():
    refused = [(line, event["tags"]) for line, event in events() if "tags" in event]
    assert refused == []
    tried = captured()[0].tried
    assert [each for each in tried if each.found is None] == []
    used = {each.pattern for each in tried}
    assert captured()[0].patterns() == used
    print(f"{len(LINES)} lines, {len(tried)} matches of {len(used)} patterns, none failed")


# Logstash's regular expressions are Ruby's.
IN_RUBY = "event.set('found', Regexp.new(event.get('expression')).match(event.get('text'))&.named_captures)"


def test_patterns_find_the_same_in_ruby():
    for each in captured()[0].tried:
        # Python's way to write the name of a group.
        asked = {"expression": each.expression.replace("(?P<", "(?<"), "text": each.text}
        found = logstash.ruby(IN_RUBY, json.dumps(asked))["found"]
        assert found == {name: value if value is None else str(value) for name, value in each.found.items()}


def test_lines_of_every_format_were_captured():
    found = {dict(flat(event))["event.dataset"] for _, event in events()}
    assert found >= {
        *("haproxy.access", "haproxy.log", "nginx.access", "nginx.error", "gunicorn.app", "gunicorn.error"),
        *("gunicorn-stream.app", "gunicorn-stream.error", "celery.app", "celery.log", "redis.log", "sentinel.log"),
        *("salt.log", "system.auth", "system.firewall", "system.kernel"),
    }


# Of ECS 8.11; and, as it asks for, others below names of their own.
ECS = {
    *("@timestamp", "message", "tags", "ecs.version", "host.name", "service.name"),
    *("event.original", "event.kind", "event.category", "event.type", "event.action", "event.outcome", "event.reason"),
    *("event.dataset", "event.duration", "error.message", "error.stack_trace", "user.name", "user.effective.name"),
    *("log.level", "log.logger", "log.file.path", "log.origin.file.line", "user_agent.original", "network.transport"),
    *("http.request.id", "http.request.method", "http.response.status_code", "http.response.bytes"),
    *("http.response.body.bytes", "url.domain", "url.original", "url.path", "url.query"),
    *("source.ip", "source.port", "destination.ip", "destination.port", "destination.address"),
    *("process.pid", "process.thread.id", "process.command_line"),
    *("observer.ingress.interface.name", "observer.egress.interface.name"),
}
OWN = ("haproxy.", "nginx.", "redis.", "systemd.", "turnkey.")


def test_every_field_has_a_name_of_the_common_schema():
    for line, event in events():
        names = {name for name, _ in flat(event) if not name.startswith(OWN)}
        assert names <= ECS, line
        assert {"@timestamp", "ecs.version", "event.dataset", "event.original", "host.name", "service.name"} <= names
        assert event["event"]["original"] == line
        # What is empty is no field.
        assert [name for name, value in flat(event) if value in ("", None, [], {})] == []


TOLD = {
    "a page at the door": (
        ('"program":"haproxy"', "capture-page"),
        {
            "event.dataset": "haproxy.access",
            "event.category": "web",
            "http.request.id": "capture-page",
            "http.request.method": "GET",
            "http.response.status_code": 200,
            "http.response.bytes": 804,
            "url.original": "/api/v1/fibonacci?page=2&per_page=10",
            "url.path": "/api/v1/fibonacci",
            "url.query": "page=2&per_page=10",
            "url.domain": "service.example",
            "source.ip": "127.0.0.1",
            "destination.address": "single",
            "event.duration": 1_000_000,
            "haproxy.termination_state": "----",
            "host.name": "single",
            "service.name": "haproxy",
        },
    ),
    "what is no HTTP": (
        ('"program":"haproxy"', '"- -"', '"status": 400'),
        {
            "event.dataset": "haproxy.access",
            "http.response.status_code": 400,
            "haproxy.termination_state": "PR--",
            "http.request.id": None,
            "http.request.method": None,
            "url.domain": None,
            "url.path": None,
            "destination.address": None,
        },
    ),
    "a hidden query": (
        ('"program":"haproxy"', "capture-secret"),
        {"url.query": "(hidden)", "url.path": "/api/v1/fibonacci", "http.response.status_code": 400},
    ),
    "HAProxy of its servers": (
        ('"program":"haproxy"', "[WARNING]", "web\\/single is DOWN, reason"),
        {
            "event.dataset": "haproxy.log",
            "log.level": "warning",
            "process.pid": 5136,
            "message": 'Server web/single is DOWN, reason: Layer7 wrong status, code: 502, info: "Bad Gateway", '
            "check duration: 1ms. 0 active and 0 backup servers left. 0 sessions active, 0 requeued, 0 remaining in "
            "queue.",
        },
    ),
    "a page in nginx": (
        ('"program":"nginx"', "capture-page"),
        {
            "@timestamp": "2026-11-23T03:24:00.923+00:00",
            "event.dataset": "nginx.access",
            "http.request.id": "capture-page",
            "http.request.method": "GET",
            "http.response.status_code": 200,
            "http.response.body.bytes": 325,
            "url.path": "/api/v1/fibonacci",
            "url.query": "page=2&per_page=10",
            "destination.address": "unix:/run/gunicorn.sock",
            "nginx.cache": "MISS",
            "event.duration": 1_000_000,
        },
    ),
    "a hit": (
        ('"program":"nginx"', "capture-hit"),
        {"nginx.cache": "HIT", "destination.address": None, "event.duration": 0},
    ),
    "an error of nginx": (
        ('"program":"nginx-error"', "[crit]"),
        {
            "event.dataset": "nginx.error",
            "log.level": "crit",
            "process.pid": 5128,
            "process.thread.id": 5128,
            "message": "*36 connect() to unix:/run/gunicorn.sock failed (2: No such file or directory) "
            "while connecting to upstream",
        },
    ),
    "systemd, of the unit that tells nginx's errors": (
        ('"program":"nginx-error"', "compat systemd cgroup"),
        {
            "event.dataset": "nginx.error",
            "log.level": "warning",
            "message": "Failed to attach 1731 to compat systemd cgroup '/system.slice/nginx-error.service', ignoring: "
            "No such file or directory",
        },
    ),
    "a page in the app": (
        ('"program":"gunicorn"', "capture-page"),
        {
            "@timestamp": "2026-11-23T03:24:00.923+00:00",
            "event.dataset": "gunicorn.app",
            "log.level": "info",
            "log.logger": "web.requests",
            "message": "request finished",
            "http.request.id": "capture-page",
            "http.request.method": "GET",
            "http.response.status_code": 200,
            "http.response.body.bytes": 250,
            "url.path": "/api/v1/fibonacci",
            "url.query": "page=2&per_page=10",
            "event.duration": 1_014_000,
        },
    ),
    "a job asked for": (
        ('"program":"gunicorn"', "job asked for"),
        {"http.request.id": "capture-job", "turnkey.job": "0-2000", "log.logger": "web.jobstore"},
    ),
    "a job done": (
        ('"program":"celery"', "job calculated"),
        {
            "event.dataset": "celery.app",
            "turnkey.job": "0-2000",
            "event.duration": 7_000_000,
            "http.request.id": None,
            "log.logger": "web.worker",
        },
    ),
    "Celery itself": (
        ('"program":"celery"', "Connection to broker lost"),
        {"log.level": "warning", "log.logger": "celery.worker.consumer.consumer"},
    ),
    "a stream": (
        ('"program":"gunicorn-stream"', "stream finished"),
        {"turnkey.terms": 5, "turnkey.end": "done", "event.duration": 4_745_000, "http.request.id": "capture-stream"},
    ),
    "a killed worker": (
        ('"program":"gunicorn"', "SIGKILL"),
        {
            "event.dataset": "gunicorn.error",
            "log.level": "error",
            "process.pid": 5114,
            "message": "Worker (pid:5133) was sent SIGKILL! Perhaps out of memory?",
        },
    ),
    "Redis": (
        ('"program":"redis"', "Ready to accept"),
        {
            "event.dataset": "redis.log",
            "log.level": "notice",
            "redis.role": "M",
            "process.pid": 5085,
            "message": "Ready to accept connections",
        },
    ),
    "Sentinel": (
        ('"program":"sentinel"', "+odown"),
        {
            "event.dataset": "sentinel.log",
            "log.level": "warning",
            "redis.role": "X",
            "message": "+odown master turnkey 127.0.0.1 6379 #quorum 1/1",
        },
    ),
    "Redis told to end": (
        ('"program":"redis"', "signal-handler"),
        {"process.pid": 5085, "message": "Received SIGTERM scheduling shutdown..."},
    ),
    "Salt": (
        ('"program":"salt-minion"', "failed with return code"),
        {
            "event.dataset": "salt.log",
            "log.level": "error",
            "log.logger": "salt.loaded.int.module.cmdmod",
            "log.origin.file.line": 1055,
            "process.pid": 7381,
            "message": "Command 'echo' failed with return code: 1",
        },
    ),
    "a login": (
        ('"program":"sshd"', "Accepted publickey"),
        {
            "event.dataset": "system.auth",
            "event.category": "authentication",
            "event.action": "login by publickey",
            "event.outcome": "success",
            "user.name": "root",
            "source.ip": "127.0.0.1",
            "source.port": 48172,
        },
    ),
    "a wrong password": (
        ('"program":"sshd"', "Failed password for invalid user"),
        {"event.outcome": "failure", "event.action": "login by password", "user.name": "intruder"},
    ),
    "a user that there is not": (
        ('"program":"sshd"', "Invalid user nobody-here"),
        {"event.outcome": "failure", "user.name": "nobody-here", "source.port": 48186},
    ),
    "sudo": (
        ('"program":"sudo"', "USER=nobody"),
        {
            "event.dataset": "system.auth",
            "event.category": "process",
            "user.name": "root",
            "user.effective.name": "nobody",
            "process.command_line": "/usr/bin/ls '/tmp/a b'",
            "event.outcome": None,
        },
    ),
    "the firewall, of TCP": (
        ('"program":"kernel"', "PROTO=TCP"),
        {
            "event.dataset": "system.firewall",
            "event.type": "denied",
            "network.transport": "tcp",
            "source.ip": "127.0.0.1",
            "source.port": 52258,
            "destination.ip": "127.0.0.1",
            "destination.port": 9,
            "observer.egress.interface.name": "lo",
            "observer.ingress.interface.name": None,
        },
    ),
    "the firewall, of IPv6": (
        ('"program":"kernel"', "HOPLIMIT"),
        {"source.ip": "0000:0000:0000:0000:0000:0000:0000:0001", "network.transport": "udp"},
    ),
    "the firewall, of what has no ports": (
        ('"program":"kernel"', "PROTO=ICMP"),
        {"network.transport": "icmp", "destination.port": None},
    ),
    "a program that nobody knows": (
        ('"program":"somebody"',),
        {"event.dataset": "somebody.log", "message": "words of nobody in particular", "log.level": "notice"},
    ),
}


@pytest.mark.parametrize(("words", "told"), TOLD.values(), ids=TOLD)
def test_line_says_this_in_the_names_of_the_common_schema(words, told):
    event = next(event for line, event in events() if all(word in line for word in words))
    fields = dict(flat(event))
    assert {name: fields.get(name) for name in told} == told


def archived(program, host="web1", **more):
    return json.dumps(
        {"time": "2026-11-22T10:00:01Z", "host": host, "program": program, "unit": "", "severity": "info", **more}
    )


def fields_of(program, **more):
    line = archived(program, **more)
    return dict(flat(filters().run(f"/var/log/turnkey/web1/{program}.log", line)))


def test_name_that_somebody_chose_cannot_pass_for_an_address():
    said = "Failed password for invalid user a from 192.0.2.1 port 1 ssh2 from 198.51.100.7 port 4711 ssh2"
    fields = fields_of("sshd-session", message=said)
    assert (fields["source.ip"], fields["source.port"]) == ("198.51.100.7", 4711)
    assert fields["user.name"] == "a from 192.0.2.1 port 1 ssh2"


def test_sudo_says_whom_it_refused():
    said = "     eve : user NOT in sudoers ; TTY=pts/0 ; PWD=/home/eve ; USER=root ; COMMAND=/bin/sh"
    fields = fields_of("sudo", message=said)
    assert (fields["user.name"], fields["user.effective.name"]) == ("eve", "root")
    assert (fields["event.outcome"], fields["event.reason"]) == ("failure", "user NOT in sudoers")


def test_what_haproxy_does_not_know_is_not_told_as_a_number():
    data = {"id": "a", "client": "192.0.2.1", "request": "GET /", "host": "[2001:db8::1]:80", "status": -1, "bytes": 0}
    fields = fields_of("haproxy", data=data | {"server": "<NOSRV>", "milliseconds": -1, "state": "CR--"})
    assert not {"http.response.status_code", "event.duration", "destination.address"} & set(fields)
    assert fields["url.domain"] == "[2001:db8::1]"


def test_host_is_the_folder_and_not_what_the_line_says():
    line = archived("nginx", host="forged", message="words")
    event = filters().run("/var/log/turnkey/web1/nginx.log.1", line)
    assert (event["host"]["name"], event["service"]["name"]) == ("web1", "nginx")


@pytest.mark.parametrize(
    ("program", "line", "tag"),
    [
        ("gunicorn", archived("gunicorn", message="[2026-11-23 03:24:00 +0000] words"), "_not_gunicorn"),
        ("nginx", "half a li", "_not_a_line_of_the_archive"),
    ],
)
def test_line_that_only_looks_like_one_is_marked_and_kept_whole(program, line, tag):
    event = filters().run(f"/var/log/turnkey/web1/{program}.log", line)
    assert event["tags"] == [tag]
    assert event["event"]["original"] == line


def test_firewall_says_denied_as_the_pattern_has_it(hosts, osfinger):
    assert 'log prefix "denied: "' in hosts(osfinger, "door").text("/etc/nftables/turnkey.nft")


# --- where it comes from ----------------------------------------------------------------------------------------------

INSTALLED = """\
Package: curl
Status: install ok installed
Maintainer: nobody
Architecture: all
Version: 8.0-1
Description: what Debian has

"""


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    """A repository with the stand-in, its key, and a key that is another's."""
    folder = tmp_path_factory.mktemp("repositories")
    own, other = stand_in.key(folder / "own"), stand_in.key(folder / "other")
    stand_in.repository(folder / "packages", folder / "own")
    return folder / "packages", own, other


@contextlib.contextmanager
def served(folder):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


class Apt:
    """The real apt, in a folder instead of on a host."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("sources.list.d", "preferences.d", "apt.conf.d", "trusted.gpg.d"):
            (folder / "etc" / "apt" / name).mkdir(parents=True)
        for name in ("lib/apt/lists/partial", "cache/apt/archives/partial", "lib/dpkg/info", "lib/dpkg/updates"):
            (folder / "var" / name).mkdir(parents=True)
        (folder / "var/lib/dpkg/status").write_text(INSTALLED)
        (folder / "apt.conf").write_text(
            f'Dir "{folder}/";\nDir::State::status "{folder}/var/lib/dpkg/status";\nAPT::Sandbox::User "";\n'
            'Acquire::Languages "none";\n'
        )
        clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        own = {"APT_CONFIG": str(folder / "apt.conf"), "DPKG_ADMINDIR": str(folder / "var/lib/dpkg"), "LC_ALL": "C"}
        self._environment = clean | own

    def put(self, path, **pillar):
        """Put the formula's file *path* in its place."""
        file = self.folder / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(rendered(path, **pillar))
        return file

    def run(self, *command):
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)

    def find(self, argument, **pillar):
        return self.run("bash", self.put(FIND, **pillar), argument)

    def told(self, *command):
        done = self.run(*command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def state(self):
        """All that apt has, with its content."""
        return {str(file): file.read_bytes() for file in (self.folder / "var").rglob("*") if file.is_file()}


@pytest.fixture
def apt(tmp_path):
    return Apt(tmp_path / "host")


def candidate(apt, sources, **pillar):
    """What file.managed's check_cmd is given: the new sources file, before it is in its place."""
    file = apt.folder / "candidate.sources"
    file.write_text(rendered(SOURCES, **pillar))
    assert not sources.exists()
    return str(file)


def place(apt, path):
    return apt.folder / path.lstrip("/")


@pytest.mark.parametrize("kind", ["by HTTP", "in a folder"])
def test_pinned_version_is_taken_from_the_signed_repository_and_nothing_else(apt, repositories, kind):
    folder, key, _ = repositories
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(served(folder)) if kind == "by HTTP" else f"file:{folder}"
        site = {"url": url, "key": key}
        before = apt.state()
        done = apt.find(candidate(apt, place(apt, SOURCES), **site), **site)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert apt.state() == before
        apt.put(SOURCES, **site)
        apt.put(PREFERENCES, **site)
        done = apt.find("--update", **site)
        assert done.returncode == 0, done.stderr
        # Both versions are there, and of curl a newer one: neither is wanted.
        versions = apt.told("apt-cache", "madison", "logstash")
        assert stand_in.NEWER in versions
        assert f"Candidate: {stand_in.VERSION}\n" in apt.told("apt-cache", "policy", "logstash")
        would = apt.told("apt-get", "--simulate", "--assume-yes", "dist-upgrade")
        assert "Inst" not in would
        would = apt.told("apt-get", "--simulate", "--assume-yes", "install", "logstash")
        assert re.findall(r"^Inst (\S+) \((\S+)", would, re.MULTILINE) == [("logstash", stand_in.VERSION)]
        # Its content is what the signed index says.
        apt.told("apt-get", "--assume-yes", "--download-only", "install", "logstash")


DEBIAN = "Types: deb\nURIs: {url}\nSuites: stable\nComponents: main\nTrusted: yes\n"


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    """Return a folder with two repositories, as one host may serve them: `elastic` and `debian`; and the key."""
    folder = tmp_path_factory.mktemp("mirror")
    key = stand_in.key(folder / "keys")
    stand_in.repository(folder / "elastic", folder / "keys", Origin="elastic", Label="Logstash mirror")
    stand_in.repository(folder / "debian", folder / "keys", Origin="Debian", Label="Debian")
    return folder, key


@pytest.mark.parametrize("kind", ["by HTTP", "in a folder"])
def test_host_that_serves_other_packages_too_keeps_serving_them(apt, mirror, kind):
    folder, key = mirror
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(served(folder)) if kind == "by HTTP" else f"file:{folder}"
        place(apt, "/etc/apt/sources.list.d/debian.sources").write_text(DEBIAN.format(url=f"{url}/debian"))
        apt.told("apt-get", "update")

        def tried(**more):
            site = {"repository": {"url": f"{url}/elastic/", "key": key, **more}}
            return apt.find(candidate(apt, place(apt, SOURCES), **site), **site), site

        by_host, _ = tried()
        assert by_host.returncode == 1
        assert f"{url}/debian stable/main\nfind-logstash: {url}/elastic/ cannot be told from these" in by_host.stderr
        assert "say logstash:repository:origin or :label; nothing was changed" in by_host.stderr
        assert "says of itself other than" in tried(origin="elastic", label="Another")[0].stderr
        # Nor can it be taken for another.
        assert "says of itself other than" in tried(origin="Debian")[0].stderr

        done, site = tried(origin="elastic", label="Logstash mirror")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        apt.put(SOURCES, **site)
        apt.put(PREFERENCES, **site)
        assert apt.find("--update", **site).returncode == 0
        assert f"Candidate: {stand_in.VERSION}\n" in apt.told("apt-cache", "policy", "logstash")
        # Debian's is taken; and of the other nothing.
        policy = apt.told("apt-cache", "policy", "curl")
        assert re.search(rf" 500 {url}/debian stable/main", policy)
        assert re.search(rf" -1 {url}/elastic stable/main", policy)


def test_version_that_is_installed_stays_whatever_the_repository_has(apt, repositories):
    folder, key, _ = repositories
    site = {"url": f"file:{folder}", "key": key}
    status = place(apt, "/var/lib/dpkg/status")
    status.write_text(INSTALLED + INSTALLED.replace("curl", "logstash").replace("8.0-1", stand_in.VERSION))
    apt.put(SOURCES, **site)
    apt.put(PREFERENCES, **site)
    assert apt.find("--update", **site).returncode == 0
    assert "Inst" not in apt.told("apt-get", "--simulate", "--assume-yes", "dist-upgrade")
    assert apt.find("--installed", **site).returncode == 0
    assert apt.find("--installed", **site, version=stand_in.NEWER).returncode == 1


UNREACHABLE = "cannot be reached, or is not signed by logstash:repository:key; nothing was changed"


def test_repository_signed_by_another_key_is_refused(apt, repositories):
    folder, _, other = repositories
    site = {"url": f"file:{folder}", "key": other}
    before = apt.state()
    done = apt.find(candidate(apt, place(apt, SOURCES), **site), **site)
    assert done.returncode == 1
    assert "NO_PUBKEY" in done.stderr or "not signed" in done.stderr or "verif" in done.stderr
    assert f"find-logstash: file:{folder} {UNREACHABLE}" in done.stderr
    assert apt.state() == before


def test_repository_that_was_tampered_with_is_refused(apt, repositories, tmp_path):
    folder, key, _ = repositories
    forged = tmp_path / "forged"
    shutil.copytree(folder, forged)
    index = next(forged.rglob("Packages"))
    index.write_text(index.read_text().replace("SHA256: ", "SHA256: 0", 1))
    site = {"url": f"file:{forged}", "key": key}
    done = apt.find(candidate(apt, place(apt, SOURCES), **site), **site)
    assert done.returncode == 1
    assert UNREACHABLE in done.stderr


def test_repository_that_is_away_is_named_and_what_is_there_stays(apt, repositories):
    folder, key, _ = repositories
    with served(folder) as url:
        site = {"url": url, "key": key}
        apt.put(SOURCES, **site)
        apt.put(PREFERENCES, **site)
        assert apt.find("--update", **site).returncode == 0
    before = apt.state()
    for argument in ("--update", str(place(apt, SOURCES))):
        done = apt.find(argument, **site)
        assert done.returncode == 1
        assert f"find-logstash: {url} {UNREACHABLE}" in done.stderr
    assert {name: text for name, text in apt.state().items() if "pkgcache" not in name} == {
        name: text for name, text in before.items() if "pkgcache" not in name
    }
    assert f"Candidate: {stand_in.VERSION}\n" in apt.told("apt-cache", "policy", "logstash")


def test_version_that_the_repository_lacks_is_named(apt, repositories):
    folder, key, _ = repositories
    site = {"url": f"file:{folder}", "key": key, "version": "1:9.1.4-1"}
    done = apt.find(candidate(apt, place(apt, SOURCES), **site), **site)
    assert done.returncode == 1
    assert f"find-logstash: file:{folder} has no logstash 1:9.1.4-1; nothing was changed" in done.stderr
    # Those that it has are told.
    assert stand_in.VERSION in done.stderr


def test_package_in_a_file_has_to_be_this_one_in_this_version(apt, repositories, tmp_path):
    folder, _, _ = repositories
    own, newer = (
        str(folder / f"logstash_{version.replace(':', '-')}_all.deb") for version in (stand_in.VERSION, stand_in.NEWER)
    )
    site = {"local": own}
    assert apt.find(own, **site).returncode == 0
    done = apt.find(newer, **site)
    assert (done.returncode, f"is logstash {stand_in.NEWER} and not logstash {stand_in.VERSION}" in done.stderr) == (
        1,
        True,
    )
    (tmp_path / "broken.deb").write_text("no package")
    assert "is no package" in apt.find(str(tmp_path / "broken.deb"), **site).stderr
    assert "there is no file" in apt.find(str(tmp_path / "away.deb"), **site).stderr


def test_stand_in_says_that_it_is_one(repositories):
    folder, _, _ = repositories
    for package in folder.glob("*.deb"):
        said = subprocess.run(
            ["dpkg-deb", "--field", package, "Description"], check=True, capture_output=True, text=True
        )
        assert said.stdout.startswith("stand-in, not Elastic's")


def test_documentation_says_what_was_not_proved():
    text = " ".join((ROOT / "docs" / "logs.rst").read_text().split())
    assert "Logstash itself has never run" in text
