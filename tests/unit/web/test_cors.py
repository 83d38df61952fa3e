"""Scripts of other web sites: let in to read, all of them, or none."""

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from web.settings import Settings

ORIGIN = {"Origin": "https://example.org"}


def allowed(response: TestResponse) -> list[str]:
    """Return the headers by which *response* allows other web sites anything."""
    return [name for name, _ in response.headers if name.startswith("Access-Control")]


@pytest.fixture
def open_client(make_client: Callable[..., FlaskClient]) -> FlaskClient:
    return make_client(cors_origins="*")


def test_none_may_read_by_default(client: FlaskClient) -> None:
    assert Settings().cors_origins == "none"
    response = client.get("/api/v1/fibonacci/1", headers=ORIGIN)
    assert not allowed(response)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("headers", [{}, ORIGIN])
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/fibonacci/1", 200),
        ("/api/v1/openapi.json", 200),
        ("/api/v1/fibonacci?page=0", 400),
        ("/api/v1/nothing", 404),
        ("/api/v1/jobs", 503),
    ],
)
def test_all_may_read_answers_and_problems_alike(
    open_client: FlaskClient, path: str, status: int, method: str, headers: dict[str, str]
) -> None:
    response = open_client.open(path, method=method, headers=headers)
    assert response.status_code == status
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert response.headers["Access-Control-Expose-Headers"] == "ETag, Link, Location, Retry-After, X-Request-ID"
    assert "Access-Control-Allow-Credentials" not in response.headers
    # The same for everybody: nginx keeps no answer that varies by more.
    assert response.headers.get("Vary", "Accept-Encoding") == "Accept-Encoding"


def test_304_says_it_too(open_client: FlaskClient) -> None:
    tag = open_client.get("/api/v1/fibonacci/1").headers["ETag"]
    response = open_client.get("/api/v1/fibonacci/1", headers=ORIGIN | {"If-None-Match": tag})
    assert response.status_code == 304
    assert response.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "OPTIONS"])
def test_nothing_but_reading_is_opened(open_client: FlaskClient, method: str) -> None:
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    response = open_client.open("/api/v1/jobs", method=method, headers=ORIGIN | asks)
    assert response.status_code >= 400
    assert not allowed(response)


@pytest.mark.parametrize("path", ["/", "/healthz", "/api", "/apis/v1"])
def test_what_is_no_part_of_the_api_stays_closed(open_client: FlaskClient, path: str) -> None:
    response = open_client.get(path, headers=ORIGIN)
    assert not allowed(response)
