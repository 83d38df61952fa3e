"""``GET /api/v1/fibonacci/<n>``."""

from collections.abc import Callable
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from fibonacci import sequence
from service import problem

PATH = "/api/v1/fibonacci"


@pytest.mark.parametrize("n", [0, 1, 2, 78, 79, 100, 1_000])
def test_term_has_its_index_its_length_and_its_digits(client: FlaskClient, n: int) -> None:
    value = str(sequence(n + 1)[n])
    response = client.get(f"{PATH}/{n}")
    assert response.status_code == 200
    assert response.json == {"n": n, "digits": len(value), "value": value}
    assert int(response.headers["Content-Length"]) == len(response.data)
    assert "Link" not in response.headers


def test_millionth_term(client: FlaskClient) -> None:
    document = client.get(f"{PATH}/1000000").json
    assert document["digits"] == len(document["value"]) == 208_988
    assert document["value"].startswith("1953282128")
    assert document["value"].endswith("8242546875")


def test_inline_limit_is_inclusive_and_named(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client(inline_limit=10_000)
    assert client.get(f"{PATH}/10000").status_code == 200
    refusal = problem(client.get(f"{PATH}/10001"))
    assert (refusal["parameter"], refusal["minimum"], refusal["maximum"]) == ("n", 0, 10_000)


@pytest.mark.parametrize(
    "n",
    ["-1", "1.5", "x", "1e3", "+1", " 1", "٣", "007", "00", "\0", "10000001", str(10**30), "9" * 5_000, "9" * 9_000],
)
def test_what_is_no_index_is_refused_by_name_and_bounds(client: FlaskClient, n: str) -> None:
    refusal = problem(client.get(f"{PATH}/{quote(n)}"))
    assert refusal["type"] == "/problems/invalid-parameter"
    assert (refusal["parameter"], refusal["minimum"], refusal["maximum"]) == ("n", 0, 10_000_000)


def test_invalid_utf_8_as_index_is_refused_by_name(client: FlaskClient) -> None:
    environ = {"PATH_INFO": f"{PATH}/\xff"}  # WSGI's way to write the byte
    assert problem(client.get("/", environ_overrides=environ))["parameter"] == "n"


def test_query_is_refused(client: FlaskClient) -> None:
    refusal = problem(client.get(f"{PATH}/1?page=1"))
    assert refusal["parameter"] == "page"
    assert "has none" in refusal["detail"]
