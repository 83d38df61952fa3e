"""Fixtures of the tests against running hosts.

The hosts come from the topology (``--topology``), all of them or those of ``--hosts=name,name``; ssh knows the way from
the file of ``--ssh-config``, such as ``vagrant ssh-config`` prints. What tests expect is read from the hosts' settings.

Tests marked ``disruptive`` change what a host runs, kill it or fill it; each puts it back. They run only where the
environment says TURNKEY_LAB=1, that is, against lab hosts.
"""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from client import Client
from load import Load
from looking import Looking
from machine import IN_LAB, Machine, at_once, rehearsed
from playwright.sync_api import Browser, Page
from tests.chromium import launched
from zabbix import Zabbix

REPOSITORY = Path(__file__).resolve().parents[2]

# A test that hangs is stopped. No test's outcome depends on how long it takes.
TIMEOUT = 600

MARKERS = (
    "roles(name, ...): the test's hosts are those with one of the roles; without: all",
    "cluster: about several hosts",
    "alone: about a host that has its topology for itself; chosen there only",
    "together: about hosts of one topology and each other; chosen where there are several",
    "disruptive: changes what a host runs, or kills it; runs on lab hosts only",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    # --hosts and --ssh-config are testinfra's own.
    parser.addoption("--topology", default="single", help="the topology that the hosts are of (default: %(default)s)")
    parser.addoption(
        "--screenshots",
        type=Path,
        default=os.environ.get("SCREENSHOTS", REPOSITORY / ".cache" / "screenshots"),
        help="folder for screenshots (default: $SCREENSHOTS or .cache/screenshots)",
    )


def pytest_configure(config: pytest.Config) -> None:
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.pluginmanager.hasplugin("timeout"):
        for item in items:
            item.add_marker(pytest.mark.timeout(TIMEOUT))
    # What is about another kind of topology proves nothing of this one, and is no test that was left out.
    leave_out(config, items, "alone" if len(topology_of(config)["hosts"]) > 1 else "together")
    if not IN_LAB:
        config.stash[LEFT_OUT] = leave_out(config, items, "disruptive")


def leave_out(config: pytest.Config, items: list[pytest.Item], marker: str) -> int:
    """Leave out the tests that have a marker; return how many these are."""
    doomed = [item for item in items if item.get_closest_marker(marker)]
    items[:] = [item for item in items if item not in doomed]
    config.hook.pytest_deselected(items=doomed)
    return len(doomed)


LEFT_OUT = pytest.StashKey[int]()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if left_out := config.stash.get(LEFT_OUT, 0):
        terminalreporter.write_line(
            f"{left_out} tests left out: they change or kill what hosts run, and nobody set TURNKEY_LAB=1", yellow=True
        )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "host" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("roles")
        hosts = chosen_hosts(metafunc.config)
        names = [name for name in hosts if marker is None or set(marker.args) & set(hosts[name]["roles"])]
        metafunc.parametrize("host", names, indirect=True, scope="session")


def chosen_hosts(config: pytest.Config) -> dict[str, Any]:
    """Return the topology's entries of the hosts that the command line names."""
    hosts: dict[str, Any] = topology_of(config)["hosts"]
    names = config.getoption("hosts") or "all"
    if names == "all":
        return hosts
    unknown = set(names.split(",")) - set(hosts)
    if unknown:
        raise pytest.UsageError(f"--hosts: the topology has no {', '.join(sorted(unknown))}; it has {', '.join(hosts)}")
    return {name: hosts[name] for name in names.split(",")}


def topology_of(config: pytest.Config) -> dict[str, Any]:
    path = REPOSITORY / "salt" / "pillar" / "topology" / f"{config.getoption('topology')}.sls"
    if not path.is_file():
        raise pytest.UsageError(f"--topology: there is no {path}")
    topology: dict[str, Any] = yaml.safe_load(path.read_text())["topology"]
    return topology


@pytest.fixture(scope="session")
def topology(pytestconfig: pytest.Config) -> dict[str, Any]:
    return topology_of(pytestconfig)


@pytest.fixture(scope="session")
def machines(pytestconfig: pytest.Config) -> Iterator[dict[str, Machine]]:
    """All chosen hosts by name."""
    way = {
        "ssh_config": pytestconfig.getoption("ssh_config"),
        "sudo": True,
        # A host that is restarted breaks the connection without a word: ssh is to notice.
        "ssh_extra_args": "-o ServerAliveInterval=5 -o ServerAliveCountMax=6",
    }
    topology = topology_of(pytestconfig)
    # One connection for all commands. A socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="ssh-") as sockets:
        yield {
            name: Machine(name, topology, testinfra.get_host(f"ssh://{name}", controlpath=f"{sockets}/{name}", **way))
            for name in chosen_hosts(pytestconfig)
        }


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest, machines: dict[str, Machine]) -> Machine:
    """Each host in turn, or each that has one of the roles of the marker ``roles``."""
    return machines[request.param]


