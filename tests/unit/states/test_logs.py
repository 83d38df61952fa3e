"""Logs: what is sent and counted, what becomes of it on the way, and how one request is found again.

On real hosts: tests/infra/test_logs.py.
"""

import base64
import contextlib
import fnmatch
import gzip
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

import pytest
import yaml

from rendering import CLUSTER, ROOT

CONFIGURATION, HOSTS_TABLE = "/etc/rsyslog.conf", "/etc/rsyslog-hosts.json"
SENDER, RECEIVER = "/etc/rsyslog-sender.pem", "/etc/rsyslog-receiver.pem"
TRACE, MEASURE = "/usr/local/bin/turnkey-trace", "/usr/local/lib/turnkey/measure-rsyslog"
SHIP = "/usr/local/lib/turnkey/ship-logs"
NGINX, HAPROXY = "/etc/nginx/nginx.conf", "/etc/haproxy/haproxy.cfg"
GUNICORN = "/etc/gunicorn/gunicorn.conf.py"
PATIENCE = 60


def command(name):
    """Its path; those of administrators are not on everybody's."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert found, f"{name} is not installed"
    return found


def wait_until(condition, patience=PATIENCE):
    until = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < until, "it never came to pass"
        time.sleep(0.05)
    return found


def run(script, *arguments):
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)


# --- who sends what, and to whom --------------------------------------------------------------------------------------


def target(host):
    (found,) = re.findall(r'^SERVER = \("(.*?)", 2514\)$', host.text(SHIP), re.MULTILINE)
    return found


def test_every_host_sends_to_the_log_host_which_takes_it_at_that_address(hosts, osfinger):
    for name in ("lb1", "web2", "data3", "monitor"):
        assert target(hosts(osfinger, f"cluster-{name}")) == "10.77.2.40"
    assert 'address="10.77.2.40"' in hosts(osfinger, "cluster-monitor").text(CONFIGURATION)
    assert "imrelp" not in hosts(osfinger, "cluster-web1").text(CONFIGURATION)


def test_single_host_keeps_its_logs_itself_and_opens_nothing(hosts, osfinger):
    assert target(hosts(osfinger, "single")) == "127.0.0.1"
    assert 'address="127.0.0.1"' in hosts(osfinger, "single").text(CONFIGURATION)


def test_nothing_is_sent_where_nobody_keeps_it(hosts, osfinger):
    assert "rsyslog" not in hosts(osfinger, "web1").formulas


def test_each_host_sends_the_files_of_its_roles(hosts, osfinger):
    def sent(name):
        return set(re.findall(r'tag="(.*?):"', hosts(osfinger, name).text(CONFIGURATION)))

    assert sent("cluster-lb1") == {"salt-minion"}
    assert sent("cluster-web1") == {"nginx", "nginx-error", "salt-minion"}
    assert sent("cluster-data1") == {"redis", "sentinel", "salt-minion"}
    assert sent("cluster-monitor") == {"salt-minion", "salt-master"}
    assert sent("single") == {"nginx", "nginx-error", "redis", "sentinel", "salt-minion", "salt-master"}


def test_only_the_log_host_can_pass_for_it(hosts, osfinger):
    assert RECEIVER in hosts(osfinger, "cluster-monitor").files
    assert RECEIVER not in hosts(osfinger, "cluster-web1").files


def test_host_of_a_line_is_told_by_its_address(hosts, osfinger):
    table = json.loads(hosts(osfinger, "cluster-monitor").text(HOSTS_TABLE))["table"]
    known = {entry["index"]: entry["value"] for entry in table}
    assert known["10.77.2.21"] == "web1"
    assert known["127.0.0.1"] == known["10.77.2.40"] == "monitor"


def test_every_file_that_is_sent_is_rotated(hosts, osfinger):
    host = hosts(osfinger, "single")
    rotated = " ".join(host.text(path) for path in host.files if path.startswith("/etc/logrotate.d/"))
    for path in re.findall(r'input\(type="imfile" file="(.*?)"', host.text(CONFIGURATION)):
        assert any(fnmatch.fnmatch(path, pattern) for pattern in rotated.split()), path
    for path in (f"{host.settings['rsyslog']['archive']}/*/*.log", "/run/rsyslog/statistics"):
        assert path in rotated


def rotation(host, name):
    """Return paths and scripts of a log of logrotate's: ``{kind: script}``."""
    text = host.text(f"/etc/logrotate.d/{name}")
    scripts = dict(re.findall(r"^    (firstaction|postrotate)\n(.*?)^    endscript$", text, re.MULTILINE | re.DOTALL))
    return re.search(r"^(/.*) \{$", text, re.MULTILINE)[1].split(), scripts


