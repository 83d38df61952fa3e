"""Logs: what is sent and counted, what becomes of it on the way, and how one request is found again.

On real hosts: tests/infra/test_logs.py.
"""

import base64
import contextlib
import fnmatch
import gzip
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
import yaml

from rendering import CLUSTER, ROOT

CONFIGURATION, HOSTS_TABLE = "/etc/rsyslog.conf", "/etc/rsyslog-hosts.json"
SENDER, RECEIVER = "/etc/rsyslog-sender.pem", "/etc/rsyslog-receiver.pem"
TRACE, MEASURE = "/usr/local/bin/turnkey-trace", "/usr/local/lib/turnkey/measure-rsyslog"
NGINX, HAPROXY = "/etc/nginx/nginx.conf", "/etc/haproxy/haproxy.cfg"
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


def targets(host):
    return re.findall(r'target="(.*?)"', host.text(CONFIGURATION))


def test_every_host_sends_to_the_log_host_which_takes_it_at_that_address(hosts, osfinger):
    for name in ("lb1", "web2", "data3"):
        assert targets(hosts(osfinger, f"cluster-{name}")) == ["10.77.2.40"]
    assert targets(hosts(osfinger, "cluster-monitor")) == []
    assert 'address="10.77.2.40"' in hosts(osfinger, "cluster-monitor").text(CONFIGURATION)
    assert "imrelp" not in hosts(osfinger, "cluster-web1").text(CONFIGURATION).partition("# --- sending")[2]


def test_single_host_keeps_its_logs_itself_and_opens_nothing(hosts, osfinger):
    assert targets(hosts(osfinger, "single")) == []
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
    assert patterns(hosts(osfinger, "custom").text(HAPROXY), "query -m reg '")
    assert '"?(hidden)"' in hosts(osfinger, "custom").text(NGINX)


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


def test_trace_says_that_it_found_nothing(trace, tmp_path):
    done = trace("22222222")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "turnkey-trace: no line of 22222222\n")
    assert trace("--archive", str(tmp_path / "nowhere"), ID).returncode == 2
    assert "no request id" in trace("a b").stderr


# --- counting ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def measure(hosts, osfinger, tmp_path):
    script, file = tmp_path / "measure-rsyslog", tmp_path / "statistics"
    script.write_text(hosts(osfinger, "single").text(MEASURE))

    def measure(*lines, before=()):
        for path, content in ((file, lines), (file.with_name("statistics.1"), before)):
            path.write_text("".join(f"{line}\n" for line in content))
        return run(script, file)

    return measure


def counted(name, origin, age=0, **counts):
    return json.dumps({"time": str(int(time.time() - age)), "counter": {"name": name, "origin": origin, **counts}})


def test_measuring_tells_the_newest_counts(measure):
    queue = {"enqueued": 90, "full": 0, "discarded.nf": 0}
    done = measure(
        "half a line",
        counted("ship", "core.action", age=10, processed=10, failed=0),
        counted("ship", "core.action", processed=70, failed=0),
        counted("ship queue", "core.queue", size=15, **{**queue, "discarded.full": 2}),
        counted("ship queue[DA]", "core.queue", size=5, **{**queue, "discarded.full": 1}),
        counted("main Q", "core.queue", size=3, **{**queue, "discarded.full": 0}),
        counted("imrelp[2514]", "imrelp", submitted=1234),
        '{"time":"1',
    )
    assert json.loads(done.stdout) == {"sent": 70, "waiting": 23, "lost": 3, "received": 1234}


def test_measuring_looks_back_over_a_rotation(measure):
    done = measure(before=[counted("ship", "core.action", age=5, processed=10, failed=0)])
    assert json.loads(done.stdout)["sent"] == 10


def test_measuring_fails_where_nothing_is_counted(measure):
    done = measure(counted("ship", "core.action", age=300, processed=10, failed=0))
    assert (done.returncode, done.stdout) == (1, "")
    assert "has counted nothing for 30" in done.stderr
    assert "has counted nothing yet" in measure().stderr


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


