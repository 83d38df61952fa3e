"""Jobs with a real Redis and real Celery workers: calculated once, never lost, never stuck, whatever dies."""

import gzip
import itertools
import json
import os
import signal
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from service import RedisServer, Worker, problem, until
from web import chunks, create_app, queue
from web.jobstore import PREFIX, Jobs, LostError, UnavailableError
from web.queue import KEY_PREFIX
from web.settings import Settings

JOBS = "/api/v1/jobs"
GZIP = {"Accept-Encoding": "gzip"}

# Short leases: what is lost is found within seconds.
SETTINGS = {"inline_limit": 10_000, "job_lease": 1.0}

# Half a minute at the least on any machine: to be met while it runs.
ENDLESS = {"n": 200_000_000}
# A second or two.
LONG = {"n": 15_000_000}


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    return redis_server


@pytest.fixture
def service(make_client: Callable[..., FlaskClient], server: RedisServer) -> FlaskClient:
    return make_client(redis_url=server.url, redis_timeout=5.0, redis_pause=0.1, **SETTINGS)


@pytest.fixture
def start_worker(tmp_path: Path, server: RedisServer) -> Iterator[Callable[..., Worker]]:
    """Return a function that starts a worker, with settings besides those of the service."""
    workers: list[Worker] = []

    def start(*options: str, **settings: Any) -> Worker:
        log = tmp_path / f"worker{len(workers)}.log"
        worker = Worker(log, server.url, SETTINGS | settings, "--concurrency", "2", *options)
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        worker.kill()


def submit(client: FlaskClient, body: object) -> dict[str, Any]:
    response = client.post(JOBS, json=body)
    assert response.status_code == 202
    assert response.headers["Cache-Control"] == "no-store"
    document: dict[str, Any] = response.json
    assert response.headers["Location"] == document["links"]["self"]
    assert int(response.headers["Retry-After"]) >= 1
    return document


def ended(client: FlaskClient, job: dict[str, Any], deadline: float = 120) -> dict[str, Any]:
    """Return the job when it has ended; until then its progress is checked to be honest."""
    progress = 0.0

    def look() -> dict[str, Any] | None:
        document: dict[str, Any] = client.get(job["links"]["self"]).json
        nonlocal progress
        if document["state"] == "running":
            assert document["progress"] < 1
            progress = document["progress"]
        return document if document["state"] in ("done", "failed", "cancelled") else None

    found: dict[str, Any] = until(look, deadline)
    return found


def running(client: FlaskClient, job: dict[str, Any]) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        document: dict[str, Any] = client.get(job["links"]["self"]).json
        return document if document["state"] == "running" else None

    found: dict[str, Any] = until(look)
    return found


def nothing_is_stuck(server: RedisServer) -> None:
    """Check that no trace of work under way is left."""
    until(lambda: not server.client.zcard(f"{PREFIX}:queued") and not server.client.zcard(f"{PREFIX}:running"))
    until(lambda: not list(server.client.scan_iter(f"{PREFIX}:result:*:*")))


# --- what clients see ---------------------------------------------------------------------------------------------


def test_term_above_the_inline_limit_is_promised_and_then_there(
    service: FlaskClient, make_client: Callable[..., FlaskClient], start_worker: Callable[..., Worker]
) -> None:
    first = service.get("/api/v1/fibonacci/300000", headers=GZIP)
    assert first.status_code == 202
    assert first.headers["Location"] == f"{JOBS}/300000-1"
    names = [name for name, _ in first.headers]
    assert first.headers["X-Accel-Expires"] == "1"
    assert names.index("X-Accel-Expires") < names.index("Cache-Control")  # or nginx passes it over
    assert (first.json["state"], first.json["position"]) == ("queued", 1)
    start_worker()
    assert ended(service, first.json)["progress"] == 1
    later = service.get("/api/v1/fibonacci/300000", headers=GZIP)
    inline = make_client().get("/api/v1/fibonacci/300000", headers=GZIP)
    assert later.status_code == 200
    assert (later.data, later.headers["ETag"]) == (inline.data, inline.headers["ETag"])
    assert "immutable" in later.headers["Cache-Control"]
    assert service.get("/api/v1/fibonacci/300000").data == gzip.decompress(inline.data)
    assert service.head("/api/v1/fibonacci/300000").status_code == 200


