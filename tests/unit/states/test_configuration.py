"""What the files say, where it is decided here: addresses, optional parts, the machine."""

import contextlib
import difflib
import fnmatch
import os
import re
import shutil
import subprocess

import jinja2
import pytest
import yaml

from rendering import CLUSTER, OSES, ROOT, SECRET, STATES

NGINX, HAPROXY = "/etc/nginx/nginx.conf", "/etc/haproxy/haproxy.cfg"
REDIS, ACL = "/etc/redis/redis.conf", "/etc/redis/users.acl"
REPLICATION, SENTINEL = "/etc/redis/replication.conf", "/etc/redis/turnkey-sentinel.conf"
REDIS_UNIT = "/etc/systemd/system/redis-server.service.d/turnkey.conf"


def lines(text, start):
    return [line.strip() for line in text.splitlines() if line.strip().startswith(start)]


def environment(host):
    (path,) = (path for path in host.files if path.endswith("/environment"))
    return host.text(path)


@pytest.fixture
def single(hosts, osfinger):
    return hosts(osfinger, "single")


@pytest.fixture
def custom(hosts, osfinger):
    return hosts(osfinger, "custom")


def test_single_host_opens_nothing_but_its_door(single):
    assert lines(single.text(NGINX), "listen ") == ["listen 127.0.0.1:8080 backlog=4096;", "listen 127.0.0.1:8081;"]
    assert lines(single.text(REDIS), "bind ") == ["bind 127.0.0.1"]
    assert lines(single.text(HAPROXY), "bind ") == ["bind *:80", "bind :::80 v6only", "bind 127.0.0.1:8404"]
    assert lines(single.text(HAPROXY), "server ") == [
        "server single 127.0.0.1:8080",
        "server single 127.0.0.1:8080 track web/single",
        "server single 127.0.0.1:8090",
        "server single 127.0.0.1:8090",
    ]
    assert f"redis://app:{SECRET}@127.0.0.1:6379/0" in environment(single)


def test_a_web_host_is_given_so_many_requests_at_once_and_any_number_of_websockets(hosts, osfinger):
    door = yaml.safe_load((STATES / "haproxy" / "defaults.yaml").read_text())
    served = yaml.safe_load((STATES / "gunicorn" / "defaults.yaml").read_text())

    text = hosts(osfinger, "door").text(HAPROXY)

    limited = {
        part.split()[0] for part in text.split("\nbackend ")[1:] if f" maxconn {door['server_maxconn']}\n" in part
    }
    assert limited == {"web", "pages"}
    # Those that wait at gunicorn's own socket, and threads by far more than there are.
    assert served["backlog"] + 10 * served["threads"] < door["server_maxconn"] < door["maxconn"]


def test_hosts_that_others_need_listen_on_their_address(hosts, osfinger):
    assert lines(hosts(osfinger, "web1").text(NGINX), "listen ")[0] == "listen 10.77.9.11:8080 backlog=4096;"
    assert lines(hosts(osfinger, "web2").text(NGINX), "listen ")[0] == "listen 10.77.9.12:8080 backlog=4096;"
    assert lines(hosts(osfinger, "memory").text(REDIS), "bind ") == ["bind 10.77.9.13"]


def test_zabbix_asks_the_agents_and_nobody_comes_to_it(hosts, osfinger):
    monitor = hosts(osfinger, "cluster-monitor")
    assert lines(monitor.text("/etc/zabbix/zabbix_server.conf"), "ListenIP") == ["ListenIP=127.0.0.1"]
    agent = monitor.text("/etc/zabbix/zabbix_agent2.conf")
    assert lines(agent, "Server") == ["Server=10.77.2.40,127.0.0.1"]


