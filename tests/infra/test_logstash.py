"""Logstash on the log host, as far as it can be proved without it: with a stand-in, from a repository that is signed.

What the stand-in is, and what it cannot show: tests/stand_in.py.
"""

import base64
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from client import Client, another_site, with_id
from machine import Applied, Machine
from tests import logstash, stand_in
from waiting import eventually

pytestmark = pytest.mark.disruptive

# On the host: the repository, and what accounts were saved to before there was a user logstash.
PACKAGES, SAVED = "/srv/stand-in-packages", "/srv/stand-in-accounts.tar"
SOURCES, PREFERENCES = "/etc/apt/sources.list.d/turnkey-logstash.sources", "/etc/apt/preferences.d/turnkey-logstash"
PIPELINE, UNIT = "/etc/logstash/turnkey.conf", "logstash.service"
TOOL = "/usr/local/sbin/find-logstash"
UNREACHABLE = f"file:{PACKAGES} cannot be reached, or is not signed by logstash:repository:key; nothing was changed"

# The last lines of each file of the archive, and those before that were rotated away: who says little has no others.
LAST_LINES = """
import collections, glob, gzip, json, os, sys
found = {}
for name in sorted(glob.glob(f"{sys.argv[1]}/*/*.log*"), key=os.path.getmtime):
    path = name[:name.rindex(".log") + 4]
    with (gzip.open if name.endswith(".gz") else open)(name, "rt", errors="replace") as file:
        found.setdefault(path, collections.deque(maxlen=200)).extend(file)
print(json.dumps({path: list(lines) for path, lines in found.items()}))
"""