def test_page_above_the_inline_limit_is_promised_and_then_there(
    service: FlaskClient, make_client: Callable[..., FlaskClient], start_worker: Callable[..., Worker]
) -> None:
    url = "/api/v1/fibonacci?page=150&per_page=70"
    start_worker()
    assert ended(service, service.get(url).json)["state"] == "done"
    assert service.get(url, headers=GZIP).data == make_client().get(url, headers=GZIP).data


def test_result_is_read_in_pages(
    service: FlaskClient, client: FlaskClient, start_worker: Callable[..., Worker]
) -> None:
    start_worker()
    job = ended(service, submit(service, {"start": 9_990, "count": 25}))
    url, terms = job["links"]["result"] + "?page=1&per_page=10", []
    while url:
        page = service.get(url, headers=GZIP)
        document = json.loads(gzip.decompress(page.data))
        assert document["start"] == 9_990 + len(terms)
        assert document["count"] == len(document["terms"])
        assert document["links"]["self"] == url
        assert f'<{url}>; rel="self"' in page.headers["Link"]
        terms += document["terms"]
        url = document["links"].get("next")
    assert terms == [client.get(f"/api/v1/fibonacci/{n}").json["value"] for n in range(9_990, 10_015)]
    assert problem(service.get(job["links"]["result"] + "?page=4&per_page=10"))["maximum"] == 3


def test_shorter_request_is_served_from_a_longer_result(
    service: FlaskClient, client: FlaskClient, start_worker: Callable[..., Worker], server: RedisServer
) -> None:
    worker = start_worker()
    ended(service, submit(service, {"start": 10_001, "count": 1_000}))
    for url in ("/api/v1/fibonacci/10500", "/api/v1/fibonacci?page=106&per_page=100"):
        assert service.get(url, headers=GZIP).data == client.get(url, headers=GZIP).data
    until(lambda: worker.calculated() == ["10001-1000"])
    assert server.client.zcard(f"{PREFIX}:all") == 1


def test_many_who_ask_for_the_same_are_one_job_and_get_the_same_bytes(
    service: FlaskClient, start_worker: Callable[..., Worker]
) -> None:
    workers = [start_worker(), start_worker()]
    answers: list[bytes] = []

    def ask(number: int) -> None:
        client = service.application.test_client()
        if number % 3 == 0:
            client.post(JOBS, json={"n": 3_000_000})
        elif number % 3 == 1:
            client.post(JOBS, json={"start": 3_000_000, "count": 1})

        def there() -> TestResponse | None:
            response = client.get("/api/v1/fibonacci/3000000", headers=GZIP)
            assert response.status_code in (200, 202)
            return response if response.status_code == 200 else None

        answers.append(until(there).data)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 50
    assert len(set(answers)) == 1
    until(lambda: [id for worker in workers for id in worker.calculated()] == ["3000000-1"])


def test_jobs_are_listed_newest_first_and_by_state(service: FlaskClient) -> None:
    ids = [submit(service, {"n": n})["id"] for n in range(7)]
    listing = service.get(f"{JOBS}?per_page=3").json
    assert [job["id"] for job in listing["jobs"]] == ids[::-1][:3]
    assert listing["total"] == 7
    assert listing["links"]["next"] == f"{JOBS}?page=2&per_page=3"
    queued = service.get(f"{JOBS}?state=queued&per_page=100").json
    assert [(job["id"], job["position"]) for job in queued["jobs"]] == list(zip(ids, range(1, 8), strict=True))
    assert service.get(f"{JOBS}?state=failed").json["jobs"] == []