@pytest.mark.parametrize("name", ["web1", "data1"])
def test_the_runbook_asks_as_the_agent_does(hosts, osfinger, name, tmp_path):
    """With its groups, without which a web host would say that permissions are wrong, and in all of its sandbox."""
    path = "/etc/systemd/system/zabbix-agent2.service.d/turnkey.conf"
    (tmp_path / "unit").write_text(hosts(osfinger, f"cluster-{name}").text(path))
    runbook = (ROOT / "docs" / "runbooks" / "alerts" / "unmeasured.rst").read_text()
    (commands,) = re.findall(r"^    unit=.*?COMMAND$", runbook, re.MULTILINE | re.DOTALL)
    (tmp_path / "systemd-run").write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    (tmp_path / "systemd-run").chmod(0o755)

    asked = subprocess.run(
        ["bash", "-euc", commands.replace(path, str(tmp_path / "unit"))],
        capture_output=True, text=True, check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
    ).stdout.splitlines()  # fmt: skip

    said = (tmp_path / "unit").read_text().partition("[Service]\n")[2].splitlines()
    said = [f"--property={line}" for line in said if line and not line.startswith("#")]
    # It ends, and leaves the agent's own folder alone.
    apart = {"Restart=always", "RestartSec=1s", "RuntimeDirectory=zabbix", "RuntimeDirectoryPreserve=yes"}
    assert asked == [
        "--pipe",
        "--wait",
        "--collect",
        "--property=User=zabbix",
        *(line for line in said if line.removeprefix("--property=") not in apart),
        "COMMAND",
    ]
    assert len(asked) > 25
    assert ("--property=SupplementaryGroups=adm gunicorn-status" in asked) is (name == "web1")


def test_zabbix_waits_longer_than_the_scripts_of_its_agents_do():
    measuring = (STATES / "zabbix_agent" / "files" / "measuring.py").read_text()
    (limit,) = re.findall(r"^LIMIT = ([0-9.]+)$", measuring, re.MULTILINE)
    bounds = yaml.safe_load((STATES / "zabbix_server" / "schema.yaml").read_text())["properties"]["timeout"]
    assert float(limit) < bounds["minimum"]


def test_load_balancer_knows_all_web_hosts(hosts, osfinger):
    servers = ["server web1 10.77.9.11:8080", "server web2 10.77.9.12:8080"]
    of_pages = [
        "server web1 10.77.9.11:8080 id 416167 track web/web1",
        "server web2 10.77.9.12:8080 id 83667 track web/web2",
    ]
    of_websockets = ["server web1 10.77.9.11:8080 track web/web1", "server web2 10.77.9.12:8080 track web/web2"]
    assert lines(hosts(osfinger, "door").text(HAPROXY), "server ") == servers + of_pages + of_websockets


def test_web_hosts_know_where_redis_is(hosts, osfinger):
    assert f"redis://app:{SECRET}@10.77.9.13:6379/0" in environment(hosts(osfinger, "web1"))


def test_hosts_of_a_cluster_know_the_sentinels_and_not_who_is_primary(hosts, osfinger):
    places = "10.77.2.31:26379,10.77.2.32:26379,10.77.2.33:26379"
    assert f'REDIS_URL="sentinel://app:{SECRET}@{places}/turnkey/0"' in environment(hosts(osfinger, "cluster-web1"))


def test_only_several_data_hosts_replicate_and_have_sentinels(single, hosts, osfinger):
    primary, replica = hosts(osfinger, "cluster-data1"), hosts(osfinger, "cluster-data2")
    for host, address in ((primary, "10.77.2.31"), (replica, "10.77.2.32")):
        assert f"replica-announce-ip {address}\n" in host.text(REPLICATION)
        assert lines(host.text(SENTINEL), ("bind ", "sentinel announce-ip")) == [
            f"bind {address}",
            f"sentinel announce-ip {address}",
        ]
        assert "--include /etc/redis/replication.conf" in host.text(REDIS_UNIT)
    # Who is primary no file of Salt's says: but for that address, theirs are the same.
    assert primary.text(REPLICATION) == replica.text(REPLICATION).replace("10.77.2.32", "10.77.2.31")
    assert "replicaof" not in "".join(primary.text(path) for path in primary.files if path.endswith(".conf"))
    # A log that is not there is not rotated: that rule goes by roles alone.
    found = [path for path in single.files if re.search("(?<!measure-)sentinel|replication|seed-redis", path)]
    assert found == ["/etc/logrotate.d/redis-sentinel"]
    assert "ExecStart" not in single.text(REDIS_UNIT)
    for word in ("tls", "replica", 'save ""', "sentinel"):
        assert word not in single.text(REDIS) + single.text(ACL)


