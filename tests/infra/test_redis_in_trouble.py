"""Redis emptied, full, slow, or with rubbish under the app's keys: right answers or a 503, and readiness tells."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from client import PAGES, Answer, Client, another_site
from jobs import JOBS, post, works
from load import Load, last_digits, readiness, sequence
from machine import Machine
from waiting import eventually

pytestmark = pytest.mark.disruptive

# As many as two pages of what Redis keeps have.
TERMS = sequence(4_000)

# Each key of the app's turned into another kind, or into bytes that mean nothing.
RUBBISH = """
local keys = redis.call('KEYS', 'fibonacci:*')
for number, key in ipairs(keys) do
    redis.call('DEL', key)
    if number % 2 == 0 then
        redis.call('SET', key, 'rubbish')
    else
        redis.call('RPUSH', key, 'rubbish', 'more of it')
    end
end
return #keys
"""


@pytest.fixture(scope="module")
def redis(data: Machine) -> Iterator[Machine]:
    """The host of Redis, on which the app's user may do everything for a while."""
    with data.applied({"redis": {"commands": "+@all"}}, only="redis") as applied:
        assert applied.ok, applied.message
        yield data


def is_right_or_refused(client: Client) -> set[int]:
    """Ask for what Redis has a part in; fail if an answer is wrong or none; return the statuses."""
    # Pages that are in no cache, from the list, one beyond it, and a job.
    answers = []
    for page in (1, 2, 3, 4):
        answer = client.page(page, 1_000, headers=another_site())
        assert answer.status == 200, answer.body[:500]
        assert answer.json["terms"] == TERMS[(page - 1) * 1_000 : page * 1_000]
        answers.append(answer)
    n = random.randrange(200_000, 300_000)  # noqa: S311 - no secret
    for _ in range(2):
        answer = client.ask(f"{PAGES}?page={n}&per_page=2", another_site())
        assert answer.status == 200, answer.body[:500]
        a, b = answer.json["terms"]
        assert (a[-18:], b[-18:]) == (last_digits(2 * n - 2), last_digits(2 * n - 1))
        answers.append(answer)
    answers.append(post(client, n, 1))
    answers.append(client.ask(f"{JOBS}?per_page=5"))
    for answer in answers[-2:]:
        assert answer.status in (200, 202) or is_refused(answer), (answer.status, answer.body[:500])
    return {answer.status for answer in answers}


def is_refused(answer: Answer) -> bool:
    return answer.status == 503 and answer.is_problem and int(answer.header("Retry-After") or 0) > 0


def recovers(client: Client) -> bool:
    """Wait until nothing is refused any more; the first job that is taken then must be done."""

    def is_well() -> bool:
        assert readiness(client) == "ready"
        return is_right_or_refused(client) <= {200, 202}

    eventually(is_well)
    return works(client)


@contextmanager
def slow(redis: Machine) -> Iterator[None]:
    """Let Redis answer nobody for three seconds at a time."""
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            redis.redis("CLIENT", "PAUSE", "3000", "ALL")

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_an_emptied_redis_costs_nothing_but_time(redis: Machine, client: Client) -> None:
    with Load(client) as running:
        for _ in range(3):
            redis.redis("FLUSHALL")
            is_right_or_refused(client)

    assert running.failures == []
    assert recovers(client)


def test_a_redis_without_room_still_reads_and_readiness_tells(redis: Machine, client: Client) -> None:
    before = redis.redis("CONFIG", "GET", "maxmemory").partition(":")[2]
    try:
        with Load(client) as running:
            redis.redis("CONFIG", "SET", "maxmemory", "1mb")
            assert eventually(lambda: readiness(client) == "degraded")
            for _ in range(3):
                is_right_or_refused(client)
    finally:
        redis.redis("CONFIG", "SET", "maxmemory", before)

    assert running.failures == []
    assert recovers(client)


def test_rubbish_is_known_for_what_it_is(redis: Machine, client: Client) -> None:
    is_right_or_refused(client)
    with Load(client) as running:
        for _ in range(3):
            assert int(redis.redis("EVAL", RUBBISH, "0")) > 0
            is_right_or_refused(client)

    assert running.failures == []
    assert recovers(client)


def test_a_slow_redis_is_left_alone_and_readiness_tells(redis: Machine, client: Client) -> None:
    with Load(client) as running, slow(redis):
        assert eventually(lambda: readiness(client) == "degraded")
        for _ in range(3):
            is_right_or_refused(client)

    assert running.failures == []
    assert recovers(client)
