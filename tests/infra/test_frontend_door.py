"""The door of Zabbix's pages: what is not for clients they do not get, and who guesses passwords is slowed down."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from client import Client
from machine import Machine
from waiting import eventually
from zabbix import Zabbix

pytestmark = pytest.mark.roles("monitor")


def test_without_a_password_there_is_only_the_door(frontend: str) -> None:
    shown = requests.get(f"{frontend}/zabbix.php?action=dashboard.view", timeout=60)
    guest = requests.get(f"{frontend}/index.php?enter=guest", timeout=60)

    assert "You are not logged in" in shown.text
    assert "zabbix.php?action=dashboard" not in guest.text


def as_it_is_spelled(url: str, method: str, data: dict[str, str] | None = None) -> requests.PreparedRequest:
    """Return a request for *url* that no library has tidied up."""
    request = requests.Request(method, "http://localhost/", data=data).prepare()
    request.url = url
    return request


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api_jsonrpc.php", 403),
        ("/setup.php", 404),
        ("/conf/zabbix.conf.php", 404),
        ("/include/config.inc.php", 404),
        ("/../../etc/passwd", 400),
    ],
)
def test_what_is_not_for_clients_they_do_not_get(frontend: str, path: str, status: int) -> None:
    request = as_it_is_spelled(frontend + path, "POST" if "api" in path else "GET")

    with requests.Session() as session:
        assert session.send(request, timeout=60).status_code == status


def test_somebodys_wrong_passwords_for_admin_do_not_stop_an_apply(frontend: str, host: Machine) -> None:
    target = f"{frontend}/index.php"
    wrong = {"name": "Admin", "password": "guess", "enter": "Sign in"}
    for _ in range(5):
        requests.post(target, data=wrong, timeout=60)
    right = wrong | {"password": host.settings("zabbix_server")["password"]}
    assert "temporarily blocked" in requests.post(target, data=right, timeout=60).text

    assert Zabbix(host).drift() == {}


@pytest.mark.parametrize(
    ("method", "spelling"),
    [
        ("POST", "/index.php"),
        ("POST", "//index.php"),
        ("POST", "/%69ndex.php"),
        ("GET", "/index.php?name=nobody&password=guess&enter=Sign+in"),
    ],
)
def test_whoever_guesses_passwords_is_slowed_down(
    client: Client, frontend: str, host: Machine, method: str, spelling: str
) -> None:
    # Of a user that there is not: Admin would be refused for a while.
    guess = {"name": "nobody", "password": "guess", "enter": "Sign in"} if method == "POST" else None
    request = as_it_is_spelled(frontend + spelling, method, guess)
    limit = host.settings("zabbix_frontend")["limits"]["logins"]

    def told(_: object = None) -> int:
        with requests.Session() as session:
            return session.send(request, timeout=60).status_code

    # At once, as one after the other they may be slow enough.
    with ThreadPoolExecutor(2 * limit) as guessing:
        assert 429 in guessing.map(told, range(2 * limit))
    # Others of this client's are not.
    assert client.page().status == 200
    assert eventually(lambda: told() == 200, pause=1)