def test_redis_is_encrypted_for_all_or_for_none(hosts, osfinger):
    on = hosts(osfinger, "encrypted")
    assert lines(on.text(REDIS), ("port ", "tls-port ")) == ["port 0", "tls-port 6379"]
    assert lines(on.text(SENTINEL), ("port ", "tls-port ", "tls-replication ")) == [
        "port 0",
        "tls-port 26379",
        "tls-replication yes",
    ]
    assert "tls-replication yes\n" in on.text(REPLICATION)
    for script in ("seed-redis", "ask-sentinel"):
        assert "--tls --cacert /etc/ssl/certs/ca-certificates.crt" in on.text(f"/usr/local/sbin/{script}")
    off = hosts(osfinger, "cluster-data1")
    assert lines(off.text(REDIS), ("port ", "tls-port ")) == ["port 6379", "tls-port 0"]
    assert "tls-replication no\n" in off.text(REPLICATION)
    assert "--tls" not in off.text("/usr/local/sbin/seed-redis") + off.text("/usr/local/sbin/ask-sentinel")
    url = "sentinels://app:.*/turnkey/0\\?ssl_ca_certs=/etc/ssl/certs/ca-certificates.crt"
    assert re.search(url, environment(on))


def test_web_hosts_of_one_site_run_the_same_release(hosts, osfinger):
    targets = {
        chunk["target"]
        for name in ("web1", "web2")
        for chunk in hosts(osfinger, name).chunks
        if chunk["fun"] == "symlink" and chunk["name"].endswith("/current")
    }
    assert len(targets) == 1


def test_internal_paths_are_for_the_network_of_the_site(hosts, osfinger):
    text = hosts(osfinger, "web1").text(NGINX)
    (location,) = re.findall(r"location = /readyz \{(.*?)\}", text, re.DOTALL)
    assert re.findall(r"(allow \S+|deny \S+);", location) == ["allow 127.0.0.0/8", "allow 10.77.9.0/24", "deny all"]


def test_logs_of_a_host_are_those_of_its_roles(hosts, osfinger):
    rotated = {
        name: {path.removeprefix("/etc/logrotate.d/") for path in hosts(osfinger, name).files if "logrotate.d/" in path}
        for name in ("single", "door", "web1", "memory")
    }
    everywhere = {"chrony", "salt-minion"}
    assert rotated["single"] == everywhere | {
        "nginx",
        "redis-server",
        "redis-sentinel",
        "salt-master",
        "archive",
        "rsyslog-statistics",
    }
    assert rotated["door"] == everywhere
    assert rotated["web1"] == everywhere | {"nginx"}
    assert rotated["memory"] == everywhere | {"redis-server", "redis-sentinel"}


def test_no_log_is_in_two_files(host):
    """Of the two logrotate would leave out the second; Debian's files are those of the same names."""
    patterns = [
        pattern
        for path in host.files
        if path.startswith("/etc/logrotate.d/")
        for pattern in re.findall(r"^/.*(?= \{$)", host.text(path), re.MULTILINE)[0].split()
    ]
    for pattern in patterns:
        assert [other for other in patterns if fnmatch.fnmatch(pattern.replace("*", ""), other)] == [pattern]


MINION = "/etc/salt/minion.d/turnkey.conf"


