"""Which web host is asked, and what becomes of a request when that host dies: a real HAProxy, web hosts behind."""

import collections
import concurrent.futures
import http.client
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from rendering import STATES

HAPROXY, KEEPALIVED = "/etc/haproxy/haproxy.cfg", "/etc/keepalived/keepalived.conf"
SAVE = "/usr/local/sbin/save-server-states"
# What it says where the status page cannot be had.
FALLBACK = "/etc/haproxy/status-page.html"
STREAM, PAGES = "/api/v1/stream", "/api/v1/fibonacci"
PATIENCE = 60


def command(name):
    """Its path; those of administrators are not on everybody's."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert found, f"{name} is not installed"
    return found


def wait_until(condition):
    until = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < until, "it never came to pass"
        time.sleep(0.02)
    return found


def ask(port, target, method="GET", body=None):
    """Ask HAProxy on *port*: which web host answered. Anything but an answer is an error."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, target, body)
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    assert answer.status == 200, f"{method} {target}: {answer.status} {text}"
    return text


def answers(port):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/configuration")
        return connection.getresponse().status == 200
    except OSError:
        return False


class Door:
    """HAProxy with the configuration of *host*, moved to this machine."""

    def __init__(self, host, port_of_web_hosts):
        # Of its own and short: the name of a socket may not be long.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="door-"))
        with socket.socket() as first, socket.socket() as second:
            for each in (first, second):
                each.bind(("127.0.0.1", 0))
            self.port, self.status_port = first.getsockname()[1], second.getsockname()[1]
        self._moves = [
            (r"^    (chroot|user|group) .*\n", ""),
            (r"^    bind \*:80$", f"    bind 127.0.0.1:{self.port}"),
            (r"^    bind :::80 v6only\n", ""),
            (r"127\.0\.0\.1:8404", f"127.0.0.1:{self.status_port}"),
            (r"\b10\.77\.2\.(2\d):8080", rf"127.0.0.\1:{port_of_web_hosts}"),
            # Nobody is there; on a machine with a lab, there is.
            (r"\b10\.77\.2\.40:8090", f"127.0.0.29:{port_of_web_hosts}"),
            (r"\bport=8080", f"port={port_of_web_hosts}"),
            (r"/run/haproxy-master\.sock", f"{self.folder}/master.sock"),
            (r"/run/haproxy-servers\.state", f"{self.folder}/servers.state"),
            (r"/run/haproxy/admin\.sock", f"{self.folder}/admin.sock"),
            (re.escape(FALLBACK), f"{self.folder}/status-page.html"),
        ]
        (self.folder / "status-page.html").write_text(host.text(FALLBACK))
        self.configure(host.text(HAPROXY))
        (self.folder / "save").write_text(self.moved(host.text(SAVE)))
        (self.folder / "servers.state").write_text("1\n")
        self._process = subprocess.Popen(
            [command("haproxy"), "-W", "-S", self.folder / "master.sock", "-f", self.folder / "haproxy.cfg"],
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "log").open("w"),
        )
        wait_until(lambda: answers(self.status_port) or self._process.poll() is not None)
        assert self._process.poll() is None, (self.folder / "log").read_text()

    def moved(self, text):
        for pattern, there in self._moves:
            text = re.sub(pattern, there, text, flags=re.MULTILINE)
        return text

    def configure(self, text):
        (self.folder / "haproxy.cfg").write_text(self.moved(text))

    def ask(self, target, *more):
        return ask(self.port, target, *more)

    def tell(self, order):
        """Say *order* to the admin socket."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self.folder / "admin.sock"))
            admin.sendall(order.encode() + b"\n")
            return b"".join(iter(lambda: admin.recv(65536), b"")).decode().strip()

    def states(self, backend="web"):
        """``{web host: what HAProxy makes of it}``"""
        rows = [line.split(",") for line in self.tell("show stat").splitlines()]
        # Of one that is on its way it also says how far: UP 1/3.
        return {row[1]: row[17].split()[0] for row in rows if row[0] == backend and row[1] != "BACKEND"}

    def pid(self):
        return re.search(r"^Pid: (\d+)$", self.tell("show info"), re.MULTILINE)[1]

    def save(self):
        """What it makes of the states; raises CalledProcessError where it cannot."""
        subprocess.run(["bash", "-x", self.folder / "save"], check=True)
        rows = [line.split() for line in (self.folder / "servers.state").read_text().splitlines()]
        # The heading begins with a sign that is not of a column.
        return [dict(zip(rows[1][1:], row, strict=True)) for row in rows[2:]]

    def reload(self):
        """As the unit does it."""
        self.save()
        before = self.pid()
        self._process.send_signal(signal.SIGUSR2)

        def is_another():
            try:
                return self.pid() != before
            except OSError:
                return False

        wait_until(is_another)

    def close(self):
        self._process.terminate()
        self._process.wait(timeout=PATIENCE)
        shutil.rmtree(self.folder)


class House:
    """Web hosts and the doors in front of them."""

    def __init__(self, hosts):
        self._hosts, self._doors, self._webs = hosts, [], {}
        # One port on all addresses, as everywhere.
        with socket.socket() as probe:
            probe.bind(("", 0))
            self._port = probe.getsockname()[1]

    def web_hosts(self, *numbers):
        for number in numbers:
            process = subprocess.Popen(
                [sys.executable, pathlib.Path(__file__).with_name("web_host.py"), *self.at(number)]
            )
            self._webs[number] = process
            wait_until(lambda number=number: self.is_up(number))

    def at(self, number):
        return f"127.0.0.2{number}", str(self._port)

    def is_up(self, number):
        assert self._webs[number].poll() is None
        with socket.socket() as probe:
            return probe.connect_ex((self.at(number)[0], self._port)) == 0

    def kill(self, number):
        self._webs[number].kill()
        self._webs.pop(number).wait(timeout=PATIENCE)

    def door(self, name="cluster-lb1"):
        self._doors.append(Door(self._hosts("Debian-12", name), self._port))
        return self._doors[-1]

    def close(self):
        for door in self._doors:
            door.close()
        for process in self._webs.values():
            process.kill()
            process.wait(timeout=PATIENCE)


@pytest.fixture
def house(hosts):
    house = House(hosts)
    yield house
    house.close()


WEB1, WEB2, WEB3 = "127.0.0.21", "127.0.0.22", "127.0.0.23"


def page(number):
    return f"{PAGES}?page={number}&per_page=100"


# --- what the files say -----------------------------------------------------------------------------------------------


def test_haproxy_accepts_its_configuration(host, tmp_path):
    if "lb" in host.roles:
        (tmp_path / "status-page.html").write_text(host.text(FALLBACK))
        text = host.text(HAPROXY).replace(FALLBACK, str(tmp_path / "status-page.html"))
        (tmp_path / "haproxy.cfg").write_text(text)
        done = subprocess.run(
            [command("haproxy"), "-c", "-f", tmp_path / "haproxy.cfg"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        # That there is no state yet is the unit's to mend.
        warnings = re.findall(r"\[(?:WARNING|ALERT)\].*", done.stderr)
        assert [line for line in warnings if "server state file" not in line] == []


def keepalived_test(text, tmp_path):
    """What keepalived says of *text*, on an interface of this machine and without the formula's script and user."""
    interface = next(path.name for path in pathlib.Path("/sys/class/net").iterdir() if path.name != "lo")
    user = subprocess.run(["id", "--user", "--name"], capture_output=True, text=True, check=True).stdout.strip()
    text = text.replace("interface eth1", f"interface {interface}")
    text = text.replace("script_user keepalived_script", f"script_user {user}")
    text = text.replace("script /usr/local/libexec/check-haproxy", "script /usr/bin/true")
    (tmp_path / "keepalived.conf").write_text(text)
    return subprocess.run(
        [command("keepalived"), "--config-test", "-f", tmp_path / "keepalived.conf"],
        capture_output=True,
        text=True,
        check=False,
    )