def test_log_that_is_sent_is_rotated_only_while_it_is_read(hosts, osfinger, tmp_path):
    host = hosts(osfinger, "single")
    logs = [path.rpartition("/")[2] for path in host.files if path.startswith("/etc/logrotate.d/")]
    waiting = {path for name in logs if "firstaction" in rotation(host, name)[1] for path in rotation(host, name)[0]}
    for path in re.findall(r'input\(type="imfile" file="(.*?)"', host.text(CONFIGURATION)):
        assert any(fnmatch.fnmatch(path, pattern) for pattern in waiting), path

    # What it asks is answered by the words that it is asked with.
    (tmp_path / "systemctl").write_text('#!/bin/sh\ncase "$ANSWERS" in *"$2"*) exit 0 ;; *) exit 3 ;; esac\n')
    (tmp_path / "systemctl").chmod(0o755)
    log = tmp_path / "access.log"
    script = rotation(host, "nginx")[1]["firstaction"].replace("/var/log/nginx/access.log", str(log))

    def may(answers):
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "ANSWERS": answers}
        return subprocess.run(["sh", "-c", script], env=environment, check=False).returncode == 0

    log.write_text("x")
    assert [may("is-enabled is-active"), may("is-enabled"), may("")] == [True, False, True]
    # Within bounds.
    os.truncate(log, 2**30 + 1)
    assert may("is-enabled")


def test_rsyslogd_looks_away_until_nginx_has_heard_of_the_new_log(hosts, osfinger, tmp_path):
    (tmp_path / "systemctl").write_text(
        f'#!/bin/sh\necho "$(ls {tmp_path}/log) $*" >>{tmp_path}/told\n[ $# -lt 4 ] || exit 1\n'
    )
    # Whoever runs the tests cannot give files away.
    (tmp_path / "install").write_text('#!/bin/sh\n[ "$*" = "${*%/*}/access.log" ] && : >"${*##* }"\n')
    for name in ("systemctl", "install"):
        (tmp_path / name).chmod(0o755)
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "error.log").touch()
    script = rotation(hosts(osfinger, "single"), "nginx")[1]["postrotate"].replace("/var/log/nginx", f"{tmp_path}/log")

    subprocess.run(["sh", "-c", script], env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=True)

    told = (tmp_path / "told").read_text().replace("systemctl", "").split("rsyslog.service\n")
    assert [re.findall(r"access|signal=\w+|nginx", part) for part in told] == [
        # The new file is there only once rsyslogd looks away, and it looks again at the end.
        ["signal=STOP"],
        ["access", "signal=USR1", "nginx", "access", "signal=CONT"],
        [],
    ]


def test_rsyslogd_reads_what_comes_into_a_rotated_log_before_there_is_a_new_one(flow):
    sender, _ = flow()
    sender.start("rsyslogd")
    write(sender.log, range(100))
    wait_until(lambda: sender.spooled() == 100)
    with sender.log.open("a") as old:
        sender.log.rename(f"{sender.log}.1")
        # It has looked, and there is none.
        time.sleep(1.5)
        sender.pause()
        sender.log.touch()
        write(sender.log, [101])
        old.write(json.dumps({"id": "request-100"}) + "\n")
        old.flush()
        sender.pause(signal.SIGCONT)

    wait_until(lambda: sender.spooled() == 102)


def test_archive_is_rotated_where_it_is_and_ages_out(hosts):
    host = hosts("Debian-13", "elsewhere")
    assert rotation(host, "archive")[0] == ["/srv/logs/*/*.log"]
    assert rotation(host, "logstash-output")[0] == ["/srv/events/*/*.json"]
    # Those of days that are over, as there is no new one after which they would be compressed.
    text = host.text("/etc/logrotate.d/logstash-output")
    assert {"minage 2", "compress", "nodelaycompress", "nocreate", "su logstash adm"} <= {
        line.strip() for line in text.splitlines()
    }
    # Also where nothing new comes, by when it was last written to: whoever looks for something reads all of it.
    assert "e /srv/logs - - - mM:30d\n" in host.text("/etc/tmpfiles.d/turnkey-archive.conf")
    kept = host.text("/etc/tmpfiles.d/turnkey-logstash.conf")
    assert re.findall("^[de] .*", kept, re.MULTILINE) == [
        "d /srv/events 2750 logstash adm mM:30d",
        "e /var/log/logstash - - - mM:30d",
    ]
    # Nowhere else.
    assert "/etc/logrotate.d/logstash-output" not in hosts("Debian-13", "single").files
    assert "/etc/tmpfiles.d/turnkey-archive.conf" not in hosts("Debian-13", "cluster-web1").files


def test_services_that_know_how_to_reopen_are_never_truncated(host):
    for path in host.files:
        if path.startswith("/etc/logrotate.d/"):
            assert "copytruncate" not in host.text(path)


# --- no secret in a log -----------------------------------------------------------------------------------------------

HARMLESS = ["page=1", "page=1&per_page=5", "start=0&count=10", "state=done", "page="]
HARMFUL = [
    "token=s3cr3t",
    "page=1&token=s3cr3t",
    "page=a+b",
    "x",
    "page=1&",
    "page=%73",
    "&",
    "Page=1",
    f"page={'9' * 65}",
]


def patterns(text, start):
    return [re.compile(pattern) for pattern in re.findall(rf"{start}(\^\(\?:page\|.*?\$)", text)]


@pytest.mark.parametrize(("file", "start"), [(NGINX, '"~'), (HAPROXY, "query -m reg '")])
def test_only_a_harmless_query_is_logged_at_the_doors(hosts, osfinger, file, start):
    (harmless,) = patterns(hosts(osfinger, "single").text(file), start)
    assert [query for query in HARMLESS if not harmless.search(query)] == []
    assert [query for query in HARMFUL if harmless.search(query)] == []