def test_states_are_applied_from_time_to_time_only_where_pillar_says_so(hosts):
    assert "schedule" not in yaml.safe_load(hosts(OSES[-1], "cluster-lb1").text(MINION))
    assert yaml.safe_load(hosts(OSES[-1], "scheduled").text(MINION))["schedule"]["apply"] == {
        "function": "state.apply",
        "minutes": 30,
        "splay": 120,
        # Salt's own default is to begin with one.
        "run_on_start": False,
        "maxrunning": 1,
    }


def test_all_hosts_of_a_cluster_follow_the_one_master(hosts, osfinger):
    for name in CLUSTER["hosts"]:
        minion = yaml.safe_load(hosts(osfinger, f"cluster-{name}").text(MINION))
        assert (minion["master"], minion["file_client"]) == (CLUSTER["hosts"]["monitor"]["address"], "remote")
    master = yaml.safe_load(hosts(osfinger, "cluster-monitor").text("/etc/salt/master"))
    assert (master["interface"], master["ret_port"]) == (minion["master"], minion["master_port"])
    assert (master["auto_accept"], master["open_mode"]) == (False, False)


def test_single_host_has_no_master_and_follows_none(single):
    assert [path for path in single.files if "salt" in path and not re.search("logrotate|measure-", path)] == []


def test_redis_keeps_no_password_in_the_clear(single):
    assert SECRET not in single.text(ACL)
    assert "user default off" in single.text(ACL)
    assert re.search(r"^user app on #[0-9a-f]{64} ", single.text(ACL), re.MULTILINE)


def test_container_leaves_the_clock_alone_and_a_machine_sets_it(single, custom):
    assert 'DAEMON_OPTS="-F 1 -x"' in single.text("/etc/default/chrony")
    assert 'DAEMON_OPTS="-F 1"' in custom.text("/etc/default/chrony")
    unit = "/etc/systemd/system/chrony.service.d/turnkey.conf"
    assert "ConditionCapability=\n" in single.text(unit)
    assert "ConditionCapability" not in custom.text(unit)


def test_clock_asks_the_sources_that_pillar_names(custom):
    text = custom.text("/etc/chrony/chrony.conf")
    assert lines(text, ("pool ", "server ")) == ["pool pool.example iburst", "server clock.example iburst"]
    assert lines(text, ("allow ", "port ", "local ")) == ["allow 10.77.1.0/24"]


CHRONY = "/etc/chrony/chrony.conf"
# The other hosts of the cluster, as data1 sees them.
OTHERS = ["10.77.2.11", "10.77.2.12", "10.77.2.21", "10.77.2.22", "10.77.2.32", "10.77.2.33", "10.77.2.40"]


def test_clocks_of_one_topology_ask_each_other(hosts, osfinger):
    text = hosts(osfinger, "cluster-data1").text(CHRONY)
    assert lines(text, ("pool ", "server ")) == [f"server {address} iburst key 1" for address in OTHERS]
    assert lines(text, ("allow ", "port ")) == [f"allow {address}" for address in OTHERS]


def test_monitor_is_followed_while_no_better_clock_is_in_reach(hosts, osfinger):
    """A lower stratum is nearer to the truth; those who are alike agree on one of them ("orphan")."""
    assert lines(hosts(osfinger, "cluster-monitor").text(CHRONY), "local ") == ["local stratum 10 orphan"]
    assert lines(hosts(osfinger, "cluster-data1").text(CHRONY), "local ") == ["local stratum 12 orphan"]
    assert lines(hosts(osfinger, "web1").text(CHRONY), "local ") == ["local stratum 12 orphan"]


def test_single_host_serves_no_time(single):
    text = single.text(CHRONY)
    assert lines(text, ("pool ", "server ", "allow ", "port ")) == ["port 0"]
    assert lines(text, "local ") == ["local stratum 10 orphan"]


