"""The stream: websockets through the whole line, in a gunicorn of their own, cut off by nothing but what they say."""

import contextlib
import json
import re
import uuid

import pytest
from client import Client
from load import TERMS, Load, serves
from machine import Machine
from stream import STREAM, UNIT, Stream, knock, streams
from waiting import eventually

SERVICE_RESTART = 1012


def ended(host: Machine, id: str) -> str | None:
    """Return how the stream with the request id *id* ended, by its log; None while it has not."""
    said = [json.loads(line) for line in host.journal(UNIT) if id in line]
    return next((line["end"] for line in said if "end" in line), None)


def dropped(host: Machine) -> int:
    """Return how many readers were let go by now, as the status tells it."""
    told = host.check("curl --silent --fail --unix-socket /run/gunicorn-status/status.sock http://localhost/status")
    number: int = json.loads(told)["instances"]["gunicorn-stream"]["dropped"]
    return number


def test_a_stream_brings_all_terms_in_order_and_says_when_it_is_done(client: Client) -> None:
    with Stream(client, 0, 1_000) as stream:
        *frames, last = stream

    assert [term for frame in frames for term in frame["terms"]] == TERMS
    assert last == {"done": True, "next": 1_000}
    assert stream.code == 1000


@pytest.mark.parametrize("query", ["start=-1", "start=0&count=0", "start=x", "from=1", "start=0&start=1"])
def test_a_bad_wish_is_refused_with_a_problem_before_the_upgrade(client: Client, query: str) -> None:
    answer = knock(client, query)

    assert answer.status == 400
    assert answer.is_problem
    assert (answer.header("Cache-Control"), answer.cache) == ("no-store", "NONE")


def test_who_asks_without_a_websocket_is_told_so(client: Client) -> None:
    answer = client.ask(f"{STREAM}?start=0&count=1")

    assert answer.status in (400, 426)
    assert answer.is_problem


def test_websockets_that_nobody_reads_take_nothing_from_pages(client: Client, web: Machine) -> None:
    # More than the app's own gunicorn has threads.
    sizes = web.settings("gunicorn")
    with contextlib.ExitStack() as open_ones:
        for _ in range(2 * sizes["threads"] + 10):
            open_ones.enter_context(Stream(client))
        for _ in range(10):
            serves(client)


@pytest.mark.roles("web")
def test_streams_give_way_to_pages(host: Machine) -> None:
    settings = host.settings("gunicorn")["stream"]
    for pid in host.processes(UNIT):
        assert host.check("ps --no-headers -o ni --pid %s", str(pid)).strip() == str(settings["nice"])
    assert host.show(UNIT, "CPUWeight") == str(settings["cpu_weight"])


@pytest.mark.roles("web")
def test_a_gigabyte_passes_through_little_memory_and_a_reader_that_stops_is_dropped(
    host: Machine, client: Client
) -> None:
    def memory(name: str) -> int:
        """Return what the stream's processes have resident, now (VmRSS) or at the most so far (VmHWM), in bytes."""
        each = [host.read(f"/proc/{pid}/status") for pid in host.children(UNIT)]
        return sum(1024 * int(re.findall(rf"{name}:\s+(\d+) kB", status)[0]) for status in each)

    stalled, known = uuid.uuid4().hex, dropped(host)
    with Stream(client, start=1_000, id=stalled), Load(client) as running:
        before = memory("VmRSS")
        for pid in host.children(UNIT):
            host.check("echo 5 >/proc/%s/clear_refs", str(pid))  # begins VmHWM anew
        received, following, tail = 0, 0, (0, 1)
        with Stream(client, 0, 100_000) as stream:
            for frame in stream:
                for term in frame.get("terms", []):
                    assert int(term[-15:]) == tail[0]
                    tail = tail[1], sum(tail) % 10**15
                    received += len(term)
                following = frame.get("next", following)
        grown = memory("VmHWM") - before

        assert (stream.code, following) == (1000, 100_000)
        assert received > 10**9
        assert grown < 50 * 2**20
        assert eventually(lambda: ended(host, stalled) == "too slow")
        assert eventually(lambda: dropped(host) > known)

    assert running.failures == []


@pytest.mark.disruptive
@pytest.mark.roles("web")
def test_one_too_many_is_told_to_come_again_and_let_in_when_there_is_room(host: Machine, client: Client) -> None:
    with host.applied({"gunicorn": {"stream": {"connections": 3, "workers": 1}}}) as applied:
        assert applied.ok, applied.message
        assert eventually(lambda: streams(client))
        with contextlib.ExitStack() as open_ones:
            for _ in range(3):
                # The one before may still be leaving.
                eventually(lambda: open_ones.enter_context(Stream(client)))
            answer = knock(client)
            assert (answer.status, answer.is_problem) == (503, True)
            assert int(answer.header("Retry-After") or 0) > 0
        assert eventually(lambda: knock(client).status == 101)


@pytest.mark.disruptive
@pytest.mark.roles("web")
def test_a_reload_asks_clients_to_come_back_and_they_miss_nothing(host: Machine, client: Client) -> None:
    with Stream(client) as stream:
        frames = iter(stream)
        following = len(next(frames)["terms"])
        host.check("systemctl reload %s", UNIT)
        for frame in frames:
            assert frame["start"] == following
            following += len(frame["terms"])
    assert stream.code == SERVICE_RESTART

    # A worker that stops may still be asked, for a moment: it says when to come again.
    with eventually(lambda: Stream(client, following, 1)) as resumed:
        assert next(iter(resumed))["start"] == following


@pytest.mark.disruptive
@pytest.mark.roles("web")
@pytest.mark.parametrize("victim", ["worker", "main process"])
def test_a_stream_that_is_killed_is_back_by_itself_and_pages_do_not_notice(
    host: Machine, client: Client, victim: str
) -> None:
    # The youngest: one that a reload has replaced may still be leaving.
    pid = max(host.children(UNIT)) if victim == "worker" else host.main_pid(UNIT)
    with Load(client) as running:
        host.check("kill -KILL %s", str(pid))
        assert eventually(lambda: pid not in host.processes(UNIT) and len(host.children(UNIT)) > 1)
        assert eventually(lambda: streams(client))

    assert running.failures == []


@pytest.mark.disruptive
@pytest.mark.roles("web")
def test_a_stream_that_cannot_start_keeps_its_release_out_of_service(host: Machine, client: Client) -> None:
    before = host.release()

    with host.site({"app": {"stream": "web:no_such_callable()"}}):
        broken = host.apply()
        during = host.release()
    host.heal()

    assert [name.rpartition("/")[2] for name in broken.failed] == ["tried"]
    assert "no_such_callable" in broken.message
    assert during == before
    assert streams(client)
