"""What nginx tells of requests that fail: a real nginx with the whole configuration, and what tells its errors."""

import contextlib
import http.client
import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile

import pytest

from rendering import ROOT
from test_measuring import eventually, free_port
from test_switching import command

PATIENCE = 20
NGINX = "/etc/nginx/nginx.conf"
TELL = ROOT / "salt" / "states" / "nginx" / "files" / "tell-errors"


class Web:
    """nginx as it is on the host, without any gunicorn behind; and tell-errors at its socket."""

    def __init__(self, host, folder, stack):
        self.folder, self.port = folder, free_port()
        text = host.text(NGINX)
        for before, after in (
            (r"^user .*;$", "user root;\nmaster_process off;\ndaemon off;"),
            (r"^include /etc/nginx/modules-enabled/.*\n", ""),
            (r"/run/nginx\.pid", f"{folder}/pid"),
            (r"/var/log/nginx/", f"{folder}/"),
            (r"/var/cache/nginx/[a-z]+", f"{folder}/cache"),
            (r"unix:/run/", f"unix:{folder}/"),
            (r"listen \S+:8080 ", f"listen 127.0.0.1:{self.port} "),
            (r"listen 127\.0\.0\.1:8081;", f"listen 127.0.0.1:{free_port()};"),
            (r"^http \{$", f"http {{\nclient_body_temp_path {folder}/body;\nproxy_temp_path {folder}/proxy;"),
        ):
            text, count = re.subn(before, after, text, flags=re.MULTILINE)
            assert count or before.endswith("\\n"), before
        for kind in ("fastcgi", "uwsgi", "scgi"):
            text = text.replace("http {\n", f"http {{\n{kind}_temp_path {folder}/{kind};\n", 1)
        (folder / "nginx.conf").write_text(text)
        errors = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        errors.bind(str(folder / "nginx-error.sock"))
        nginx = command("nginx")
        # The check of the configuration needs none of the sockets.
        subprocess.run([nginx, "-t", "-q", "-e", "stderr", "-c", folder / "nginx.conf"], check=True)
        for name, command_line, given in (
            ("nginx", [nginx, "-e", "stderr", "-c", folder / "nginx.conf"], subprocess.DEVNULL),
            ("tell-errors", [sys.executable, "-IB", TELL], errors),
        ):
            said = stack.enter_context((folder / name).open("wb"))
            process = subprocess.Popen(command_line, stdin=given, stdout=said, stderr=said)
            stack.callback(process.wait, PATIENCE)
            stack.callback(process.terminate)
        eventually(self.is_up)

    def is_up(self):
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.port)):
            return True

    def ask(self, target):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", target)
            return connection.getresponse().status

    def told(self):
        return (self.folder / "tell-errors").read_text().splitlines()

    def written(self):
        """Return all that is in any file."""
        return "".join(path.read_text() for path in self.folder.iterdir() if path.is_file())


@pytest.fixture
def web(hosts, osfinger):
    # Not in tmp_path: a socket's path may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="nginx-") as folder, contextlib.ExitStack() as stack:
        yield Web(hosts(osfinger, "single"), pathlib.Path(folder), stack)


def test_error_of_a_request_is_told_and_its_query_is_in_no_log(web):
    targets = ["/?token=s3cr3t", "/api/v1/stream?token=s3cr3t", "/api/v1/fibonacci?page=1&token=s3cr3t"]

    # Nobody is behind: nginx says why.
    assert [web.ask(target) for target in targets] == [502] * 3

    eventually(lambda: len(web.told()) >= 3)
    for line in web.told():
        assert re.fullmatch(
            r"<2>\d{4}/\d\d/\d\d [0-9:]{8} \[crit\] \d+#\d+: \*\d+ connect\(\) to unix:\S+\.sock failed "
            r"\(2: No such file or directory\) while connecting to upstream",
            line,
        )
    eventually(lambda: (web.folder / "access.log").read_text().count("\n") == 3)
    logged = [json.loads(line) for line in (web.folder / "access.log").read_text().splitlines()]
    assert [(line["status"], line["upstream_status"]) for line in logged] == [(502, "502")] * 3
    assert all("/gunicorn" in line["upstream"] for line in logged)
    (web.folder / "nginx.conf").unlink()
    assert "s3cr3t" not in web.written()


def tell(*datagrams):
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, its, subprocess.Popen([sys.executable, "-IB", TELL], stdin=its, stdout=subprocess.PIPE) as process:
        for datagram in datagrams:
            ours.send(datagram)
        lines = [process.stdout.readline().decode() for _ in datagrams]
        process.terminate()
    return lines


def test_what_a_client_chose_begins_no_line_of_its_own():
    head = b"<187>Nov 29 10:00:00 nginx: 2026/11/29 10:00:00 [error] 1#1: *1 "
    assert tell(
        head + b'open() "/a\n<0>forged\x1b[2J\xff" failed, client: 192.0.2.1, request: "GET /?s3cr3t"',
        head + b'cycle while internally redirecting to "/x?token=s3cr3t"',
        b"s3cr3t",
    ) == [
        '<3>2026/11/29 10:00:00 [error] 1#1: *1 open() "/a\\n<0>forged\\x1b[2J\\xff" failed\n',
        '<3>2026/11/29 10:00:00 [error] 1#1: *1 cycle while internally redirecting to "/x?(hidden)\n',
        "nginx says something that is no message\n",
    ]