def test_app_agrees_on_what_is_harmless():
    source = (ROOT / "app" / "web" / "logs.py").read_text()
    (names,) = re.findall(r'\.format\("(.*?)"\)', source)
    app = yaml.safe_load((ROOT / "salt" / "pillar" / "app.sls").read_text())["app"]
    assert names.split("|") == app["logged"]


def test_no_log_format_has_the_query_as_it_is(hosts, osfinger):
    host = hosts(osfinger, "single")
    (log_format,) = re.findall(r"log_format json .*?;", host.text(NGINX), re.DOTALL)
    assert not re.search(
        r"\$(request|request_uri|args|query_string|http_referer|http_cookie|http_authorization)\b", log_format
    )
    (log_format,) = re.findall(r"log-format .*", host.text(HAPROXY))
    assert not re.search(r"capture\.req\.uri|%HU|%HQ|%r\b|url\b|query", log_format)


def test_app_whose_arguments_nobody_names_has_all_its_queries_hidden(hosts, osfinger):
    custom = hosts(osfinger, "custom")
    assert "query -m reg '" not in custom.text(HAPROXY)
    assert 'txn.uri) "%[path]?(hidden)" unless { var(txn.uri) -m found }' in custom.text(HAPROXY)
    (logged,) = re.findall(r"map \$args \$logged_query \{\n(.*?)\}", custom.text(NGINX), re.DOTALL)
    assert logged.split() == ["default", '"?(hidden)";', '""', '"";']


BREAKS = """\
def create_app():
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        raise RuntimeError("nothing can be said")
        yield b""
    return app
"""


@pytest.fixture
def broken_app(hosts, osfinger, tmp_path):
    """Return the socket of a gunicorn, configured as rendered, whose app fails before its first word; and its log."""
    text = hosts(osfinger, "single").text(GUNICORN)
    root = re.search(r'^ROOT = pathlib.Path\("(.*)"\)$', text, re.MULTILINE)[1]
    variable = re.search(r'variables\["(\w+)"\]', text)[1]
    library = re.search(r'^sys.path \+= \{"(.*)"\}', text, re.MULTILINE)[1]
    # Not in tmp_path: a socket's path may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="gunicorn-") as name:
        folder = pathlib.Path(name)
        for before, after in (
            (root, f"{folder}/app"),
            (library, ROOT / "salt" / "states" / "gunicorn" / "files"),
            ("/run/gunicorn", folder / "run"),
            ("/dev/shm", folder),  # noqa: S108  what it says, not where anything is written
        ):
            text = text.replace(before, str(after))
        source = folder / "app" / "current" / "src"
        source.mkdir(parents=True)
        (folder / "run" / "scoreboard").mkdir(parents=True)
        (source / "breaks.py").write_text(BREAKS)
        (source.parent / "environment").write_text(f"{variable}=breaks:create_app()\n")
        (folder / "conf.py").write_text(text)
        place = folder / "run.sock"
        command_line = [sys.executable, "-m", "gunicorn", "--config", folder / "conf.py", "--workers", "1"]
        with (folder / "said").open("wb") as said:
            process = subprocess.Popen(command_line, stdout=said, stderr=said, cwd=folder)
            try:
                wait_until(lambda: place.exists() or process.poll() is not None)
                assert process.poll() is None, (folder / "said").read_text()
                yield place, folder / "said"
            finally:
                process.terminate()
                process.wait(PATIENCE)


def asked(place, request):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(place))
        client.sendall(request)
        return client.makefile("rb").read()


