"""What a client gets: pages, cached and compressed, and one id through every log."""

import gzip
import json
import re
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from client import PAGES, Client, another_site, with_id
from load import TERMS, Load
from machine import Machine
from waiting import eventually

# Spellings of one wish: compressed, please.
COMPRESSED = ["gzip", "gzip, deflate, br", "GZIP;q=0.8", "br;q=1.0, gzip;q=0.5, *;q=0"]
# And of the other: as it is.
PLAIN = ["identity", "gzip;q=0", "br", "", "deflate"]

NOT_MODIFIED = 304


def opaque(tag: str | None) -> str:
    """Return an entity tag without the mark of a weak one."""
    return (tag or "").removeprefix("W/")


def test_the_first_page_holds_the_first_terms_as_strings(client: Client) -> None:
    answer = client.page(1, 5)

    assert answer.status == 200
    assert answer.header("Content-Type") == "application/json"
    page = answer.json
    assert page["terms"] == ["0", "1", "1", "2", "3"]
    assert {name: page[name] for name in ("page", "per_page", "start", "count")} == {
        "page": 1,
        "per_page": 5,
        "start": 0,
        "count": 5,
    }


def test_pages_follow_each_other_without_gap_by_their_links(client: Client) -> None:
    terms: list[str] = []
    target: str | None = f"{PAGES}?page=1&per_page=7"
    while target and len(terms) < 21:
        answer = client.ask(target)
        terms += answer.json["terms"]
        links = answer.json["links"]
        for relation, reference in links.items():
            assert f'<{reference}>; rel="{relation}"' in (answer.header("Link") or "")
        target = links.get("next")

    assert terms == TERMS[:21]


def test_a_single_term_is_there_too(client: Client) -> None:
    answer = client.ask(f"{PAGES}/90")

    assert answer.json == {"n": 90, "digits": len(TERMS[90]), "value": TERMS[90]}


def test_the_second_request_is_served_from_the_cache(client: Client) -> None:
    site = another_site()

    first, second = client.page(headers=site), client.page(headers=site)

    assert (first.cache, second.cache) == ("MISS", "HIT")
    assert first.body == second.body
    assert second.header("ETag") == first.header("ETag")


def test_every_page_has_an_entry_of_its_own(client: Client) -> None:
    site = another_site()

    answers = [client.page(page, per_page, headers=site) for page in (1, 2, 3) for per_page in (1, 2, 3)]

    assert {answer.cache for answer in answers} == {"MISS"}
    assert len({answer.body for answer in answers}) == len(answers)


def test_an_answer_may_be_kept_for_ever_by_anyone(client: Client) -> None:
    answer = client.page()

    assert answer.header("Cache-Control") == "public, max-age=31536000, immutable"
    assert answer.header("ETag")
    assert (answer.header("Vary") or "").lower() == "accept-encoding"
    assert answer.header("Set-Cookie") is None


def test_the_order_of_arguments_makes_no_difference_to_the_cache(client: Client) -> None:
    site = another_site()
    client.ask(f"{PAGES}?page=2&per_page=5", site)

    assert client.ask(f"{PAGES}?per_page=5&page=2", site).cache == "HIT"


def test_all_spellings_of_accept_encoding_share_one_entry(client: Client) -> None:
    site = another_site()
    first = client.page(per_page=100, headers=site)
    assert first.cache == "MISS"

    for accepted in [*COMPRESSED, *PLAIN, "*"]:
        answer = client.page(per_page=100, headers=site | {"Accept-Encoding": accepted})
        assert (answer.cache, answer.plain) == ("HIT", first.body), accepted


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "uncached"])
@pytest.mark.parametrize("accepted", COMPRESSED)
def test_who_accepts_gzip_gets_the_same_page_compressed(client: Client, accepted: str, cached: bool) -> None:
    site = another_site()
    if cached:
        client.page(per_page=100, headers=site)

    answer = client.page(per_page=100, headers=site | {"Accept-Encoding": accepted})

    assert answer.cache == ("HIT" if cached else "MISS")
    assert answer.header("Content-Encoding") == "gzip"
    assert gzip.decompress(answer.body) == client.page(per_page=100).body


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "uncached"])
@pytest.mark.parametrize("accepted", PLAIN)
def test_who_does_not_accept_gzip_gets_it_plain(client: Client, accepted: str, cached: bool) -> None:
    site = another_site()
    if cached:
        client.page(per_page=100, headers=site | {"Accept-Encoding": "gzip"})

    answer = client.page(per_page=100, headers=site | {"Accept-Encoding": accepted})

    assert answer.cache == ("HIT" if cached else "MISS")
    assert answer.header("Content-Encoding") is None
    assert json.loads(answer.body)["terms"] == TERMS[:100]


@pytest.mark.parametrize("coding", ["gzip", "identity"])
@pytest.mark.parametrize("cached", [True, False], ids=["cached", "uncached"])
def test_a_client_that_has_the_page_is_told_so(client: Client, cached: bool, coding: str) -> None:
    accepting = {"Accept-Encoding": coding}
    tag = client.page(headers=accepting).header("ETag")
    site = another_site() | accepting
    if cached:
        client.page(headers=site)

    answer = client.page(headers=site | {"If-None-Match": str(tag)})

    assert (answer.status, answer.body, answer.cache) == (NOT_MODIFIED, b"", "HIT" if cached else "MISS")
    # The weak comparison is the one for If-None-Match: nginx marks the tag of what it unpacks as weak.
    assert opaque(answer.header("ETag")) == opaque(tag)
    assert answer.header("Cache-Control") == client.page().header("Cache-Control")


