"""Redis with Sentinels: whoever is primary is followed, pages are served meanwhile, and what was promised is kept."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
import redis.sentinel
from flask.testing import FlaskClient

from redis_cluster import NAME, PASSWORD, RedisCluster
from service import Log, Worker, problem, until
from web import sentinels
from web.connection import connect
from web.jobstore import PREFIX
from web.settings import Settings, SettingsError, from_environment
from web.store import SEQUENCE_KEY

JOBS = "/api/v1/jobs"
GZIP = {"Accept-Encoding": "gzip"}
# In Redis, as the bodies of small pages are not.
PAGE = "/api/v1/fibonacci?page={}&per_page=1000"
SETTINGS: dict[str, Any] = {"inline_limit": 10_000, "job_lease": 1.0, "redis_timeout": 1.0, "redis_pause": 0.1}


@pytest.fixture(scope="module")
def whole_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    made = RedisCluster(tmp_path_factory.mktemp("cluster"))
    try:
        made.begin()
        yield made
    finally:
        made.end()


@pytest.fixture
def cluster(whole_cluster: RedisCluster) -> RedisCluster:
    """The cluster, of which the test before has killed something."""
    primary = whole_cluster.restored()
    with whole_cluster.client(primary) as client:
        client.flushall()
    return whole_cluster


@pytest.fixture
def service(make_client: Callable[..., FlaskClient], cluster: RedisCluster) -> FlaskClient:
    return make_client(redis_url=cluster.url, **SETTINGS)


@pytest.fixture
def start_worker(tmp_path: Path, cluster: RedisCluster) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def start() -> Worker:
        log = tmp_path / f"worker{len(workers)}.log"
        workers.append(Worker(log, cluster.url, SETTINGS, "--concurrency", "1"))
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()


def redis_of(service: FlaskClient) -> dict[str, Any]:
    """What readiness says of Redis."""
    told: dict[str, Any] = service.get("/readyz").json["dependencies"]["redis"]
    return told


def pages_are_served(service: FlaskClient, number: int = 1) -> None:
    assert service.get(PAGE.format(number), headers=GZIP).status_code == 200


def done(service: FlaskClient, id: str) -> bool:
    response = service.get(f"{JOBS}/{id}")
    # 503 while there is no primary; never a 404, as what was promised is there.
    assert response.status_code in (200, 503)
    return response.status_code == 200 and response.json["state"] == "done"


def accepted(service: FlaskClient, n: int) -> str:
    """Return the id of the job for one term, asked for until it is accepted, as clients do."""

    def submit() -> Any:
        response = service.post(JOBS, json={"n": n})
        assert response.status_code in (202, 503)
        return response.status_code == 202 and response.json["id"]

    id: str = until(submit)
    return id


# --- the URL ----------------------------------------------------------------------------------------------------------


def test_url_of_sentinels_is_read() -> None:
    watched = sentinels.parse("sentinel://app:p%40%2Fw@10.0.0.1:5000,host,[::1]:26380/turn-key/3")
    assert watched.sentinels == (("10.0.0.1", 5000), ("host", 26379), ("::1", 26380))
    assert (watched.name, watched.database, watched.tls) == ("turn-key", 3, {})
    assert watched.credentials == {"username": "app", "password": "p@/w"}
    assert sentinels.parse("sentinel://host/name").database == 0
    assert sentinels.parse("sentinel://host/name").credentials == {}
    encrypted = sentinels.parse("sentinels://app:pw@host/name/0?ssl_ca_certs=/ca.pem")
    assert encrypted.tls == {"ssl": True, "ssl_ca_certs": "/ca.pem"}


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("sentinel://app:swordfish@host:26379", "its path is not /NAME or /NAME/DATABASE"),
        ("sentinel://app:swordfish@host:26379/", "its path is not /NAME or /NAME/DATABASE"),
        ("sentinel://app:swordfish@host:26379/name/0/1", "its path is not /NAME or /NAME/DATABASE"),
        ("sentinel://app:swordfish@host:26379/name/first", "its database is no number"),
        ("sentinel://app:swordfish@host:26379,/name/0", "one of its Sentinels is not HOST or HOST:PORT"),
        ("sentinel://app:swordfish@/name/0", "one of its Sentinels is not HOST or HOST:PORT"),
        ("sentinel://app:swordfish@host:0/name/0", "one of its Sentinels is not HOST or HOST:PORT"),
        ("sentinel://app:swordfish@one,two:70000/name/0", "one of its Sentinels is not HOST or HOST:PORT"),
        ("sentinel://app:swordfish@one:x,two/name/0", "one of its Sentinels is not HOST or HOST:PORT"),
        ("sentinel://app:swordfish@host..com/name/0", "one of its Sentinels is not HOST or HOST:PORT"),
        ("sentinel://swordfish@host/name/0", "it has a user or a password, and not both"),
        ("sentinel://:swordfish@host/name/0", "it has a user or a password, and not both"),
        ("sentinel://app:swordfish@host/name/0?db=1", "it has options that are not known"),
        ("sentinels://app:swordfish@host/name/0?ssl_cert_reqs=none", "it has options that are not known"),
    ],
)
def test_wrong_url_of_sentinels_is_refused_by_what_is_wrong_and_not_shown(url: str, fault: str) -> None:
    with pytest.raises(SettingsError) as error:
        from_environment({"REDIS_URL": url})
    assert str(error.value).startswith(f"REDIS_URL is set, but {fault}")
    assert "sentinel://" in str(error.value)
    assert "swordfish" not in str(error.value)


# --- a failover -------------------------------------------------------------------------------------------------------


def test_killed_primary_costs_no_page_and_no_job_that_was_accepted(
    service: FlaskClient, cluster: RedisCluster, start_worker: Callable[..., Worker], log: Log
) -> None:
    worker = start_worker()
    before = cluster.primary()
    # One is under way, and one waits behind it.
    running, waiting = accepted(service, 15_000_000), accepted(service, 300_000)
    until(lambda: service.get(f"{JOBS}/{running}").json["state"] == "running")
    pages_are_served(service)
    cluster.kill(f"redis{before}")
    for number in range(1, 9):
        pages_are_served(service, number)
    after = cluster.failed_over(before)
    until(lambda: redis_of(service)["status"] == "up")
    # The same processes go on with the new one: with what was there, and with what comes.
    late = accepted(service, 300_001)
    for id in (running, waiting, late):
        until(lambda id=id: done(service, id))
    until(lambda: {running, waiting, late} <= set(worker.calculated()))
    pages_are_served(service, 9)
    with cluster.client(after) as client:
        assert client.zcard(f"{PREFIX}:done") == 3
        assert client.exists(SEQUENCE_KEY)
    secret = PASSWORD.split("/")[0]
    assert all(secret not in json.dumps(line) for line in [*log(), *worker.log()])


def test_switch_on_purpose_is_followed_by_clients_that_are_connected(
    service: FlaskClient, cluster: RedisCluster, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker()
    first = accepted(service, 300_000)
    until(lambda: done(service, first))
    before = cluster.primary()
    cluster.ask_sentinel(0, "FAILOVER")
    pages_are_served(service)
    cluster.failed_over(before)
    # The old one lives, as a replica that refuses what it would have taken.
    second = accepted(service, 300_001)
    until(lambda: done(service, second))
    assert done(service, first)
    until(lambda: worker.calculated() == [first, second])
    until(lambda: redis_of(service)["status"] == "up")


def test_halted_primary_does_not_hold_up_the_worker(
    service: FlaskClient, cluster: RedisCluster, start_worker: Callable[..., Worker]
) -> None:
    """Cut off from the network it looks the same: its connections stay, and nothing ever comes."""
    worker = start_worker()
    first = accepted(service, 300_000)
    until(lambda: done(service, first))
    before = cluster.primary()
    cluster.halt(f"redis{before}")
    pages_are_served(service)
    cluster.failed_over(before)
    second = accepted(service, 300_001)
    until(lambda: done(service, second))
    until(lambda: worker.calculated() == [first, second])


# --- what is not promised ---------------------------------------------------------------------------------------------


def test_primary_without_replicas_takes_no_job_and_pages_are_served(
    service: FlaskClient, cluster: RedisCluster
) -> None:
    primary = cluster.primary()
    cluster.halt(*(f"redis{number}" for number in range(3) if number != primary))
    # No replica says that it has it: so it is not accepted, even before the primary finds out that they are gone.
    assert problem(service.post(JOBS, json={"n": 300_000}), 503)["title"] == "Service Unavailable"
    until(lambda: redis_of(service)["status"] == "read-only")
    assert redis_of(service)["error"] == "ResponseError"
    with pytest.raises(redis.ResponseError, match="NOREPLICAS"), cluster.client(primary) as client:
        client.set("key", "value")
    pages_are_served(service)
    cluster.go_on()
    assert accepted(service, 300_000) == "300000-1"


def test_dead_sentinels_cost_one_timeout_and_not_one_for_each_connection(cluster: RedisCluster) -> None:
    settings = Settings(redis_url=cluster.url, redis_timeout=0.5, redis_pause=3_600.0)
    address = ("127.0.0.1", cluster.ports[cluster.primary()])
    cluster.halt("sentinel0", "sentinel1")
    finder = sentinels.Sentinels(sentinels.parse(cluster.url), settings.redis_timeout, settings.redis_pause)
    asked: list[int] = []
    for number, client in enumerate(finder.sentinels):
        ask = client.execute_command
        client.execute_command = lambda *command, ask=ask, number=number: asked.append(number) or ask(*command)
    for _ in range(5):
        assert finder.discover_master(NAME) == address
    assert asked == [0, 1, 2, 2, 2, 2, 2]


def test_nobody_is_taken_for_the_primary_where_no_sentinel_knows_one(cluster: RedisCluster) -> None:
    url = cluster.url.replace(NAME, "another")
    with pytest.raises(redis.ConnectionError) as error:
        connect(Settings(redis_url=url)).ping()
    assert "swordfish" not in str(error.value)


def test_refused_credentials_are_reported_without_them(
    make_client: Callable[..., FlaskClient], cluster: RedisCluster, log: Log
) -> None:
    client = make_client(redis_url=cluster.url.replace("swordfish", "catfish"), **SETTINGS)
    assert redis_of(client) == {"status": "down", "error": "MasterNotFoundError"}
    lines = log()
    assert {line["error"] for line in lines if line["message"] == "Sentinel fails"} == {"AuthenticationError"}
    assert "catfish" not in json.dumps(lines)


def test_sentinels_that_are_out_of_reach_are_reported_without_the_password() -> None:
    """As Celery does, which logs what the error says."""
    watched = sentinels.parse(f"sentinel://app:{quote(PASSWORD, safe='')}@127.0.0.1:1,127.0.0.1:2/{NAME}/0")
    kombus = redis.sentinel.Sentinel(watched.sentinels, sentinel_kwargs=sentinels.asking(watched, 1))
    with pytest.raises(redis.sentinel.MasterNotFoundError, match="Connection refused") as error:
        kombus.discover_master(NAME)
    assert PASSWORD not in str(error.value)
