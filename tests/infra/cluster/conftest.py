"""What the tests of a cluster share: a steady load that is reported on, and the faults of hosts.

The reports stand at the end of pytest's output, a line for each fault.
"""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from client import Client
from hosts import has_booted, is_whole, with_role
from machine import Machine
from steady import Steady
from waiting import eventually

REPOSITORY = Path(__file__).resolve().parents[3]
REPORTS = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[REPORTS] = []


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if config.stash.get(REPORTS, []):
        terminalreporter.section("what was seen")
        for line in config.stash[REPORTS]:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Return what puts a line among the reports."""
    return pytestconfig.stash[REPORTS].append


@pytest.fixture
def steady(client: Client, machines: dict[str, Machine], report: Callable[[str], None]) -> Callable[[str], Any]:
    """Return a context manager: the steady load for as long as its block runs, on a cluster that is whole."""

    @contextmanager
    def steady(what: str) -> Iterator[Steady]:
        eventually(lambda: is_whole(machines, client))
        running = Steady(client, what)
        try:
            with running:
                yield running
        finally:
            report(running.report())

    return steady


@pytest.fixture(scope="session")
def balancers(machines: dict[str, Machine]) -> list[Machine]:
    return with_role(machines, "lb")


@pytest.fixture(scope="session")
def monitor(machines: dict[str, Machine]) -> Machine:
    return with_role(machines, "monitor")[0]


@pytest.fixture(scope="session")
def topology_file(topology: dict[str, Any]) -> Path:
    return REPOSITORY / "salt" / "pillar" / "topology" / f"{topology['name']}.sls"


@pytest.fixture(scope="session")
def converge(topology: dict[str, Any]) -> Callable[[], None]:
    """Return what brings the lab to what the repository says, as an operator does."""

    def converge() -> None:
        shown = subprocess.run(
            ["docker", "ps", "--filter", f"label=turnkey.root={REPOSITORY}", "--format", '{{.Label "turnkey.os"}}'],
            check=True,
            capture_output=True,
            text=True,
        )
        command = ["lab/up", topology["name"], "--os", shown.stdout.split()[0]]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-5000:]}\n{done.stderr[-2000:]}"

    return converge


@pytest.fixture
def made_anew(pytestconfig: pytest.Config, topology: dict[str, Any]) -> Callable[[Machine, Path], None]:
    """Return what destroys a host, and builds another in its place out of the repository and a few files.

    Those are a tar archive, unpacked before Salt comes.
    """
    config = Path(pytestconfig.getoption("ssh_config"))

    def run(*command: str, **more: Any) -> str:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, **more)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-5000:]}\n{done.stderr[-2000:]}"
        return done.stdout

    def made_anew(machine: Machine, archive: Path) -> None:
        run("vagrant", "destroy", "--force", machine.name)
        machine.made_anew = True
        run("vagrant", "up", machine.name, "--provider=docker", "--no-provision")
        # It has another key, and maybe another address to come to by ssh.
        config.write_text(run("vagrant", "ssh-config"))
        with archive.open("rb") as file:
            unpack = "sudo tar --extract --gzip --no-same-owner --preserve-permissions --directory=/"
            run("ssh", "-F", str(config), machine.name, unpack, stdin=file)
        run("lab/converge", topology["name"], machine.name)

    return made_anew


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def killed(container: Callable[[Machine], str], machines: dict[str, Machine]) -> Callable[[Machine], Any]:
    """Return a context manager: a host is dead for as long as its block runs, and then starts."""

    @contextmanager
    def killed(machine: Machine) -> Iterator[None]:
        name = container(machine)
        subprocess.run(["docker", "kill", name], check=True, capture_output=True)
        try:
            yield
        finally:
            subprocess.run(["docker", "start", name], check=True, capture_output=True)
            eventually(lambda: has_booted(machine))

    return killed
