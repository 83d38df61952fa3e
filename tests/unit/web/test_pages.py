"""``GET /api/v1/fibonacci``: what a page holds, how it is linked, and which pages there are."""

import gzip
import json
import tracemalloc
from collections.abc import Callable
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fibonacci import sequence
from service import problem
from web import pages
from web.documents import SEPARATOR, Document
from web.pagination import ENVELOPE_BYTES, Limits, Page
from web.settings import Settings

PATH = "/api/v1/fibonacci"


def test_first_page_begins_the_sequence(client: FlaskClient) -> None:
    response = client.get(PATH, query_string={"page": 1, "per_page": 5})
    assert response.status_code == 200
    assert response.content_type == "application/json"
    assert response.json == {
        "page": 1,
        "per_page": 5,
        "start": 0,
        "count": 5,
        "terms": ["0", "1", "1", "2", "3"],
        "links": {
            "self": f"{PATH}?page=1&per_page=5",
            "first": f"{PATH}?page=1&per_page=5",
            "next": f"{PATH}?page=2&per_page=5",
        },
    }


def test_members_come_in_the_order_of_the_contract(client: FlaskClient) -> None:
    document = json.loads(client.get(f"{PATH}?page=2").data)
    assert list(document) == ["page", "per_page", "start", "count", "terms", "links"]
    assert list(document["links"]) == ["self", "first", "prev", "next"]


def test_defaults_are_the_first_page_of_a_hundred(client: FlaskClient) -> None:
    assert client.get(PATH).data == client.get(f"{PATH}?page=1&per_page=100").data
    assert client.get(PATH).json["terms"] == [str(term) for term in sequence(100)]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 40), st.integers(1, 1000))
def test_pages_agree_with_the_sequence(client: FlaskClient, page: int, per_page: int) -> None:
    stop = page * per_page
    if stop > 20_000:
        page, stop = 1, per_page  # terms beyond Python's digit limit are the library's tests' business
    response = client.get(PATH, query_string={"per_page": per_page, "page": page})
    assert response.json["terms"] == [str(term) for term in sequence(stop)[stop - per_page :]]
    assert int(response.headers["Content-Length"]) == len(response.data)


def test_link_header_says_the_same_as_the_body(client: FlaskClient) -> None:
    response = client.get(f"{PATH}?per_page=7&page=3")
    assert response.headers["Link"] == (
        f'<{PATH}?page=3&per_page=7>; rel="self", <{PATH}?page=1&per_page=7>; rel="first", '
        f'<{PATH}?page=2&per_page=7>; rel="prev", <{PATH}?page=4&per_page=7>; rel="next"'
    )
    assert response.headers["Link"] == ", ".join(f'<{to}>; rel="{rel}"' for rel, to in response.json["links"].items())


