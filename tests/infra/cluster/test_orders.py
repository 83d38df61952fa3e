"""Orchestrations: what an operator orders on the master happens host by host, and clients see nothing of it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from client import Client
from hosts import holder, is_whole, orders, primary, with_role
from load import readiness
from machine import Machine
from releases import CHANGE, code, edited, module
from testinfra.backend.base import CommandResult
from waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.disruptive]


# A websocket of the load ends only when it is told to: seconds that an order waits for that.
DRAIN = {"salt_master": {"orchestration": {"drain": 1}}}


@pytest.fixture(scope="module")
def order(monitor: Machine) -> Iterator[Callable[..., CommandResult]]:
    """Return what gives an order on the master: ``order("orch.deploy")``."""

    def order(name: str, pillar: str = "{}") -> CommandResult:
        return monitor.run("salt-run state.orchestrate %s pillar=%s 2>&1", name, pillar)

    with monitor.site(DRAIN):
        yield order


def no_client_noticed(running: Any) -> bool:
    assert running.pages.failures == []
    assert running.watcher.wrong == []
    # A stream is closed at a frame's boundary, for its client to resume; never cut.
    assert [broken for broken in running.watcher.breaks if not broken.startswith("closed with 1012")] == []
    assert (running.submitter.refused, running.submitter.failed) == ([], [])
    return True


def codes(client: Client) -> set[str | None]:
    return {code(client) for _ in range(20)}


def test_releases_come_and_go_and_cost_no_request(
    steady: Callable[[str], Any],
    order: Callable[..., CommandResult],
    monitor: Machine,
    machines: dict[str, Machine],
    client: Client,
) -> None:
    with edited(monitor, module(monitor), lambda text: text + CHANGE):
        with steady("orch.deploy of a new release") as running:
            deployed = order("orch.deploy")
            assert deployed.rc == 0, deployed.stdout
            assert codes(client) == {"changed"}
        assert no_client_noticed(running)

        with steady("orch.rollback") as running:
            rolled = order("orch.rollback")
            assert rolled.rc == 0, rolled.stdout
            assert codes(client) == {None}
        assert no_client_noticed(running)

    first, *others = with_role(machines, "web")
    before = {machine: machine.release() for machine in (first, *others)}
    # It lasts: an apply by whomever on the master keeps what was rolled back to.
    assert all(not state["changes"] for state in orders(monitor, "state.apply", first.name)[first.name].values())
    try:
        with edited(monitor, module(monitor), lambda text: text + "\ndef broken(:\n"):
            with steady("orch.deploy of a broken release") as running:
                stopped = order("orch.deploy")
            assert no_client_noticed(running)

        assert stopped.rc != 0
        assert f"STOPPED: {first}" in stopped.stdout
        assert "SyntaxError" in stopped.stdout
        assert f"untouched: {', '.join(map(str, others))}" in stopped.stdout
        assert {machine: machine.release() for machine in before} == before
        assert [drained(balancer) for balancer in with_role(machines, "lb")] == [[first.name]] * 2
    finally:
        # Else a host that is left out would be the failure of all tests that follow.
        mended = order("orch.deploy")
    assert mended.rc == 0, mended.stdout
    assert eventually(lambda: is_whole(machines, client))
    assert codes(client) == {None}


def drained(balancer: Machine) -> list[str]:
    """Return the web hosts that get nothing new."""
    return [name for name, server in balancer.call("balancer.servers").items() if server["drained"]]


def test_a_web_host_goes_out_for_maintenance_and_comes_back(
    steady: Callable[[str], Any],
    order: Callable[..., CommandResult],
    machines: dict[str, Machine],
) -> None:
    host = with_role(machines, "web")[0]
    with steady(f"orch.maintenance of {host}") as running:
        out = order("orch.maintenance", f"{{host: {host}, mode: out}}")
        assert out.rc == 0, out.stdout
        host.check("systemctl stop nginx.service gunicorn.service gunicorn-stream.service")
        running.goes_on()
        host.check("systemctl start gunicorn.service gunicorn-stream.service nginx.service")
        back = order("orch.maintenance", f"{{host: {host}, mode: in}}")
        assert back.rc == 0, back.stdout

    assert no_client_noticed(running)


def test_a_load_balancer_goes_out_for_maintenance_and_comes_back(
    steady: Callable[[str], Any],
    order: Callable[..., CommandResult],
    balancers: list[Machine],
    topology: dict[str, Any],
) -> None:
    host = holder(balancers, topology["virtual_address"])
    with steady(f"orch.maintenance of {host}, which held the address") as running:
        out = order("orch.maintenance", f"{{host: {host}, mode: out}}")
        assert out.rc == 0, out.stdout
        assert holder(balancers, topology["virtual_address"]) is not host
        back = order("orch.maintenance", f"{{host: {host}, mode: in}}")
        assert back.rc == 0, back.stdout

    assert running.watcher.wrong == []
    assert running.outage < 3


def test_a_controlled_switch_of_redis_costs_no_page(
    steady: Callable[[str], Any],
    order: Callable[..., CommandResult],
    machines: dict[str, Machine],
    client: Client,
) -> None:
    data = with_role(machines, "data")
    before = primary(data)
    with steady("orch.failover") as running:
        moved = order("orch.failover")
        assert moved.rc == 0, moved.stdout
        assert primary(data) != before
        eventually(lambda: readiness(client) == "ready")

    assert running.failed == []
    assert (running.watcher.wrong, running.watcher.breaks, running.submitter.failed) == ([], [], [])


def test_an_order_that_would_end_the_service_is_refused(
    order: Callable[..., CommandResult], machines: dict[str, Machine], client: Client
) -> None:
    first, second = with_role(machines, "web")
    assert order("orch.maintenance", f"{{host: {first}, mode: out}}").rc == 0
    try:
        refused = order("orch.maintenance", f"{{host: {second}, mode: out}}")
        assert refused.rc != 0
        assert f"{second} is the last web host that serves" in refused.stdout
    finally:
        assert order("orch.maintenance", f"{{host: {first}, mode: in}}").rc == 0
    assert eventually(lambda: is_whole(machines, client))
