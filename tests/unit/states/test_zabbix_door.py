"""Zabbix's own nginx, as it runs: who gets at PHP, and how often. There is no PHP: who would get there is told 502."""

import contextlib
import http.client
import shutil
import socket
import subprocess
import time

import pytest

PATIENCE = 20
NGINX = "/etc/zabbix/nginx.conf"
LET_IN, KEPT_OUT, SLOWED = 502, 403, 429
CLIENT = {"X-Forwarded-For": "192.0.2.1"}


class Door:
    def __init__(self, host, folder):
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        text = host.text(NGINX).replace("/run/zabbix-web", str(folder))
        assert "127.0.0.1:8090" in text
        # As whoever runs the tests, who may not become another.
        text = "user root;\nmaster_process off;\n" + text.replace("127.0.0.1:8090", f"127.0.0.1:{self.port}")
        (folder / "nginx.conf").write_text(text)
        nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin")
        assert nginx, "nginx is not installed"
        self.said = folder / "said"
        self._said = self.said.open("wb")
        command = [nginx, "-e", "stderr", "-c", str(folder / "nginx.conf")]
        self._process = subprocess.Popen(command, stderr=self._said)
        until = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                self.ask("/", {})
                return
            assert self._process.poll() is None, (folder / "said").read_text()
            assert time.monotonic() < until
            time.sleep(0.05)

    def ask(self, path, headers=CLIENT, method="GET", source="127.0.0.1"):
        """Return the status, and the header Retry-After."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, PATIENCE, source_address=(source, 0))
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, answer.getheader("Retry-After")

    def close(self):
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._said.close()


@pytest.fixture
def door(hosts, osfinger, tmp_path):
    door = Door(hosts(osfinger, "single"), tmp_path)
    yield door
    door.close()


GUESSES = [
    ("POST", "/zabbix/index.php"),
    ("POST", "/zabbix//index.php"),
    ("POST", "/zabbix/%69ndex.php"),
    ("POST", "/zabbix/./index.php"),
    ("GET", "/zabbix/index.php?enter=1&name=Admin&password=guess"),
    ("GET", "/zabbix/index.php?%65nter=1&name=Admin&password=guess"),
    ("POST", "/zabbix/index_http.php"),
]


def test_however_one_spells_it_one_guesses_as_often_and_no_more(door):
    guesses = [door.ask(path, method=method) for method, path in (GUESSES * 3)[:15]]

    # A second may be over meanwhile.
    assert {status for status, _ in guesses[:10]} == {LET_IN}
    assert guesses[-1] == (SLOWED, "10")
    assert [door.ask(path, method=method)[0] for method, path in GUESSES].count(SLOWED) >= len(GUESSES) - 1
    # Other pages are as they were, and so are other clients.
    assert door.ask("/zabbix/zabbix.php?action=dashboard.view") == (LET_IN, None)
    assert door.ask("/zabbix/index.php", {"X-Forwarded-For": "192.0.2.2"}) == (LET_IN, None)


def test_no_query_is_told_whatever_becomes_of_the_request(door):
    # There is no PHP to be reached, and then there are too many.
    statuses = {door.ask("/zabbix/index.php?enter=1&name=Admin&password=s3cr3t")[0] for _ in range(15)}

    assert statuses == {LET_IN, SLOWED}
    assert "s3cr3t" not in door.said.read_text()


def test_a_client_of_ipv6_is_its_network(door):
    for number in range(14):
        door.ask("/zabbix/index.php", {"X-Forwarded-For": f"2001:db8:0:a::{number:x}"})

    assert door.ask("/zabbix/index.php", {"X-Forwarded-For": "2001:db8:0:a:ffff::1"})[0] == SLOWED
    assert door.ask("/zabbix/index.php", {"X-Forwarded-For": "2001:db8:0:b::1"})[0] == LET_IN


def test_the_host_itself_is_not_slowed_down(door):
    assert {door.ask("/zabbix/index.php", {})[0] for _ in range(30)} == {LET_IN}


@pytest.mark.parametrize("path", ["/zabbix/api_jsonrpc.php", "/zabbix//api_jsonrpc.php", "/zabbix/%61pi_jsonrpc.php"])
def test_the_api_is_for_the_host_itself(door, path):
    assert door.ask(path, {})[0] == LET_IN
    assert door.ask(path)[0] == KEPT_OUT
    # Who says that he is the host itself, and who comes from elsewhere and says nothing.
    assert door.ask(path, {"X-Forwarded-For": "127.0.0.1"})[0] == KEPT_OUT
    assert door.ask(path, {}, source="127.0.0.2")[0] == KEPT_OUT