def test_gunicorn_tells_of_a_request_that_failed_without_its_query(broken_app):
    place, said = broken_app

    assert b" 500 " in asked(place, b"GET /a/page?x=1&token=s3cr3t HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 400 " in asked(place, b"GET /worse?token=s3cr3t of mine HTTP/1.1\r\nHost: x\r\n\r\n")

    # All that helps is there.
    wait_until(lambda: "Invalid request from" in said.read_text())
    assert "Error handling request GET /a/page?(hidden)\n" in said.read_text()
    assert "RuntimeError: nothing can be said" in said.read_text()
    assert "Invalid HTTP Version: (hidden)\n" in said.read_text()
    assert not re.search("s3cr3t|of mine", said.read_text())


# --- one request's way ------------------------------------------------------------------------------------------------

ID = "0b5c8e5e-7f1e-4c6f-9a5e-3d2a6c1b9f00"
OTHER = "11111111-7f1e-4c6f-9a5e-3d2a6c1b9f00"


def archived(program, time, **more):
    return json.dumps({"time": f"2026-11-22T10:00:{time}Z", "host": "forged", "program": program, "unit": "", **more})


@pytest.fixture
def archive(tmp_path):
    """An archive with a POST that asks for a job, told by two hosts and done by a third; with others' lines around."""

    def write(path, *lines):
        file = tmp_path / "archive" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{line}\n" for line in lines).encode()
        file.write_bytes(gzip.compress(text) if path.endswith(".gz") else text)

    door = {"id": ID, "request": "POST /api/v1/jobs", "status": 202, "server": "web1", "milliseconds": 30}
    write("lb1/haproxy.log", archived("haproxy", "01.031000", data={**door, "id": OTHER}))
    write("lb1/haproxy.log.2.gz", archived("haproxy", "01.030000", data=door), "not JSON at all, yet with " + ID)
    cache = {"id": ID, "method": "POST", "uri": "/api/v1/jobs", "status": 202, "seconds": 0.02, "ended": 1795341601.025}
    # nginx writes once a second: when a line is read says nothing.
    write("web1/nginx.log.1", archived("nginx", "02.500000", data=cache))
    app = {"request_id": ID, "logger": "web.requests", "method": "POST", "path": "/api/v1/jobs", "duration_ms": 10.5}
    write(
        "web1/gunicorn.log",
        archived(
            "gunicorn",
            "01.015000",
            data={"request_id": ID, "logger": "web.jobstore", "message": "job asked for", "job": "5-1"},
        ),
        archived("gunicorn", "01.022000", data=app),
        # The log host went away before it had said that it has this line: it came twice.
        archived("gunicorn", "01.022000", data=app),
        archived("gunicorn", "01.023000", message=f"[1] some text of {ID} that is no member"),
    )
    write(
        "worker2/celery.log",
        archived(
            "celery",
            "01.040000",
            data={"logger": "web.worker", "message": "job begun", "job": "5-1", "request_id": None},
        ),
        archived("celery", "01.050000", data={"logger": "web.worker", "message": "job begun", "job": "5-12"}),
    )
    return tmp_path / "archive"


@pytest.fixture
def trace(hosts, osfinger, tmp_path, archive):
    script = tmp_path / "turnkey-trace"
    script.write_text(hosts(osfinger, "single").text(TRACE))
    return lambda *arguments: run(script, "--archive", archive, *arguments)


def test_trace_tells_a_requests_way_in_order_and_once(trace):
    done = trace("--json", ID)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    # By when each began, not by when it was written; the folder is the host, whatever the line says.
    assert [(line["host"], line["program"]) for line in told] == [
        ("lb1", "haproxy"),
        ("web1", "nginx"),
        ("web1", "gunicorn"),
        ("web1", "gunicorn"),
        ("worker2", "celery"),
    ]
    assert "haproxy.log.2.gz:2: not understood" in done.stderr


def test_trace_is_for_people(trace):
    lines = trace(ID).stdout.splitlines()
    assert re.match(
        r"2026-11-22 10:00:01\.000  lb1 +haproxy +30 ms  POST /api/v1/jobs status=202 server=web1$", lines[0]
    )
    assert re.match(r"2026-11-22 10:00:01\.005  web1 +nginx +20 ms  POST /api/v1/jobs status=202$", lines[1])
    assert lines[-1].endswith("message=job begun job=5-1")


def test_trace_leaves_a_terminal_alone_and_prints_no_line_that_a_client_wrote(trace, archive):
    path = "/x\n2026-11-22 10:00:00.000  lb1          haproxy   forged\x1b[2J\u202e\ud800"
    line = archived("gunicorn", "09.0", data={"request_id": OTHER, "method": "GET", "path": path})
    (archive / "web1" / "other.log").write_text(f"{line}\n")
    (archive / "lb1" / "haproxy.log").unlink()

    done = trace(OTHER)
    (told,) = done.stdout.splitlines()
    assert told.endswith(r"GET /x\n2026-11-22 10:00:00.000  lb1          haproxy   forged\x1b[2J\u202e\ud800")
    assert json.loads(trace("--json", OTHER).stdout)["data"]["path"] == path


def test_trace_takes_files_as_they_are_while_they_are_rotated(trace, archive):
    door = archive / "lb1" / "haproxy.log.2.gz"
    whole = door.read_bytes()
    # It is compressed at this moment; and what it is made of is there.
    (archive / "lb1" / "haproxy.log.2").write_bytes(gzip.decompress(whole))
    data = {"id": ID, "agent": "X", "request_id": [], "job": {}, "ended": "1e400", "seconds": 1e300}
    strange = archived("nginx", "03.0", data=data).encode().replace(b"X", b"\xff\xfe")
    (archive / "web1" / "strange.log").write_bytes(strange + b"\n" + strange[:-20])
    # It was renamed since the folder was read.
    (archive / "web1" / "gone.log").symlink_to(archive / "nowhere")
    for size in (len(whole) - 12, len(whole) // 2, 15, 3, 0):
        door.write_bytes(whole[:size])
        done = trace("--json", ID)
        assert done.returncode == 0, done.stderr
        told = [json.loads(line) for line in done.stdout.splitlines()]
        assert [line["program"] for line in told].count("haproxy") == 1
        assert "\ufffd\ufffd" in {line["data"].get("agent") for line in told}
        assert ("not whole" in done.stderr) == (size > 0)
        assert "strange" not in done.stderr


def test_trace_tells_work_that_was_done_before_by_its_own_time_and_as_such(trace, archive):
    """A job has the same id whoever asks for it: it may have been done the day before."""
    earlier = json.loads(archived("celery", "01.0", data={"logger": "web.worker", "message": "done", "job": "5-1"}))
    asked = {"request_id": OTHER, "logger": "web.jobstore", "message": "job asked for", "job": "5-1"}
    lines = [
        {**earlier, "time": "2026-11-20T08:00:00.5Z"},
        {**json.loads(archived("gunicorn", "02.0", data=asked)), "time": "2026-11-20T07:59:59Z"},
    ]
    (archive / "worker1").mkdir()
    (archive / "worker1" / "celery.log").write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    first, *others = trace(ID).stdout.splitlines()
    assert re.match(r"2026-11-20 08:00:00\.500  worker1 .* job=5-1  \(before this request\)$", first)
    assert len(others) == 5
    assert "(before" not in "".join(others)
    assert json.loads(trace("--json", ID).stdout.splitlines()[0])["earlier"] is True


def test_trace_says_that_it_found_nothing(trace, tmp_path):
    done = trace("22222222")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "turnkey-trace: no line of 22222222\n")
    assert trace("--archive", str(tmp_path / "nowhere"), ID).returncode == 2
    assert "no request id" in trace("a b").stderr


# --- counting ---------------------------------------------------------------------------------------------------------


def moved(text, folder, port=2514):
    """Return a file of a host's as it is where the host's folders lie below *folder*; what is waited for comes soon."""
    for before, after in (
        ("/etc/rsyslog-", f"{folder}/rsyslog-"),
        ("/var/lib/", f"{folder}/lib/"),
        ("/var/spool/", f"{folder}/spool/"),
        ("/run/", f"{folder}/run/"),
        ("/var/log/turnkey", f"{folder}/archive"),
        ("/var/log", f"{folder}/log"),
        (CLUSTER["hosts"]["monitor"]["address"], "127.0.0.1"),
        ("2514", str(port)),
        ('interval="10"', 'interval="1"'),
        ("RETRY = 5", "RETRY = 1"),
    ):
        text = text.replace(before, after)
    return text


@pytest.fixture
def measure(hosts, osfinger, tmp_path):
    script = tmp_path / "measure-rsyslog"
    script.write_text(moved(hosts(osfinger, "single").text(MEASURE), tmp_path))
    for name in ("rsyslog", "ship-logs"):
        (tmp_path / "run" / name).mkdir(parents=True)

    def measure(*lines, before=(), flow=None):
        file = tmp_path / "run" / "rsyslog" / "statistics"
        for path, content in ((file, lines), (file.with_name("statistics.1"), before)):
            path.write_text("".join(f"{line}\n" for line in content))
        flow = {"time": time.time(), "sent": 70, "waiting": 23, "lost": 3, "oldest": 9} | (flow or {})
        (tmp_path / "run" / "ship-logs" / "flow.json").write_text(json.dumps(flow))
        return run(script)

    return measure


def counted(submitted, age=0):
    counter = {"name": "imrelp[2514]", "origin": "imrelp", "submitted": submitted}
    return json.dumps({"time": str(int(time.time() - age)), "counter": counter})


def test_measuring_tells_the_newest_counts(measure):
    done = measure("half a line", counted(10, age=10), counted(1234), '{"time":"1')
    assert json.loads(done.stdout) == {"sent": 70, "waiting": 23, "lost": 3, "oldest": 9, "received": 1234}


def test_measuring_looks_back_over_a_rotation(measure):
    done = measure(before=[counted(10, age=5)])
    assert json.loads(done.stdout)["received"] == 10


def test_measuring_fails_where_nothing_is_counted(measure):
    done = measure(counted(10, age=300))
    assert (done.returncode, done.stdout) == (1, "")
    assert "rsyslogd has counted nothing for 30" in done.stderr
    assert "rsyslogd has counted nothing yet" in measure().stderr
    done = measure(counted(10), flow={"time": time.time() - 300})
    assert (done.returncode, done.stdout) == (1, "")
    assert "ship-logs has counted nothing for 30" in done.stderr


# --- the flow, by real daemons ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def identities(tmp_path_factory):
    """Return what makes the identities of a site as salt/bootstrap.sh does: ``{name: text}``, others each time."""
    source = (ROOT / "salt" / "bootstrap.sh").read_text()
    (script,) = re.findall(r"<<'EOF'\n(\"\"\"Write the minion.*?)^EOF$", source, re.DOTALL | re.MULTILINE)

    def make():
        folder = tmp_path_factory.mktemp("site")
        unwanted = shutil.ignore_patterns("secrets.sls")
        shutil.copytree(ROOT / "salt" / "pillar", folder / "salt" / "pillar", ignore=unwanted)
        command_line = [sys.executable, "-c", script, folder, folder / "minion", "cluster", "monitor"]
        subprocess.run(command_line, check=True, capture_output=True)
        secrets = yaml.safe_load((folder / "salt" / "pillar" / "secrets.sls").read_text())["rsyslog"]
        return {name: base64.b64decode(text).decode() for name, text in secrets.items()}

    return make


class Host:
    """A host's rsyslogd and ship-logs, with their own files, in a folder. Files are read, no journal."""

    def __init__(self, host, folder, port, identities):
        self.folder = folder
        for name in ("lib/rsyslog", "lib/ship-logs", "run/rsyslog", "run/ship-logs", "spool/ship-logs", "archive"):
            (folder / name).mkdir(parents=True)
        for name in ("log/nginx", "log/salt"):
            (folder / name).mkdir(parents=True)
        (folder / "rsyslog-sender.pem").write_text(identities["identity"])
        (folder / "rsyslog-receiver.pem").write_text(identities["server_identity"])
        if HOSTS_TABLE in host.files:
            (folder / "rsyslog-hosts.json").write_text(host.text(HOSTS_TABLE))
        for path in (CONFIGURATION, SHIP, MEASURE):
            text = re.sub(r'module\(load="imjournal".*?\)\n', "", host.text(path), flags=re.DOTALL)
            (folder / path.rpartition("/")[2]).write_text(moved(text, folder, port))
        rsyslogd = [command("rsyslogd"), "-n", "-iNONE", "-f", folder / "rsyslog.conf"]
        self._commands = {"rsyslogd": rsyslogd, "ship-logs": [sys.executable, "-IB", folder / "ship-logs"]}
        self._children = {}
        self.counts = folder / "run" / "rsyslog" / "statistics"
        self.port = port

    def start(self, *names):
        self.counts.unlink(missing_ok=True)
        for name in names or self._commands:
            with (self.folder / "said").open("a") as said:
                self._children[name] = subprocess.Popen(self._commands[name], stdout=said, stderr=said, cwd=self.folder)

    def stop(self, *names, by=signal.SIGTERM):
        for name in names or self._commands:
            self._children[name].send_signal(by)
            self._children[name].wait(timeout=PATIENCE)

    def pause(self, by=signal.SIGSTOP):
        self._children["rsyslogd"].send_signal(by)

    def reopen(self):
        # Before it counts, this signal would end it.
        wait_until(self.counts.exists)
        self._children["rsyslogd"].send_signal(signal.SIGHUP)

    def end(self):
        for child in self._children.values():
            if child.poll() is None:
                child.kill()
                child.wait()

    def said(self):
        return (self.folder / "said").read_text()

    def check(self):
        return subprocess.run([*self._commands["rsyslogd"], "-N1"], capture_output=True, text=True, check=False)

    def measured(self):
        done = run(self.folder / "measure-rsyslog")
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def kept(self):
        """Return what is kept of all hosts, whatever it is."""
        files = (self.folder / "archive").glob("*/*.log")
        return [line for file in files for line in file.read_text().splitlines()]

    def spooled(self):
        """Return how many lines are in the spool, sent or not."""
        return sum(file.read_bytes().count(b"\n") for file in (self.folder / "spool" / "ship-logs").iterdir())

    @property
    def log(self):
        return self.folder / "log" / "nginx" / "access.log"

    def archived(self, name="*"):
        """Return what is kept of all hosts, as it was written."""
        files = sorted((self.folder / "archive").glob(f"*/{name}.log*"))
        return [
            json.loads(line)
            for file in files
            for line in file.read_text().splitlines(keepends=True)
            if line[-1] == "\n"
        ]


@pytest.fixture
def flow(hosts, osfinger, identities, tmp_path):
    """Return a function that makes a sender and the log host, neither of which runs yet."""
    with contextlib.ExitStack() as stack:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]

        def make(stranger=False):
            ours = identities()
            theirs = identities() if stranger else ours
            folder = tmp_path / ("strange" if stranger else "same")
            pair = [
                Host(hosts(osfinger, "cluster-web1"), folder / "sender", port, theirs),
                Host(hosts(osfinger, "cluster-monitor"), folder / "receiver", port, ours),
            ]
            for each in pair:
                stack.callback(each.end)
            return pair

        yield make