def first_with(role: str, machines: dict[str, Machine]) -> Machine:
    found = [machine for machine in machines.values() if role in machine.roles]
    assert found, f"none of the chosen hosts has the role {role}"
    return found[0]


@pytest.fixture(scope="session")
def lb(machines: dict[str, Machine]) -> Machine:
    """The host that clients come to."""
    return first_with("lb", machines)


@pytest.fixture(scope="session")
def web(machines: dict[str, Machine]) -> Machine:
    """A host that runs the app."""
    return first_with("web", machines)


@pytest.fixture(scope="session")
def data(machines: dict[str, Machine]) -> Machine:
    """The host that runs Redis."""
    return first_with("data", machines)


@pytest.fixture(scope="session")
def keeper(machines: dict[str, Machine]) -> Machine:
    """The log host."""
    return first_with("logs", machines)


@pytest.fixture(scope="session")
def client(lb: Machine, topology: dict[str, Any]) -> Client:
    """A client of the service, on this machine."""
    return Client(topology.get("virtual_address", lb.address), lb.settings("haproxy")["port"])


@pytest.fixture(scope="session")
def base_url(client: Client) -> str:
    return f"http://{client.address}:{client.port}"


@pytest.fixture(scope="session")
def frontend(machines: dict[str, Machine], client: Client) -> str:
    """The URL of Zabbix's pages, at the address that clients come to."""
    settings = first_with("monitor", machines).settings("zabbix_frontend")
    return f"http://{client.address}:{client.port}{settings['path']}"


@pytest.fixture(scope="session")
def zabbix(machines: dict[str, Machine]) -> Zabbix:
    """The API of Zabbix, on the host that watches."""
    return Zabbix(first_with("monitor", machines))


@pytest.fixture(scope="session")
def settings(machines: dict[str, Machine]) -> Callable[[str], dict[str, Any]]:
    """The settings of a formula, which are those of all hosts."""
    return next(iter(machines.values())).settings


@pytest.fixture
def load(client: Client) -> Callable[..., Load]:
    """Clients that ask for as long as a block runs: ``with load() as running: …``."""

    def load(**options: Any) -> Load:
        return Load(client, **options)

    return load


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser on this machine; not kept any longer than its module's tests take, as it is large."""
    with launched() as browser:
        yield browser


@pytest.fixture
def looking(chromium: Browser) -> Iterator[Looking]:
    """What opens pages in a real browser: ``looking.at(url)``; for messages: ``looking.said(page)``."""
    looking = Looking(chromium)
    yield looking
    looking.close()


@pytest.fixture
def screenshot(pytestconfig: pytest.Config) -> Callable[[Page, str], None]:
    """What saves a picture of a page as NAME.png in the folder of ``--screenshots``."""
    folder = Path(pytestconfig.getoption("screenshots"))

    def screenshot(page: Page, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=folder / f"{name}.png")

    return screenshot


@pytest.fixture(scope="session")
def container() -> Callable[[Machine], str]:
    """The name of the container that a lab host is."""

    def container(machine: Machine) -> str:
        # Of this tree's lab: another's may be up too.
        labels = [f"--filter=label=turnkey.{label}" for label in (f"host={machine.name}", f"root={REPOSITORY}")]
        found = subprocess.run(
            ["docker", "ps", "--all", *labels, "--format", "{{.Names}}"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        assert len(found) == 1, f"containers that are {machine.name}: {found}"
        return found[0]

    return container


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_behind(machines: dict[str, Machine]) -> Iterator[None]:
    """After all tests the hosts are as before: the same configuration, and nothing that an apply would change."""
    before = at_once(machines.values(), Machine.configuration)
    yield
    if IN_LAB:
        after = at_once(machines.values(), Machine.configuration)
        for name, machine in machines.items():
            difference = set(after[name]) ^ set(before[name])
            assert machine.made_anew or not difference, f"{name} is not as it was: {sorted(difference)}"
        assert {
            name: applied.would_change for name, applied in rehearsed(machines).items() if applied.would_change
        } == {}