def test_chrony_takes_every_configuration(host, tmp_path):
    file = tmp_path / "chrony.conf"
    path = f"{os.environ['PATH']}:/usr/sbin"
    chronyd = shutil.which("chronyd", path=path) or "chronyd"
    told = subprocess.run([chronyd, "-v"], capture_output=True, text=True, check=True).stdout
    text = host.text(CHRONY)
    if tuple(map(int, re.search(r"version (\d+)\.(\d+)", told).groups())) < (4, 6):
        # This machine's is older than that of Debian 13: all but this line it takes.
        text = re.sub(r"^leapseclist .*\n", "", text, flags=re.MULTILINE)
    file.write_text(text)
    command = [chronyd, "-p", "-f", file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_workers_follow_the_cores_or_pillar(single, custom):
    path = "/etc/gunicorn/gunicorn.conf.py"
    assert "\nworkers = 2\n" in single.text(path)
    assert "\nworkers = 7\n" in custom.text(path)


def test_number_of_workers_has_bounds_and_that_of_websockets_is_fixed(single, custom):
    path = "/etc/gunicorn/gunicorn.conf.py"
    assert "    minimum=workers,\n    maximum=4,\n" in single.text(path)
    assert "    minimum=workers,\n    maximum=14,\n" in custom.text(path)
    assert "\nworkers = 2\n" in single.text(STREAM[0])
    assert "    minimum=workers,\n    maximum=2,\n" in single.text(STREAM[0])


def mapped(formula, settings, grains, **pillar):
    """Evaluate the map of a formula for *settings*, by formula; what it refuses is a ValueError."""

    def refuse(fault):
        raise ValueError(fault)

    templates = jinja2.Environment(loader=jinja2.FileSystemLoader(STATES), extensions=["jinja2.ext.do"])  # noqa: S701
    templates.filters["regex_match"] = lambda text, pattern: re.match(pattern, text)
    return templates.get_template(f"{formula}/map.jinja").make_module(
        {"salt": {"turnkey.settings": settings.get}, "grains": grains, "pillar": pillar, "raise": refuse}
    )


def defaults(formula, **other):
    return yaml.safe_load((STATES / formula / "defaults.yaml").read_text()) | other


def sizes_of_gunicorn(cores=2, **other):
    """The sizes of the instance that serves requests, as the formula's map has them."""
    settings = defaults("gunicorn")
    settings |= other | {"scaling": settings["scaling"] | other.get("scaling", {})}
    return mapped("gunicorn", {"gunicorn": settings}, {"num_cpus": cores}).main


def test_bounds_of_workers_that_cross_are_refused_by_name():
    with pytest.raises(ValueError, match="gunicorn:scaling:maximum: 7 is less than the workers that there are"):
        sizes_of_gunicorn(workers=8, scaling={"maximum": 7})


@pytest.mark.parametrize(
    ("cores", "pillar"), [(2, {}), (64, {}), (200, {}), (2, {"threads": 256}), (4, {"scaling": {"maximum": 256}})]
)
def test_a_reload_with_all_workers_there_finds_room_for_its_threads(cores, pillar):
    it = sizes_of_gunicorn(cores, **pillar)
    # Each has a main thread besides.
    assert it["tasks_max"] > (it["scaling"]["maximum"] + it["workers"]) * (it["threads"] + 1)


def test_fewer_processes_and_threads_than_workers_need_are_refused_by_name():
    assert sizes_of_gunicorn(tasks_max=124)["tasks_max"] == 124
    with pytest.raises(
        ValueError, match="gunicorn:tasks_max: 123 is less than the workers and their threads need, 124"
    ):
        sizes_of_gunicorn(tasks_max=123)
    with pytest.raises(ValueError, match="gunicorn:tasks_max: 512 is less than"):
        sizes_of_gunicorn(cores=64, tasks_max=512)


def test_more_memory_than_the_host_has_is_refused_by_name():
    mapped("postgresql", {"postgresql": defaults("postgresql", shared_buffers="1GB")}, {"mem_total": 2048})
    for size in ("1025MB", "1048577kB", "900GB"):
        settings = {"postgresql": defaults("postgresql", shared_buffers=size)}
        with pytest.raises(ValueError, match=rf"postgresql:shared_buffers: {size} is more than half .*, 2048MB$"):
            mapped("postgresql", settings, {"mem_total": 2048})


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({}, None),
        ({"processes": {"pollers": 29}}, None),
        (
            {"processes": {"pollers": 30}},
            "zabbix_server:processes: .* 81 connections; postgresql:max_connections is 80",
        ),
        ({"cache": {"history": "2G"}}, "zabbix_server:memory_max: 1G leaves no 256M .* 2080M of zabbix_server:cache"),
        ({"memory_max": "2G", "cache": {"values": "1G"}}, None),
        ({"memory_max": "200M"}, "zabbix_server:memory_max: 200M leaves no 256M"),
        ({"memory_max": "1"}, "zabbix_server:memory_max: 1 leaves no 256M"),
    ],
)
def test_a_zabbix_that_would_never_run_is_refused_by_name(other, says):
    server = defaults("zabbix_server")
    for key, value in other.items():
        server[key] = server[key] | value if isinstance(value, dict) else value
    settings = {"zabbix_server": server} | {name: defaults(name) for name in ("postgresql", "zabbix_frontend")}
    # Only what is looked for beforehand: that each host has a key.
    topology = {"hosts": {}}

    refused = pytest.raises(ValueError, match=says) if says else contextlib.nullcontext()
    with refused:
        mapped("zabbix_server", settings, {"osmajorrelease": 13}, roles=["monitor"], topology=topology)