def test_a_client_that_has_another_page_gets_this_one(client: Client) -> None:
    other = client.page(2).header("ETag")

    answer = client.page(1, headers={"If-None-Match": str(other)})

    assert (answer.status, answer.json["page"]) == (200, 1)


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "uncached"])
def test_head_says_what_get_would(client: Client, cached: bool) -> None:
    site = another_site()
    if cached:
        client.page(headers=site)

    head = client.page(headers=site, method="HEAD")
    get = client.page(headers=site)

    assert (head.status, head.body, get.cache) == (200, b"", "HIT")
    for header in ("Content-Type", "ETag", "Cache-Control", "Link", "Vary"):
        assert head.header(header) == get.header(header), header


def test_a_part_of_a_page_never_becomes_the_page(client: Client) -> None:
    site = another_site()
    for _ in range(2):
        part = client.page(per_page=100, headers=site | {"Range": "bytes=0-9"})
        whole = client.page(per_page=100).body
        assert (part.status, part.body) in [(200, whole), (206, whole[:10])]

    assert client.page(per_page=100, headers=site).body == whole


def test_every_answer_says_what_the_cache_did(client: Client) -> None:
    answers = [
        client.page(),
        client.page(0),
        client.ask("/nowhere"),
        client.ask(PAGES, method="POST"),
        client.ask(PAGES, method="PURGE"),
        client.ask(f"{PAGES}?x={'x' * 9_000}"),
    ]

    assert [answer.cache for answer in answers if not answer.cache] == []


def test_no_answer_gives_the_version_of_a_server_away(client: Client) -> None:
    for answer in (client.page(), client.ask("/nowhere"), client.send(b"\0\r\n\r\n")):
        text = f"{answer.headers}{answer.body!r}".lower()
        for name in ("nginx/", "gunicorn", "haproxy", "werkzeug", "python", "x-powered-by"):
            assert name not in text


@pytest.mark.disruptive
@pytest.mark.roles("web")
def test_a_full_cache_costs_nobody_an_answer(host: Machine, client: Client) -> None:
    def ask_for_new_pages(count: int) -> set[int]:
        connection = client.connection()
        statuses = {client.page(headers=another_site(), connection=connection).status for _ in range(count)}
        connection.close()
        return statuses

    # Room for some hundred pages, and clients that ask for thousands.
    small = {"nginx": {"cache": {"keys_size": "64k"}}}
    with host.applied(small, only="nginx") as applied, ThreadPoolExecutor(8) as pool:
        assert applied.ok, applied.message
        assert set().union(*pool.map(ask_for_new_pages, [500] * 8)) == {200}


def test_a_request_keeps_its_id(client: Client) -> None:
    own = with_id()

    assert client.page(headers=own).header("X-Request-ID") == own["X-Request-ID"]
    assert client.ask("/nowhere", own).header("X-Request-ID") == own["X-Request-ID"]


def test_requests_without_an_id_get_one_each_on_hits_too(client: Client) -> None:
    answers = [client.page() for _ in range(5)]

    assert [answer.cache for answer in answers[1:]] == ["HIT"] * 4
    ids = [answer.header("X-Request-ID") for answer in answers]
    assert all(ids)
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    "nonsense",
    ["x" * 200, 'a"b', "a b", "a;b<script>", "ä", "good, <script>", "<script>, good", "good\r\nX-Request-ID: b"],
)
def test_an_id_that_could_forge_a_log_is_replaced(client: Client, lb: Machine, web: Machine, nonsense: str) -> None:
    request = f"GET {PAGES}?page=1 HTTP/1.1\r\nHost: {uuid.uuid4().hex}.test\r\nX-Request-ID: {nonsense}\r\n\r\n"
    given = client.send(request.encode()).header("X-Request-ID")

    assert given
    assert re.fullmatch("[0-9a-f-]{36}", given)

    def logged() -> bool:
        # The logs have that one, and it is the same in all.
        lb.check(
            "journalctl --unit=haproxy.service --since=-10min --output=cat --no-pager --grep=%s", f'"id":"{given}"'
        )
        web.check("grep --quiet %s /var/log/nginx/access.log", f'"id":"{given}"')
        return True

    assert eventually(logged)


def test_what_the_load_balancer_itself_answers_says_its_id(client: Client) -> None:
    own = with_id()

    # Answered from the load balancer's own copy or by it, as it may be.
    assert client.ask("/status-page", own).header("X-Request-ID") == own["X-Request-ID"]


def test_one_id_finds_a_request_in_every_log(client: Client, lb: Machine, web: Machine) -> None:
    own = with_id()
    number = own["X-Request-ID"]
    client.page(headers=another_site() | own)

    def logged() -> bool:
        since = "--since=-10min --output=cat --no-pager --grep=%s"
        door = json.loads(lb.check(f"journalctl --unit=haproxy.service {since}", number).splitlines()[-1])
        cache = json.loads(web.check("grep --no-filename %s /var/log/nginx/access.log", number))
        app = json.loads(web.check(f"journalctl --unit=gunicorn.service {since}", number).splitlines()[-1])
        assert (door["id"], cache["id"], app["request_id"]) == (number, number, number)
        assert (door["status"], cache["status"], app["status"]) == (200, 200, 200)
        assert (cache["cache"], app["path"]) == ("MISS", PAGES)
        # The client is the one who asked, not the load balancer in between.
        assert cache["client"] == door["client"]
        return True

    assert eventually(logged)


def test_many_clients_get_right_answers(client: Client) -> None:
    with Load(client, clients=8) as running:
        pass

    assert running.failures == []
