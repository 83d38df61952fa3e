"""What the files say, where it is decided here: addresses, optional parts, the machine."""

import difflib
import re

import pytest

from rendering import SECRET

NGINX, HAPROXY = "/etc/nginx/nginx.conf", "/etc/haproxy/haproxy.cfg"
REDIS, ACL = "/etc/redis/redis.conf", "/etc/redis/users.acl"


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
    assert lines(single.text(HAPROXY), "server ") == ["server single 127.0.0.1:8080"]
    assert f"redis://app:{SECRET}@127.0.0.1:6379/0" in environment(single)


def test_hosts_that_others_need_listen_on_their_address(hosts, osfinger):
    assert lines(hosts(osfinger, "web1").text(NGINX), "listen ")[0] == "listen 10.77.9.11:8080 backlog=4096;"
    assert lines(hosts(osfinger, "web2").text(NGINX), "listen ")[0] == "listen 10.77.9.12:8080 backlog=4096;"
    assert lines(hosts(osfinger, "memory").text(REDIS), "bind ") == ["bind 10.77.9.13"]


def test_load_balancer_knows_all_web_hosts(hosts, osfinger):
    servers = lines(hosts(osfinger, "door").text(HAPROXY), "server ")
    assert servers == ["server web1 10.77.9.11:8080", "server web2 10.77.9.12:8080"]


def test_web_hosts_know_where_redis_is(hosts, osfinger):
    assert f"redis://app:{SECRET}@10.77.9.13:6379/0" in environment(hosts(osfinger, "web1"))


def test_web_hosts_of_one_site_run_the_same_release(hosts, osfinger):
    targets = {
        chunk["target"]
        for name in ("web1", "web2")
        for chunk in hosts(osfinger, name).chunks
        if chunk["fun"] == "symlink"
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
    assert rotated["single"] == everywhere | {"nginx", "redis-server"}
    assert rotated["door"] == everywhere
    assert rotated["web1"] == everywhere | {"nginx"}
    assert rotated["memory"] == everywhere | {"redis-server"}


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


def test_workers_follow_the_cores_or_pillar(single, custom):
    path = "/etc/gunicorn/gunicorn.conf.py"
    assert "\nworkers = 2\n" in single.text(path)
    assert "\nworkers = 7\n" in custom.text(path)


def test_configuration_of_gunicorn_is_python(single):
    compile(single.text("/etc/gunicorn/gunicorn.conf.py"), "gunicorn.conf.py", "exec")


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

    def neutral(path):
        return re.sub(r"/opt/app/releases/[0-9a-f]{16}", "/opt/app/releases/ID", path)

    assert {neutral(path) for path in on12.files} == {neutral(path) for path in on13.files}
    differing = set()
    for path in on12.files.keys() & on13.files.keys():
        difference = difflib.unified_diff(on12.text(path).splitlines(), on13.text(path).splitlines(), n=0, lineterm="")
        changed = [line for line in difference if re.match(r"[+-](?![+-])", line)]
        if {re.sub(r"\b[0-9a-f]{16}\b", "ID", line[1:]) for line in changed if line.startswith("+")} != {
            re.sub(r"\b[0-9a-f]{16}\b", "ID", line[1:]) for line in changed if line.startswith("-")
        }:
            differing.add(path)
    assert differing == set()
