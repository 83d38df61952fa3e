"""The service that tells what the gunicorns of a host do, as JSON and for Prometheus."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from board import HOOKS, ROOT, SERVICE, Gunicorn, ask, eventually, running, status

EXAMPLES = ROOT / "docs" / "prometheus"


def told(service: Path) -> Any:
    response, body = ask(service, "/status")
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    return json.loads(body)


def metrics(service: Path) -> dict[tuple[str, ...], float]:
    """Return each value by its name and its labels but for `service`, of the gunicorn `web`."""
    response, body = ask(service, "/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    return {
        (sample.name, *(value for name, value in sorted(sample.labels.items()) if name != "service")): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if sample.labels["service"] == "web"
    }


def web(gunicorn: Gunicorn, request: int = 60) -> tuple[str, Path, Path, int]:
    return ("web", gunicorn.boards, gunicorn.socket, request)


def test_four_slow_requests_are_exactly_the_four_that_are_told(tmp_path: Path) -> None:
    with running(tmp_path, backlog=64) as gunicorn, status(tmp_path, web(gunicorn)) as service:
        for _ in range(3):
            gunicorn.get("/")
        threads = [threading.Thread(target=gunicorn.get, args=(f"/wait/{number}?x=1",)) for number in range(4)]
        for thread in threads:
            thread.start()

        def busy() -> list[Any]:
            return [one for worker in told(service)["instances"]["web"]["workers"] for one in worker["current"]]

        eventually(lambda: len(busy()) == 4)
        assert {(one["method"], one["path"]) for one in busy()} == {("GET", f"/wait/{number}") for number in range(4)}
        assert all(0 < one["age"] < 30 for one in busy())
        found = told(service)
        it = found["instances"]["web"]
        assert found["host"] == socket.gethostname()
        assert (it["state"], it["requests"], it["errors"], it["lost"]) == ("ok", 3, 0, 0)
        assert it["counts"]["busy"] == sum(worker["state"] == "busy" for worker in it["workers"]) > 0
        assert it["restarts"] == {"killed": 0, "timed_out": 0, "replaced": 0}
        assert it["scaling"] | {"busy_ratio": 0} == {
            "workers": 2, "minimum": 2, "maximum": 2, "busy_ratio": 0, "changes": 0, "last_change": None,
        }  # fmt: skip
        assert 0 < it["master"]["uptime"] < 60
        assert it["backlog"] == {"waiting": 0, "limit": 64}
        values = metrics(service)
        assert values["gunicorn_requests_current",] == 4
        assert values["gunicorn_requests_total",] == 3
        assert values["gunicorn_workers", "idle"] + values["gunicorn_workers", "busy"] == 2
        assert values["gunicorn_oldest_request_seconds",] > 0
        assert values["gunicorn_up",] == 1

        gunicorn.let_go()
        for thread in threads:
            thread.join()
        assert eventually(lambda: told(service)["instances"]["web"]["requests"] == 7)
        assert busy() == []


def test_it_answers_while_every_worker_is_stuck_and_connections_wait(tmp_path: Path) -> None:
    with running(tmp_path, timeout=60) as gunicorn, status(tmp_path, web(gunicorn), silent=3) as service:
        pids = [worker.pid for worker in gunicorn.board().workers]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            waiting = []
            for _ in range(3):
                client = socket.socket(socket.AF_UNIX)
                client.connect(str(gunicorn.socket))
                waiting.append(client)

            it = eventually(lambda: (it := told(service)["instances"]["web"])["counts"]["stuck"] == 2 and it)
            assert it["state"] == "stuck"
            assert it["backlog"]["waiting"] == 3
            values = metrics(service)
            assert (values["gunicorn_workers", "stuck"], values["gunicorn_up",]) == (2, 0)
            assert values["gunicorn_backlog",] == 3
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        for client in waiting:
            client.close()
        assert eventually(lambda: told(service)["instances"]["web"]["state"] == "ok")


def test_a_request_that_takes_too_long_makes_its_worker_stuck_unless_it_may(tmp_path: Path) -> None:
    with running(tmp_path) as gunicorn:
        instances = web(gunicorn, 1), ("stream", gunicorn.boards, gunicorn.socket, 0)
        with status(tmp_path, *instances) as service:
            thread = threading.Thread(target=gunicorn.get, args=("/wait/long",))
            thread.start()

            def states() -> list[list[str]]:
                return [sorted(w["state"] for w in it["workers"]) for it in told(service)["instances"].values()]

            assert eventually(lambda: states() == [["idle", "stuck"], ["busy", "idle"]])
            gunicorn.let_go()
            thread.join()


def test_workers_that_load_the_app_are_starting_for_as_long_as_they_may(tmp_path: Path) -> None:
    """An app that takes its time must not be an alert at each deployment."""
    with running(tmp_path) as gunicorn, status(tmp_path, web(gunicorn), silent=3, starting=10) as service:
        (tmp_path / "app.py").write_text("import time\ntime.sleep(600)\n")
        gunicorn.process.send_signal(signal.SIGHUP)

        def all_are(state: str, since: float) -> Any:
            it = told(service)["instances"]["web"]
            return [worker["state"] for worker in it["workers"] if worker["age"] > since] == [state] * 2 and it

        it = eventually(lambda: all_are("starting", since=3.2))
        assert (it["state"], it["counts"]["stuck"]) == ("starting", 0)
        assert min(worker["heartbeat_age"] for worker in it["workers"]) > 3
        assert metrics(service)["gunicorn_workers", "starting"] == 2
        assert eventually(lambda: all_are("stuck", since=10))["state"] == "stuck"
        for worker in gunicorn.board().workers:
            os.kill(worker.pid, signal.SIGKILL)


def test_a_killed_worker_is_told(tmp_path: Path) -> None:
    with running(tmp_path) as gunicorn, status(tmp_path, web(gunicorn)) as service:
        os.kill(gunicorn.board().workers[0].pid, signal.SIGKILL)

        assert eventually(lambda: told(service)["instances"]["web"]["restarts"]["killed"] == 1)
        assert metrics(service)["gunicorn_worker_exits_total", "killed"] == 1


def test_one_that_does_not_run_does_not_hide_the_others(tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "master").write_bytes(bytes(512))
    away, unreadable = ("away", tmp_path / "none", tmp_path / "none.sock", 0), ("odd", odd, tmp_path / "odd.sock", 0)
    with running(tmp_path) as gunicorn, status(tmp_path, web(gunicorn), away, unreadable) as service:
        instances = told(service)["instances"]

        assert {name: it["state"] for name, it in instances.items()} == {"web": "ok", "away": "down", "odd": "unknown"}
        assert "no scoreboard of this version" in instances["odd"]["reason"]
        assert instances["away"]["backlog"] is None
        _, body = ask(service, "/metrics")
        assert b'gunicorn_up{service="away"} 0.0' in body


def test_a_master_that_is_not_heard_of_is_silent(tmp_path: Path) -> None:
    with running(tmp_path) as gunicorn, status(tmp_path, web(gunicorn), silent=3) as service:
        os.kill(gunicorn.process.pid, signal.SIGSTOP)
        try:
            assert eventually(lambda: told(service)["instances"]["web"]["state"] == "silent")
        finally:
            os.kill(gunicorn.process.pid, signal.SIGCONT)
        assert eventually(lambda: told(service)["instances"]["web"]["state"] == "ok")


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [("GET", "/", 404), ("GET", "/status/x", 404), ("POST", "/status", 405), ("DELETE", "/metrics", 405)],
)
def test_nothing_else_is_answered(tmp_path: Path, method: str, target: str, expected: int) -> None:
    with status(tmp_path, ("away", tmp_path / "none", tmp_path / "none.sock", 0)) as service:
        response, body = ask(service, target, method)

        assert (response.status, json.loads(body)["status"]) == (expected, expected)
        assert response.headers["Content-Type"] == "application/problem+json"
        assert ask(service, "/status", "HEAD")[1] == b""


def test_it_says_what_it_needs_when_systemd_passed_no_socket() -> None:
    command = [
        sys.executable,
        "-B",
        str(SERVICE),
        "--silent",
        "10",
        "--starting",
        "60",
        "--instance",
        "a",
        "b",
        "c",
        "0",
    ]
    environment = os.environ | {"PYTHONPATH": str(HOOKS.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "gunicorn-status.socket" in done.stderr) == (1, True)


# --- what is shipped for Prometheus -----------------------------------------------------------------------------------


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *arguments], cwd=EXAMPLES, capture_output=True, text=True, check=False)


def test_the_example_for_prometheus_is_what_promtool_takes() -> None:
    done = promtool("check", "config", "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_alerts_are_raised_when_they_should_be_and_not_before() -> None:
    done = promtool("test", "rules", "alerts.test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_alerts_ask_for_what_the_service_tells(tmp_path: Path) -> None:
    rules = yaml.safe_load((EXAMPLES / "alerts.yml").read_text())["groups"][0]["rules"]
    asked = {name for rule in rules for name in re.findall(r"\bgunicorn_[a-z_]+", rule["expr"])}
    with running(tmp_path) as gunicorn, status(tmp_path, web(gunicorn)) as service:
        known = {name for name, *_ in metrics(service)}
    assert asked
    assert asked - known == set()
