"""Each thing is calculated once, however many ask for it at the same time, and all are given the same."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from client import PAGES, Answer, Client, with_id
from jobs import post
from load import last_digits
from machine import Machine
from waiting import eventually

CLIENTS = 50


def at_once(ask: Callable[[int], Answer]) -> list[Answer]:
    """Return what *ask* gives to each of many clients, all of which begin at the same moment."""
    begin = threading.Barrier(CLIENTS)

    def one(number: int) -> Answer:
        begin.wait()
        return ask(number)

    with ThreadPoolExecutor(CLIENTS) as clients:
        return list(clients.map(one, range(CLIENTS)))


@pytest.fixture
def n() -> int:
    """An index that takes a while and that nobody has asked for yet, below the limit of what is answered at once."""
    return random.randrange(5_000_000, 6_000_000)  # noqa: S311 - no secret


@pytest.mark.parametrize("kind", ["page", "term"])
def test_what_is_answered_within_the_request_is_calculated_by_one_request_for_all(
    client: Client, machines: dict[str, Machine], n: int, kind: str
) -> None:
    target = f"{PAGES}/{n}" if kind == "term" else f"{PAGES}?page={n // 2}&per_page=2"
    ids = [with_id() for _ in range(CLIENTS)]

    answers = at_once(lambda number: client.ask(target, {"Accept-Encoding": "gzip"} | ids[number]))

    assert sorted(str(answer.cache) for answer in answers) == ["HIT"] * (CLIENTS - 1) + ["MISS"]
    assert len({answer.body for answer in answers}) == 1
    document = answers[0].json
    first = document["value"] if kind == "term" else document["terms"][0]
    assert first.endswith(last_digits(n if kind == "term" else document["start"]))
    hosts = [machine for machine in machines.values() if "web" in machine.roles]
    lines = [line for host in hosts for line in host.journal("gunicorn.service")]
    assert sum(each["X-Request-ID"] in line for line in lines for each in ids) == 1


def test_a_job_is_done_by_one_worker_for_all_whatever_they_ask_for_it_by(
    client: Client, machines: dict[str, Machine], n: int
) -> None:
    n += 10_000_000

    def ask(number: int) -> Answer:
        if number % 2:
            place, wanted = f"{PAGES}/{n}", lambda: client.ask(f"{PAGES}/{n}")
            first = client.ask(place)
        else:
            first = post(client, n, 1)
            wanted = lambda: client.ask(f"{first.header('Location')}/result")  # noqa: E731
        assert first.status in (200, 202), first.body

        def result() -> Answer | None:
            answer = wanted()
            # There is no result yet: the job has not ended, or the cache still says so.
            assert answer.status in (200, 202, 404, 409), (answer.status, answer.body[:500])
            return answer if answer.status == 200 else None

        answer = eventually(result, pause=0.5)
        assert answer is not None
        return answer

    answers = at_once(ask)

    terms, results = answers[1::2], answers[::2]
    assert len({answer.body for answer in terms}) == 1
    assert len({answer.body for answer in results}) == 1
    assert terms[0].json["value"] == results[0].json["terms"][0]
    assert terms[0].json["value"].endswith(last_digits(n))
    workers = [machine for machine in machines.values() if "worker" in machine.roles]
    lines = [line for host in workers for line in host.journal("celery@*")]
    calculated = [line for line in lines if "job calculated" in line and f'"{n}-1"' in line]
    assert len(calculated) == 1