def test_each_instance_has_a_scoreboard_that_the_status_reads(single, custom):
    unit = single.text("/etc/systemd/system/gunicorn-status.service")
    for instance in ("gunicorn", "gunicorn-stream"):
        folder = f"/run/{instance}/scoreboard"
        assert f'folder="{folder}"' in single.text(f"/etc/gunicorn/{instance}.conf.py")
        assert f"--group=gunicorn-status --mode=2750 \\\n    {folder}\n" in single.text(
            f"/etc/systemd/system/{instance}.service"
        )
        assert f" {folder} /run/{instance}.sock " in unit
    assert "gunicorn-stream" not in custom.text("/etc/systemd/system/gunicorn-status.service")


@pytest.mark.parametrize("path", ["/status", "/metrics"])
def test_status_is_for_internal_networks_only_and_not_asked_of_the_app(single, custom, path):
    for host in (single, custom):
        (location,) = re.findall(rf"location = {path} \{{(.*?)\}}", host.text(NGINX), re.DOTALL)
        assert "allow 127.0.0.0/8;" in location
        assert "deny all;" in location
        assert "proxy_pass http://gunicorn-status;" in location
    assert "server unix:/run/gunicorn-status/status.sock " in single.text(NGINX)


def test_configuration_of_gunicorn_is_python(single):
    compile(single.text("/etc/gunicorn/gunicorn.conf.py"), "gunicorn.conf.py", "exec")


STREAM = ["/etc/gunicorn/gunicorn-stream.conf.py", "/etc/systemd/system/gunicorn-stream.service"]


def test_websockets_have_a_gunicorn_of_their_own_where_the_app_has_a_callable_for_them(single, custom):
    assert 'wsgi_app = variables["STREAM_APP"]' in single.text(STREAM[0])
    assert "--config /etc/gunicorn/gunicorn-stream.conf.py" in single.text(STREAM[1])
    assert set(custom.files) & set(STREAM) == set()
    assert set(STREAM) < {chunk["name"] for chunk in custom.chunks if chunk["fun"] == "absent"}