class Daemon:
    """A host's rsyslogd, with its own configuration, in a folder instead of on a host. It reads files, no journal."""

    def __init__(self, host, folder, port, identities):
        self.folder = folder
        for name in ("lib", "run", "log/nginx", "log/salt", "archive"):
            (folder / name).mkdir(parents=True)
        (folder / "rsyslog-sender.pem").write_text(identities["identity"])
        (folder / "rsyslog-receiver.pem").write_text(identities["server_identity"])
        text = host.text(CONFIGURATION)
        if HOSTS_TABLE in host.files:
            (folder / "rsyslog-hosts.json").write_text(host.text(HOSTS_TABLE))
        text = re.sub(r'module\(load="imjournal".*?\)\n', "", text, flags=re.DOTALL)
        for before, after in (
            ("/etc/rsyslog-", f"{folder}/rsyslog-"),
            ("/var/lib/rsyslog", f"{folder}/lib"),
            ("/run/rsyslog", f"{folder}/run"),
            ("/var/log/turnkey", f"{folder}/archive"),
            ("/var/log", f"{folder}/log"),
            (CLUSTER["hosts"]["monitor"]["address"], "127.0.0.1"),
            ('port="2514"', f'port="{port}"'),
            ('interval="10"', 'interval="1"'),
            ('="5"', '="1"'),
        ):
            text = text.replace(before, after)
        self._file = folder / "rsyslog.conf"
        self._file.write_text(text)
        self._measure = folder / "measure-rsyslog"
        self._measure.write_text(host.text(MEASURE))
        self._child = None

    def start(self):
        counters = self.folder / "run" / "statistics"
        counters.unlink(missing_ok=True)
        with (self.folder / "said").open("a") as said:
            command_line = [command("rsyslogd"), "-n", "-iNONE", "-f", self._file]
            self._child = subprocess.Popen(command_line, stdout=said, stderr=said, cwd=self.folder)
        # Before that, a signal to reopen its logs would end it.
        wait_until(counters.exists)

    def stop(self):
        self._child.send_signal(signal.SIGTERM)
        self._child.wait(timeout=PATIENCE)

    def reopen(self):
        self._child.send_signal(signal.SIGHUP)

    def end(self):
        if self._child and self._child.poll() is None:
            self._child.kill()
            self._child.wait()

    def said(self):
        return (self.folder / "said").read_text()

    def check(self):
        return subprocess.run(
            [command("rsyslogd"), "-N1", "-f", self._file], capture_output=True, text=True, check=False
        )

    def measured(self):
        done = run(self._measure, self.folder / "run" / "statistics")
        return json.loads(done.stdout) if done.returncode == 0 else {}

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
            daemons = [
                Daemon(hosts(osfinger, "cluster-web1"), tmp_path / "sender", port, theirs),
                Daemon(hosts(osfinger, "cluster-monitor"), tmp_path / "receiver", port, ours),
            ]
            for daemon in daemons:
                stack.callback(daemon.end)
            return daemons

        yield make


def write(path, numbers):
    with path.open("a") as log:
        for number in numbers:
            log.write(json.dumps({"id": f"request-{number}", "status": 200, "seconds": 0.001}) + "\n")


def test_configuration_of_every_host_is_taken(hosts, osfinger, identities, tmp_path):
    made = identities()
    for name in ("single", *(f"cluster-{name}" for name in CLUSTER["hosts"])):
        done = Daemon(hosts(osfinger, name), tmp_path / name, 2514, made).check()
        assert done.returncode == 0, done.stderr
        assert not re.search("error|warning", done.stderr, re.IGNORECASE), done.stderr


def test_no_line_is_lost_whoever_is_away_and_whatever_is_rotated(flow):
    sender, receiver = flow()
    sender.start()
    write(sender.log, range(2000))
    wait_until(lambda: sender.measured().get("waiting", 0) > 1000)
    # Both are started anew: what waits does so on the disk.
    sender.stop()
    write(sender.log, range(2000, 2500))
    sender.start()
    receiver.start()
    wait_until(lambda: len(receiver.archived("nginx")) >= 1000)
    receiver.stop()
    write(sender.log, range(2500, 3500))
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
    # Those may come twice that are on their way when the log host goes away, or were read since that was last noted.
    assert len(receiver.archived("nginx")) <= 4003 + 512
    example = next(line for line in receiver.archived("nginx") if line["data"]["id"] == "request-7")
    assert example["data"] == {"id": "request-7", "status": 200, "seconds": 0.001}
    assert (example["host"], example["program"], example["unit"]) == ("web1", "nginx", "")
    wait_until(lambda: sender.measured().get("waiting") == 0)
    assert sender.measured()["lost"] == 0
    wait_until(lambda: receiver.measured().get("received", 0) > 0)


def test_lines_that_are_text_or_strange_arrive_as_they_are(flow):
    sender, receiver = flow()
    error = "2026/11/22 10:00:00 [crit] 1#2: *3 open() failed (13: Permission denied)"
    strange = ['{"half": ', 'a "quoted" \\ one', "ümläut € 𝄞", "tab\there", '{"a": 1} and more', "x" * 30_000]
    sender.log.write_text("".join(f"{line}\n" for line in strange))
    (sender.log.parent / "error.log").write_text(f'{error}, client: 192.0.2.1, request: "GET /?token=x"\n')
    sender.start()
    receiver.start()

    wait_until(lambda: len(receiver.archived("nginx")) >= len(strange) and receiver.archived("nginx-error"))
    assert {line["message"] for line in receiver.archived("nginx")} == set(strange)
    # What a client sent is not in it.
    assert {line["message"] for line in receiver.archived("nginx-error")} == {error}


def test_log_host_takes_nothing_from_a_stranger(flow):
    sender, receiver = flow(stranger=True)
    receiver.start()
    sender.start()
    write(sender.log, range(10))

    wait_until(lambda: re.search("certificate|peer|handshake|TLS", receiver.said() + sender.said()))
    wait_until(lambda: sender.measured().get("waiting", 0) >= 10)
    assert receiver.archived("nginx") == []