def test_keepalived_accepts_its_configuration(hosts, osfinger, tmp_path):
    for name in ("cluster-lb1", "cluster-lb2"):
        done = keepalived_test(hosts(osfinger, name).text(KEEPALIVED), tmp_path)
        assert (done.returncode, done.stderr) == (0, "")


def test_keepalived_would_refuse_a_wrong_one(hosts, osfinger, tmp_path):
    text = hosts(osfinger, "cluster-lb1").text(KEEPALIVED)
    assert keepalived_test(text.replace("nopreempt", "nopreemt"), tmp_path).returncode != 0


def test_load_balancers_are_the_same(hosts, osfinger):
    one, other = hosts(osfinger, "cluster-lb1"), hosts(osfinger, "cluster-lb2")
    assert one.text(HAPROXY) == other.text(HAPROXY)
    assert one.text(SAVE) == other.text(SAVE)


def test_load_balancer_looks_into_no_formula_that_has_a_secret():
    """A map of another formula brings that one's secrets with it; bare settings do not."""

    def imported(formula, seen=()):
        found = {formula}
        for file in (STATES / formula).rglob("*.*"):
            for name in re.findall(r"\{%-? from '([a-z]+)/map\.jinja'", file.read_text()):
                found |= {name} if name in (formula, *seen) else imported(name, (*seen, formula))
        return found

    assert imported("haproxy") == {"haproxy"}
    assert imported("keepalived") == {"keepalived"}