def test_what_one_process_may_hold_of_websockets_is_said_once(single):
    connections = single.settings["gunicorn"]["stream"]["connections"]
    assert f'STREAM_CONNECTIONS="{connections}"' in environment(single)
    (threads,) = re.findall(r"^threads = (\d+)$", single.text(STREAM[0]), re.MULTILINE)
    (open_at_once,) = re.findall(r"^worker_connections = (\d+)$", single.text(STREAM[0]), re.MULTILINE)
    (workers,) = re.findall(r"^workers = (\d+)$", single.text(STREAM[0]), re.MULTILINE)
    (tasks,) = re.findall(r"^TasksMax=(\d+)$", single.text(STREAM[1]), re.MULTILINE)
    (files,) = re.findall(r"^LimitNOFILE=(\d+)$", single.text(STREAM[1]), re.MULTILINE)
    # Those that are refused need a thread too, and each websocket has a second one from its library.
    assert connections < int(threads) < int(open_at_once)
    assert int(tasks) > int(workers) * (int(threads) + connections)
    assert int(files) > 2 * int(threads)


def test_websockets_are_led_to_their_gunicorn_or_else_to_the_app(single, custom):
    (location,) = re.findall(r"location = /api/v1/stream \{(.*?)\}", single.text(NGINX), re.DOTALL)
    assert "proxy_pass http://gunicorn-stream;" in location
    assert "server unix:/run/gunicorn-stream.sock " in single.text(NGINX)
    (location,) = re.findall(r"location = /api/v1/stream \{(.*?)\}", custom.text(NGINX), re.DOTALL)
    assert "proxy_pass http://gunicorn;" in location
    assert "gunicorn-stream" not in custom.text(NGINX)


def test_websockets_are_never_sent_twice(single):
    backend = single.text(HAPROXY).partition("\nbackend websockets\n")[2]
    assert "balance leastconn" in backend
    assert "retry-on" not in backend
    assert "use_backend websockets if { path /api/v1/stream }" in single.text(HAPROXY)


def test_a_release_is_tried_with_all_that_the_app_has(single, custom):
    trial = "/etc/systemd/system/try-release@.service"
    assert len(lines(single.text(trial), "ExecStartPre=")) == 2
    assert lines(custom.text(trial), "ExecStartPre=") == []
    assert 'CELERY_APP="web.worker:app"' in environment(single)
    assert "CELERY_APP" not in environment(custom)


def test_workers_are_those_of_pillar_and_no_other(hosts, osfinger):
    worker, custom = hosts(osfinger, "worker"), hosts(osfinger, "custom")

    def units(host):
        return {chunk["name"] for chunk in host.chunks if chunk["fun"] == "running" and "celery@" in chunk["name"]}

    def kept(host):
        (chunk,) = (chunk for chunk in host.chunks if chunk["name"] == "celery@*.service")
        return set(chunk["keep"])

    assert units(worker) == kept(worker) == {"celery@short.service", "celery@all.service", "celery@odd.service"}
    assert "QUEUES=short\nAUTOSCALE=1,1\n" in worker.text("/etc/celery/short.conf")
    assert "QUEUES=short,long\nAUTOSCALE=2,1\n" in worker.text("/etc/celery/all.conf")
    assert "MAX_TASKS_PER_CHILD=5\n" in worker.text("/etc/celery/odd.conf")
    assert units(custom) == kept(custom) == set()


@pytest.mark.parametrize(
    ("unit", "share"),
    [
        ("gunicorn.service", ["Nice=0", "CPUWeight=100"]),
        ("gunicorn-stream.service", ["Nice=5", "CPUWeight=50"]),
        ("celery@.service", ["Nice=10", "CPUWeight=20", "OOMScoreAdjust=500"]),
    ],
)
def test_streams_and_long_work_give_way_to_pages(single, unit, share):
    text = single.text(f"/etc/systemd/system/{unit}")
    assert lines(text, ("Nice=", "CPUWeight=", "OOMScoreAdjust=")) == share


def test_worker_runs_in_the_sandbox_of_the_app(single):
    """No setting of it is said twice, as the later one would win."""
    for unit in ("gunicorn.service", "gunicorn-stream.service", "celery@.service", "try-release@.service"):
        text = single.text(f"/etc/systemd/system/{unit}")
        assert "User=app\n" in text
        assert "ProtectSystem=strict\n" in text
        names = [line.partition("=")[0] for line in text.splitlines() if re.match(r"[A-Z]\w+=", line)]
        twice = {name for name in names if names.count(name) > 1}
        assert twice <= {"ExecStartPre", "SystemCallFilter"}, unit


