"""The scripts that measure, put to the daemons that they measure."""

import contextlib
import datetime
import http.server
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest

import lan
from rendering import STATES, load

SCRIPTS = STATES / "zabbix_agent" / "files"
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
# Of what is started here.
PATIENCE = 20.0
PASSWORD = "never-a-password-but-for-tests"  # noqa: S105


def run(script, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-IB", SCRIPTS / f"measure-{script}", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={"PATH": PATH} | environment,
    )


def measured(script, *arguments, **environment):
    done = run(script, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refusal(script, *arguments, **environment):
    done = run(script, *arguments, **environment)
    assert done.returncode == 1
    assert done.stdout == ""
    return done.stderr


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def eventually(outcome):
    until = time.monotonic() + PATIENCE
    while True:
        try:
            if result := outcome():
                return result
            last = "nothing"
        except (OSError, AssertionError) as error:
            last = repr(error)
        assert time.monotonic() < until, last
        time.sleep(0.05)


@pytest.fixture
def started(tmp_path):
    """A function that starts a daemon, which is ended afterwards."""
    running = []

    def start(*command):
        log = (tmp_path / f"{len(running)}.log").open("w")
        running.append(subprocess.Popen([*map(str, command)], stdout=log, stderr=log, env={"PATH": PATH}, cwd=tmp_path))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


# --- what they have in common -----------------------------------------------------------------------------------------


EVERY = sorted(path.name.removeprefix("measure-") for path in SCRIPTS.glob("measure-*") if not path.suffix)


@pytest.mark.parametrize("script", EVERY)
def test_a_script_that_is_called_wrongly_says_how(script):
    done = run(script, *["x"] * 60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Usage: measure-{script}")


def given_up_after(drip):
    """Have a script ask what says nothing but a *drip* now and then; return for how long it did, and what it said."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        command = [sys.executable, "-IB", SCRIPTS / "measure-haproxy", str(silent.getsockname()[1])]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={"PATH": PATH}) as script:
            # Python's own start is no part of it.
            connection, _ = silent.accept()
            began = time.monotonic()
            connection.settimeout(0.2)
            with connection, contextlib.suppress(ConnectionError):
                while True:
                    with contextlib.suppress(TimeoutError):
                        if not connection.recv(4096):
                            break
                        continue
                    connection.sendall(drip)
            seconds = time.monotonic() - began
            _, said = script.communicate()
    assert script.returncode == 1
    return seconds, said


@pytest.mark.parametrize("drip", [b"", b"H"], ids=["silent", "endless"])
def test_what_does_not_answer_is_given_up_before_zabbix_gives_up_the_script(drip):
    # A busy machine is late now and then, a script without a bound each time.
    for _ in range(5):
        seconds, said = given_up_after(drip)
        assert "cannot measure: " in said
        assert seconds > 2
        if seconds < 3:
            return
    pytest.fail(f"after {seconds:.1f} s")


# --- Redis and Sentinel -----------------------------------------------------------------------------------------------


@pytest.fixture
def secret(tmp_path):
    file = tmp_path / "secret"
    file.write_text(f"# Managed by Salt.\nmeasure {PASSWORD}\n")
    return file


@pytest.fixture
def redis(started, tmp_path):
    """A function that starts a Redis with the rights that the agent's user is given; it returns the port."""

    def start(*options):
        port = free_port()
        folder = tmp_path / f"redis-{port}"
        folder.mkdir()
        rights = "%R~fibonacci:jobs:1:* +ping +info +time +zcard +zcount +zrangebyscore +zrevrangebyscore +hmget"
        (folder / "users.acl").write_text(f"user default on nopass ~* &* +@all\nuser measure on >{PASSWORD} {rights}\n")
        places = ["--port", port, "--bind", "127.0.0.1", "--dir", folder, "--aclfile", folder / "users.acl"]
        started("redis-server", *places, "--save", "", *options)
        eventually(lambda: socket.create_connection(("127.0.0.1", port)))
        return port

    return start


def ask(port, *words):
    return subprocess.run(
        ["redis-cli", "-p", str(port), *map(str, words)], capture_output=True, text=True, check=True, env={"PATH": PATH}
    ).stdout.strip()


def test_a_primary_and_its_replica_tell_of_each_other(redis, secret):
    primary = redis("--maxmemory", "100mb")
    alone = measured("redis", "127.0.0.1", primary, secret)
    assert (alone["primary"], alone["replicas"], alone["follows"], alone["writable"]) == (1, 0, 0, 1)
    assert alone["memory_limit"] == 100 * 2**20
    assert 0 < alone["memory_percent"] < 100
    replica = redis("--replicaof", f"127.0.0.1 {primary}")
    eventually(lambda: measured("redis", "127.0.0.1", replica, secret)["follows"] == 1)
    eventually(lambda: measured("redis", "127.0.0.1", primary, secret)["replicas"] == 1)
    found = measured("redis", "127.0.0.1", replica, secret)
    assert (found["primary"], found["follows"], found.get("writable")) == (0, 1, None)


def test_a_primary_that_must_have_replicas_and_has_none_takes_no_writes(redis, secret):
    alone = measured("redis", "127.0.0.1", redis("--min-replicas-to-write", "1"), secret)
    assert (alone["primary"], alone.get("writable")) == (1, None)


def test_a_replica_without_its_primary_does_not_follow(redis, secret):
    replica = redis("--replicaof", f"127.0.0.1 {free_port()}")
    found = measured("redis", "127.0.0.1", replica, secret)
    assert (found["primary"], found["follows"]) == (0, 0)
    # It has never heard of one.
    assert found["lag"] == found["uptime"]


def test_a_replica_whose_link_is_broken_lags_ever_more(redis, secret):
    primary = redis()
    replica = redis("--replicaof", f"127.0.0.1 {primary}")
    eventually(lambda: measured("redis", "127.0.0.1", replica, secret)["follows"] == 1)

    # It answers nothing to that, and is gone.
    subprocess.run(["redis-cli", "-p", str(primary), "SHUTDOWN", "NOSAVE"], check=False, env={"PATH": PATH})

    eventually(lambda: measured("redis", "127.0.0.1", replica, secret)["follows"] == 0)
    lag = eventually(lambda: measured("redis", "127.0.0.1", replica, secret)["lag"])
    assert eventually(lambda: measured("redis", "127.0.0.1", replica, secret)["lag"] > lag)


def test_a_redis_that_is_gone_or_refuses_is_no_measurement(redis, secret):
    assert "ConnectionRefused" in refusal("redis", "127.0.0.1", free_port(), secret)
    secret.write_text("measure wrong\n")
    said = refusal("redis", "127.0.0.1", redis(), secret)
    assert "WRONGPASS" in said
    secret.write_text(f"measure {PASSWORD}\n")


def test_jobs_are_counted_with_the_age_of_the_oldest(redis, secret):
    port, prefix = redis(), "fibonacci:jobs:1"
    now = int(time.time() * 1000)
    ask(port, "ZADD", f"{prefix}:queued", now - 9_000, "1-1", 10**13 + now - 60_000, "9-9", now - 2_000, "2-1")
    ask(port, "ZADD", f"{prefix}:done", now - 1_000, "3-1", now - 400_000, "4-1")
    ask(port, "HSET", f"{prefix}:3-1", "started", now - 3_500, "finished", now - 1_000)
    ask(port, "ZADD", f"{prefix}:failed", now - 5_000, "5-1")
    found = measured("jobs", prefix, "127.0.0.1", port, secret)
    assert found | {"oldest": 0} == {
        "kept": 1, "queued": 3, "running": 0, "oldest": 0, "done": 1, "failed": 1, "runtime": 2.5,
        "runtime_longest": 2.5,
    }  # fmt: skip
    assert 60 <= found["oldest"] < 70
    none = measured("jobs")
    # An app without jobs is told of in the same numbers.
    assert none.keys() == found.keys()
    assert set(none.values()) == {0}


def test_a_sentinel_tells_whether_it_could_elect(redis, secret, started, tmp_path):
    primary, port = redis(), free_port()
    file = tmp_path / "sentinel.conf"
    rights = "+auth +ping +sentinel|master +sentinel|ckquorum"
    (tmp_path / "sentinel.acl").write_text(
        f"user default on nopass ~* &* +@all\nuser measure on >{PASSWORD} {rights}\n"
    )
    file.write_text(f"port {port}\nbind 127.0.0.1\naclfile {tmp_path}/sentinel.acl\n"
                    f"sentinel monitor turnkey 127.0.0.1 {primary} 1\n")  # fmt: skip
    started("redis-server", file, "--sentinel")
    eventually(lambda: socket.create_connection(("127.0.0.1", port)))
    found = measured("sentinel", "turnkey", "127.0.0.1", port, secret)
    assert (found["quorum"], found["primary_up"], found["sentinels"]) == (1, 1, 1)
    assert found["primary"] == f"127.0.0.1:{primary}"
    ask(port, "SENTINEL", "SET", "turnkey", "quorum", 2)
    assert measured("sentinel", "turnkey", "127.0.0.1", port, secret)["quorum"] == 0
    assert "No such master" in refusal("sentinel", "other", "127.0.0.1", port, secret)
    assert measured("sentinel") == {"watching": 0, "quorum": 1}


# --- HAProxy, nginx, gunicorn -----------------------------------------------------------------------------------------

HAPROXY = """
global
    maxconn 100
defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 1s
frontend clients
    bind 127.0.0.1:{door}
    default_backend web
frontend status
    bind 127.0.0.1:{status}
    stats enable
    stats uri /stats
backend web
    server web1 127.0.0.1:{web} check inter 100ms fall 1 rise 1
    server web2 127.0.0.1:{nobody} check inter 100ms fall 1 rise 1
    server web3 127.0.0.1:{nobody} check inter 100ms disabled
"""


def test_haproxy_tells_who_is_ready_and_who_was_taken_out(started, tmp_path):
    ports = {name: free_port() for name in ("door", "status", "web", "nobody")}
    web = http.server.HTTPServer(("127.0.0.1", ports["web"]), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        (tmp_path / "haproxy.cfg").write_text(HAPROXY.format(**ports))
        started("haproxy", "-f", tmp_path / "haproxy.cfg")
        eventually(lambda: measured("haproxy", ports["status"])["down"] == "web2" if reached(ports["status"]) else None)
        with socket.create_connection(("127.0.0.1", ports["door"])) as door:
            door.sendall(b"POST / HTTP/1.0\r\nHost: x\r\n\r\n")
            assert b" 501 " in door.recv(100)
        found = eventually(lambda: (told := measured("haproxy", ports["status"]))["requests"] and told)
    finally:
        web.shutdown()
        web.server_close()
    assert (found["up"], found["out"], found["servers"], found["down"]) == (1, 1, 3, "web2")
    assert found["ready"] == 1
    assert (found["requests"], found["answers_5xx"], found["queue"]) == (1, 1, 0)


OF_SEVERAL = """
defaults
    mode http
    timeout client 20s
    timeout server 20s
    timeout connect 1s
    timeout queue 20s
frontend clients
    bind 127.0.0.1:{door}
    use_backend zabbix if {{ path_beg /zabbix }}
    use_backend websockets if {{ path /stream }}
    default_backend web
frontend status
    bind 127.0.0.1:{status}
    stats enable
    stats uri /stats
backend web
    default-server maxconn 1
    server web1 127.0.0.1:{silent}
backend websockets
    http-request return status 503
backend zabbix
    http-request return status 500
"""


def test_haproxy_tells_of_the_service_alone_and_of_who_waits_for_one_web_host(started, tmp_path):
    ports = {name: free_port() for name in ("door", "status")}
    with socket.socket() as silent, contextlib.ExitStack() as clients:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        (tmp_path / "haproxy.cfg").write_text(OF_SEVERAL.format(silent=silent.getsockname()[1], **ports))
        started("haproxy", "-f", tmp_path / "haproxy.cfg")
        eventually(lambda: reached(ports["door"]) and reached(ports["status"]))
        for path in ("/zabbix/", "/zabbix/", "/stream"):
            with socket.create_connection(("127.0.0.1", ports["door"])) as door:
                door.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                assert b" 50" in door.recv(100)
        for _ in range(3):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", ports["door"])))
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        found = eventually(lambda: (told := measured("haproxy", ports["status"]))["queue"] == 2 and told)
    assert (found["answers_5xx"], found["milliseconds"]) == (1, 0)


def reached(port):
    with socket.create_connection(("127.0.0.1", port)):
        return True


def entry(seconds_ago, status=200, cache="HIT", seconds=0.01):
    at = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds_ago)
    return json.dumps({"time": at.isoformat(timespec="seconds"), "status": status, "cache": cache, "seconds": seconds})


def test_the_last_minute_of_nginx_log_is_what_counts(tmp_path):
    log = tmp_path / "access.log"
    lines = [entry(600, 500), entry(50, cache="MISS"), *[entry(20)] * 3, entry(10, 502, "", 3), entry(5, 101, "", 900)]
    log.write_text("\n".join(lines) + '\n{"time": "2026')
    found = measured("nginx", log)
    assert (found["hit_percent"], found["cacheable"], found["answers_5xx"]) == (75, 4, 1)
    assert (found["p95"], found["not_json"]) == (3, 1)
    assert found["requests"] == pytest.approx(6 / 60, abs=0.001)


def test_a_log_that_grows_by_more_in_a_minute_than_is_read_is_not_told_of_as_less(tmp_path):
    """Under load its end is of the last seconds only: they count as a minute of them would."""
    log = tmp_path / "access.log"
    wide = " " * 200 + "\n"
    log.write_text("".join((entry(ago) + wide) * 990 + (entry(ago, 500, "") + wide) * 10 for ago in range(45, -1, -1)))
    assert log.stat().st_size > 2 * 4 * 2**20
    found = measured("nginx", log)
    # A thousand in a second, less what of time goes by until it is looked at.
    assert 500 < found["requests"] < 1200
    assert 300 < found["answers_5xx"] < 720
    assert found["hit_percent"] == 100


def test_of_no_request_there_is_no_ratio(tmp_path):
    (tmp_path / "access.log").write_text("")
    assert "hit_percent" not in measured("nginx", tmp_path / "access.log")
    assert "No such file" in refusal("nginx", tmp_path / "nothing.log")


STATUS = {
    "instances": {
        "gunicorn": {
            "state": "ok", "master": {"uptime": 9.5}, "requests": 70, "errors": 1, "dropped": 3, "lost": 0,
            "restarts": {"killed": 1, "timed_out": 0, "replaced": 2}, "backlog": {"waiting": 4, "limit": 2048},
            "scaling": {"workers": 2, "busy_ratio": 0.25}, "counts": {"idle": 0, "busy": 1, "starting": 0, "stuck": 1},
            "workers": [
                {"current": [{"age": 61.0}, {"age": 2.0}], "memory": 1000},
                {"current": [], "memory": None},
            ],
        },
        "gunicorn-stream": {"state": "down", "reason": "there is no scoreboard", "backlog": None},
    }
}  # fmt: skip


@pytest.fixture
def gunicorn_status(tmp_path):
    """A function that has a status told at a socket, as gunicorn_status does, and returns what is measured."""

    def measure(status):
        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps(status).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

            def address_string(self):
                return "unix"

        class Server(http.server.HTTPServer):
            address_family = socket.AF_UNIX

            def server_bind(self):
                self.socket.bind(self.server_address)
                self.server_name, self.server_port = "x", 0

        server = Server(str(tmp_path / "status.sock"), Answer)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            return measured("gunicorn", tmp_path / "status.sock")
        finally:
            server.shutdown()
            server.server_close()

    return measure


def test_gunicorns_are_told_of_in_numbers(gunicorn_status):
    found = gunicorn_status(STATUS)

    requests = found["requests"]
    assert (requests["stuck"], requests["busy"], requests["handling"], requests["oldest"]) == (1, 1, 2, 61)
    assert (requests["errors"], requests["dropped"]) == (1, 3)
    assert (requests["restarts"], requests["busy_percent"], requests["backlog"]) == (3, 25, 4)
    assert (found["stream"]["well"], found["stream"]["stuck"]) == (0, 0)


def test_of_an_app_without_websockets_none_of_their_workers_is_stuck(gunicorn_status):
    found = gunicorn_status({"instances": {"gunicorn": STATUS["instances"]["gunicorn"]}})

    assert (found["requests"]["stuck"], found["stream"]) == (1, {"stuck": 0})


# --- hosts ------------------------------------------------------------------------------------------------------------

SYSTEMCTL = """#!/bin/sh
echo "$*" >"$0.said"
printf 'Id=a.service\\nActiveState=active\\nNRestarts=2\\n\\nId=b@x.service\\nActiveState=failed\\nNRestarts=5\\n'
"""


# Of a unit with a main process and two more.
BUSCTL = """#!/bin/sh
echo "$*" >>"$0.said"
echo '{"type":"a(sus)","data":[[["/system.slice/a",7,"celery"],["/system.slice/a",8,"x"],["/system.slice/a",9,"y"]]]}'
"""


def test_processes_of_units_that_run_are_counted(tmp_path):
    for name, text in (("systemctl", SYSTEMCTL), ("busctl", BUSCTL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    found = measured("units", "--children", "a.service", "b@x.service", PATH=f"{tmp_path}:{PATH}")

    assert (found["children"], found["missing"]) == (2, 1)
    (asked,) = (tmp_path / "busctl.said").read_text().splitlines()
    assert asked.endswith("org.freedesktop.systemd1.Manager GetUnitProcesses s a.service")
    assert measured("units", "--children")["children"] == 0


def test_units_that_do_not_run_are_named(tmp_path):
    (tmp_path / "systemctl").write_text(SYSTEMCTL)
    (tmp_path / "systemctl").chmod(0o755)
    found = measured("units", "a.service", "b@x.service", PATH=f"{tmp_path}:{PATH}")
    # One is enough to do what they are for.
    assert found == {"wanted": 2, "missing": 1, "down": "b@x.service", "restarts": 7, "well": 1}
    assert "systemd tells of 2 units" in refusal("units", "a.service", PATH=f"{tmp_path}:{PATH}")
    assert measured("units") == {"wanted": 0, "missing": 0, "down": "", "restarts": 0}


def test_units_are_well_only_with_those_that_they_need(tmp_path):
    (tmp_path / "systemctl").write_text(SYSTEMCTL)
    (tmp_path / "systemctl").chmod(0o755)

    with_one_that_failed = measured("units", "a.service", "--with", "b@x.service", PATH=f"{tmp_path}:{PATH}")
    (tmp_path / "systemctl").write_text(SYSTEMCTL.replace("failed", "active"))
    with_all = measured("units", "a.service", "--with", "b@x.service", PATH=f"{tmp_path}:{PATH}")

    # What it needs is counted elsewhere.
    assert with_one_that_failed == {"wanted": 1, "missing": 0, "down": "", "restarts": 2}
    assert with_all == with_one_that_failed | {"well": 1}
    assert (tmp_path / "systemctl.said").read_text().split()[-3:] == ["--", "a.service", "b@x.service"]


def test_copies_of_a_database_are_told_of_with_their_age_and_whether_the_last_one_failed(tmp_path):
    systemctl, folder = tmp_path / "systemctl", tmp_path / "copies"
    systemctl.write_text('#!/bin/sh\nprintf \'%s\\n\' "$*" >"$0.said"; echo inactive\n')
    systemctl.chmod(0o755)
    folder.mkdir()

    def found():
        return measured("backup", "backup.service", folder, PATH=f"{tmp_path}:{PATH}")

    # Of a new host it is told since when none came.
    os.utime(folder, (0, time.time() - 100))
    assert (found()["copies"], 100 <= found()["age"] < 160) == (0, True)
    for name, age, text in (("a.dump", 9000, "abc"), ("b.dump", 5000, "de"), (".draft", 0, "f")):
        (folder / name).write_text(text)
        os.utime(folder / name, (0, time.time() - age))
    # As of copies that are no nightly ones (restore-zabbix).
    (folder / "replaced").mkdir()
    told = found()
    assert (told["made"], told["failed"], told["copies"], told["size"]) == (1, 0, 2, 5)
    assert 5000 <= told["age"] < 5060
    assert (tmp_path / "systemctl.said").read_text().split()[-1] == "backup.service"
    systemctl.write_text("#!/bin/sh\necho failed\n")
    assert found()["failed"] == 1
    assert measured("backup") == {"made": 0}
    assert "No such file" in refusal("backup", "backup.service", tmp_path / "away", PATH=f"{tmp_path}:{PATH}")


# As chronyd takes questions at one port only, it has a network of its own here.
CLOCK = """
ip link set lo up || exit
chronyd -x -d -U -u root -f "$1/chrony.conf" 2>"$1/chronyd.log" & trap "kill $!" EXIT
until found=$("$2" -IB "$3"); do [ $((tries += 1)) -lt 600 ] && kill -0 $! || exit; sleep 0.1; done
echo "$found"
chronyc -h 127.0.0.1 makestep
"""


def test_a_clock_is_measured_without_the_right_to_change_it(tmp_path):
    (tmp_path / "chrony.conf").write_text(
        f"local stratum 7\nport 0\nbindcmdaddress 127.0.0.1\nbindcmdaddress {tmp_path}/chronyd.sock\ncmdport 323\n"
        f"pidfile {tmp_path}/chronyd.pid\n"
    )
    done = subprocess.run(
        [*lan.alone(), "sh", "-c", CLOCK, "clock", tmp_path, sys.executable, SCRIPTS / "measure-chrony"],
        capture_output=True, text=True, check=False, timeout=120, env={"PATH": PATH},
    )  # fmt: skip
    told, refused = done.stdout.splitlines() or pytest.fail(done.stderr + (tmp_path / "chronyd.log").read_text())
    found = json.loads(told)
    assert (found["stratum"], found["synchronised"], found["offset"]) == (7, 1, 0)
    assert refused == "501 Not authorised"


def test_without_a_clock_there_is_no_measurement(tmp_path):
    (tmp_path / "chronyc").write_text("#!/bin/sh\necho '506 Cannot talk to daemon'\nexit 1\n")
    (tmp_path / "chronyc").chmod(0o755)
    assert "506 Cannot talk to daemon" in refusal("chrony", PATH=f"{tmp_path}:{PATH}")


def test_the_certificate_that_ends_first_is_told_of(tmp_path):
    pem = tmp_path / "one.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", "5", "-keyout", pem,
         "-out", tmp_path / "certificate"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", pem)
    with socket.socket() as plain:
        plain.bind(("127.0.0.1", 0))
        plain.listen()
        port = plain.getsockname()[1]
        with context.wrap_socket(plain, server_side=True) as door:
            threading.Thread(target=lambda: door.accept()[0].close(), daemon=True).start()
            found = measured("certificate", "127.0.0.1", port)
    assert found["certificates"] == 1
    assert 4.9 < found["days"] <= 5
    assert measured("certificate", "127.0.0.1") == {"certificates": 0}
    assert "ConnectionRefused" in refusal("certificate", "127.0.0.1", free_port())


# --- Salt -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def note(tmp_path):
    """Salt's returner, and the file that it writes."""
    module = load("_returners/applied.py")
    module.NOTE = tmp_path / "lib" / "applied.json"
    return module


def state(result, **changes):
    return {"result": result, "changes": changes}


def test_how_an_apply_ended_is_noted_and_measured(note):
    assert measured("salt", note.NOTE) == {"noted": 0}
    note.returner({"fun": "state.apply", "fun_args": ["queue=10"], "retcode": 0, "return": {"a": state(True, x=1)}})
    good = measured("salt", note.NOTE)
    assert (good["ok"], good["states"], good["changed"], good["failed"]) == (1, 1, 1, 0)
    assert good["success_age"] < 10
    note.returner({"fun": "state.apply", "fun_args": [], "retcode": 2, "return": {"a": state(True), "b": state(False)}})
    bad = measured("salt", note.NOTE)
    assert (bad["ok"], bad["failed"]) == (0, 1)
    assert bad["success_age"] < 10


def test_an_apply_that_is_not_even_rendered_has_failed(note):
    note.returner({"fun": "state.apply", "fun_args": [], "retcode": 1, "return": ["wrong pillar, nothing applied: …"]})
    found = measured("salt", note.NOTE)
    assert (found["ok"], found["states"]) == (0, 0)
    assert "success_age" not in found
    assert "wrong pillar" not in note.NOTE.read_text()


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("state.apply", ["test=True"]),
        ("state.apply", [{"__kwarg__": True, "test": True}]),
        ("state.apply", ["nginx"]),
        ("state.highstate", [{"__kwarg__": True, "mods": "nginx"}]),
        ("test.ping", []),
    ],
)
def test_what_is_no_apply_of_all_states_is_not_noted(note, function, arguments):
    note.returner({"fun": function, "fun_args": arguments, "retcode": 0, "return": {"a": state(True)}})
    assert not note.NOTE.exists()


# --- the service ------------------------------------------------------------------------------------------------------


class Service(http.server.BaseHTTPRequestHandler):
    """Pages, a websocket of one frame, and jobs that are done at once."""

    protocol_version = "HTTP/1.1"
    healthy = True
    lost = ()
    posted = []  # noqa: RUF012
    asked = []  # noqa: RUF012

    def do_GET(self):
        self.asked.append(self.path)
        if self.path in self.lost:
            self._say(404, {})
            return
        if self.path == "/stream" and self.healthy:
            self.send_response(101)
            self.end_headers()
            self.wfile.write(b"\x81\x02{}")
            self.close_connection = True
        elif not self.healthy:
            self._say(503, {})
        else:
            self._say(200, {"state": "done"})

    def do_POST(self):
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        self.posted.append(json.loads(asked))
        self._say(202 if self.healthy else 503, {}, "http://name.example/jobs/7?x=1")

    def _say(self, status, told, location=""):
        body = json.dumps(told).encode()
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def service():
    """A function that starts a service of some kind; it returns the port, and the class that has what it was asked."""
    servers = []

    def start(**kind):
        handler = type("Handler", (Service,), kind | {"posted": [], "asked": []})
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1].server_port, handler

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


JOB = '{"start": 4MINUTE, "count": 2}'


@pytest.mark.parametrize("healthy", [True, False])
def test_the_service_is_tried_as_clients_do(service, tmp_path, healthy):
    port, _ = service(healthy=healthy)
    found = {
        kind: measured("service", kind, "127.0.0.1", port, path, *more)
        for kind, path, *more in (("page", "/"), ("websocket", "/stream"), ("job", "/jobs", JOB, tmp_path / "note"))
    }
    assert {kind: told["ok"] for kind, told in found.items()} == dict.fromkeys(found, int(healthy))
    assert all(("503" in told["fault"]) != healthy for told in found.values())


def test_a_job_is_looked_at_where_the_service_said_that_it_is_and_is_not_lost(service, tmp_path):
    note = tmp_path / "note"
    port, seen = service(lost=["/jobs/lost"])

    def look(**before):
        """Look, a minute after a job was accepted; over the minute's end, which the test may be at, too."""
        minute = int(time.time()) // 60
        places = dict.fromkeys((str(minute - 1), str(minute)), before["place"]) if before else {}
        note.write_text(json.dumps(places))
        return measured("service", "job", "127.0.0.1", port, "/jobs", JOB, note)

    # Nobody has asked for one lately.
    assert (look()["ok"], seen.asked) == (1, [])
    assert seen.posted[0]["count"] == 2
    assert seen.posted[0]["start"] in [40_000 + (int(time.time()) // 60 - ago) % 10_000 for ago in (0, 1)]
    # Its name is not the way there: clients' address is.
    assert "/jobs/7?x=1" in json.loads(note.read_text()).values()
    assert (look(place="/jobs/6")["ok"], seen.asked) == (1, ["/jobs/6"])
    found = look(place="/jobs/lost")
    assert (found["ok"], found["fault"]) == (0, "/jobs/lost: status 404")


def test_a_service_that_is_gone_fails_and_one_that_an_app_has_not_is_not_asked():
    found = measured("service", "page", "127.0.0.1", free_port(), "/")
    assert (found["ok"], "refused" in found["fault"]) == (0, True)
    assert measured("service", "job", "127.0.0.1", 80, "") == {"asked": 0}