def write(path, numbers):
    with path.open("a") as log:
        for number in numbers:
            log.write(json.dumps({"id": f"request-{number}", "status": 200, "seconds": 0.001}) + "\n")


def test_configuration_of_every_host_is_taken(hosts, osfinger, identities, tmp_path):
    made = identities()
    for name in ("single", *(f"cluster-{name}" for name in CLUSTER["hosts"])):
        done = Host(hosts(osfinger, name), tmp_path / name, 2514, made).check()
        assert done.returncode == 0, done.stderr
        assert not re.search("error|warning", done.stderr, re.IGNORECASE), done.stderr


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL], ids=lambda by: by.name)
def test_no_line_is_lost_whoever_ends_and_whatever_is_rotated(flow, by):
    sender, receiver = flow()
    sender.start()
    write(sender.log, range(2000))
    wait_until(lambda: sender.spooled() >= 1000)
    # What waits does so on the disk. (A killed rsyslogd forgets what it has read of a file and not written yet.)
    sender.stop("rsyslogd")
    sender.stop("ship-logs", by=by)
    write(sender.log, range(2000, 2500))
    sender.start()
    receiver.start()
    wait_until(lambda: len(receiver.archived("nginx")) >= 1000)
    receiver.stop(by=by)
    write(sender.log, range(2500, 3500))
    sender.stop("ship-logs", by=by)
    sender.start("ship-logs")
    receiver.start()
    kept = receiver.folder / "archive" / "monitor" / "nginx.log"
    for number in range(3):
        first = 3500 + 100 * number
        write(sender.log, range(first, first + 90))
        sender.log.rename(f"{sender.log}.{number}")
        sender.log.touch()
        write(sender.log, range(first + 90, first + 100))
        wait_until(kept.exists)
        kept.rename(kept.with_name(f"nginx.log.{number}"))
        receiver.reopen()
        wait_until(
            lambda last=first + 99: f"request-{last}" in {line["data"]["id"] for line in receiver.archived("nginx")}
        )
    write(sender.log, range(3800, 4000))

    wanted = {f"request-{number}" for number in range(4000)}
    wait_until(lambda: {line["data"]["id"] for line in receiver.archived("nginx")} == wanted)
    # Those may come twice that were on their way when one of the two ended, or read since that was last noted.
    assert len(receiver.archived("nginx")) <= 4000 + 3 * 128 + 200
    example = next(line for line in receiver.archived("nginx") if line["data"]["id"] == "request-7")
    assert example["data"] == {"id": "request-7", "status": 200, "seconds": 0.001}
    assert (example["host"], example["program"], example["unit"]) == ("web1", "nginx", "")
    wait_until(lambda: sender.measured().get("waiting") == 0)
    assert sender.measured()["lost"] == 0
    wait_until(lambda: receiver.measured().get("received", 0) > 0)


