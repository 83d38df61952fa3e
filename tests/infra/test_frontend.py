"""Zabbix's pages as a browser shows them: the door, and a dashboard of each role with something on it."""

from collections.abc import Callable
from typing import Any

import pytest
from looking import Looking
from machine import Machine
from playwright.sync_api import Page
from waiting import eventually
from zabbix import Zabbix

pytestmark = pytest.mark.roles("monitor")

# As it is in Debian's package.
DEFAULT = "zabbix"
# Of each role's dashboard, what is measured of every host of it all the time.
DASHBOARDS = {
    "lb": {"Requests", "Connections", "Web hosts that are ready", "Sent to clients", "CPU"},
    "web": {"Requests that ended", "Workers", "Threads busy", "Asked of nginx", "CPU"},
    "worker": {"Workers", "Processes that do tasks", "Load", "CPU"},
    "data": {"Memory", "Commands", "Clients", "Replication", "Jobs", "CPU"},
    "monitor": {"Hosts that are well", "Requests", "The service as it should be", "The service's time", "CPU"},
    "logs": {"Lines received", "Lines lost", "Logs that wait", "Network", "CPU"},
}
# Of what is measured four times a minute: enough for a line, and not so much that a new host has nothing.
PERIOD = "from=now-15m&to=now"
# Seconds, for all graphs of a page.
PATIENCE = 90

# Of each graph that has come: how many lines of more than a point are on it, of which each host has one at least.
GRAPHS = """() => [...document.querySelectorAll('.dashboard-grid-widget')].map(widget => {
    const title = widget.querySelector('h4')?.innerText || '';
    const fault = [...widget.querySelectorAll('.msg-bad')].map(it => it.innerText).join(' ');
    const empty = widget.querySelector('.no-data-message');
    // Until it has come there is a sign of waiting in its place.
    const come = [...widget.querySelectorAll('svg')].some(it => it.getBoundingClientRect().width > 100);
    if (!empty && !come) return {title, fault, lines: null};
    const paths = [...widget.querySelectorAll('.svg-graph-line path, path.svg-graph-line')];
    return {title, fault, lines: paths.filter(path => /L/.test(path.getAttribute('d') || '')).length};
})"""


def signed_in(looking: Looking, frontend: str, password: str) -> Page:
    """Return what comes for the user Admin and a password."""
    page = looking.at(f"{frontend}/index.php", width=1600, height=1100)
    page.fill("#name", "Admin")
    page.fill("#password", password)
    with page.expect_navigation():
        page.click("#enter")
    return page


def graphs(page: Page) -> list[dict[str, Any]]:
    """Return the graphs of a dashboard once each of them has come."""

    def come() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = page.evaluate(GRAPHS)
        assert found, f"no widgets: {Looking.said(page)}"
        assert [it for it in found if it["fault"]] == [], Looking.said(page)
        assert [it["title"] for it in found if it["lines"] is None] == [], f"still to come: {Looking.said(page)}"
        return found

    return eventually(come, deadline=PATIENCE, pause=0.2)


def test_a_browser_with_the_password_of_debians_package_stays_outside(looking: Looking, frontend: str) -> None:
    page = signed_in(looking, frontend, DEFAULT)

    assert "Incorrect user name or password" in Looking.said(page)
    assert page.locator("#password").is_visible(), Looking.said(page)
    page.goto(f"{frontend}/zabbix.php?action=host.view")
    assert "You are not logged in" in Looking.said(page)


def test_a_browser_with_the_sites_password_sees_a_dashboard_of_each_role_with_data(
    looking: Looking,
    frontend: str,
    host: Machine,
    zabbix: Zabbix,
    topology: dict[str, Any],
    screenshot: Callable[[Page, str], None],
) -> None:
    page = signed_in(looking, frontend, host.settings("zabbix_server")["password"])
    assert "zabbix.php?action=" in page.url, Looking.said(page)
    dashboards = zabbix.ask("dashboard.get", output=["dashboardid", "name"], search={"name": "turnkey: "})
    numbers = {dashboard["name"]: dashboard["dashboardid"] for dashboard in dashboards}
    roles: dict[str, list[str]] = {}
    for name, entry in topology["hosts"].items():
        for role in entry["roles"]:
            roles.setdefault(role, []).append(name)
    assert set(numbers) == {f"turnkey: {role}" for role in roles}

    for role, hosts in sorted(roles.items()):
        where = f"dashboardid={numbers[f'turnkey: {role}']}&{PERIOD}"

        def has_data(role: str = role, where: str = where, hosts: int = len(hosts)) -> bool:
            page.goto(f"{frontend}/zabbix.php?action=dashboard.view&{where}")
            # What the time is chosen with takes a quarter of the picture.
            if page.locator(".time-selection-container").is_visible():
                page.click("a.btn-time")
            lines = {graph["title"]: graph["lines"] for graph in graphs(page)}
            assert DASHBOARDS[role] <= set(lines), f"{role}: {lines}"
            short = {title: lines[title] for title in DASHBOARDS[role] if lines[title] < hosts}
            assert not short, f"{role}: fewer lines than the {hosts} hosts that it has: {short}"
            return True

        # A host that has just come has no line yet.
        assert eventually(has_data, deadline=PATIENCE, pause=5)
        screenshot(page, "dashboard" if role == "web" else f"dashboard-{role}")
