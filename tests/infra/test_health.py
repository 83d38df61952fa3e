"""Liveness and readiness: for the site's own networks, and for nobody else however the question is put."""

import ipaddress
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from machine import Machine

# From the networks that are kept for documentation: nobody's, so surely not one of the site's.
OUTSIDE = "198.51.100.7"

FORBIDDEN = 403


def ask(lb: Machine, port: int, target: str, source: str, *headers: str) -> tuple[int, str]:
    """Ask the service from one of the load balancer's own addresses; return status and body."""
    marks = " ".join(["--header %s"] * len(headers))
    body, _, status = lb.check(
        f"curl --silent --path-as-is --interface %s --write-out '\\n%%{{http_code}}' {marks} %s",
        source,
        *headers,
        f"http://{lb.address}:{port}{target}",
    ).rpartition("\n")
    return int(status), body


@pytest.fixture(scope="module")
def outside(lb: Machine, settings: Callable[[str], Any]) -> Iterator[Callable[..., tuple[int, str]]]:
    """Questions from an address outside the site's networks."""
    lb.check("ip address add %s/32 dev lo", OUTSIDE)
    yield lambda target, *headers: ask(lb, settings("haproxy")["port"], target, OUTSIDE, *headers)
    lb.check("ip address delete %s/32 dev lo", OUTSIDE)


def test_the_site_sees_its_own_health(lb: Machine, settings: Callable[[str], Any]) -> None:
    for path in settings("app")["internal"]:
        status, body = ask(lb, settings("haproxy")["port"], path, lb.address)
        assert status == 200, body


def test_readiness_names_each_dependency(lb: Machine, settings: Callable[[str], Any]) -> None:
    status, body = ask(lb, settings("haproxy")["port"], settings("app")["health"], lb.address)

    assert status == 200
    assert '"ready"' in body
    assert '"redis"' in body


@pytest.mark.disruptive
def test_a_stranger_sees_pages_and_no_health(outside: Callable[..., Any], settings: Callable[[str], Any]) -> None:
    assert outside("/api/v1/fibonacci?page=1")[0] == 200
    for path in [*settings("app")["internal"], "/status", "/metrics"]:
        status, body = outside(path)
        assert (status, '"status": 403' in body) == (FORBIDDEN, True), body


@pytest.mark.disruptive
@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "X-Client-IP", "Forwarded"])
@pytest.mark.parametrize("claim", ["the network", "loopback"])
def test_a_stranger_cannot_claim_to_be_one_of_us(
    outside: Callable[..., Any], settings: Callable[[str], Any], topology: dict[str, Any], header: str, claim: str
) -> None:
    inside = str(next(ipaddress.ip_network(topology["network"]).hosts())) if claim == "the network" else "127.0.0.1"
    value = f"for={inside}" if header == "Forwarded" else inside

    status, _ = outside(settings("app")["health"], f"{header}: {value}", f"{header}: {value}")

    assert status == FORBIDDEN


@pytest.mark.disruptive
@pytest.mark.parametrize(
    "spelling",
    ["{}?x=1", "/{}", "/.{}", "/x/..{}", "{}/", "{}/.", "{};x", "{}%00", "{}%20", "{}%2f", "{}#x"],
)
def test_another_spelling_does_not_open_it(
    outside: Callable[..., Any], settings: Callable[[str], Any], spelling: str
) -> None:
    path = settings("app")["health"]
    for written in (path, f"/%{ord(path[1]):x}{path[2:]}", path.upper()):
        status, body = outside(spelling.format(written))
        assert 400 <= status < 500, body
        assert "redis" not in body