def spool(host, minute, numbers, age=0):
    """Put lines into the host's spool, as its rsyslogd did in that minute, *age* seconds ago."""
    file = host.folder / "spool" / "ship-logs" / minute
    line = '<182>1 2026-11-22T10:00:00Z web1 nginx - - - {"data":{"id":"request-%d"}}\n'
    file.write_text("".join(line % number for number in numbers))
    os.utime(file, (time.time() - age, time.time() - age))
    return file


def test_spool_goes_by_this_hosts_clock_and_not_by_that_of_a_line(flow):
    sender, _ = flow()
    # A journal of a month would be in more than forty thousand files, each looked at twice a second.
    (template,) = re.findall(
        r'template\(name="spool_file".*?\n\}', (sender.folder / "rsyslog.conf").read_text(), re.DOTALL
    )
    assert "time" not in template.partition("{")[2]
    began = time.time()
    sender.start("rsyslogd")
    write(sender.log, range(10))
    wait_until(lambda: sender.spooled() == 10)

    minutes = {time.strftime("%Y-%m-%dT%H:%M", time.gmtime(moment)) for moment in (began, time.time())}
    assert {file.name for file in (sender.folder / "spool" / "ship-logs").iterdir()} <= minutes


def test_spool_is_removed_as_far_as_it_is_sent_and_written_no_more(flow):
    sender, receiver = flow()
    files = [
        spool(sender, f"2026-11-22T10:0{minute}", range(100 * minute, 100 * minute + 100), age)
        for minute, age in ((0, 3600), (1, 3600), (2, 0), (3, 0))
    ]
    receiver.start()
    sender.start("ship-logs")

    wait_until(lambda: len(receiver.archived("nginx")) == 400)
    wait_until(lambda: [file.exists() for file in files] == [False, False, True, True])
    # In their order.
    assert [line["data"]["id"] for line in receiver.archived("nginx")] == [f"request-{n}" for n in range(400)]