def test_last_page_has_no_next(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client(inline_limit=10_000)
    assert "next" in client.get(f"{PATH}?page=99&per_page=100").json["links"]
    assert "next" not in client.get(f"{PATH}?page=100&per_page=100").json["links"]
    assert problem(client.get(f"{PATH}?page=101&per_page=100"))["maximum"] == 100


def test_next_page_over_the_byte_cap_is_not_linked(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client(max_page_bytes=2**20)
    page = 1
    while (response := client.get(PATH, query_string={"page": page, "per_page": 1000})).status_code == 200:
        assert ("next" in response.json["links"]) == (
            client.head(f"{PATH}?page={page + 1}&per_page=1000").status_code == 200
        )
        page += 1
    assert page > 2


@pytest.mark.parametrize(
    "value", ["0", "-1", "x", "1e3", "+1", " 1", "1 ", "٣", "01", "", "1.0", "0x1", "1_0", "\0", "1\n"]
)
@pytest.mark.parametrize(("name", "maximum"), [("page", 100_000), ("per_page", 1_000)])
def test_malformed_number_is_refused(client: FlaskClient, name: str, maximum: int, value: str) -> None:
    refusal = problem(client.get(f"{PATH}?{name}={quote(value)}"))
    assert refusal["type"] == "/problems/invalid-parameter"
    assert (refusal["parameter"], refusal["minimum"], refusal["maximum"]) == (name, 1, maximum)
    assert f"from 1 to {maximum}" in refusal["detail"]


@pytest.mark.parametrize("page", ["100001", str(10**30), "9" * 5_000])
def test_page_beyond_the_inline_limit_is_refused_with_the_last_one(client: FlaskClient, page: str) -> None:
    refusal = problem(client.get(f"{PATH}?page={page}"))
    assert (refusal["parameter"], refusal["minimum"], refusal["maximum"]) == ("page", 1, 100_000)


def test_maximum_page_belongs_to_the_page_size(client: FlaskClient) -> None:
    assert problem(client.get(f"{PATH}?page={10**30}&per_page=7"))["maximum"] == 10_000_001 // 7


@pytest.mark.parametrize("per_page", ["1001", "9" * 5_000])
def test_per_page_beyond_its_limit_is_refused(client: FlaskClient, per_page: str) -> None:
    refusal = problem(client.get(f"{PATH}?per_page={per_page}"))
    assert (refusal["parameter"], refusal["minimum"], refusal["maximum"]) == ("per_page", 1, 1000)


def test_repeated_parameter_is_refused(client: FlaskClient) -> None:
    refusal = problem(client.get(f"{PATH}?page=1&page=1"))
    assert refusal["parameter"] == "page"
    assert refusal["detail"] == "page must be given once."
    assert (refusal["minimum"], refusal["maximum"]) == (1, 100_000)


@pytest.mark.parametrize("name", ["limit", "Page", "page[]", "", "%ff", "%00"])
def test_unknown_parameter_is_refused(client: FlaskClient, name: str) -> None:
    refusal = problem(client.get(f"{PATH}?page=1&{name}=1"))
    assert "known here: page, per_page" in refusal["detail"]
    assert "minimum" not in refusal


def test_long_name_of_an_unknown_parameter_is_not_sent_back_whole(client: FlaskClient) -> None:
    assert problem(client.get(f"{PATH}?{'a' * 9_000}=1"))["parameter"] == "a" * 64


@pytest.mark.parametrize("query", [b"page=\xff", b"page=%ff", b"page=%00", b"page=\xc3\x28"])
def test_bytes_that_are_no_text_are_refused(client: FlaskClient, query: bytes) -> None:
    environ = {"QUERY_STRING": query.decode("latin-1")}
    assert problem(client.get(PATH, environ_overrides=environ))["parameter"] == "page"


def test_page_over_the_byte_cap_names_the_largest_per_page(client: FlaskClient) -> None:
    refusal = problem(client.get(f"{PATH}?page=500&per_page=1000"))
    assert (refusal["parameter"], refusal["minimum"]) == ("per_page", 1)
    most = refusal["maximum"]
    assert client.head(f"{PATH}?page=500&per_page={most}").status_code == 200
    assert problem(client.get(f"{PATH}?page=500&per_page={most + 1}"))["maximum"] == most


def test_term_longer_than_the_byte_cap_names_the_last_page(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client(max_page_bytes=2**20)
    refusal = problem(client.get(f"{PATH}?page=9000000&per_page=1"))
    assert (refusal["parameter"], refusal["minimum"]) == ("page", 1)
    last = refusal["maximum"]
    assert client.head(f"{PATH}?page={last}&per_page=1").status_code == 200
    assert problem(client.get(f"{PATH}?page={last + 1}&per_page=1"))["maximum"] == last


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 10**12), st.integers(1, 10**12))
def test_client_that_follows_the_advice_gets_a_page(client: FlaskClient, page: int, per_page: int) -> None:
    asked = {"page": page, "per_page": per_page}
    for _ in range(3):  # per_page out of range, page out of range, body over the cap
        response = client.get(PATH, query_string=asked)
        if response.status_code == 200:
            break
        refusal = problem(response)
        asked[refusal["parameter"]] = refusal["maximum"]
    assert client.head(PATH, query_string=asked).status_code == 200


@settings(deadline=None)
@given(st.integers(1, 10**8), st.integers(1, 2_000), st.integers(10_000, 10**8), st.integers(2**20, 2**30))
def test_body_never_exceeds_the_cap(number: int, per_page: int, index: int, cap: int) -> None:
    limits = Limits(2_000, index, cap)
    page = Page(number, per_page)
    if limits.fits(page):
        assert pages.document(page, limits.links(page, PATH)).length <= cap


def test_envelope_is_smaller_than_its_allowance() -> None:
    page = Page(10**8, 10**8)  # numbers longer than any that the settings permit
    links = {relation: page.link(PATH) for relation in ("self", "first", "prev", "next")}
    document = pages.document(page, links)
    assert len(document.head) + len(document.tail) <= ENVELOPE_BYTES


def test_first_page_fits_whatever_the_settings() -> None:
    smallest = Limits(2_000, 10_000, 2**20)
    assert all(smallest.fits(Page(1, per_page)) for per_page in range(1, 2_001))
    with pytest.raises(ValueError, match="1048576"):
        Settings(max_page_bytes=2**20 - 1)


@settings(deadline=None)
@given(st.integers(0, 3_000), st.integers(1, 60))
def test_length_of_a_document_is_known_beforehand(start: int, count: int) -> None:
    document = Document(b"[", start, count, b"]")
    assert sum(map(len, document.chunks())) == document.length
    assert b"".join(document.chunks()).count(SEPARATOR) == count - 1


def test_memory_for_a_page_stays_near_its_compressed_body(client: FlaskClient) -> None:
    client.get(f"{PATH}?page=1", headers={"Accept-Encoding": "gzip"})
    tracemalloc.start()
    response = client.get(f"{PATH}?page=30&per_page=1000", headers={"Accept-Encoding": "gzip"})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The body once in parts and once joined, and a few terms and chunks; all of the text would be 2.3 times one body.
    assert peak < 2 * len(response.data) + 2**20
    assert len(gzip.decompress(response.data)) > 2.2 * len(response.data)
