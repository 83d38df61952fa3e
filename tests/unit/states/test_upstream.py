"""What becomes of nginx's connections to gunicorn that nobody uses: a real nginx, a listener in gunicorn's place."""

import contextlib
import http.client
import pathlib
import re
import socket
import subprocess
import tempfile
import time

import pytest

from test_measuring import free_port
from test_switching import command

PATIENCE = 20
NGINX, GUNICORN = "/etc/nginx/nginx.conf", "/etc/gunicorn/gunicorn.conf.py"
ANSWER = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def nginx(hosts, osfinger, tmp_path):
    """Return the port of an nginx that has only the upstream of the rendered configuration, and the listener."""
    text = hosts(osfinger, "single").text(NGINX)
    (upstream,) = re.findall(r"^    upstream gunicorn \{.*?^    \}$", text, re.MULTILINE | re.DOTALL)
    (passed,) = set(re.findall(r"^ +(proxy_pass http://gunicorn;)$", text, re.MULTILINE))
    port = free_port()
    assert "unix:/run/gunicorn.sock" in upstream
    # Not in tmp_path: a socket's path may have 107 bytes.
    folder = tempfile.TemporaryDirectory(prefix="nginx-")
    place = pathlib.Path(folder.name, "gunicorn.sock")
    (tmp_path / "nginx.conf").write_text(
        f"user root;\nmaster_process off;\ndaemon off;\npid {tmp_path}/pid;\nevents {{}}\nhttp {{\n"
        + "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
        + f"client_body_temp_path {tmp_path}/body;\naccess_log off;\n"
        + upstream.replace("/run/gunicorn.sock", str(place))
        + f"\nserver {{\nlisten 127.0.0.1:{port};\nlocation / {{\n{passed}\nproxy_http_version 1.1;\n"
        'proxy_set_header Connection "";\n}\n}\n}\n'
    )
    with folder, socket.socket(socket.AF_UNIX) as listener, (tmp_path / "said").open("wb") as said:
        listener.bind(str(place))
        listener.listen()
        listener.settimeout(PATIENCE)
        process = subprocess.Popen([command("nginx"), "-e", "stderr", "-c", str(tmp_path / "nginx.conf")], stderr=said)
        try:
            until = time.monotonic() + PATIENCE
            while True:
                with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                    break
                assert process.poll() is None, (tmp_path / "said").read_text()
                assert time.monotonic() < until
                time.sleep(0.05)
            yield port, listener
        finally:
            process.terminate()
            process.wait(PATIENCE)


def test_nginx_gives_an_idle_connection_up_before_gunicorn_does(nginx, hosts, osfinger):
    """Else what is no GET, and comes at that very moment, is answered 502: of 1,800 on a busy machine three were."""
    port, listener = nginx
    keepalive = int(re.search(r"^keepalive = (\d+)$", hosts(osfinger, "single").text(GUNICORN), re.MULTILINE)[1])

    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as client:
        client.request("POST", "/", b"{}")
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(PATIENCE)
            assert connection.recv(65536).startswith(b"POST / ")
            began = time.monotonic()
            connection.sendall(ANSWER)
            assert client.getresponse().status == 202
            # It is kept for a while, and then closed from the other side; nginx's own default is a minute.
            assert connection.recv(1) == b""

    assert 0.5 * keepalive / 2 < time.monotonic() - began
    given_up = re.search(r"keepalive_timeout (\d+)ms;\n    \}", hosts(osfinger, "single").text(NGINX))
    # A worker that is told to stop waits two seconds for what comes on such connections.
    assert int(given_up[1]) <= 500 * min(keepalive, 2)