def test_one_web_host_leaves_nothing_to_choose(hosts, osfinger):
    assert "backend pages" not in hosts(osfinger, "single").text(HAPROXY)
    assert "backend pages" in hosts(osfinger, "cluster-lb1").text(HAPROXY)


def test_only_load_balancers_of_a_moving_address_move_it(hosts, osfinger):
    assert "keepalived" in hosts(osfinger, "cluster-lb1").formulas
    assert "keepalived" not in hosts(osfinger, "single").formulas
    assert "keepalived" not in hosts(osfinger, "door").formulas


def test_address_goes_to_the_first_of_the_topology_and_stays_where_it_is(hosts, osfinger):
    told = {}
    for name in ("lb1", "lb2"):
        text = hosts(osfinger, f"cluster-{name}").text(KEEPALIVED)
        assert re.search(r"virtual_ipaddress \{\s*10\.77\.2\.5\s*\}", text)
        assert "interface eth1" in text
        assert "state BACKUP\n    nopreempt\n" in text
        own = re.search(r"unicast_src_ip (\S+)", text)[1]
        told[name] = own, re.findall(r"unicast_peer \{\s*(\S+)\s*\}", text), int(re.search(r"priority (\d+)", text)[1])
    assert told == {"lb1": ("10.77.2.11", ["10.77.2.12"], 250), "lb2": ("10.77.2.12", ["10.77.2.11"], 240)}


def test_address_is_taken_over_within_three_seconds(hosts, osfinger):
    """Of a host that is gone: three intervals and a share of one (RFC 5798). Of a dead HAProxy: as its checks say."""
    host = hosts(osfinger, "cluster-lb2")
    interval = float(re.search(r"advert_int (\S+)", host.text(KEEPALIVED))[1])
    priority = int(re.search(r"priority (\d+)", host.text(KEEPALIVED))[1])
    check = host.settings["keepalived"]["check"]
    assert 3 * interval + (256 - priority) / 256 * interval < 3
    assert check["interval"] * check["fall"] + interval < 3


# --- the id of a request ----------------------------------------------------------------------------------------------


