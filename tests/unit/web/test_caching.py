"""Headers for caches, conditional requests, HEAD, and compression by the app."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st

from web import caching, chunks, documents
from web.compression import crc32_combine, deflate, gzip_member

PAGE = "/api/v1/fibonacci?page=2&per_page=300"
TERM = "/api/v1/fibonacci/5000"
GZIP = {"Accept-Encoding": "gzip"}
RESOURCES = pytest.mark.parametrize("url", [PAGE, TERM])
CODINGS = pytest.mark.parametrize("headers", [{}, GZIP])


@pytest.fixture
def calculations(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that grows with every walk that begins."""
    begun: list[Any] = []
    original = documents.decimal_text

    def counted(*arguments: Any) -> Iterator[bytes]:
        begun.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(documents, "decimal_text", counted)
    return begun


@RESOURCES
@CODINGS
def test_answers_may_be_kept_for_ever_by_anyone(client: FlaskClient, url: str, headers: dict[str, str]) -> None:
    response = client.get(url, headers=headers)
    assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert response.headers["Vary"] == "Accept-Encoding"
    assert "Set-Cookie" not in response.headers
    tag, weak = response.get_etag()
    assert tag
    assert weak is False


@RESOURCES
@CODINGS
@pytest.mark.parametrize("form", ['"{}"', 'W/"{}"', '"x", "{}"', 'W/"x", W/"{}", "y"', "*"])
def test_known_tag_gives_304_without_calculation(
    client: FlaskClient, calculations: list[Any], url: str, headers: dict[str, str], form: str
) -> None:
    first = client.get(url, headers=headers)
    calculations.clear()
    for method in (client.get, client.head):
        response = method(url, headers={**headers, "If-None-Match": form.format(first.get_etag()[0])})
        assert response.status_code == 304
        assert response.data == b""
        for name in ("ETag", "Cache-Control", "Vary"):
            assert response.headers[name] == first.headers[name]
    assert calculations == []


@RESOURCES
def test_other_tag_gives_the_body(client: FlaskClient, url: str) -> None:
    for header in ('"other"', "rubbish", "", '"'):
        assert client.get(url, headers={"If-None-Match": header}).status_code == 200


def test_tag_is_of_the_meaning_not_of_the_spelling(client: FlaskClient) -> None:
    urls = ["page=2&per_page=100", "per_page=100&page=2", "page=%32&per_page=100", "page=2"]
    assert len({client.head(f"/api/v1/fibonacci?{query}").get_etag()[0] for query in urls}) == 1


def test_tag_differs_by_resource_by_coding_and_by_code(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def tags() -> list[str | None]:
        urls = [PAGE, TERM, "/api/v1/fibonacci?page=1&per_page=1", "/api/v1/fibonacci/0"]
        return [client.get(url, headers=headers).get_etag()[0] for url in urls for headers in ({}, GZIP)]

    before = tags()
    monkeypatch.setattr(caching, "CODE_VERSION", "another")
    assert len({*before, *tags()}) == 2 * len(before)


def test_tag_changes_with_settings_that_change_the_body(make_client: Callable[..., FlaskClient]) -> None:
    # On the last page there is no link to a next one.
    url = "/api/v1/fibonacci?page=100&per_page=100"
    last, not_last = make_client(inline_limit=10_000).get(url), make_client().get(url)
    assert last.data != not_last.data
    assert last.get_etag() != not_last.get_etag()


@RESOURCES
@CODINGS
def test_head_has_the_headers_of_get_and_no_body(client: FlaskClient, url: str, headers: dict[str, str]) -> None:
    get, head = client.get(url, headers=headers), client.head(url, headers=headers)
    assert head.status_code == 200
    assert head.data == b""
    ours = {name: value for name, value in get.headers.items() if name != "X-Request-ID"}
    assert ours == {name: value for name, value in head.headers.items() if name != "X-Request-ID"}
    assert int(head.headers["Content-Length"]) == len(get.data)


def test_head_of_the_plain_body_calculates_nothing(client: FlaskClient, calculations: list[Any]) -> None:
    response = client.head("/api/v1/fibonacci/10000000")
    assert int(response.headers["Content-Length"]) > 2_000_000
    assert calculations == []


@RESOURCES
@pytest.mark.parametrize("accepted", ["gzip", "GZIP", "deflate, gzip;q=0.5", "*", "br, *;q=0.1", "gzip;q=1, identity"])
def test_client_that_takes_gzip_gets_it(client: FlaskClient, url: str, accepted: str) -> None:
    response = client.get(url, headers={"Accept-Encoding": accepted})
    assert response.headers["Content-Encoding"] == "gzip"
    assert int(response.headers["Content-Length"]) == len(response.data)
    assert gzip.decompress(response.data) == client.get(url).data


@RESOURCES
@pytest.mark.parametrize(
    "accepted", ["", "identity", "gzip;q=0", "br", "*, gzip;q=0", "gzip;q=0.5, identity", "gzip;q=0, identity;q=0"]
)
def test_client_that_does_not_take_gzip_gets_the_plain_body(client: FlaskClient, url: str, accepted: str) -> None:
    response = client.get(url, headers={"Accept-Encoding": accepted})
    assert response.status_code == 200
    assert "Content-Encoding" not in response.headers
    assert response.data.startswith(b"{")


def test_compression_is_deterministic_and_carries_no_time() -> None:
    stretches = [b"0123456789" * 1000, b"", b"abc"]
    body = gzip_member(map(deflate, stretches))
    assert body == gzip_member(map(deflate, stretches))
    assert body[4:8] == b"\0\0\0\0"
    assert gzip.decompress(body) == b"".join(stretches)


@given(st.binary(max_size=100), st.binary(max_size=300_000) | st.binary(max_size=8))
def test_crc_of_two_texts_in_a_row_follows_from_those_of_each(first: bytes, second: bytes) -> None:
    assert crc32_combine(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 3_000), st.integers(1, 300), st.data())
def test_slice_of_longer_text_is_the_bytes_of_the_calculation(start: int, count: int, data: st.DataObject) -> None:
    longer_start = data.draw(st.integers(max(start - 400, 0), start))
    longer = chunks.calculated(longer_start, start - longer_start + count + data.draw(st.integers(0, 400)))
    sliced = chunks.slice_of(longer, chunks.position(longer_start), chunks.span(start, count))
    assert list(sliced) == list(chunks.calculated(start, count))


@given(st.integers(0, 10**6))
def test_term_at_finds_the_term_that_has_a_place(n: int) -> None:
    assert chunks.term_at(chunks.position(n)) == n
    assert chunks.term_at(chunks.position(n + 1) - 1) == n


def test_digits_compress_to_little_more_than_their_entropy(client: FlaskClient) -> None:
    plain, packed = client.get("/api/v1/fibonacci/200000"), client.get("/api/v1/fibonacci/200000", headers=GZIP)
    assert len(packed.data) < 0.45 * len(plain.data)
