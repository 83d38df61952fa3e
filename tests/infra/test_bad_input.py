"""Bad input: refused with a problem that helps, never a failure of ours, never kept by the cache."""

from dataclasses import dataclass, field

import pytest
from client import PAGES, Client, another_site
from load import TERMS

MEMBERS = ("minimum", "maximum")


@dataclass(frozen=True)
class Bad:
    """A request and what its refusal must name."""

    target: str
    parameter: str | None = None
    bounds: tuple[str, ...] = MEMBERS
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    statuses: tuple[int, ...] = (400,)


def page(query: str, parameter: str = "page", bounds: tuple[str, ...] = MEMBERS) -> Bad:
    return Bad(f"{PAGES}?{query}", parameter, bounds)


BAD = {
    "page 0": page("page=0"),
    "page -1": page("page=-1"),
    "page x": page("page=x"),
    "page 1e3": page("page=1e3"),
    "page 1.5": page("page=1.5"),
    "page empty": page("page="),
    "page without value": page("page"),
    "page with sign": page("page=%2B1"),
    "page with leading zero": page("page=01"),
    "page in Arabic digits": page("page=%D9%A1"),
    "page with a null byte": page("page=1%00"),
    "page not UTF-8": page("page=%FF"),
    "page 10**30": page(f"page={10**30}"),
    "page of 4400 digits": page(f"page={'9' * 4400}"),
    "page twice": page("page=1&page=1"),
    "page twice, differing": page("page=1&page=2"),
    "per_page 0": page("per_page=0", "per_page"),
    "per_page 1001": page("per_page=1001", "per_page"),
    "per_page empty": page("page=1&per_page=", "per_page"),
    "per_page twice": page("per_page=5&page=1&per_page=5", "per_page"),
    "body over the cap": page("page=9000&per_page=1000", "per_page"),
    "unknown parameter": page("page=1&x=1", "x", ()),
    "parameter in capitals": page("PAGE=1", "PAGE", ()),
    "parameter on a term": Bad(f"{PAGES}/7?page=1", "page", ()),
    "n -1": Bad(f"{PAGES}/-1", "n"),
    "n 1.5": Bad(f"{PAGES}/1.5", "n"),
    "n x": Bad(f"{PAGES}/x", "n"),
    "n 10**30": Bad(f"{PAGES}/{10**30}", "n"),
    "n a null byte": Bad(f"{PAGES}/%00"),
    "n not UTF-8": Bad(f"{PAGES}/%FF", "n"),
    "null byte in the path": Bad("/%00", statuses=(400, 404)),
    "path not UTF-8": Bad("/%FF%FE", statuses=(400, 404)),
    "URL of 9 kB": Bad(f"{PAGES}?x={'x' * 9 * 1024}", statuses=(414,)),
    "header of 12 kB": Bad(f"{PAGES}?page=1", headers={"X": "x" * 12 * 1024}, statuses=(431,)),
    "POST": Bad(PAGES, method="POST", statuses=(405,)),
    "PUT": Bad(f"{PAGES}?page=1", method="PUT", statuses=(405,)),
    "DELETE": Bad(f"{PAGES}/7", method="DELETE", statuses=(405,)),
    "OPTIONS": Bad(PAGES, method="OPTIONS", statuses=(405,)),
    "TRACE": Bad(PAGES, method="TRACE", statuses=(405,)),
    "unheard-of method": Bad(PAGES, method="FROBNICATE", statuses=(405,)),
    "GET with a body": Bad(f"{PAGES}?page=1&per_page=5", body=b"x"),
    "GET with a body in chunks": Bad(
        f"{PAGES}?page=1&per_page=5", headers={"Transfer-Encoding": "chunked"}, body=b"1\r\nx\r\n0\r\n\r\n"
    ),
    "no such resource": Bad("/api/v1/lucas", statuses=(404,)),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_with_a_problem(client: Client, bad: Bad) -> None:
    site = another_site()
    # What is in the cache must not be taken for the answer to something like it.
    client.page(1, 5, headers=site)
    client.ask(f"{PAGES}?page=1", site)
    client.ask(f"{PAGES}?per_page=5", site)
    client.ask(PAGES, site)

    for _ in range(2):
        answer = client.ask(bad.target, site | bad.headers, bad.method, bad.body)
        assert answer.status in bad.statuses, answer.body
        assert answer.is_problem, (answer.headers.items(), answer.body)
        assert answer.cache not in ("HIT", None)
        assert answer.header("Cache-Control") == "no-store"
        assert answer.header("ETag") is None
        if bad.parameter:
            assert answer.json["parameter"] == bad.parameter
            assert [member for member in MEMBERS if isinstance(answer.json.get(member), int)] == list(bad.bounds)

    assert client.page(1, 5, headers=site).json["terms"] == TERMS[:5]


# TRACE nginx refuses by itself, before it looks where the request goes.
@pytest.mark.parametrize("method", ["POST", "TRACE"])
@pytest.mark.parametrize("path", [PAGES, "/api/v1/stream"])
def test_a_wrong_method_is_told_the_right_ones(client: Client, path: str, method: str) -> None:
    allowed = client.ask(path, method=method).header("Allow") or ""

    assert {method.strip() for method in allowed.split(",")} == {"GET", "HEAD"}


def test_the_bounds_that_a_problem_names_are_the_true_ones(client: Client) -> None:
    problem = client.page(1, 10**6).json
    assert problem["parameter"] == "per_page"

    for good in (problem["minimum"], problem["maximum"]):
        assert client.page(1, good).json["count"] == good
    for bad in (problem["minimum"] - 1, problem["maximum"] + 1):
        assert client.page(1, bad).status == 400


def test_the_largest_per_page_that_a_problem_names_fits(client: Client) -> None:
    problem = client.page(9_000, 1_000).json
    most = problem["maximum"]

    assert client.page(9_000, most + 1).status == 400
    assert client.page(9_000, most, method="HEAD").status == 200


def test_the_largest_term_that_a_problem_names_is_the_last(client: Client) -> None:
    last = client.ask(f"{PAGES}/{10**30}").json["maximum"]

    assert client.ask(f"{PAGES}/{last + 1}").status == 400
    # Later, as far out as that; nobody waits for it here.
    promised = client.ask(f"{PAGES}/{last}", method="HEAD")
    assert promised.status in (200, 202)
    if promised.status == 202:
        assert client.ask(promised.header("Location") or "", method="DELETE").status in (200, 204)


# What no decent client can even send. HAProxy refuses it before it knows a request, with a page of its own that no
# setting replaces.
MALFORMED = {
    "null byte in the path": b"GET /api/v1/fibonacci/\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "raw bytes in the path": b"GET /api/v1/fibonacci/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "raw UTF-8 in the query": "GET /api/v1/fibonacci?page=é HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "raw bytes in a header": b"GET /api/v1/fibonacci?page=0 HTTP/1.1\r\nHost: x\r\nX-Request-ID: \xff\r\n\r\n",
    "no host": b"GET /api/v1/fibonacci?page=0 HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /api/v1/fibonacci?page=0 HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "null byte in a header": b"GET /api/v1/fibonacci?page=0 HTTP/1.1\r\nHost: x\r\nX: \0\r\n\r\n",
    "space in the path": b"GET /api/v1/fibonacci /7 HTTP/1.1\r\nHost: x\r\n\r\n",
    "two lengths": b"GET /api/v1/fibonacci HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "head too long": b"GET /api/v1/fibonacci?page=0 HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"x" * 60_000 + b"\r\n\r\n",
    "path not absolute": b"GET api HTTP/1.1\r\nHost: x\r\n\r\n",
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}


@pytest.mark.parametrize("request_", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_not_even_http_is_refused(client: Client, request_: bytes) -> None:
    for _ in range(2):
        answer = client.send(request_)
        assert 400 <= answer.status < 500, answer.body
        assert answer.header("Cache-Control") in ("no-store", "no-cache")
        assert answer.cache != "HIT"

    assert client.page(1, 5).json["terms"] == TERMS[:5]
