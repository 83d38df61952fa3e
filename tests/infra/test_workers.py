"""Workers: those of pillar run, in the release that serves, behind pages, and are back when they are killed."""

import math
import random

import pytest
from client import Client
from jobs import finished, submitted, terms, works
from load import readiness
from machine import Machine
from waiting import eventually
from zabbix import Zabbix

pytestmark = pytest.mark.roles("worker")


def units(host: Machine) -> list[str]:
    """Return the workers that run."""
    listed = host.check("systemctl list-units --plain --no-legend --state=active 'celery@*.service'")
    return sorted(line.split()[0] for line in listed.splitlines())


def test_workers_are_those_of_pillar(host: Machine) -> None:
    assert units(host) == sorted(f"celery@{name}.service" for name in host.settings("celery")["workers"])


def test_each_takes_from_its_queues_and_gives_way_to_pages(host: Machine) -> None:
    settings = host.settings("celery")
    for name, worker in settings["workers"].items():
        unit = f"celery@{name}.service"
        # Celery names its processes: what ps shows is one text.
        assert f"--queues={','.join(worker['queues'])} " in host.read(f"/proc/{host.main_pid(unit)}/cmdline")
        for pid in host.processes(unit):
            assert host.check("ps --no-headers -o ni --pid %s", str(pid)).strip() == str(settings["nice"])
        assert host.show(unit, "CPUWeight") == str(settings["cpu_weight"])


def test_all_of_them_run_in_the_release_that_serves(host: Machine) -> None:
    for unit in units(host):
        assert {host.check("readlink /proc/%s/cwd", str(pid)) for pid in host.processes(unit)} == {
            f"{host.release()}/src"
        }


def test_a_job_is_done(client: Client) -> None:
    assert works(client)


@pytest.mark.disruptive
@pytest.mark.parametrize("victim", ["main process", "child"])
def test_a_worker_that_is_killed_is_back_by_itself(host: Machine, client: Client, victim: str) -> None:
    for unit in units(host):
        pid = host.main_pid(unit) if victim == "main process" else host.children(unit)[0]
        host.check("kill -KILL %s", str(pid))

        def is_back(unit: str = unit, pid: int = pid) -> bool:
            return host.show(unit, "ActiveState") == "active" and pid not in host.processes(unit)

        assert eventually(is_back)
        assert eventually(lambda unit=unit: len(host.children(unit)) > 0)  # type: ignore[misc]

    assert works(client)


@pytest.mark.disruptive
@pytest.mark.parametrize("ending", ["kill", "restart"])
def test_jobs_outlive_redis(client: Client, data: Machine, ending: str) -> None:
    past = finished(client, submitted(client, 3))
    n = random.randrange(25_000_000, 30_000_000)  # noqa: S311 - no secret
    under_way = submitted(client, 1, n)
    eventually(lambda: client.ask(under_way).json["state"] == "running", pause=0.05)

    if ending == "kill":
        data.check("kill -KILL %s", str(data.main_pid("redis-server.service")))
    else:
        data.check("systemctl restart redis-server.service")

    eventually(lambda: readiness(client) == "ready")
    assert client.ask(f"{past}/result").status == 200
    (value,) = terms(client, f"{finished(client, under_way)}/result")
    assert len(value) == int(n * math.log10((1 + 5**0.5) / 2) - math.log10(5) / 2) + 1


def grows_with_the_backlog_and_shrinks_again(host: Machine, client: Client, zabbix: Zabbix) -> None:
    """Let 200 jobs wait for the worker `extra`, whose bounds are 1 and 4."""
    eventually(lambda: len(host.children("celery@extra.service")) == 1)
    host.check("systemctl stop celery@all.service celery@extra.service")
    began = int(host.check("date +%s"))

    def seen() -> list[float]:
        return zabbix.history(host, "turnkey.units.celery.children", began)

    places = [submitted(client, 3) for _ in range(200)]

    host.check("systemctl start --no-block celery@extra.service")

    grown = eventually(lambda: len(found := host.children("celery@extra.service")) == 4 and found)
    # The jobs are done sooner than Zabbix looks: who does them stands still until it has.
    pids = " ".join(map(str, grown))
    try:
        host.check(f"kill -STOP {pids}")
        assert eventually(lambda: max(seen(), default=0) >= 4, pause=1)
    finally:
        # One that was too quick to be stopped may be gone.
        host.run(f"kill -CONT {pids}")
    host.check("systemctl start celery@all.service")
    for place in places:
        finished(client, place)
    eventually(lambda: len(host.children("celery@extra.service")) == 1)
    # Those of `all` may be two.
    assert eventually(lambda: seen()[-1] < 4, pause=1)


@pytest.mark.disruptive
def test_a_worker_that_pillar_drops_stops_and_one_that_it_adds_runs(
    host: Machine, client: Client, zabbix: Zabbix
) -> None:
    before = units(host)

    extra = {"queues": ["short", "long"], "concurrency": 4}
    workers = {"short": {"concurrency": 0}, "extra": extra}
    with host.applied({"celery": {"workers": workers, "shrink_after": 5}}) as applied:
        assert applied.ok, applied.message
        assert units(host) == ["celery@all.service", "celery@extra.service"]
        assert works(client)
        again = host.apply()
        assert (again.ok, again.changed) == (True, {})
        grows_with_the_backlog_and_shrinks_again(host, client, zabbix)

    assert units(host) == before
    assert works(client)


@pytest.mark.disruptive
def test_workers_follow_a_new_release(host: Machine, client: Client) -> None:
    before = host.release()

    with host.applied({"app": {"environment": {"FIBONACCI_MAX_PER_PAGE": 900}}}) as applied:
        assert applied.ok, applied.message
        assert host.release() != before
        test_all_of_them_run_in_the_release_that_serves(host)
        assert works(client)


@pytest.mark.disruptive
def test_celery_that_does_not_load_keeps_its_release_out_of_service(host: Machine) -> None:
    before = host.release()

    with host.site({"app": {"celery": "web.no_such_worker:app"}}):
        broken = host.apply()
        during = host.release()
    host.heal()

    assert [name.rpartition("/")[2] for name in broken.failed] == ["tried"]
    assert "no_such_worker" in broken.message
    assert during == before