def test_short_jobs_go_before_long_ones(
    make_client: Callable[..., FlaskClient], server: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    service = make_client(redis_url=server.url, short_job_max_index=100_000)
    long = [submit(service, {"n": n}) for n in (1_000_000, 1_000_001, 1_000_002)]
    short = submit(service, {"n": 20_000})
    assert short["position"] == 1
    assert service.get(long[0]["links"]["self"]).json["position"] == 2
    worker = start_worker("--concurrency", "1")
    until(lambda: len(worker.calculated()) == 4)
    assert worker.calculated() == [job["id"] for job in [short, *long]]


def test_backlog_is_bounded(make_client: Callable[..., FlaskClient], server: RedisServer) -> None:
    client = make_client(redis_url=server.url, job_backlog=2, inline_limit=10_000)
    for n in (1, 2):
        submit(client, {"n": n})
    for refused in (client.post(JOBS, json={"n": 3}), client.get("/api/v1/fibonacci/10001")):
        assert "jobs wait" in problem(refused, 503)["detail"]
        assert int(refused.headers["Retry-After"]) >= 1
    assert submit(client, {"n": 2})["position"] == 2  # what waits already may be asked for


@pytest.mark.parametrize(
    ("body", "parameter", "bounds"),
    [
        ({"n": -1}, "n", (0, 200_000_000)),
        ({"n": 200_000_001}, "n", (0, 200_000_000)),
        ({"n": 10**100}, "n", (0, 200_000_000)),
        ({"n": 1.5}, "n", (0, 200_000_000)),
        ({"n": 1.0}, "n", (0, 200_000_000)),
        ({"n": "1"}, "n", (0, 200_000_000)),
        ({"n": True}, "n", (0, 200_000_000)),
        ({"n": None}, "n", (0, 200_000_000)),
        ({"n": [1]}, "n", (0, 200_000_000)),
        ({"n": 1, "count": 1}, "count", None),
        ({"n": 1, "colour": "red"}, "colour", None),
        ({"start": 1}, "count", None),
        ({"count": 1}, "start", None),
        ({}, "start", None),
        ({"start": -1, "count": 1}, "start", (0, 200_000_000)),
        ({"start": 0, "count": 0}, "count", (1, 25_327)),
        ({"start": 0, "count": 25_328}, "count", (1, 25_327)),
        ({"start": 200_000_000, "count": 2}, "count", (1, 1)),
    ],
)
def test_wrong_job_is_refused_with_the_member_and_its_bounds(
    service: FlaskClient, body: object, parameter: str, bounds: tuple[int, int] | None
) -> None:
    document = problem(service.post(JOBS, json=body))
    assert document["parameter"] == parameter
    assert (document["minimum"], document["maximum"]) == bounds if bounds else "minimum" not in document
    assert service.get(JOBS).json["total"] == 0


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b'{"n": 1, "n": 2}', "application/json", 400),
        (b"[1]", "application/json", 400),
        (b"1", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 1_000, "application/json", 400),
        (b'{"n": NaN}', "application/json", 400),
        (b'{"n": 1}', "text/plain", 415),
        (b'{"n": 1}', None, 415),
        (b'{"n": 1' + b" " * 1_024 + b"}", "application/json", 413),
    ],
)
def test_body_that_is_no_job_is_refused(service: FlaskClient, body: bytes, kind: str | None, status: int) -> None:
    problem(service.post(JOBS, data=body, content_type=kind), status)


@pytest.mark.parametrize("id", ["x", "1", "1-0", "01-1", "-1-1", "1-1-1", "9-9", "99999999999-1", "all", "queued"])
@pytest.mark.parametrize("suffix", ["", "/result"])
def test_job_that_is_not_there_is_not_found(service: FlaskClient, id: str, suffix: str) -> None:
    problem(service.get(f"{JOBS}/{id}{suffix}"), 404)
    if not suffix:
        problem(service.delete(f"{JOBS}/{id}"), 404)


@pytest.mark.parametrize("query", ["state=odd", "state=done&state=done", "page=0", "per_page=101", "x=1", "state="])
def test_listing_refuses_wrong_arguments(service: FlaskClient, query: str) -> None:
    assert problem(service.get(f"{JOBS}?{query}"))["parameter"] == query.partition("=")[0]


@pytest.mark.parametrize("query", ["", "state=queued", "state=running", "state=odd"])
def test_removal_of_all_has_to_name_a_state_that_has_ended(service: FlaskClient, query: str) -> None:
    submit(service, {"n": 1})
    assert problem(service.delete(f"{JOBS}?{query}"))["parameter"] == "state"
    assert service.get(JOBS).json["total"] == 1


