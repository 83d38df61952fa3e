"""Pillar: what a site sets takes effect and no more than that; what it may not set changes nothing at all."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from client import PAGES, Answer, Client, another_site
from load import TERMS, Load
from machine import REPOSITORY, Applied, Machine

pytestmark = pytest.mark.disruptive

WEAK_PASSWORD = "correct-horse"  # noqa: S105 - one that the schema refuses

REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "out of bounds": ({"nginx": {"gzip": {"level": 11}}}, ["nginx:gzip:level"]),
    "several at once: unknown, text for a number, a number for a switch, nothing for a group": (
        {"nginx": {"gzip": {"lvl": 5}, "worker_connections": "many", "cache": {"enabled": 1}, "proxy": None}},
        ["nginx:gzip:lvl", "nginx:worker_connections", "nginx:cache:enabled", "nginx:proxy"],
    ),
    "a number in quotes": ({"haproxy": {"maxconn": "8000"}}, ["haproxy:maxconn"]),
    "a list for a formula": ({"haproxy": ["port"]}, ["haproxy"]),
    "text for a formula": ({"logrotate": "daily"}, ["logrotate"]),
    "a weak password": (
        {"redis": {"password": WEAK_PASSWORD, "maxmemory": 256}},
        ["redis:password", "redis:maxmemory"],
    ),
    "a variable that is the stack's, and a value of two lines": (
        {"app": {"environment": {"REDIS_URL": "redis://x", "X": "a\nPATH=b"}}},
        ["app:environment", "app:environment:X"],
    ),
    "an app that is not there": ({"app": {"source": "salt://nowhere"}}, ["app:source"]),
}


@pytest.mark.parametrize(("pillar", "keys"), REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_value_is_named_and_nothing_changes(host: Machine, pillar: dict[str, Any], keys: list[str]) -> None:
    before = host.configuration(), host.started()

    with host.applied(pillar) as applied:
        assert applied.retcode != 0
        for key in keys:
            assert f"{key}: " in applied.message
        assert applied.states == {}
        assert WEAK_PASSWORD not in applied.output
        assert (host.configuration(), host.started()) == before


@pytest.mark.parametrize("content", [None, "redis: {}\n"], ids=["no file", "without the password"])
def test_a_missing_secret_is_named_and_nothing_changes(host: Machine, content: str | None) -> None:
    secrets = f"{REPOSITORY}/salt/pillar/secrets.sls"
    before = host.configuration(), host.started()
    host.check("mv %s %s", secrets, f"{secrets}.away")
    try:
        if content is not None:
            host.write(secrets, content, mode="0600")
        applied = host.apply()
    finally:
        host.check("mv %s %s", f"{secrets}.away", secrets)

    assert applied.retcode != 0
    assert ("secrets" if content is None else "redis:password") in applied.message
    assert applied.states == {}
    assert (host.configuration(), host.started()) == before


@pytest.fixture(scope="class", params=[True, False], ids=["on", "off"])
def by_nginx(request: pytest.FixtureRequest, host: Machine) -> Iterator[bool]:
    """Whether nginx compresses."""
    pillar = {"nginx": {"gzip": {"enabled": request.param, "min_length": 1}}}
    with host.applied(pillar, only="nginx") as applied:
        assert applied.ok, applied.message
        yield request.param


@pytest.mark.roles("web")
class TestCompression:
    """The app compresses pages; the rest, such as a 404, nginx does if it is told to."""

    @staticmethod
    def ask(client: Client, target: str) -> Answer:
        return client.ask(target, another_site() | {"Accept-Encoding": "gzip"})

    def test_the_switch_decides_on_what_the_app_left_plain(self, client: Client, by_nginx: bool) -> None:
        answer = self.ask(client, "/nowhere")

        assert (answer.header("Content-Encoding") == "gzip") == by_nginx
        assert answer.json["status"] == 404

    @pytest.mark.usefixtures("by_nginx")
    def test_pages_are_compressed_by_the_app_either_way(self, client: Client) -> None:
        answer = self.ask(client, f"{PAGES}?page=1")

        assert answer.header("Content-Encoding") == "gzip"
        assert answer.json["terms"] == TERMS[:100]

    @pytest.mark.usefixtures("by_nginx")
    def test_clients_that_want_them_plain_get_them_plain(self, client: Client) -> None:
        assert client.page().header("Content-Encoding") is None


BROKEN_SNIPPETS: dict[str, tuple[dict[str, Any], str]] = {
    "nginx": ({"nginx": {"snippets": {"server": "no_such_directive on;"}}}, "/etc/nginx/nginx.conf"),
    "HAProxy": ({"haproxy": {"snippets": {"backend": "no_such_directive on"}}}, "/etc/haproxy/haproxy.cfg"),
}


@pytest.mark.parametrize(("pillar", "path"), BROKEN_SNIPPETS.values(), ids=BROKEN_SNIPPETS.keys())
@pytest.mark.roles("web", "lb")
def test_a_broken_snippet_fails_its_state_and_the_old_file_stays(
    host: Machine, client: Client, load: Callable[..., Load], pillar: dict[str, Any], path: str
) -> None:
    before = host.configuration(), host.started()

    with load() as running:
        with host.site(pillar):
            broken = host.apply()
            after = host.configuration(), host.started()
        healed = host.apply()

    assert (broken.retcode, list(broken.failed)) == (2, [path])
    assert "no_such_directive" in broken.message
    assert after == before
    assert running.failures == []
    assert (healed.ok, healed.changed) == (True, {})


@pytest.mark.roles("web", "lb")
def test_a_snippet_takes_effect_without_a_failed_request_and_goes_again(
    host: Machine, client: Client, load: Callable[..., Load]
) -> None:
    pillar = {
        "nginx": {"snippets": {"server": "add_header X-Told-By nginx always;"}},
        "haproxy": {"snippets": {"frontend": "http-response set-header X-Told-By-Too HAProxy"}},
    }

    def told() -> tuple[str | None, str | None]:
        answer = client.page(headers=another_site())
        return answer.header("X-Told-By"), answer.header("X-Told-By-Too")

    with load() as running:
        with host.applied(pillar) as applied:
            assert applied.ok, applied.message
            assert told() == ("nginx", "HAProxy")
        assert told() == (None, None)

    assert running.failures == []


@pytest.mark.roles("data")
def test_a_new_password_counts_at_once_and_shows_nowhere(
    host: Machine, client: Client, load: Callable[..., Load]
) -> None:
    new = "a-password-that-only-this-test-uses"
    old = host.settings("redis")["password"]

    def says(applied: Applied) -> list[str]:
        return [secret for secret in (old, new) if secret in applied.output]

    with load() as running, host.applied({"redis": {"password": new}}) as applied:
        assert applied.ok, applied.message
        assert says(applied) == []
        assert client.ask("/readyz").json["status"] == "ready"
        assert host.redis("PING") == "True"

    assert running.failures == []
    assert client.ask("/readyz").json["status"] == "ready"