def told(port, target="/", *ids):
    """Return the status, what the answer says of the request's id, and what the web host heard of it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.putrequest("GET", target)
        for id in ids:
            connection.putheader("X-Request-ID", id)
        connection.endheaders()
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers.get_all("X-Request-ID"), answer.headers.get("X-Heard")
    finally:
        connection.close()


def test_only_an_id_that_is_sane_as_a_whole_is_taken_over(house):
    house.web_hosts(1, 2)
    door = house.door()

    assert told(door.port, "/", "own-id_1.2") == (200, ["own-id_1.2"], "own-id_1.2")
    lists = ["good, <script>"], ["<script>, good"], ["good", "<script>"], ["good", "better"]
    for strange in (*lists, ["a b"], [""], []):
        status, ids, heard = told(door.port, "/", *strange)
        # One of HAProxy's own, and the same to everybody.
        assert (status, ids) == (200, [heard]), strange
        assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", heard), strange


def test_what_haproxy_itself_answers_says_the_id_too(house):
    door = house.door()

    for target in ("/", "/zabbix/", "/status-page"):
        assert told(door.port, target, "own-id") == (503, ["own-id"], None), target
    limited = door.folder.joinpath("haproxy.cfg").read_text()
    limited, count = re.subn(r"sc_http_req_rate\(0\) gt \d+", "always_true", limited)
    assert count == 1
    door.configure(limited)
    door.reload()
    assert told(door.port, "/", "own-id") == (429, ["own-id"], None)


# --- which web host is asked ------------------------------------------------------------------------------------------


def test_a_page_is_asked_for_at_one_web_host_through_both_doors(house):
    house.web_hosts(1, 2)
    doors = house.door("cluster-lb1"), house.door("cluster-lb2")
    places = {}
    for number in range(1, 41):
        targets = [page(number), f"{PAGES}?per_page=100&page={number}"]
        (places[number],) = {door.ask(target) for door in doors for target in targets}
    assert set(places.values()) == {WEB1, WEB2}


def test_what_nginx_keeps_under_one_key_is_asked_for_at_one_web_host(house, hosts):
    """The key is the one of nginx's own configuration."""
    nginx = hosts("Debian-12", "web1").text("/etc/nginx/nginx.conf")
    known = re.search(r'map \$args \$cache_arguments \{\s+default \$args;\s+"~(\S+)"\s+"( page=\S+)";', nginx)

    def key(query):
        if not re.search(known[1], query):
            return query
        values = dict(pair.split("=", 1) for pair in query.split("&"))
        return re.sub(r"\$arg_([a-z_]+)", lambda name: values.get(name[1], ""), known[2])

    house.web_hosts(1, 2)
    door = house.door()
    places = collections.defaultdict(set)
    for n in range(1, 16):
        for query in (
            *(f"page={n}&per_page=5", f"per_page=5&page={n}", f"page={n}", f"per_page={n}"),
            *(f"page={n}&page=1", f"page=1&page={n}", f"page=&per_page={n}", f"other={n}", f"page={n}&other=1"),
            *(f"other=1&page={n}", f"page=%3{n % 10}", f"Page={n}", f"page={n}&", f"&page={n}"),
        ):
            places[key(query)].add(door.ask(f"{PAGES}?{query}"))
    assert key("page=1&per_page=5") == key("per_page=5&page=1")
    assert len(places) > 150
    assert {query: found for query, found in places.items() if len(found) > 1} == {}
    # Arguments that nobody has named count too: they do not all end up on one host.
    for kind in ("other=", "page=1&page="):
        assert set.union(*(found for query, found in places.items() if query.startswith(kind))) == {WEB1, WEB2}


def test_all_else_is_asked_in_turn(house):
    house.web_hosts(1, 2)
    door = house.door()
    assert collections.Counter(door.ask("/") for _ in range(20)) == {WEB1: 10, WEB2: 10}
    asked = collections.Counter(door.ask(page(1), "POST", b"{}") for _ in range(20))
    assert asked == {WEB1: 10, WEB2: 10}


def test_a_third_web_host_takes_its_share_and_moves_nothing_else(house):
    house.web_hosts(1, 2, 3)
    before, after = house.door("cluster-lb1"), house.door("grown-lb1")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        targets = [page(number) for number in range(1, 1001)]
        places = list(zip(pool.map(before.ask, targets), pool.map(after.ask, targets), strict=True))
    moved = [there for here, there in places if here != there]
    print(f"{len(moved)} of 1000 pages moved; {collections.Counter(there for _, there in places)}")
    assert set(moved) == {WEB3}
    assert 200 < len(moved) < 400
    assert min(collections.Counter(there for _, there in places).values()) > 200


# --- when a web host goes ---------------------------------------------------------------------------------------------


def test_web_host_killed_under_load_costs_no_request(house):
    house.web_hosts(1, 2)
    door = house.door()
    asked, before, lock = collections.Counter(), threading.Event(), threading.Lock()

    def client(first):
        for number in range(first, first + 60):
            answered = [door.ask(page(number)), door.ask("/api/v1/other")]
            with lock:
                asked.update(answered)
                if asked[WEB2] > 40:
                    before.set()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client, 1000 * number) for number in range(8)]
        assert before.wait(PATIENCE)
        house.kill(2)
        # A request that failed fails its client, and the test with it.
        for each in clients:
            each.result()
    assert sum(asked.values()) == 8 * 60 * 2
    assert set(asked) == {WEB1, WEB2}
    wait_until(lambda: door.states() == {"web1": "UP", "web2": "DOWN"})
    assert door.states("pages") == {"web1": "UP", "web2": "DOWN"}


def test_pages_of_a_host_that_went_come_back_to_it(house):
    house.web_hosts(1, 2)
    door = house.door()
    home = {number: door.ask(page(number)) for number in range(30)}
    house.kill(2)
    wait_until(lambda: door.states()["web2"] == "DOWN")
    assert {door.ask(page(number)) for number in home} == {WEB1}
    house.web_hosts(2)
    # Its share grows with its weight (slow start).
    wait_until(lambda: {number: door.ask(page(number)) for number in home} == home)


