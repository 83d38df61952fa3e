# Managed by Salt, formula gunicorn_status.
"""What the gunicorns of this host do, over HTTP on a unix socket: /status as JSON, /metrics as Prometheus reads it.

It reads their scoreboards (gunicorn_scoreboard.py beside it) anew for each question, and keeps nothing. One that cannot
be read is told of with the reason, and does not hide the others.
"""

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import wsgiref.simple_server

import gunicorn_scoreboard as scoreboard
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

# What systemd passes is the first file after those that every process has.
PASSED = 3
# Seconds that a client may be silent, and that ss may take.
PATIENCE = 5
STATES = ("idle", "busy", "starting", "stuck")
CAUSES = ("killed", "timed_out", "replaced")


@dataclasses.dataclass(frozen=True)
class Instance:
    """One gunicorn: where its scoreboard is and where it listens, and how long a request of its may take (0: ever)."""

    name: str
    folder: str
    socket: str
    request: int


@dataclasses.dataclass(frozen=True)
class Limits:
    """After how many seconds a worker is stuck that is not heard of, or that is still starting."""

    silent: int
    starting: int


# --- what is told -----------------------------------------------------------------------------------------------------


def document(instances, limits):
    """Return all that is known, as /status tells it."""
    queues = backlogs()
    now = datetime.datetime.now(datetime.timezone.utc)  # noqa: UP017  Debian 12's name too
    return {
        "host": socket.gethostname(),
        "time": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "instances": {it.name: told(it, limits) | {"backlog": queues.get(it.socket)} for it in instances},
    }


def told(instance, limits):
    """Return what the scoreboard of *instance* says, or why it says nothing."""
    try:
        board = scoreboard.read(instance.folder)
    except FileNotFoundError:
        return {"state": "down", "reason": "there is no scoreboard: it does not run"}
    except (OSError, ValueError, scoreboard.TornError) as error:
        return {"state": "unknown", "reason": f"the scoreboard cannot be read: {error!r}"}
    workers = [worker_told(worker, instance.request, limits) for worker in board.workers]
    counts = {state: sum(worker["state"] == state for worker in workers) for state in STATES}
    if board.beat_age > limits.silent:
        state, reason = "silent", f"its master has not been heard of for {board.beat_age:.0f} s"
    elif not counts["idle"] + counts["busy"] and counts["starting"]:
        state, reason = "starting", "no worker is there yet"
    elif not counts["idle"] + counts["busy"]:
        state, reason = "stuck", "no worker is idle or busy"
    else:
        state, reason = "ok", ""
    return {
        "state": state,
        "reason": reason,
        "master": {"pid": board.pid, "uptime": seconds(board.uptime), "reloads": board.reloads},
        "requests": board.requests,
        "errors": board.errors,
        "dropped": board.dropped,
        "lost": board.lost,
        "restarts": {cause: getattr(board, cause) for cause in CAUSES},
        "scaling": {
            "workers": board.target,
            "minimum": board.minimum,
            "maximum": board.maximum,
            "busy_ratio": round(board.busy, 3),
            "changes": board.changes,
            "last_change": last_change(board),
        },
        "counts": counts,
        "workers": workers,
    }


def last_change(board):
    if not board.changes:
        return None
    return {
        "age": seconds(board.changed_age),
        "from": board.changed_from,
        "to": board.changed_to,
        "why": board.why,
    }


def worker_told(worker, request, limits):
    oldest = worker.current[0].age if worker.current else 0.0
    if worker.starting:
        # It says nothing until the app is loaded.
        state = "stuck" if worker.age > limits.starting else "starting"
    elif worker.heartbeat_age > limits.silent or (request and oldest > request):
        state = "stuck"
    else:
        state = "busy" if worker.current else "idle"
    return {
        "pid": worker.pid,
        "state": state,
        "age": seconds(worker.age),
        "heartbeat_age": seconds(worker.heartbeat_age),
        "memory": worker.memory,
        "threads": worker.threads,
        "requests": worker.requests,
        "errors": worker.errors,
        "dropped": worker.dropped,
        "current": [dataclasses.asdict(each) | {"age": seconds(each.age)} for each in worker.current],
    }


def seconds(value):
    return round(value, 3)


