"""Every error is a problem, is not cached, and gives nothing away."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service import Log, problem
from web import create_app
from web.settings import Settings

PATH = "/api/v1/fibonacci"
PATHS = pytest.mark.parametrize("path", [PATH, f"{PATH}/5", "/healthz", "/readyz"])


@pytest.mark.parametrize(
    "path", ["/nothing", f"{PATH}/", f"{PATH}/1/2", f"{PATH}/1%2F2", "/api//v1/fibonacci", "/" + "a" * 9_000]
)
def test_unknown_path_is_a_404(client: FlaskClient, path: str) -> None:
    document = problem(client.get(path), 404)
    assert document["type"] == "about:blank"
    assert document["title"] == "Not Found"


@PATHS
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_wrong_method_is_a_405_that_names_the_right_ones(client: FlaskClient, path: str, method: str) -> None:
    response = client.open(path, method=method)
    problem(response, 405)
    assert {name.strip() for name in response.headers["Allow"].split(",")} == {"GET", "HEAD"}


@PATHS
@pytest.mark.parametrize("body", [{"data": b"x"}, {"headers": {"Transfer-Encoding": "chunked"}}])
def test_body_where_none_belongs_is_refused(client: FlaskClient, path: str, body: dict[str, Any]) -> None:
    assert problem(client.get(path, **body))["detail"] == "A GET or HEAD request must not have a body."
    assert client.head(path, **body).status_code == 400


def test_empty_body_is_no_body(client: FlaskClient) -> None:
    assert client.get(PATH, headers={"Content-Length": "0"}).status_code == 200


@pytest.mark.parametrize("path", [b"/\xff", b"/\0", b"/api/\xc3\x28", PATH.encode() + b"\0"])
def test_path_that_is_no_text_is_refused(client: FlaskClient, path: bytes) -> None:
    response = client.get("/", environ_overrides={"PATH_INFO": path.decode("latin-1")})
    assert problem(response)["detail"] == "The path is not UTF-8 text."


def test_strange_host_header_is_no_server_error(client: FlaskClient) -> None:
    for host in ("a b", "", "[", "x:y", "\xff"):
        assert client.get(PATH, headers={"Host": host}).status_code in (200, 400)


def test_problem_of_head_has_no_body(client: FlaskClient) -> None:
    response = client.head(f"{PATH}?page=0")
    assert response.status_code == 400
    assert response.data == b""
    assert response.content_type == "application/problem+json"


@pytest.fixture
def broken() -> Flask:
    app = create_app(Settings())

    @app.get("/broken")
    def view() -> str:
        raise RuntimeError("the secret is swordfish")

    return app


def test_unexpected_error_is_a_500_that_tells_only_the_log(broken: Flask, log: Log) -> None:
    response = broken.test_client().get("/broken", headers={"X-Request-ID": "abc"})
    document = problem(response, 500)
    assert document["title"] == "Internal Server Error"
    assert b"swordfish" not in response.data
    assert b"RuntimeError" not in response.data
    (line,) = [line for line in log() if line["level"] == "ERROR"]
    assert line["request_id"] == response.headers["X-Request-ID"] == "abc"
    assert "swordfish" in line["exception"]


def test_every_answer_has_a_request_id(client: FlaskClient) -> None:
    for path in (PATH, "/nothing", "/healthz", f"{PATH}?page=0"):
        assert re.fullmatch("[0-9a-f]{32}", client.get(path).headers["X-Request-ID"])


def test_no_success_is_marked_uncacheable_and_no_error_cacheable(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client()
    for url, cacheable in [(PATH, True), (f"{PATH}/1", True), ("/x", False), (f"{PATH}/x", False)]:
        assert ("immutable" in client.get(url).headers["Cache-Control"]) is cacheable