@pytest.fixture(scope="module")
def keys(keeper: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The repository on the host, by the key that signs it and one that does not; afterwards all is as before."""
    folder = tmp_path_factory.mktemp("packages")
    own, other = stand_in.key(folder / "own"), stand_in.key(folder / "other")
    stand_in.repository(folder / "packages", folder / "own")
    copy(folder / "packages", keeper)
    # Of each change of accounts the state before is kept, in files of their own.
    keeper.check(f"cd /etc && tar --create --file={SAVED} $(ls passwd- group- shadow- gshadow- 2>/dev/null)")
    try:
        yield own, other
    finally:
        applied = keeper.apply(only="logstash")
        keeper.check("DEBIAN_FRONTEND=noninteractive dpkg --purge logstash 2>&1")
        keeper.check("cd /etc && rm -f passwd- group- shadow- gshadow- && tar --extract --file=%s", SAVED)
        keeper.check("rm -rf /etc/systemd/system/logstash.service.d /var/log/logstash-out")
        keeper.check("rm -rf %s %s /var/lib/apt/lists/*stand-in* && systemctl daemon-reload", PACKAGES, SAVED)
        assert applied.ok, applied.message


def copy(folder: Path, host: Machine) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(folder, PACKAGES)
    text = base64.b64encode(packed.getvalue()).decode()
    host.check("echo %s | base64 --decode | tar --extract --gzip --directory=/", text)
    host.check("chown -R root: %s && chmod -R a+rX %s", PACKAGES, PACKAGES)


def site(key: str, **more: Any) -> dict[str, Any]:
    return {"logstash": {"enabled": True, "repository": {"url": f"file:{PACKAGES}", "key": key}, **more}}


def apply(host: Machine, pillar: dict[str, Any]) -> Applied:
    """Apply the formula alone with this pillar, which is that of the site no more afterwards."""
    with host.site(pillar):
        return host.apply(only="logstash")


def as_it_is(host: Machine) -> tuple[set[str], dict[str, str]]:
    """Return what there is of configuration and what runs; the tool that looks for Logstash does not count."""
    return {line for line in host.configuration() if TOOL not in line}, host.started()


def written(host: Machine, id: str) -> list[str]:
    """Return the programs whose lines of a request have come out of the stand-in."""
    lines = host.run("grep --no-filename --recursive %s /var/log/logstash-out", id).stdout.splitlines()
    originals = [json.loads(json.loads(line)["event"]["original"]) for line in lines]
    # sudo tells of the search itself, in its own words.
    return sorted(line["program"] for line in originals if "data" in line)


@pytest.mark.parametrize("why", ["it is away", "another's key"])
def test_repository_that_is_refused_changes_nothing(keeper: Machine, keys: tuple[str, str], why: str) -> None:
    own, other = keys
    before = as_it_is(keeper)

    if why == "it is away":
        keeper.check("mv %s %s", PACKAGES, f"{PACKAGES}.away")
    try:
        applied = apply(keeper, site(other if why == "another's key" else own))
    finally:
        keeper.check("[ ! -e %s ] || mv %s %s", f"{PACKAGES}.away", f"{PACKAGES}.away", PACKAGES)

    assert (applied.retcode, list(applied.failed)) == (2, [SOURCES])
    assert UNREACHABLE in applied.message
    assert keeper.run("dpkg-query --show logstash").rc == 1
    assert as_it_is(keeper) == before


@pytest.fixture(scope="module")
def running(keeper: Machine, keys: tuple[str, str]) -> Machine:
    """The log host with the stand-in, once it was applied."""
    applied = apply(keeper, site(keys[0]))
    assert applied.ok, applied.message
    return keeper


def test_package_is_the_pinned_one_and_a_second_apply_changes_nothing(running: Machine, keys: tuple[str, str]) -> None:
    shown = running.check("dpkg-query --show --showformat='${Version} ${Description}' logstash")
    before = running.main_pid(UNIT)

    again = apply(running, site(keys[0]))

    assert shown.startswith(f"{stand_in.VERSION} stand-in, not Elastic's")
    # A newer one is there, and nothing else of that repository would be taken either.
    assert stand_in.NEWER in running.check("apt-cache madison logstash")
    assert "99:1-1" not in running.check("apt-get --simulate dist-upgrade")
    assert again.ok, again.message
    assert again.changed == {}
    assert (running.main_pid(UNIT), running.show(UNIT, "UnitFileState")) == (before, "enabled")


def test_lines_of_a_request_come_from_rsyslog_through_the_pipeline(running: Machine, client: Client) -> None:
    own = with_id()

    client.page(headers=another_site() | own)

    eventually(lambda: written(running, own["X-Request-ID"]) == ["gunicorn", "haproxy", "nginx"])


def test_it_runs_as_nobody_of_importance_and_shut_in(running: Machine) -> None:
    assert running.check("ps -o user= -p %s", str(running.main_pid(UNIT))) == "logstash"
    done = running.run("systemd-analyze security --no-pager --threshold=30 %s", UNIT)
    assert done.rc == 0, done.stdout.splitlines()[-1]
    # Java's memory as the settings have it.
    assert running.settings("logstash")["heap"] in running.show(UNIT, "Environment")


def test_what_cannot_be_had_or_would_not_run_leaves_what_runs(
    running: Machine, keys: tuple[str, str], client: Client
) -> None:
    before = as_it_is(running), running.main_pid(UNIT)

    lacking = apply(running, site(keys[0], version="1:9.1.4-1"))
    # Logstash has no such output unless somebody adds it.
    output = {"kind": "opensearch", "hosts": ["https://search.example:9200"]}
    refused = apply(running, site(keys[0], output=output))

    assert f"file:{PACKAGES} has no logstash 1:9.1.4-1; nothing was changed" in str(lacking.states)
    assert not lacking.ok
    assert list(refused.failed) == [PIPELINE]
    assert "Couldn't find any output plugin named 'opensearch'" in refused.message
    assert (as_it_is(running), running.main_pid(UNIT)) == before
    own = with_id()
    client.page(headers=another_site() | own)
    eventually(lambda: written(running, own["X-Request-ID"]) == ["gunicorn", "haproxy", "nginx"])


def test_every_recent_line_of_the_archive_is_understood(running: Machine) -> None:
    filters = logstash.Filters(running.read(PIPELINE))
    archive = running.settings("rsyslog")["archive"]
    # Another look, where logs are just being rotated.
    files = json.loads(eventually(lambda: running.python(LAST_LINES, archive)))

    # The last may be half a line as yet.
    whole = [(path, line[:-1]) for path, lines in files.items() for line in lines if line.endswith("\n")]
    events = [filters.run(path, line) for path, line in whole]

    assert [(event["tags"], event["event"]["original"]) for event in events if "tags" in event] == []
    datasets = {event["event"]["dataset"] for event in events}
    assert {"haproxy.access", "nginx.access", "gunicorn.app", "celery.app", "redis.log"} <= datasets
    print(f"{len(events)} lines of {len(files)} files, {len(filters.tried)} matches, none failed")


def test_archive_goes_on_when_it_is_off_again(running: Machine, client: Client) -> None:
    rsyslog = running.main_pid("rsyslog.service")

    applied = apply(running, {})

    assert applied.ok, applied.message
    assert (running.show(UNIT, "ActiveState"), running.show(UNIT, "UnitFileState")) == ("inactive", "disabled")
    assert running.run("ls %s %s", SOURCES, PREFERENCES).stdout == ""
    assert running.main_pid("rsyslog.service") == rsyslog
    own = with_id()
    client.page(headers=another_site() | own)
    eventually(lambda: "haproxy" in running.run("turnkey-trace %s", own["X-Request-ID"]).stdout)
