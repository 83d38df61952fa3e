"""Hosts to render for, made once each; and a guard: nothing outside the temporary folder is written."""

import concurrent.futures
import fcntl
import logging
import multiprocessing
import os
import pathlib
import pickle
import sys
import tempfile

import pytest

from rendering import CLUSTER, OSES, SINGLE, SPREAD, render

TEMPORARY = [os.path.realpath(tempfile.gettempdir())]
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Each event of the interpreter that changes the disk: which of its arguments are paths, and the folder each is below.
CHANGES = {
    "os.chmod": [(0, 2)],
    "os.chown": [(0, 3)],
    "os.link": [(1, 3)],
    "os.mkdir": [(0, 2)],
    "os.remove": [(0, 1)],
    "os.rename": [(0, 2), (1, 3)],
    "os.rmdir": [(0, 1)],
    "os.symlink": [(1, 2)],
    "os.truncate": [(0, None)],
    "os.utime": [(0, 3)],
}
trespasses = []
on_duty = False


def guard(event, arguments):
    if not on_duty:
        return
    if event == "open":
        path, _, flags = arguments
        changed = [(path, -1)] if isinstance(flags, int) and flags & WRITING else []
    else:
        changed = [
            (arguments[path], -1 if folder is None else arguments[folder]) for path, folder in CHANGES.get(event, [])
        ]
    for path, folder in changed:
        # A number is a file that is open already.
        if isinstance(path, (str, bytes, os.PathLike)):
            base = os.getcwd() if folder == -1 else f"/proc/self/fd/{folder}"
            place = os.path.realpath(os.path.join(base, os.fsdecode(path)))
            if "__pycache__" not in place and not any(is_below(place, free) for free in [*TEMPORARY, "/dev"]):
                trespasses.append(f"{event} {place}")
                raise PermissionError(f"{event} outside {TEMPORARY[0]}: {place}")


def is_below(path, folder):
    return os.path.commonpath([path, folder]) == folder


def stand_guard():
    global on_duty
    on_duty = True
    sys.addaudithook(guard)
    be_quiet()


def be_quiet():
    # All that it looks at, file by file, would bury the reason of a failure, and takes its time.
    logging.getLogger("salt").setLevel(logging.ERROR)


def pytest_addoption(parser):
    parser.addoption("--update-reference", action="store_true", help="write tests/unit/states/reference/ anew")


def pytest_configure(config):
    if config.getoption("--update-reference"):
        TEMPORARY.append(str(pathlib.Path(__file__).parent.resolve() / "reference"))
    sys.addaudithook(guard)
    be_quiet()


@pytest.fixture(autouse=True)
def _nothing_is_written_elsewhere():
    global on_duty
    on_duty = True
    yield
    # Between tests pytest writes its own files.
    on_duty = False
    # What the guard raised may have been caught on its way.
    found, trespasses[:] = list(trespasses), []
    assert found == []


TOPOLOGIES = {"single": SINGLE, "spread": SPREAD, "cluster": CLUSTER}
GROWN = {**CLUSTER, "hosts": {**CLUSTER["hosts"], "web3": {"address": "10.77.2.23", "roles": ["web", "worker"]}}}
# Whoever signs with its key is nobody: it was thrown away.
AUTHORITY = """\
-----BEGIN CERTIFICATE-----
MIHnMIGaoAMCAQICAQEwBQYDK2VwMBIxEDAOBgNVBAMMB0V4YW1wbGUwIBcNMjYw
MTAxMDAwMDAwWhgPMjEyNjAxMDEwMDAwMDBaMBIxEDAOBgNVBAMMB0V4YW1wbGUw
KjAFBgMrZXADIQC4cUJ91gTNJOw9n8EHCaaWQNkgq8D5n/7DTNFdYA1IAaMTMBEw
DwYDVR0TAQH/BAUwAwEB/zAFBgMrZXADQQDVQUrAvGDRmkwJENNM+dHtD2hF48mt
bvzzwfnpUomKA5Y4mr5HfZggLSln2hEctN3bXpJ+O83N9gcAMGvLwYEN
-----END CERTIFICATE-----
"""
# What a site may say for all of its hosts.
EXTRA = {
    "celery": {"workers": {"odd": {"queues": ["odd"], "max_tasks_per_child": 5}}},
    "firewall": {
        "ssh_networks": ["10.77.9.0/24", "192.0.2.7"],
        "ssh_rate": 30,
        "log_rate": 10,
        "snippets": {"input": "# own input", "forward": "# own forward", "table": "# own table"},
    },
    "ntp": {
        "pools": [{"host": "pool.example", "nts": True}],
        "servers": ["clock.example", {"host": "time.example", "port": 1123, "nts": True, "nts_port": 14460}],
        "peers": ["10.77.1.9"],
        "allow": ["10.77.1.0/24"],
        "authselectmode": "require",
        "nts": {"authorities": [AUTHORITY], "system_authorities": False, "unchecked_dates": 1},
    },
    "names": {"domain": "site.example", "service": "fibonacci", "more": {"printer.example": "192.0.2.9"}},
}
# A host of a cluster that is all in one.
ENCRYPTED = {
    "name": "encrypted",
    "network": "10.77.8.0/24",
    "hosts": {
        "data1": {"address": "10.77.8.1", "roles": ["lb", "web", "worker", "data"]},
        "data2": {"address": "10.77.8.2", "roles": ["data"]},
        "data3": {"address": "10.77.8.3", "roles": ["data"]},
    },
}
# Each optional part of the configuration, for the host `custom`.
CUSTOM = {
    "app": {
        "logged": [],
        "environment": {"GREETING": 'say "hi" \\ wave', "DEPTH": 3, "LOUD": True},
        "static": {"path": "/static/", "folder": "web/static"},
        "stream": "",
        "celery": "",
    },
    "firewall": {"enabled": False},
    "gunicorn": {"workers": 7},
    "haproxy": {
        "ipv6": False,
        "limits": {"requests": 0, "writes": 0, "connections": 0, "exempt": []},
        "headers": {"X-Frame-Options": "DENY 100%"},
        "hsts": 0,
        "snippets": {
            "global": "# own global",
            "frontend": "# own frontend",
            "backend": "# own backend",
            "end": "# own end",
        },
    },
    "logrotate": {"defaults": {"compress": False}},
    "logstash": {
        "enabled": True,
        "repository": {
            "url": "https://repository.example/packages",
            "key": "-----BEGIN PGP PUBLIC KEY BLOCK-----\nKEY\n-----END PGP PUBLIC KEY BLOCK-----",
        },
        "workers": 2,
        "output": {"kind": "opensearch", "hosts": ["https://search.example:9200"], "login": "/etc/logstash-login"},
    },
    "names": {"hosts_file": False},
    "nginx": {
        "gzip": {"enabled": False},
        "cache": {"enabled": False},
        "tcp_nopush": True,
        "snippets": {"http": "# own http", "server": "# own server"},
    },
    "ntp": {"pools": ["pool.example"], "servers": ["clock.example"], "allow": ["10.77.1.0/24"], "local_stratum": 0},
    "zabbix_agent": {"service": {"websocket": "", "jobs": ""}},
    "zabbix_server": {"maintenance": {"New disks": {"from": "2026-12-24 22:00", "until": "2026-12-25 02:00"}}},
}