def backlogs():
    """Return what waits to be accepted at each unix socket, and how much may; empty where the kernel does not say."""
    command = ["ss", "--no-header", "--unix", "--listening", "--numeric"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout
    except (OSError, subprocess.SubprocessError) as error:
        print(f"lengths of queues are not known: {error!r}", file=sys.stderr, flush=True)
        return {}
    found = {}
    for line in listed.splitlines():
        _, _, waiting, limit, path, *_ = line.split()
        # Without its diagnostics (a module) the kernel tells of sockets only, and ss says 0 of 0.
        if limit != "0":
            found[path] = {"waiting": int(waiting), "limit": int(limit)}
    return found


# --- for Prometheus ---------------------------------------------------------------------------------------------------


class Metrics:
    """The same in families; by instance and not by worker, as each pid would be a series of its own for ever."""

    def __init__(self, told):
        self.told = told

    def collect(self):
        every = self.told["instances"]
        known = {name: it for name, it in every.items() if "counts" in it}
        yield gauge("up", "Whether it does its work", {name: it["state"] == "ok" for name, it in every.items()})
        yield gauge("master_uptime_seconds", "Since its master began", each(known, "master", "uptime"))
        yield counter("reloads", "Reloads", each(known, "master", "reloads"))
        yield counter("requests", "Requests that have ended", each(known, "requests"))
        yield counter("errors", "Requests that the app failed", each(known, "errors"))
        yield counter("readers_dropped", "Readers that did not keep up, and were let go", each(known, "dropped"))
        yield counter("requests_lost", "Requests that ended with their worker", each(known, "lost"))
        family = CounterMetricFamily("gunicorn_worker_exits", "Workers that ended", labels=["service", "cause"])
        for name, it in known.items():
            for cause, number in it["restarts"].items():
                family.add_metric([name, cause], number)
        yield family
        family = GaugeMetricFamily("gunicorn_workers", "Workers by what they do", labels=["service", "state"])
        for name, it in known.items():
            for state, number in it["counts"].items():
                family.add_metric([name, state], number)
        yield family
        yield gauge("workers_wanted", "Workers that there are to be now", each(known, "scaling", "workers"))
        yield gauge("workers_minimum", "Workers that there are always", each(known, "scaling", "minimum"))
        yield gauge("workers_maximum", "Workers at the most", each(known, "scaling", "maximum"))
        yield counter("scaling_changes", "Changes of the number of workers", each(known, "scaling", "changes"))
        yield gauge("busy_ratio", "Share of its threads that handle a request", each(known, "scaling", "busy_ratio"))
        ages = {
            name: [one["age"] for worker in it["workers"] for one in worker["current"]] for name, it in known.items()
        }
        yield gauge("requests_current", "Requests being handled", {name: len(all_) for name, all_ in ages.items()})
        oldest = {name: max(all_, default=0) for name, all_ in ages.items()}
        yield gauge("oldest_request_seconds", "Age of the oldest of them", oldest)
        memory = {name: sum(worker["memory"] for worker in it["workers"]) for name, it in known.items()}
        yield gauge("workers_memory_bytes", "Memory of its workers, shared pages in each", memory)
        queued = {name: it for name, it in every.items() if it["backlog"]}
        yield gauge("backlog", "Connections that wait to be accepted", each(queued, "backlog", "waiting"))
        yield gauge("backlog_limit", "How many may", each(queued, "backlog", "limit"))


def each(instances, *path):
    found = {}
    for name, value in instances.items():
        for key in path:
            value = value[key]
        found[name] = value
    return found


def gauge(name, about, values):
    return filled(GaugeMetricFamily(f"gunicorn_{name}", about, labels=["service"]), values)


def counter(name, about, values):
    return filled(CounterMetricFamily(f"gunicorn_{name}", about, labels=["service"]), values)


def filled(family, values):
    for name, value in values.items():
        family.add_metric([name], float(value))
    return family


# --- over HTTP --------------------------------------------------------------------------------------------------------


def make_app(instances, limits):
    """Return the WSGI callable."""
    pages = {
        "/status": lambda told: ("application/json", json.dumps(told, indent=2).encode() + b"\n"),
        "/metrics": lambda told: (CONTENT_TYPE_LATEST, generate_latest(Metrics(told))),
    }

    def app(environ, start_response):
        page = pages.get(environ["PATH_INFO"])
        if page is None:
            return problem(start_response, "404 Not Found", f"Here are {' and '.join(pages)}.")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return problem(start_response, "405 Method Not Allowed", "This can only be read.", ("Allow", "GET, HEAD"))
        kind, body = page(document(instances, limits))
        start_response("200 OK", headers(kind, body))
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    return app


def headers(kind, body):
    return [("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]


def problem(start_response, status, detail, *more):
    number, _, title = status.partition(" ")
    told = {"type": "about:blank", "title": title, "status": int(number), "detail": detail}
    body = json.dumps(told).encode() + b"\n"
    start_response(status, headers("application/problem+json", body) + list(more))
    return [body]


class Handler(wsgiref.simple_server.WSGIRequestHandler):
    timeout = PATIENCE

    def log_request(self, *_):
        """Say nothing: nginx would log it."""


class Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    """On a unix socket that somebody else has made."""

    # Of the socket that is made and closed before: the sandbox allows no other.
    address_family = socket.AF_UNIX
    daemon_threads = True

    def __init__(self, listener, app):
        super().__init__(("", 0), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = "localhost", 0
        self.setup_environ()
        self.set_app(app)

    def get_request(self):
        connection, _ = self.socket.accept()
        return connection, ("nginx", 0)

    def handle_error(self, request, client_address):
        # A client that is gone or silent is no failure.
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def passed_socket():
    """Return the socket that systemd listens on for us."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        sys.exit("gunicorn_status: systemd has passed no socket; start gunicorn-status.socket, or give --listen")
    return socket.socket(fileno=PASSED)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instance", nargs=4, action="append", required=True, metavar=("NAME", "BOARD", "SOCKET", "S"))
    parser.add_argument("--silent", type=int, required=True, metavar="SECONDS", help="after which a worker is stuck")
    parser.add_argument("--starting", type=int, required=True, metavar="SECONDS", help="likewise, while it starts")
    parser.add_argument("--listen", metavar="SOCKET", help="instead of the socket that systemd passes")
    arguments = parser.parse_args()
    limits = Limits(arguments.silent, arguments.starting)
    instances = [Instance(name, folder, path, int(limit)) for name, folder, path, limit in arguments.instance]
    if arguments.listen:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(arguments.listen)
        listener.listen()
    else:
        listener = passed_socket()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.suppress(KeyboardInterrupt), Server(listener, make_app(instances, limits)) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
