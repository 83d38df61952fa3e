"""The host of Zabbix, of the master and of the logs is lost for good, and another takes its place by the runbook.

The last of the cluster's tests: what others look at afterwards is the new one.
"""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hosts import answering
from machine import REPOSITORY, Machine
from waiting import eventually
from zabbix import Zabbix

pytestmark = [pytest.mark.cluster, pytest.mark.disruptive]

# What docs/runbooks/zabbix-database.rst says is to be kept elsewhere.
KEPT = (f"{REPOSITORY}/salt/pillar/secrets.sls", "/etc/salt/pki", "/var/backups/zabbix")
RUNBOOK = Path(__file__).parents[3] / "docs" / "runbooks" / "zabbix-database.rst"


def history(zabbix: Zabbix, host: str, until: int) -> list[tuple[str, str]]:
    """Return the values of a host's load up to a moment, the newest first, with their times."""
    items = zabbix.ask("item.get", output=["itemid"], host=host, filter={"key_": "system.cpu.load[all,avg1]"})
    asked = {"itemids": [item["itemid"] for item in items], "history": 0, "time_till": until, "limit": 20}
    found = zabbix.ask("history.get", sortfield="clock", sortorder="DESC", **asked)
    return [(value["clock"], value["value"]) for value in found]


@pytest.fixture
def archive(monitor: Machine, pytestconfig: pytest.Config, tmp_path: Path) -> Path:
    """What somebody has kept elsewhere: the runbook's archive, with a new copy of the database."""
    command = f"tar --create --gzip --absolute-names {' '.join(KEPT)}"
    assert command in " ".join(RUNBOOK.read_text().split())
    # Full of secrets: for root alone.
    tmp_path.chmod(0o700)
    path = tmp_path / "kept.tar.gz"
    with path.open("wb") as file:
        way = ["ssh", "-F", str(pytestconfig.getoption("ssh_config")), monitor.name, f"sudo {command}"]
        monitor.check("systemctl start backup-zabbix.service")
        done = subprocess.run(way, stdout=file, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return path


def test_history_outlives_the_host(
    monitor: Machine,
    made_anew: Callable[[Machine, Path], None],
    archive: Path,
    topology: dict[str, Any],
) -> None:
    zabbix = Zabbix(monitor)
    now = int(monitor.check("date +%s"))
    kept = {name: history(zabbix, name, now - 60) for name in topology["hosts"]}
    assert all(kept.values()), kept
    newest = monitor.check("find /var/backups/zabbix -maxdepth 1 -name 'zabbix-*.dump' | sort | tail -1")

    made_anew(monitor, archive)
    shutil.rmtree(archive.parent)

    # Zabbix is there, knows all hosts, and nothing of what was.
    assert eventually(lambda: set(zabbix.hosts()) == set(topology["hosts"]))
    assert {name: history(zabbix, name, now - 60) for name in kept} == {name: [] for name in kept}

    # A night that falls between is one of the new Zabbix.
    monitor.check("systemctl start backup-zabbix.service")
    assert "``restore-zabbix /var/backups/zabbix/zabbix-….dump``" in RUNBOOK.read_text()
    restored = monitor.check(f"restore-zabbix {newest}")

    assert f"{newest} is in place" in restored
    # The pages are there a moment after their server was started.
    assert eventually(zabbix.hosts)
    assert {name: history(zabbix, name, now - 60) for name in kept} == kept
    zabbix.put_right()
    assert zabbix.drift() == {}
    # It measures on, and the minions follow their master as before.
    assert eventually(lambda: all(history(zabbix, name, now + 3600)[0][0] > str(now) for name in kept), deadline=180)
    assert eventually(lambda: answering(monitor) == set(topology["hosts"]), deadline=180)
