"""The log: one JSON object per line, tied to the request by its id."""

import logging
import re
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from flask.testing import FlaskClient

from service import Log

PATH = "/api/v1/fibonacci"


def test_finished_request_leaves_one_line(client: FlaskClient, log: Log) -> None:
    response = client.get(f"{PATH}?page=1&per_page=5", headers={"X-Request-ID": "from-nginx_1.2"}, buffered=True)
    (line,) = log()
    assert line | {"time": "", "duration_ms": 0} == {
        "time": "",
        "level": "INFO",
        "logger": "web.requests",
        "message": "request finished",
        "request_id": "from-nginx_1.2",
        "method": "GET",
        "path": PATH,
        "query": "page=1&per_page=5",
        "status": 200,
        "duration_ms": 0,
        "bytes": len(response.data),
    }
    assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
    assert 0 < line["duration_ms"] < 10_000
    assert response.headers["X-Request-ID"] == "from-nginx_1.2"


@pytest.mark.parametrize("given", ["", "a" * 65, "a b", "a,b", "ä", 'a"b', "a/b"])
def test_request_id_that_is_none_is_replaced(client: FlaskClient, log: Log, given: str) -> None:
    response = client.get(PATH, headers={"X-Request-ID": given}, buffered=True)
    assert re.fullmatch("[0-9a-f]{32}", response.headers["X-Request-ID"])
    assert log()[-1]["request_id"] == response.headers["X-Request-ID"]


@pytest.mark.parametrize(("path", "status"), [("/nothing", 404), (f"{PATH}?page=0", 400), (f"{PATH}/%ff%0a", 400)])
def test_errors_are_logged_like_any_request(client: FlaskClient, log: Log, path: str, status: int) -> None:
    client.get(path, buffered=True)
    (line,) = log()
    assert line["status"] == status


def test_health_checks_are_logged_only_while_debugging(make_client: Callable[..., FlaskClient], log: Log) -> None:
    make_client().get("/healthz", buffered=True)
    assert log() == []
    make_client(log_level="DEBUG").get("/healthz", buffered=True)
    assert [line["path"] for line in log()] == ["/healthz"]


def test_header_values_are_not_logged(client: FlaskClient, capsys: pytest.CaptureFixture[str]) -> None:
    client.get(PATH, headers={"Authorization": "swordfish", "Cookie": "swordfish"}, buffered=True)
    assert "swordfish" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "query", ["token=swordfish", "page=1&swordfish", "page=swordfish+2", "%73wordfish=1&swordfish"]
)
def test_query_that_may_hold_a_secret_is_hidden(client: FlaskClient, log: Log, query: str) -> None:
    client.get(f"{PATH}?{query}", buffered=True)
    (line,) = log()
    assert line["query"] == "(hidden)"


def test_other_loggers_write_the_same_form(client: FlaskClient, log: Log) -> None:
    logging.getLogger("elsewhere").warning("two\nlines", extra={"detail": {1}})
    (line,) = log()
    assert line["message"] == "two\nlines"
    assert line["request_id"] is None
    assert line["detail"] == "{1}"


def test_configuring_twice_does_not_write_twice(make_client: Callable[..., FlaskClient], log: Log) -> None:
    make_client()
    make_client().get(PATH, buffered=True)
    assert len(log()) == 1