class Websocket:
    def __init__(self, door):
        self._socket = socket.create_connection(("127.0.0.1", door.port), timeout=PATIENCE)
        upgrade = "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        upgrade += "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\nSec-WebSocket-Version: 13\r\n"
        self._socket.sendall(f"GET {STREAM} HTTP/1.1\r\n{upgrade}\r\n".encode())
        self._lines = self._socket.makefile("rb")
        while self._lines.readline().strip():
            pass
        self.web_host = self._lines.readline().decode().strip()

    def is_alive(self):
        self._socket.sendall(b"still there?\n")
        return self._lines.readline() == b"still there?\n"

    def close(self):
        self._lines.close()
        self._socket.close()


@pytest.fixture
def websocket():
    opened = []

    def open_one(door):
        opened.append(Websocket(door))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


def test_websockets_go_where_there_are_fewest(house, websocket):
    house.web_hosts(1, 2)
    door = house.door()
    assert collections.Counter(websocket(door).web_host for _ in range(6)) == {WEB1: 3, WEB2: 3}


def test_drained_host_keeps_its_websockets_and_gets_nothing_new(house, websocket):
    house.web_hosts(1, 2)
    door = house.door()
    old = {each.web_host: each for each in (websocket(door), websocket(door))}
    assert set(old) == {WEB1, WEB2}
    assert door.tell("set server web/web2 state drain") == ""
    assert old[WEB2].is_alive()
    assert {websocket(door).web_host for _ in range(4)} == {WEB1}
    assert {door.ask(page(number)) for number in range(20)} == {WEB1}
    assert {door.ask("/") for _ in range(10)} == {WEB1}

    # An apply while a host is drained: HAProxy reloads.
    door.reload()
    assert door.states() == {"web1": "UP", "web2": "DRAIN"}
    assert old[WEB2].is_alive()
    assert websocket(door).web_host == WEB1
    assert {door.ask(page(number)) for number in range(20)} == {WEB1}
    assert {door.ask("/") for _ in range(10)} == {WEB1}

    assert door.tell("set server web/web2 state ready") == ""
    assert {door.ask("/") for _ in range(10)} == {WEB1, WEB2}
    wait_until(lambda: {door.ask(page(number)) for number in range(20)} == {WEB1, WEB2})
    # Put back is put back: nothing remembers that it was drained.
    door.reload()
    assert door.states() == {"web1": "UP", "web2": "UP"}


def test_what_is_down_stays_down_over_a_reload(house):
    house.web_hosts(1)
    door = house.door()
    wait_until(lambda: door.states() == {"web1": "UP", "web2": "DOWN"})
    door.reload()
    assert door.states() == {"web1": "UP", "web2": "DOWN"}


def test_a_reload_takes_new_hosts_and_keeps_what_is_drained(house, hosts):
    house.web_hosts(1, 2, 3)
    door = house.door()
    door.tell("set server web/web1 state drain")
    door.configure(hosts("Debian-12", "grown-lb1").text(HAPROXY))
    door.reload()
    assert door.states() == {"web1": "DRAIN", "web2": "UP", "web3": "UP"}
    assert {door.ask(page(number)) for number in range(30)} == {WEB2, WEB3}


def test_port_comes_from_the_configuration_and_not_from_the_state_before(house):
    """HAProxy would go on with the one in the state file."""
    house.web_hosts(1, 2)
    door = house.door()
    assert len({row["srv_port"] for row in door.save()}) == 1
    script = re.sub(r"-v port=\d+", "-v port=9", (door.folder / "save").read_text())
    (door.folder / "save").write_text(script)
    assert [(row["srv_name"], row["srv_port"]) for row in door.save()] == [("web1", "9"), ("web2", "9")]


def test_states_that_cannot_be_asked_for_leave_the_file_as_it_was(house):
    house.web_hosts(1, 2)
    door = house.door()
    door.reload()
    before = (door.folder / "servers.state").read_text()
    script = (door.folder / "save").read_text().replace("show servers state web", "show servers state nowhere")
    (door.folder / "save").write_text(script)
    with pytest.raises(subprocess.CalledProcessError):
        door.save()
    assert (door.folder / "servers.state").read_text() == before
    assert not list(door.folder.glob("servers.state.*"))