def test_spool_that_is_full_loses_its_oldest_lines_and_counts_them(flow):
    sender, _ = flow()
    ship = sender.folder / "ship-logs"
    ship.write_text(re.sub(r"^SPOOL_MAX = .*$", "SPOOL_MAX = 20_000", ship.read_text(), flags=re.MULTILINE))
    files = [spool(sender, f"2026-11-22T10:0{minute}", range(100), 100 - minute) for minute in range(4)]
    # What is sent does not count, and is not lost: it lies there until nobody writes to it any more.
    sent = [spool(sender, f"2026-11-22T09:0{minute}", range(100), 100) for minute in range(3)]
    acknowledged = {file.name: file.stat().st_size for file in sent}
    (sender.folder / "lib" / "ship-logs" / "acknowledged.json").write_text(json.dumps(acknowledged))
    sender.start("ship-logs")

    # Of four times 7 kB two have room.
    wait_until(lambda: [file.exists() for file in files] == [False, False, True, True])
    wait_until(lambda: sender.measured().get("lost") == 200)
    assert sender.measured()["waiting"] == sum(file.stat().st_size for file in files[2:])
    assert f"lines of {files[0].name} that are lost: 100" in sender.said()
    assert [file.exists() for file in sent] == [True] * 3
    assert 90 <= sender.measured()["oldest"] <= 90 + PATIENCE


def test_file_that_is_still_written_to_is_not_thrown_away(flow):
    sender, _ = flow()
    ship = sender.folder / "ship-logs"
    ship.write_text(re.sub(r"^SPOOL_MAX = .*$", "SPOOL_MAX = 100", ship.read_text(), flags=re.MULTILINE))
    old, turned = (spool(sender, f"2026-11-22T10:0{minute}", range(100), age) for minute, age in ((0, 60), (1, -30)))
    newest = spool(sender, "2026-11-22T10:02", range(100))
    sender.start("ship-logs")

    wait_until(lambda: sender.measured().get("lost") == 100)
    assert [file.exists() for file in (old, turned, newest)] == [False, True, True]


def test_line_that_was_cut_off_is_lost_and_counted(flow):
    sender, receiver = flow()
    cut = spool(sender, "2026-11-22T10:00", range(10))
    with cut.open("a") as file:
        file.write("<182>1 2026-11-22T10:00:00Z we")
    os.utime(cut, (time.time() - 3600, time.time() - 3600))
    spool(sender, "2026-11-22T10:01", range(10, 20))
    receiver.start()
    sender.start("ship-logs")

    wait_until(lambda: len(receiver.archived("nginx")) == 20)
    wait_until(lambda: not cut.exists())
    wait_until(lambda: (sender.measured().get("lost"), sender.measured().get("waiting")) == (1, 0))
    assert sender.measured()["oldest"] == 0