def test_service_without_redis_has_no_jobs(client: FlaskClient) -> None:
    problem(client.post(JOBS, json={"n": 1}), 503)
    problem(client.get(f"{JOBS}/1-1"), 503)
    assert problem(client.get("/api/v1/fibonacci/10000001"))["maximum"] == 10_000_000


# --- what befalls them --------------------------------------------------------------------------------------------


def test_queued_job_is_cancelled_and_may_be_asked_for_again(
    service: FlaskClient, start_worker: Callable[..., Worker], server: RedisServer
) -> None:
    job = submit(service, {"n": 30_000})
    assert service.delete(job["links"]["self"]).json["state"] == "cancelled"
    worker = start_worker()
    until(lambda: [line for line in worker.log() if line["message"] == "message of a job that is not to be taken"])
    assert service.get(job["links"]["self"]).json["state"] == "cancelled"
    assert ended(service, submit(service, {"n": 30_000}))["state"] == "done"
    nothing_is_stuck(server)


def test_running_job_is_cancelled_and_its_process_ends(
    service: FlaskClient, start_worker: Callable[..., Worker], server: RedisServer
) -> None:
    worker = start_worker("--concurrency", "1")
    job = running(service, submit(service, ENDLESS))
    before = worker.children()
    assert service.delete(job["links"]["self"]).json["state"] == "cancelled"
    until(lambda: set(worker.children()).isdisjoint(before))
    assert ended(service, submit(service, {"n": 30_000}))["state"] == "done"
    assert service.get(job["links"]["self"]).json["state"] == "cancelled"
    assert service.delete(job["links"]["self"]).status_code == 204
    problem(service.get(job["links"]["self"]), 404)
    nothing_is_stuck(server)


def test_job_whose_process_is_killed_ends_right(
    service: FlaskClient, client: FlaskClient, start_worker: Callable[..., Worker], server: RedisServer
) -> None:
    worker = start_worker()
    job = running(service, submit(service, LONG))
    for pid in worker.children():
        os.kill(pid, signal.SIGKILL)
    assert ended(service, job)["state"] == "done"
    assert service.get("/api/v1/fibonacci/15000000").json["digits"] == 3_134_815
    until(lambda: worker.calculated() == [job["id"]])
    nothing_is_stuck(server)


def test_job_whose_worker_is_killed_ends_right_on_another(
    service: FlaskClient, start_worker: Callable[..., Worker], server: RedisServer
) -> None:
    first = start_worker()
    # So long that it is killed before its end on a busy machine, too.
    job = running(service, submit(service, {"n": 2 * LONG["n"]}))
    first.kill()
    second = start_worker()
    assert ended(service, job)["state"] == "done"
    until(lambda: second.calculated() == [job["id"]])
    nothing_is_stuck(server)


def test_worker_that_is_told_to_stop_finishes_what_it_has_begun(
    service: FlaskClient, start_worker: Callable[..., Worker], server: RedisServer
) -> None:
    worker = start_worker()
    other = start_worker()
    job = running(service, submit(service, LONG))
    busy, idle = (worker, other) if _has_begun(worker) else (other, worker)
    busy.end()
    assert ended(service, job)["state"] == "done"
    until(lambda: (busy.calculated(), idle.calculated()) == ([job["id"]], []))
    nothing_is_stuck(server)


def _has_begun(worker: Worker) -> bool:
    return any(line["message"] == "job begun" for line in worker.log())