def test_launcher_of_workers_is_python(single):
    compile(single.text("/usr/local/sbin/run-celery"), "run-celery", "exec")


def test_limits_of_clients_are_those_of_pillar(single, custom, hosts, osfinger):
    text = single.text(HAPROXY)
    assert "track-sc0 src,ipmask(32,64) unless { src 127.0.0.0/8 10.77.1.0/24 }" in text
    assert "deny deny_status 429 if { sc_http_req_rate(0) gt 2000 }" in text
    assert "deny_status 429 if { sc_gpc0_rate(0) gt 50 }" in text
    assert "reject if { sc_conn_cur(0) gt 500 }" in text
    assert "hdr Retry-After 10" in text
    # Zabbix's pages have limits of their own.
    own, _, _ = custom.text(HAPROXY).partition("backend zabbix")
    assert not re.search(r"deny_status|reject|unless \{ src", own)


def test_headers_are_those_of_pillar(single, custom):
    wanted = ["Referrer-Policy", "X-Content-Type-Options"]
    assert re.findall(r"http-after-response set-header (\S+) .* unless", single.text(HAPROXY)) == wanted
    assert "Strict-Transport-Security" in single.text(HAPROXY)
    assert 'set-header X-Frame-Options "DENY 100%%" unless' in custom.text(HAPROXY)
    assert "Strict-Transport-Security" not in custom.text(HAPROXY)


def test_environment_survives_quotes_and_backslashes(custom):
    assert r'GREETING="say \"hi\" \\ wave"' in environment(custom)
    assert 'DEPTH="3"' in environment(custom)
    assert 'LOUD="true"' in environment(custom)


def test_nginx_compresses_unless_pillar_says_no(single, custom):
    assert lines(single.text(NGINX), "gzip ") == ["gzip on;"]
    assert lines(custom.text(NGINX), "gzip") == ["gzip off;"]


def test_cache_of_nginx_can_be_left_out(single, custom):
    assert "proxy_cache_path" in single.text(NGINX)
    assert not re.search(r"^\s*proxy_cache(?! off;)", custom.text(NGINX), re.MULTILINE)


def test_own_snippets_are_put_in_as_they_are(custom):
    for path, places in {NGINX: ["http", "server"], HAPROXY: ["global", "frontend", "backend", "end"]}.items():
        for place in places:
            assert f"# own {place}\n" in custom.text(path)


def test_static_files_come_from_the_running_release(custom):
    assert "alias /opt/app/current/src/web/static/;" in custom.text(NGINX)


def test_both_systems_get_the_same_files_but_for_the_release(hosts):
    """Where the two differ it is on purpose: the difference is then stated here."""
    on12, on13 = hosts("Debian-12", "single"), hosts("Debian-13", "single")

    def neutral(text):
        return re.sub(r"(postgresql[/@])1[57]\b", r"\1VERSION", re.sub(r"\b[0-9a-f]{16}\b", "ID", text))

    assert {neutral(path) for path in on12.files} == {neutral(path) for path in on13.files}
    differing = set()
    for path in on12.files.keys() & on13.files.keys():
        difference = difflib.unified_diff(on12.text(path).splitlines(), on13.text(path).splitlines(), n=0, lineterm="")
        changed = [line for line in difference if re.match(r"[+-](?![+-])", line)]
        if {neutral(line[1:]) for line in changed if line.startswith("+")} != {
            neutral(line[1:]) for line in changed if line.startswith("-")
        }:
            differing.add(path)
    # Which PHP runs, and where leap seconds stand; Zabbix 7 has processes that 6 does not know.
    assert differing == {
        "/etc/chrony/chrony.conf",
        "/etc/systemd/system/zabbix-php.service",
        "/etc/zabbix/zabbix_server.conf",
    }
