"""The stack is not tied to Fibonacci: pillar `app:` alone puts another Flask app in its place (tests/infra/hello)."""

import base64
import contextlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import websocket
from client import Client, another_site
from load import serves
from machine import REPOSITORY, Machine
from waiting import eventually

pytestmark = [pytest.mark.disruptive, pytest.mark.roles("web", "lb")]

# All that a shell, systemd, Jinja or YAML might take for something of its own.
GREETING = """Grüß' "Gott" $HOME ${PATH} \\n `id` %h 100% {{ 7 * 7 }} #x; 二"""

HELLO = {
    "app": {
        "name": "hello",
        "source": "salt://hello/app",
        "requirements": "salt://hello/requirements.txt",
        "wsgi": "hello:create_app()",
        "stream": "",
        "celery": "",
        "health": "/alive",
        "costly": ["/soon"],
        "internal": ["/alive"],
        "websockets": ["/echo"],
        "arguments": ["name"],
        "static": {"path": "/files/", "folder": "files"},
        "environment": {"GREETING": GREETING},
    }
}


def packed(folder: Path) -> str:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(folder, arcname=".", filter=lambda member: None if "__pycache__" in member.name else member)
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture(scope="module", autouse=True)
def hello(host: Machine, client: Client) -> Iterator[None]:
    """Put the other app in place for the tests of this file, and the first one back afterwards."""
    client.page(1, 5)  # in the cache
    folder = f"{REPOSITORY}/salt/sources/hello"
    host.check(
        "mkdir -p %s && echo %s | base64 --decode | tar --extract --gzip --no-same-owner --directory %s",
        folder,
        packed(Path(__file__).parent / "hello"),
        folder,
    )
    switch = contextlib.ExitStack()
    try:
        applied = switch.enter_context(host.applied(HELLO))
        assert applied.ok, applied.message
        # The load balancer may have asked for the health of the one before in the meantime.
        eventually(lambda: client.ask("/alive").status == 200)
        yield
    finally:
        switch.close()
        host.check("rm -r %s", folder)
    eventually(lambda: serves(client))


def test_it_greets_as_its_environment_says(client: Client) -> None:
    answer = client.ask("/?name=you", another_site())

    assert answer.status == 200
    assert answer.body.decode() == f"{GREETING}, you\n" * 100


def test_what_it_calls_public_is_cached_by_its_own_arguments(client: Client) -> None:
    site = another_site()

    answers = [client.ask(f"/?name={name}", site) for name in ("a", "b", "a", "b")]

    assert [answer.cache for answer in answers] == ["MISS", "MISS", "HIT", "HIT"]
    assert answers[0].body != answers[1].body


@pytest.mark.parametrize("accepted", ["gzip", "identity"])
def test_what_it_does_not_compress_nginx_does_for_those_who_want_it(client: Client, accepted: str) -> None:
    site = another_site()
    for _ in range(2):
        answer = client.ask("/", site | {"Accept-Encoding": accepted})
        assert answer.header("Content-Encoding") == (accepted if accepted == "gzip" else None)
        assert answer.plain.decode() == f"{GREETING}, world\n" * 100
        assert answer.header("Vary") == "Accept-Encoding"


def test_what_it_does_not_call_public_is_asked_of_it_each_time(client: Client) -> None:
    answers = [client.ask("/count") for _ in range(5)]

    counts = [answer.json["count"] for answer in answers]
    assert counts == list(range(counts[0], counts[0] + 5))
    assert "HIT" not in [answer.cache for answer in answers]


def test_what_is_not_ready_yet_is_said_once_a_second_and_kept_by_no_client(client: Client) -> None:
    """Equal requests wait for the first one's answer: not shared, it would let them through one after the other."""
    site = another_site()

    def ask() -> str | None:
        answer = client.ask("/soon", site)
        assert (answer.status, answer.header("Cache-Control")) == (202, "no-store")
        assert answer.header("X-Accel-Expires") is None
        return answer.cache

    assert ask() == "MISS"
    assert eventually(lambda: ask() == "HIT")
    # Past its time it is asked for anew, and never served once more.
    assert eventually(lambda: ask() == "EXPIRED")


def test_what_it_does_not_have_does_not_run(host: Machine) -> None:
    running = host.check("systemctl list-units --plain --no-legend 'gunicorn-stream*' 'celery@*'")

    assert running == ""
    assert host.run("test -e /etc/systemd/system/gunicorn-stream.socket").rc != 0


def test_its_workers_are_told_of_like_any_others(host: Machine) -> None:
    told = host.check("curl --silent --unix-socket /run/gunicorn-status/status.sock http://localhost/status")

    assert {name: it["state"] for name, it in json.loads(told)["instances"].items()} == {"gunicorn": "ok"}


def test_what_varies_by_cookie_is_nobody_elses(client: Client) -> None:
    assert "HIT" not in [client.ask("/private").cache for _ in range(3)]


def test_what_is_not_called_public_is_nobody_elses(client: Client) -> None:
    for name in ("alice", "bob"):
        answer = client.ask("/me", {"Authorization": name})
        assert answer.body.decode() == f"{name}\n"
        assert answer.cache != "HIT"


def test_its_static_files_may_be_kept_for_long(client: Client, host: Machine) -> None:
    answer = client.ask("/files/style.css")

    assert answer.body == (Path(__file__).parent / "hello/app/files/style.css").read_bytes()
    assert answer.header("Content-Type") == "text/css"
    assert host.settings("nginx")["static_expires"] == "1y"
    assert "max-age=31536000" in (answer.header("Cache-Control") or "")


@pytest.mark.parametrize("target", ["/files/../hello.py", "/files/%2e%2e/hello.py", "/files../hello.py", "/files/"])
def test_nothing_but_its_static_files_is_given_away(client: Client, target: str) -> None:
    answer = client.ask(target)

    assert 400 <= answer.status < 500
    assert b"create_app" not in answer.body


def test_its_websocket_echoes_through_the_whole_line(client: Client) -> None:
    echo = websocket.create_connection(f"ws://{client.address}:{client.port}/echo", timeout=60)
    try:
        for message in ("one", "zwei ä", "x" * 100_000):
            echo.send(message)
            assert echo.recv() == message
        assert client.ask("/").status == 200
    finally:
        echo.close()


def test_nothing_of_the_app_before_is_left_in_the_cache(client: Client) -> None:
    answer = client.page(1, 5)

    assert (answer.status, answer.cache) == (404, "MISS")


def test_its_health_path_is_asked_and_the_old_one_is_gone(
    client: Client, lb: Machine, settings: Callable[[str], Any]
) -> None:
    asked = json.loads(lb.check("curl --silent --fail http://%s:%s/alive", lb.address, str(client.port)))

    assert asked == {"status": "ok"}
    assert client.ask("/readyz").status == 404