def orders():
    """What is asked of `render` for each host, by OS and name; those of the cluster are `cluster-web1` and so on."""
    for osfinger in OSES:
        for topology in TOPOLOGIES.values():
            prefix = "cluster-" if topology is CLUSTER else ""
            for name in topology["hosts"]:
                yield (osfinger, prefix + name), (name, osfinger, topology, EXTRA if topology is SPREAD else None)
        yield (osfinger, "grown-lb1"), ("lb1", osfinger, GROWN)
        yield (osfinger, "encrypted"), ("data1", osfinger, ENCRYPTED, {"redis": {"tls": {"enabled": True}}})
    scheduled = {"salt_minion": {"schedule": {"enabled": True, "minutes": 30, "splay": 120}}}
    yield (OSES[-1], "scheduled"), ("lb1", OSES[-1], CLUSTER, scheduled)
    elsewhere = {
        "rsyslog": {"archive": "/srv/logs"},
        "logstash": {"enabled": True, "local": "/srv/logstash.deb", "output": {"path": "/srv/events"}},
    }
    yield (OSES[-1], "elsewhere"), ("single", OSES[-1], SINGLE, elsewhere)
    for osfinger in OSES:
        yield (osfinger, "custom"), ("single", osfinger, SINGLE, CUSTOM, {"virtual": "physical", "num_cpus": 8})


ORDERS = dict(orders())
# A process for each host, from one that has imported Salt.
FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["salt.config", "salt.state"])


@pytest.fixture(scope="session")
def hosts(tmp_path_factory, request):
    """A function from OS and name to the host, which a process of its own has rendered.

    Of several processes of tests (pytest-xdist) one renders a host, for all of them: they begin at different ends.
    """
    worker = getattr(request.config, "workerinput", {}).get("workerid")
    shared = tmp_path_factory.getbasetemp().parent if worker else tmp_path_factory.mktemp("hosts")
    keys = list(ORDERS) if worker in (None, "gw0") else list(reversed(ORDERS))
    with concurrent.futures.ProcessPoolExecutor(
        max_workers=os.cpu_count(),
        mp_context=FORKSERVER,
        initializer=stand_guard,
        max_tasks_per_child=1,
    ) as pool:
        results = {key: pool.submit(render_once, shared / "-".join(key), *ORDERS[key]) for key in keys}
        yield lambda osfinger, name: results[osfinger, name].result()
        pool.shutdown(cancel_futures=True)


def render_once(file, *order):
    with file.open("a+b") as result:
        fcntl.flock(result, fcntl.LOCK_EX)
        result.seek(0)
        if text := result.read():
            return pickle.loads(text)  # noqa: S301  from the lines below
        host = render(*order)
        if trespasses:
            raise PermissionError(f"written elsewhere: {trespasses}")
        result.write(pickle.dumps(host))
    return host


@pytest.fixture(params=ORDERS, ids="-".join)
def host(request, hosts):
    """Each host in turn."""
    return hosts(*request.param)


@pytest.fixture(params=OSES)
def osfinger(request):
    return request.param