def test_processes_grow_with_the_backlog_to_their_bound_and_shrink_again(
    service: FlaskClient, start_worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOSCALE_KEEPALIVE", "2")
    jobs = [submit(service, {"start": 10_000 + number, "count": 3}) for number in range(200)]

    worker = start_worker("--autoscale=4,1")

    most = until(lambda: len(worker.children()) >= 4 and len(worker.children()))
    assert most == 4
    assert {ended(service, job)["state"] for job in jobs} == {"done"}
    until(lambda: len(worker.children()) == 1)
    # It goes on from there.
    assert ended(service, submit(service, {"start": 9_000, "count": 3}))["state"] == "done"
    assert sorted(worker.calculated()) == sorted(
        {job["id"] for job in [*jobs, submit(service, {"start": 9_000, "count": 3})]}
    )


def test_lost_message_is_sent_again(
    service: FlaskClient, start_worker: Callable[..., Worker], server: RedisServer
) -> None:
    job = submit(service, {"n": 30_000})
    keys = list(server.client.scan_iter(f"{KEY_PREFIX}*"))
    assert keys
    server.client.delete(*keys)
    start_worker()
    assert ended(service, job)["state"] == "done"
    nothing_is_stuck(server)


def test_job_that_kills_its_worker_each_time_fails_with_the_reason(
    service: FlaskClient, start_worker: Callable[..., Worker], server: RedisServer
) -> None:
    worker = start_worker(job_attempts=2)
    job = submit(service, ENDLESS)
    for _ in range(2):
        begun = running(service, job)["started"]
        for pid in worker.children():
            os.kill(pid, signal.SIGKILL)
        until(lambda begun=begun: _not_since(service, job, begun))
    failed = ended(service, job)
    assert (failed["state"], failed["error"]) == ("failed", "Its worker died, or lost what it had written, 2 times.")
    assert failed["error"] in problem(service.get("/api/v1/fibonacci/200000000"), 503)["detail"]
    nothing_is_stuck(server)


def _not_since(service: FlaskClient, job: dict[str, Any], begun: str) -> bool:
    """Tell whether *job* is no longer in the attempt that began at *begun*."""
    document = service.get(job["links"]["self"]).json
    return bool(document["state"] == "failed" or document["started"] not in (begun, None))


def test_job_that_takes_too_long_fails_is_kept_and_removed_in_bulk(
    service: FlaskClient, start_worker: Callable[..., Worker], server: RedisServer
) -> None:
    start_worker(job_time_limit=1)
    jobs = [submit(service, {"n": n}) for n in (190_000_000, 190_000_001)]
    for job in jobs:
        assert ended(service, job)["error"] == "It took longer than 1 seconds."
    assert service.get(f"{JOBS}?state=failed").json["total"] == 2
    assert service.delete(f"{JOBS}?state=failed").json == {"removed": 2}
    assert service.get(JOBS).json["total"] == 0
    nothing_is_stuck(server)


def test_ended_jobs_expire(service: FlaskClient, start_worker: Callable[..., Worker], server: RedisServer) -> None:
    start_worker(job_expiry=60)
    job = ended(service, submit(service, {"n": 30_000}))
    assert 0 < server.client.ttl(f"{PREFIX}:result:{job['id']}") <= 60
    # A minute is not waited for: the end is put back.
    server.client.zadd(f"{PREFIX}:done", {job["id"]: 0})
    until(lambda: service.get(job["links"]["self"]).status_code == 404)
    until(lambda: not list(server.client.scan_iter(f"{PREFIX}*")))


@pytest.mark.parametrize("damage", ["evicted", "cut", "flipped", "type"])
def test_result_that_is_lost_or_damaged_is_calculated_again(
    service: FlaskClient, start_worker: Callable[..., Worker], server: RedisServer, damage: str
) -> None:
    worker = start_worker()
    url, key = "/api/v1/fibonacci/300000", f"{PREFIX}:result:300000-1"
    ended(service, submit(service, {"n": 300_000}))
    right = service.get(url, headers=GZIP).data
    entry = server.client.lindex(key, 0)
    if damage == "flipped":
        server.client.lset(key, 0, entry[:-1] + bytes([entry[-1] ^ 1]))
    else:
        server.client.delete(key)
        if damage == "cut":
            server.client.rpush(key, entry[:-1])
        elif damage == "type":
            server.client.set(key, "no list")
    job = service.get(url, headers=GZIP)
    assert job.status_code == 202
    ended(service, job.json)
    assert service.get(url, headers=GZIP).data == right
    until(lambda: len(worker.calculated()) == 2)


def test_redis_that_is_emptied_leaves_nothing_stuck(
    service: FlaskClient, start_worker: Callable[..., Worker], server: RedisServer
) -> None:
    worker = start_worker("--concurrency", "1")
    job = running(service, submit(service, ENDLESS))
    before = worker.children()
    server.client.flushall()
    problem(service.get(job["links"]["self"]), 404)
    until(lambda: set(worker.children()).isdisjoint(before))
    assert ended(service, submit(service, {"n": 30_000}))["state"] == "done"
    nothing_is_stuck(server)


class TestWithPersistence:
    """Redis as it is on the hosts: what it has acknowledged survives its restart."""

    @pytest.fixture
    def server(self, redis_server: RedisServer) -> RedisServer:
        redis_server.client.config_set("appendonly", "yes")
        redis_server.client.config_set("appendfsync", "always")
        redis_server.options("--appendonly", "yes", "--appendfsync", "always")
        return redis_server

    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
    def test_job_ends_right_when_redis_is_restarted(
        self, service: FlaskClient, start_worker: Callable[..., Worker], server: RedisServer, how: int
    ) -> None:
        start_worker()
        job = running(service, submit(service, LONG))
        server.stop(how)
        response = service.post(JOBS, json={"n": 1})
        assert int(response.headers["Retry-After"]) >= 1
        problem(response, 503)
        assert service.get("/api/v1/fibonacci?page=3&per_page=1000", headers=GZIP).status_code == 200
        server.start()
        assert ended(service, job)["state"] == "done"
        assert service.get("/api/v1/fibonacci/15000000").json["digits"] == 3_134_815
        nothing_is_stuck(server)


def test_full_redis_refuses_jobs_clearly_and_finishes_them_when_there_is_room(
    service: FlaskClient, start_worker: Callable[..., Worker], server: RedisServer
) -> None:
    start_worker()
    server.client.config_set("maxmemory", 1)
    response = service.get("/api/v1/fibonacci/300000")
    problem(response, 503)
    assert "Retry-After" in response.headers
    server.client.config_set("maxmemory", 0)
    assert ended(service, service.get("/api/v1/fibonacci/300000").json)["state"] == "done"


# --- what is under our names, and answers that do not come ----------------------------------------------------------


@pytest.fixture
def store(service: FlaskClient, server: RedisServer) -> Jobs:
    """Return the jobs as a worker sees them; nobody is told of them."""
    return Jobs(Settings(redis_url=server.url, redis_timeout=5.0), lambda id, queue: None)


def finish(store: Jobs, id: str, token: str) -> None:
    """Do job *id* as a worker does."""
    found = store.claim(id, token)
    assert found
    stretches = list(chunks.calculated(*found))
    store.append(id, token, 0, stretches)
    store.done(id, token, len(stretches))


@pytest.fixture
def one_in_each_state(store: Jobs) -> None:
    for n in (300_000, 300_001, 300_002, 300_003):
        store.submit(n, 1)
    finish(store, "300000-1", "a")
    assert store.claim("300001-1", "b")
    store.delete("300003-1")


SETS = ("all", "queued", "running", "done", "failed", "cancelled", "results")
KEYS = (*SETS, "300000-1", "300001-1", "300002-1", "300003-1", "result:300000-1", "result:300001-1:b")
RUBBISH: dict[str, Callable[[redis.Redis, str], object]] = {
    "string": lambda client, key: client.set(key, b"\xff"),
    "list": lambda client, key: client.rpush(key, b"\xff"),
    "hash": lambda client, key: client.hset(key, b"\xff", b"\xff"),
    "zset": lambda client, key: client.zadd(key, {b"\xff": 0, "9-9": 0, "300002-1": 0, "300000-2": 300_000}),
}


def everything_works(client: FlaskClient, store: Jobs, right: bytes) -> None:
    """Check that nothing is an error, and that a job that is asked for comes to its end."""
    for path in ("", "?state=queued", "?state=done", "/300000-1", "/300001-1", "/300002-1", "/300000-1/result"):
        assert client.get(JOBS + path, headers=GZIP).status_code in (200, 202, 404)
    for _ in range(2):
        store.sweep()
    for state in ("done", "failed", "cancelled"):
        assert client.delete(f"{JOBS}?state={state}").status_code == 200
    for n in range(300_000, 300_005):
        job = submit(client, {"n": n})
        if job["state"] == "running":
            assert client.delete(job["links"]["self"]).json["state"] == "cancelled"
            job = submit(client, {"n": n})
        assert job["state"] == "queued"
        finish(store, job["id"], "c")
        assert client.get(job["links"]["self"]).json["state"] == "done"
    assert client.get("/api/v1/fibonacci/300000", headers=GZIP).data == right
    assert client.get(f"{JOBS}?state=queued").json["jobs"] == []
    assert client.get(f"{JOBS}?state=running").json["jobs"] == []


@pytest.fixture(scope="module")
def right() -> bytes:
    client = create_app(Settings()).test_client()
    return client.get("/api/v1/fibonacci/300000", headers=GZIP).data


@pytest.mark.usefixtures("one_in_each_state")
def test_rubbish_under_any_name_of_ours_stops_nothing(
    service: FlaskClient, store: Jobs, server: RedisServer, right: bytes
) -> None:
    for key, put in itertools.product(KEYS, RUBBISH.values()):
        server.client.delete(f"{PREFIX}:{key}")
        put(server.client, f"{PREFIX}:{key}")
        everything_works(service, store, right)


@pytest.mark.usefixtures("one_in_each_state")
def test_rubbish_in_any_field_of_a_job_stops_nothing(
    service: FlaskClient, store: Jobs, server: RedisServer, right: bytes
) -> None:
    ids = ("300000-1", "300001-1", "300002-1", "300003-1")
    names = {name for id in ids for name in server.client.hkeys(f"{PREFIX}:{id}")}
    for name, value in itertools.product(names, (None, b"\xff", b"9" * 30)):
        for id in ids:
            if value is None:
                server.client.hdel(f"{PREFIX}:{id}", name)
            else:
                server.client.hset(f"{PREFIX}:{id}", name, value)
        everything_works(service, store, right)


@pytest.mark.usefixtures("one_in_each_state")
def test_removal_in_bulk_ends_and_leaves_jobs_that_are_in_another_state(
    service: FlaskClient, server: RedisServer
) -> None:
    server.client.zadd(f"{PREFIX}:failed", {"300001-1": 0, "9-9": 0})
    assert service.delete(f"{JOBS}?state=failed").json == {"removed": 0}
    assert service.get(f"{JOBS}/300001-1").json["state"] == "running"


def test_step_whose_answer_was_lost_is_taken_once(service: FlaskClient, store: Jobs) -> None:
    store.submit(300_000, 10)
    assert store.claim("300000-10", "a") == store.claim("300000-10", "a") == (300_000, 10)
    assert store.claim("300000-10", "b") is None
    stretches = list(chunks.calculated(300_000, 10))
    for first in range(0, len(stretches), 3):
        for _ in range(2):
            store.append("300000-10", "a", first, stretches[first : first + 3])
    store.done("300000-10", "a", len(stretches))
    assert store.terms(300_000, 10) == stretches


def test_what_was_lost_while_it_was_written_is_no_result(store: Jobs, server: RedisServer) -> None:
    store.submit(300_000, 10)
    store.claim("300000-10", "a")
    stretches = list(chunks.calculated(300_000, 10))
    store.append("300000-10", "a", 0, stretches[:3])
    server.client.delete(f"{PREFIX}:result:300000-10:a")
    for _ in range(5):
        with pytest.raises(LostError, match="lost"):
            store.append("300000-10", "a", 3, stretches[3:])
    with pytest.raises(LostError, match="lost"):
        store.done("300000-10", "a", len(stretches))
    job = store.get("300000-10")
    assert job
    assert job.state == "running"


def test_full_redis_refuses_the_end_of_a_job_whole(store: Jobs, server: RedisServer) -> None:
    store.submit(300_000, 1)
    store.claim("300000-1", "a")
    stretches = list(chunks.calculated(300_000, 1))
    store.append("300000-1", "a", 0, stretches)
    server.client.config_set("maxmemory", 1)
    for step in (
        lambda: store.done("300000-1", "a", len(stretches)),
        lambda: store.failed("300000-1", "a", "no"),
        lambda: store.delete("300000-1"),
        lambda: store.submit(300_001, 1),
    ):
        with pytest.raises(UnavailableError):
            step()
    server.client.config_set("maxmemory", 0)
    store.done("300000-1", "a", len(stretches))
    assert store.terms(300_000, 1) == stretches


def test_reader_who_found_no_result_leaves_a_job_that_has_begun_anew(
    store: Jobs, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.submit(300_000, 1)
    finish(store, "300000-1", "a")
    server.client.delete(f"{PREFIX}:result:300000-1")
    look = store._entries

    def late(*arguments: Any) -> list[bytes]:
        found = look(*arguments)
        assert Jobs(store._settings, store._tell).submit(300_000, 1).state == "queued"  # another was faster
        return found

    monkeypatch.setattr(store, "_entries", late)
    assert store.terms(300_000, 1) is None
    job = store.get("300000-1")
    assert job
    assert job.state == "queued"


def test_rubbish_in_the_queue_stops_nothing(
    service: FlaskClient, start_worker: Callable[..., Worker], server: RedisServer
) -> None:
    for name in ("short", "long", "unacked", "unacked_index", "_kombu.binding.short", "_kombu.binding.long"):
        (server.client.zadd if name != "unacked_index" else server.client.hset)(KEY_PREFIX + name, mapping={"x": 1})
    job = submit(service, {"n": 30_000})
    start_worker()
    assert ended(service, job)["state"] == "done"
    nothing_is_stuck(server)


def test_rubbish_in_the_queue_of_a_worker_at_rest_keeps_no_job_from_it(
    service: FlaskClient, start_worker: Callable[..., Worker], server: RedisServer
) -> None:
    start_worker()
    for name in ("short", "long"):
        server.client.delete(f"{KEY_PREFIX}_kombu.binding.{name}")
        server.client.rpush(f"{KEY_PREFIX}_kombu.binding.{name}", "rubbish")
    assert ended(service, submit(service, {"n": 30_000}))["state"] == "done"
    nothing_is_stuck(server)


@pytest.mark.parametrize(
    ("url", "broker"),
    [
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock"),
        ("unix://:adb=1@/run/redis.sock?db=2", "redis+socket://:adb=1@/run/redis.sock?virtual_host=2"),
        ("redis://:pw@host:6379/3", "redis://:pw@host:6379/3"),
        ("redis://host?db=7", "redis://host/7"),
        ("rediss://host/1", "rediss://host/1?ssl_cert_reqs=required"),
        ("rediss://host/1?ssl_cert_reqs=none", "rediss://host/1?ssl_cert_reqs=none"),
    ],
)
def test_queue_is_in_the_redis_that_the_url_means(url: str, broker: str) -> None:
    connection = queue.make(Settings(redis_url=url)).connection_for_write()
    assert queue._broker(url) == broker
    expected = ssl.CERT_NONE if "none" in url else ssl.CERT_REQUIRED
    assert not url.startswith("rediss") or connection.ssl["ssl_cert_reqs"] == expected


def test_page_of_a_result_that_was_lost_begins_the_whole_job_anew(
    service: FlaskClient, store: Jobs, server: RedisServer
) -> None:
    store.submit(300_000, 10)
    finish(store, "300000-10", "a")
    server.client.delete(f"{PREFIX}:result:300000-10")
    response = service.get(f"{JOBS}/300000-10/result?page=2&per_page=3", headers=GZIP)
    assert (response.status_code, response.headers["Location"]) == (202, f"{JOBS}/300000-10")
    assert service.get(JOBS).json["total"] == 1


def test_result_of_another_job_is_none(store: Jobs, server: RedisServer) -> None:
    for n in (300_000, 300_001):
        store.submit(n, 1)
        finish(store, f"{n}-1", "a")
    server.client.rename(f"{PREFIX}:result:300000-1", f"{PREFIX}:result:300001-1")
    assert store.terms(300_001, 1) is None
    assert store.get("300001-1") is None


def test_result_that_is_lost_while_it_is_written_is_begun_anew(
    service: FlaskClient, start_worker: Callable[..., Worker], server: RedisServer
) -> None:
    start_worker()
    job = submit(service, {"start": 100_000, "count": 3_000})
    written = until(lambda: list(server.client.scan_iter(f"{PREFIX}:result:{job['id']}:*")))
    server.client.delete(*written)
    assert ended(service, job)["state"] == "done"
    assert service.get(job["links"]["self"] + "/result", headers=GZIP).status_code == 200
    nothing_is_stuck(server)
