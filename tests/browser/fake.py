"""A FAKE of the job and stream resources, in front of the real service: they are not written yet.

It speaks the contract as far as the explorer uses it, keeps jobs in memory, and calculates when asked for the result.
With ``--base-url`` the tests run against the real ones, and this file has nothing to do with it.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from flask import Flask, Response, request
from flask_sock import Sock
from simple_websocket import Server
from werkzeug.exceptions import NotFound

from fibonacci import decimal_text, digits
from web import create_app, problems
from web.parameters import natural

JOBS, STREAM, FIBONACCI = "/api/v1/jobs", "/api/v1/stream", "/api/v1/fibonacci"
LARGEST = 200_000_000
INLINE = 10_000_000
BATCH_BYTES = 65_536

# Indexes from here on take until they are cancelled; below, a moment.
ENDLESS = 100_000_000
MOMENT = 1.0


@dataclass
class Job:
    """A job that calculates nothing: it lets time pass."""

    start: int
    count: int
    submitted: float = field(default_factory=time.time)
    started: float | None = None
    cancelled: float | None = None

    @property
    def id(self) -> str:
        return f"{self.start}-{self.count}"

    @property
    def progress(self) -> float:
        if self.started is None:
            return 0.0
        passed = time.time() - self.started
        return min(passed / (600 if self.start >= ENDLESS else MOMENT), 1.0)

    @property
    def state(self) -> str:
        if self.cancelled:
            return "cancelled"
        if self.started is None:
            return "queued"
        return "done" if self.progress >= 1 else "running"

    def document(self, position: int | None) -> dict[str, Any]:
        state = self.state
        links = {"self": f"{JOBS}/{self.id}"}
        if state == "done":
            links["result"] = f"{JOBS}/{self.id}/result"
        return {
            "id": self.id,
            "state": state,
            "start": self.start,
            "count": self.count,
            "progress": self.progress,
            "position": position if state == "queued" else None,
            "submitted": stamp(self.submitted),
            "started": stamp(self.started),
            "finished": stamp(self.started + MOMENT) if self.started and state == "done" else stamp(self.cancelled),
            "error": None,
            "links": links,
        }


class Queue:
    """All jobs; one runs at a time."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}

    def add(self, start: int, count: int) -> Job:
        job = self.jobs.setdefault(f"{start}-{count}", Job(start, count))
        if job.cancelled:
            job = self.jobs[job.id] = Job(start, count)
        self.advance()
        return job

    def get(self, name: str) -> Job:
        self.advance()
        if name not in self.jobs:
            raise NotFound("There is no such job.")
        return self.jobs[name]

    def advance(self) -> None:
        if not any(job.state == "running" for job in self.jobs.values()):
            for job in self.jobs.values():
                if job.state == "queued":
                    job.started = time.time()
                    break

    def document(self, job: Job) -> dict[str, Any]:
        waiting = [other.id for other in self.jobs.values() if other.state == "queued"]
        return job.document(waiting.index(job.id) + 1 if job.id in waiting else None)


def stamp(when: float | None) -> str | None:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if when else None


def terms(start: int, count: int) -> list[str]:
    return b"".join(decimal_text(start, count, b",")).decode().split(",")


def answer(document: object, status: int = 200, **headers: str) -> Response:
    body = json.dumps(document, separators=(",", ":"))
    return Response(body, status, {"Cache-Control": "no-store", **headers}, content_type="application/json")


def number(name: str, value: object, minimum: int, maximum: int) -> int:
    return natural(name, [str(value)], minimum, maximum)


def fake() -> Flask:
    app = Flask("fake", static_folder=None)
    problems.register(app)
    sock = Sock(app)
    queue = Queue()

    def accepted(job: Job) -> Response:
        headers = {"Location": f"{JOBS}/{job.id}", "Retry-After": "1"}
        return answer(queue.document(job), 202, **headers)

    @app.post(JOBS)
    def order() -> Response:
        body = request.get_json()
        if "n" in body:
            return accepted(queue.add(number("n", body["n"], 0, LARGEST), 1))
        start = number("start", body.get("start"), 0, LARGEST)
        return accepted(queue.add(start, number("count", body.get("count"), 1, 1_000_000)))

    @app.get(JOBS)
    def jobs() -> Response:
        queue.advance()
        page, per_page = int(request.args.get("page", 1)), int(request.args.get("per_page", 20))
        wanted = request.args.get("state")
        found = [job for job in reversed(queue.jobs.values()) if wanted in (None, job.state)]
        shown = found[(page - 1) * per_page : page * per_page]
        documents = [queue.document(job) for job in shown]
        numbers = {"page": page, "per_page": per_page, "total": len(found)}
        return answer({**numbers, "jobs": documents, "links": {"self": request.full_path}})

    @app.delete(JOBS)
    def remove_all() -> Response:
        gone = [name for name, job in queue.jobs.items() if job.state == request.args["state"]]
        for name in gone:
            del queue.jobs[name]
        return answer({"removed": len(gone)})

    @app.get(f"{JOBS}/<name>")
    def job(name: str) -> Response:
        return answer(queue.document(queue.get(name)))

    @app.delete(f"{JOBS}/<name>")
    def end(name: str) -> Response:
        job = queue.get(name)
        if job.state in ("queued", "running"):
            job.cancelled = time.time()
            return answer(queue.document(job))
        del queue.jobs[name]
        return Response(status=204)

    @app.get(f"{JOBS}/<name>/result")
    def result(name: str) -> Response:
        job = queue.get(name)
        per_page = number("per_page", request.args.get("per_page", 100), 1, 1000)
        pages = -(-job.count // per_page)
        page = number("page", request.args.get("page", 1), 1, pages)
        first = (page - 1) * per_page
        count = min(per_page, job.count - first)
        path = f"{JOBS}/{name}/result?per_page={per_page}&page="
        links = {"self": f"{path}{page}"} | ({"next": f"{path}{page + 1}"} if page < pages else {})
        links |= {"prev": f"{path}{page - 1}"} if page > 1 else {}
        numbers = {"page": page, "per_page": per_page, "start": job.start + first, "count": count}
        return answer({**numbers, "terms": terms(job.start + first, count), "links": links})

    @app.get(f"{FIBONACCI}/<n>")
    def term(n: str) -> Response:
        index = number("n", n, 0, LARGEST)
        job = queue.add(index, 1)
        if job.state != "done":
            return accepted(job)
        (value,) = terms(index, 1)
        return answer({"n": index, "digits": len(value), "value": value})

    @sock.route(STREAM)
    def stream(socket: Server) -> None:
        start = int(request.args["start"])
        stop = start + int(request.args["count"]) if "count" in request.args else None
        while stop is None or start < stop:
            count = max(BATCH_BYTES // digits(start + 1000), 1)
            if stop is not None:
                count = min(count, stop - start)
            socket.send(json.dumps({"start": start, "terms": terms(start, count)}, separators=(",", ":")))
            start += count
        socket.send(json.dumps({"done": True, "next": start}))

    return app


def application() -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
    """Return the real service, with the fake resources in the place of those to come."""
    real, pretended = create_app(), fake()

    def choose(environ: dict[str, Any], start_response: Any) -> Iterator[bytes] | Iterable[bytes]:
        path = environ["PATH_INFO"]
        index = path.removeprefix(f"{FIBONACCI}/")
        above = index.isdigit() and INLINE < int(index) <= LARGEST
        app = pretended if above or path.startswith((JOBS, STREAM)) else real
        return app(environ, start_response)

    return choose