@pytest.mark.parametrize("state", ['{"2026-11-22T10:00": 100000}', "", '{"2026-11'])
def test_lines_are_sent_again_if_it_is_not_known_which_were(flow, state):
    sender, receiver = flow()
    spool(sender, "2026-11-22T10:00", range(10))
    (sender.folder / "lib" / "ship-logs" / "acknowledged.json").write_text(state)
    receiver.start()
    sender.start("ship-logs")

    wait_until(lambda: len(receiver.archived("nginx")) == 10)


def test_lines_are_sent_where_nothing_can_be_kept_of_it(flow):
    sender, receiver = flow()
    (sender.folder / "lib" / "ship-logs").rmdir()
    old = spool(sender, "2026-11-22T10:00", range(1000), 3600)
    spool(sender, "2026-11-22T10:01", [1000])
    receiver.start()
    sender.start("ship-logs")

    wait_until(lambda: len(receiver.archived("nginx")) == 1001)
    wait_until(lambda: not old.exists())
    assert sender.said().count("acknowledged.json: [Errno 2]") == 1


def test_lines_that_are_text_or_strange_arrive_as_they_are(flow):
    sender, receiver = flow()
    error = "2026/11/22 10:00:00 [crit] 1#2: *3 open() failed (13: Permission denied)"
    strange = ['{"half": ', 'a "quoted" \\ one', "ümläut € 𝄞", "tab\there", '{"a": 1} and more', "\x01" * 60_000]
    sender.log.write_text("".join(f"{line}\n" for line in strange))
    (sender.log.parent / "error.log").write_text(f"{error}\n")
    sender.start()
    receiver.start()

    wait_until(lambda: len(receiver.archived("nginx")) >= len(strange) and receiver.archived("nginx-error"))
    assert {line["message"] for line in receiver.archived("nginx")} == set(strange)
    assert {line["message"] for line in receiver.archived("nginx-error")} == {error}


def test_table_of_hosts_is_read_again_without_a_restart(flow):
    sender, receiver = flow()
    sender.start()
    receiver.start()
    write(sender.log, [1])
    wait_until(lambda: len(receiver.archived("nginx")) == 1)
    table = receiver.folder / "rsyslog-hosts.json"
    table.write_text(table.read_text().replace('"monitor"', '"renamed"'))
    receiver.reopen()

    def renamed():
        write(sender.log, [2])
        time.sleep(0.5)
        return (receiver.folder / "archive" / "renamed" / "nginx.log").exists()

    wait_until(renamed)


def test_nobody_gives_himself_the_name_of_a_service_or_a_file_of_his_own(flow):
    sender, receiver = flow()
    with tempfile.TemporaryDirectory(prefix="journal-") as folder:
        # In the place of the journal: what comes of no service.
        configuration = sender.folder / "rsyslog.conf"
        configuration.write_text(
            f'{configuration.read_text()}\nmodule(load="imuxsock" sysSock.use="off")\n'
            f'input(type="imuxsock" socket="{folder}/log")\n'
        )
        sender.start()
        receiver.start()
        write(sender.log, [1])
        wait_until(pathlib.Path(folder, "log").exists)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as shell:
            for name in ("haproxy", "nginx", "gunicorn", "x1", "x2", "sudo", "CRON", "kernel"):
                shell.sendto(b"<13>Nov 29 10:00:00 %s[1]: forged" % name.encode(), f"{folder}/log")
        wait_until(lambda: len(receiver.archived()) >= 9)

    files = {file.name: len(receiver.archived(file.stem)) for file in (receiver.folder / "archive").glob("*/*.log")}
    assert files == {"nginx.log": 1, "other.log": 5, "sudo.log": 1, "CRON.log": 1, "kernel.log": 1}
    assert receiver.archived("nginx")[0]["data"]["id"] == "request-1"


def relp(port, certificate):
    """Send a line as somebody who believes everybody, with a certificate or none; return the answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(certificate)
    try:
        with (
            socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
            context.wrap_socket(plain) as connection,
        ):
            connection.sendall(b"1 open 30 relp_version=0\ncommands=syslog\n2 syslog 26 <14>1 - x nginx - - - line\n")
            answers = b""
            while answers.count(b" rsp ") < 2 and (answer := connection.recv(4096)):
                answers += answer
            return answers
    except (ssl.SSLError, ConnectionError):
        return b""


def test_log_host_takes_lines_from_senders_of_this_site_alone(flow):
    sender, receiver = flow()
    stranger, _ = flow(stranger=True)
    receiver.start("rsyslogd")
    wait_until(receiver.counts.exists)

    for certificate in (
        None,
        stranger.folder / "rsyslog-sender.pem",
        # The log host's own is for no sender.
        sender.folder / "rsyslog-receiver.pem",
    ):
        assert b"200" not in relp(receiver.port, certificate)
    assert receiver.kept() == []
    assert relp(receiver.port, sender.folder / "rsyslog-sender.pem").count(b"200 OK") == 2
    wait_until(lambda: receiver.kept() == ["line"])


def test_sender_takes_nobody_else_for_the_log_host(flow):
    sender, receiver = flow(stranger=True)
    receiver.start()
    # Only the first reason is told.
    wait_until(receiver.counts.exists)
    sender.start()
    write(sender.log, range(10))

    wait_until(lambda: "certificate verify failed" in sender.said())
    wait_until(lambda: sender.measured().get("waiting", 0) > 0)
    assert receiver.archived("nginx") == []
