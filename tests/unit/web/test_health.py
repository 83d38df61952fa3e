"""Liveness touches nothing; readiness names its dependency and its state."""

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from service import RedisServer


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_never_cached(client: FlaskClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert response.content_type == "application/json"
    assert client.head(path).status_code == 200


def test_liveness_says_ok(client: FlaskClient) -> None:
    assert client.get("/healthz").json == {"status": "ok"}


def test_service_without_redis_is_ready(client: FlaskClient) -> None:
    assert client.get("/readyz").json == {"status": "ready", "dependencies": {"redis": {"status": "off"}}}


def test_service_with_redis_is_ready(make_client: Callable[..., FlaskClient], redis_server: RedisServer) -> None:
    document = make_client(redis_url=redis_server.url).get("/readyz").json
    assert document["status"] == "ready"
    assert document["dependencies"]["redis"]["status"] == "up"
    assert 0 < document["dependencies"]["redis"]["latency_ms"] < 1_000


def test_service_is_degraded_while_redis_is_down(
    make_client: Callable[..., FlaskClient], redis_server: RedisServer
) -> None:
    client = make_client(redis_url=redis_server.url)
    redis_server.stop()
    response = client.get("/readyz")
    assert response.status_code == 200
    assert response.json == {
        "status": "degraded",
        "dependencies": {"redis": {"status": "down", "error": "ConnectionError"}},
    }
    redis_server.start()
    assert client.get("/readyz").json["status"] == "ready"


@pytest.mark.parametrize(
    ("wrong", "error"), [({"maxmemory": 1}, "OutOfMemoryError"), ({"min-replicas-to-write": 1}, "ResponseError")]
)
def test_service_is_degraded_while_redis_takes_no_writes(
    make_client: Callable[..., FlaskClient], redis_server: RedisServer, wrong: dict[str, int], error: str
) -> None:
    client = make_client(redis_url=redis_server.url)
    for name, value in wrong.items():
        redis_server.client.config_set(name, value)
    document = client.get("/readyz").json
    assert document["status"] == "degraded"
    assert document["dependencies"]["redis"]["status"] == "read-only"
    assert document["dependencies"]["redis"]["error"] == error
    for name in wrong:
        redis_server.client.config_set(name, 0)
    assert client.get("/readyz").json["status"] == "ready"


def test_refused_credentials_are_reported_without_them(
    make_client: Callable[..., FlaskClient], redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    client = make_client(redis_url=redis_server.url.replace("unix://", "unix://app:swordfish@"))
    response = client.get("/readyz", buffered=True)
    assert response.json["dependencies"]["redis"] == {"status": "down", "error": "AuthenticationError"}
    assert "swordfish" not in capsys.readouterr().out
