"""The description of the API: complete, valid, true of real answers, and laid out for people."""

import gzip
import html
import re
import shlex
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from schemathesis.specs.openapi.definitions import OPENAPI_31
from werkzeug.test import TestResponse

from service import APP, RedisServer, Worker, problem, until
from web import create_app, create_stream_app, openapi
from web.contract import Contract
from web.settings import Settings

GZIP = {"Accept-Encoding": "gzip"}
CODINGS = pytest.mark.parametrize("headers", [{}, GZIP])
BOTH = pytest.mark.parametrize("path", [openapi.PATH, openapi.DOCS])

# Where a job has to be known, or a websocket opened, for a 200.
WITH_JOBS = {"inline_limit": 10_000, "job_max_index": 20_000, "job_max_bytes": 2**20}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield path, method and description of each operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def parts(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object within *value*."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from parts(each)


def schema(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a schema, with all that it refers to, that permits no member it does not name."""

    def closed(value: Any) -> Any:
        if isinstance(value, list):
            return [closed(each) for each in value]
        if not isinstance(value, dict):
            return value
        strict = {"additionalProperties": False} if "properties" in value else {}
        return strict | {key: closed(each) for key, each in value.items()}

    return {
        "$ref": f"#/components/schemas/{name}",
        "components": {"schemas": closed(document["components"]["schemas"])},
    }


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    described: dict[str, Any] = client.get(openapi.PATH).json
    return described


# --- complete and valid -------------------------------------------------------------------------------------------


def test_every_route_is_described_and_every_description_is_a_route(document: dict[str, Any]) -> None:
    routes = {
        (re.sub(r"<(?:[a-z]+:)?([a-z]+)>", r"{\1}", rule.rule), method)
        for app in (create_app(Settings()), create_stream_app(Settings()))
        for rule in app.url_map.iter_rules()
        if not rule.endpoint.startswith("explorer.")
        for method in rule.methods or ()
    }
    described = {(path, method) for path, method, _ in operations(document)}
    # As the text says once for all: what has a GET has a HEAD.
    assert routes == described | {(path, "HEAD") for path, method in described if method == "GET"}


def test_every_resource_is_in_the_readme(document: dict[str, Any]) -> None:
    readme = (APP / "README.rst").read_text(encoding="utf-8")
    rows = re.findall(r"^``(/[^`?]*)[^`]*`` ", readme, re.MULTILINE)
    assert {re.sub(r"{([a-z]+)}", r"<\1>", path) for path in document["paths"]} <= set(rows)


def test_document_is_openapi(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert [error.message for error in Draft202012Validator(OPENAPI_31).iter_errors(document)] == []
    assert list(Draft202012Validator(OPENAPI_31).iter_errors(document | {"paths": {"x": 1}}))


def test_schemas_are_schemas_and_examples_are_examples_of_them(document: dict[str, Any]) -> None:
    schemas = list(document["components"]["schemas"].values())
    schemas += [part["schema"] for part in parts(document) if isinstance(part.get("schema"), dict)]
    for each in schemas:
        Draft202012Validator.check_schema(each)
    examples = [(part["schema"], part["example"]) for part in parts(document["paths"]) if "example" in part]
    bodies = [part for part in parts(document["paths"]) if "examples" in part]
    examples += [(body["schema"], example["value"]) for body in bodies for example in body["examples"].values()]
    assert len(examples) > 10
    for each, example in examples:
        Draft202012Validator(each).validate(example)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for part in parts(document):
        if "$ref" in part:
            target: Any = document
            for name in part["$ref"].removeprefix("#/").split("/"):
                target = target[name]
        if "operationId" in part and "tags" not in part:  # a link
            assert part["operationId"] in {operation["operationId"] for _, _, operation in operations(document)}


def test_each_operation_is_named_once_and_says_what_its_path_holds(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    for path, _, operation in operations(document):
        named = [each["name"] for each in operation.get("parameters", []) if each["in"] == "path"]
        assert named == re.findall(r"{([a-z]+)}", path)
        assert set(operation["tags"]) <= {tag["name"] for tag in document["tags"]}


def test_document_is_the_same_from_every_process() -> None:
    first, second = (create_app(Settings()).test_client().get(openapi.PATH).data for _ in range(2))
    assert first == second


# --- true ---------------------------------------------------------------------------------------------------------


def test_bounds_are_those_of_the_settings(make_client: Callable[..., FlaskClient], redis_server: RedisServer) -> None:
    def bounds(**settings: Any) -> dict[str, dict[str, tuple[int, int]]]:
        document = make_client(**settings).get(openapi.PATH).json
        return {
            operation["operationId"]: {
                each["name"]: (each["schema"]["minimum"], each["schema"]["maximum"])
                for each in operation.get("parameters", [])
                if "minimum" in each["schema"]
            }
            for _, _, operation in operations(document)
        }

    alone = bounds(max_per_page=500, inline_limit=20_000)
    assert alone["getPage"] == {"page": (1, 20_001), "per_page": (1, 500)}
    assert alone["getTerm"] == {"n": (0, 20_000)}
    assert alone["openStream"] == {"start": (0, 20_000), "count": (1, 20_001)}
    # With Redis there are jobs, and with them terms above the inline limit.
    assert bounds(redis_url=redis_server.url, inline_limit=20_000, job_max_index=30_000)["getTerm"] == {
        "n": (0, 30_000)
    }


@pytest.mark.parametrize("path", ["/api/v1/fibonacci", "/api/v1/jobs"])
def test_described_bounds_are_enforced(
    make_client: Callable[..., FlaskClient], redis_server: RedisServer, path: str
) -> None:
    client = make_client(redis_url=redis_server.url, **WITH_JOBS)
    for parameter in client.get(openapi.PATH).json["paths"][path]["get"]["parameters"]:
        name, each = parameter["name"], parameter["schema"]
        if "minimum" not in each:
            continue
        assert client.get(path, query_string={name: each["minimum"]}).status_code == 200
        for outside in (each["minimum"] - 1, each["maximum"] + 1):
            assert problem(client.get(path, query_string={name: outside}))["parameter"] == name
        if name == "per_page":
            assert client.get(path, query_string={name: each["maximum"]}).status_code == 200


def test_real_answers_are_as_described(
    make_client: Callable[..., FlaskClient], redis_server: RedisServer, tmp_path: Path
) -> None:
    client = make_client(redis_url=redis_server.url, redis_timeout=5.0, **WITH_JOBS)
    document = client.get(openapi.PATH).json
    seen: set[tuple[str, str]] = set()

    def check(operation_id: str, response: TestResponse) -> Any:
        """Check status, content type, headers and body against what is said of the operation."""
        (operation,) = [each for _, _, each in operations(document) if each["operationId"] == operation_id]
        described = openapi_part(document, operation["responses"][str(response.status_code)])
        seen.add((operation_id, str(response.status_code)))
        assert set(described["headers"]) - {"Retry-After"} <= set(response.headers.keys())
        if "content" not in described:
            assert response.data == b""
            return None
        assert response.mimetype in described["content"]
        reference = described["content"][response.mimetype]["schema"].get("$ref", "")
        if reference:
            Draft202012Validator(schema(document, reference.rpartition("/")[2])).validate(response.json)
        return response.json

    check("getPage", client.get("/api/v1/fibonacci"))
    check("getPage", client.get("/api/v1/fibonacci?page=7&per_page=3"))
    check("getPage", client.get("/api/v1/fibonacci?page=0"))
    term = client.get("/api/v1/fibonacci/100")
    check("getTerm", term)
    check("getTerm", client.get("/api/v1/fibonacci/100", headers={"If-None-Match": term.headers["ETag"]}))
    check("getTerm", client.get("/api/v1/fibonacci/x"))
    check("getTerm", client.get("/api/v1/fibonacci/15000"))
    check("removeJobs", client.delete("/api/v1/jobs"))
    check("submitJob", client.post("/api/v1/jobs", data="x"))
    check("submitJob", client.post("/api/v1/jobs", json={}))
    job = check("submitJob", client.post("/api/v1/jobs", json={"start": 5, "count": 50}))
    here = job["links"]["self"]
    check("listJobs", client.get("/api/v1/jobs?per_page=1"))
    check("listJobs", client.get("/api/v1/jobs?state=x"))
    check("getJob", client.get(here))
    check("getJob", client.get("/api/v1/jobs/x"))
    check("getResult", client.get(f"{here}/result"))
    check("endJob", client.delete(here))
    check("removeJobs", client.delete("/api/v1/jobs?state=cancelled"))
    worker = Worker(tmp_path / "worker.log", redis_server.url, WITH_JOBS, "--concurrency", "1")
    try:
        check("submitJob", client.post("/api/v1/jobs", json={"start": 5, "count": 50}))
        until(lambda: check("getJob", client.get(here))["state"] == "done")
        check("getResult", client.get(f"{here}/result?page=2&per_page=10"))
        check("listJobs", client.get("/api/v1/jobs?state=done"))
        check("endJob", client.delete(here))
        check("endJob", client.delete(here))
    finally:
        worker.kill()
    check("getReadiness", client.get("/readyz"))
    check("getLiveness", client.get("/healthz"))
    check("getDescription", client.get(openapi.PATH))
    check("getDocumentation", client.get(openapi.DOCS))
    streams = create_stream_app(Settings()).test_client()
    check("openStream", streams.get("/api/v1/stream"))
    check("openStream", streams.get("/api/v1/stream?start=x"))
    check("getReadiness", streams.get("/readyz"))
    redis_server.stop()
    for operation_id, url in (("getTerm", "/api/v1/fibonacci/15000"), ("listJobs", "/api/v1/jobs"), ("getJob", here)):
        check(operation_id, client.get(url))
    check("getReadiness", client.get("/readyz"))
    # What is said and not seen here takes an accident (503), a client of its own (101, 304, 411, 413), or is alike.
    described = {(each["operationId"], status) for _, _, each in operations(document) for status in each["responses"]}
    assert {pair for pair in described - seen if pair[1] in ("200", "202", "204", "404", "415", "426")} == {
        ("endJob", "404"),
        ("getResult", "202"),
        ("getPage", "202"),
    } - seen


def openapi_part(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Return *part*, or the response that it refers to."""
    responses: dict[str, Any] = document["components"]["responses"]
    return responses[part["$ref"].rpartition("/")[2]] if "$ref" in part else part


def test_service_without_redis_promises_no_job(document: dict[str, Any]) -> None:
    assert set(document["paths"]["/api/v1/fibonacci/{n}"]["get"]["responses"]) == {"200", "304", "400"}
    assert openapi.document(Contract(Settings())) == document


# --- sent as what stays the same ----------------------------------------------------------------------------------


@BOTH
@CODINGS
def test_it_is_asked_for_again_each_time_and_costs_a_304(
    client: FlaskClient, path: str, headers: dict[str, str]
) -> None:
    first = client.get(path, headers=headers)
    assert (first.status_code, first.headers["Cache-Control"]) == (200, "no-cache")
    assert first.headers["Vary"] == "Accept-Encoding"
    assert (gzip.decompress(first.data) if headers else first.data) == client.get(path).data
    tag, weak = first.get_etag()
    assert weak is False
    again = client.get(path, headers=headers | {"If-None-Match": f'"{tag}"'})
    assert (again.status_code, again.data) == (304, b"")


@BOTH
@CODINGS
def test_head_has_the_headers_of_get_and_no_body(client: FlaskClient, path: str, headers: dict[str, str]) -> None:
    get, head = client.get(path, headers=headers), client.head(path, headers=headers)
    assert (head.status_code, head.data) == (200, b"")
    ours = [{key: value for key, value in answer.headers.items() if key != "X-Request-ID"} for answer in (get, head)]
    assert ours[0] == ours[1]


@BOTH
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_it_can_only_be_read(client: FlaskClient, path: str, method: str) -> None:
    refused = client.open(path, method=method)
    problem(refused, 405)
    assert set(refused.headers["Allow"].split(", ")) == {"GET", "HEAD"}


def test_document_takes_no_parameter_and_the_page_any(client: FlaskClient) -> None:
    assert problem(client.get(f"{openapi.PATH}?x=1"))["parameter"] == "x"
    assert client.get(f"{openapi.DOCS}?from=a-friend").data == client.get(openapi.DOCS).data


# --- for people ---------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """The tags of a page, which must be closed in order, and its text."""

    VOID = ("meta", "link", "path")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attributes]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, *names: str) -> list[str]:
        return [value or "" for _, name, value in self.attributes if name in names]


def test_page_shows_each_operation_with_its_bounds_an_example_and_its_answers(
    client: FlaskClient, document: dict[str, Any]
) -> None:
    page = client.get(openapi.DOCS).text
    sections = dict(re.findall(r'<section class="operation" id="([A-Za-z]+)".*?>(.*?)</section>', page, re.DOTALL))
    for path, method, operation in operations(document):
        text = Tags(sections[operation["operationId"]]).text
        assert f"{method} {path}" in text
        assert "curl " in text
        for parameter in operation.get("parameters", []):
            assert parameter["description"] in text
            for bound in ("minimum", "maximum", "default"):
                assert str(parameter["schema"].get(bound, "")) in text
        for status, response in operation["responses"].items():
            assert status in text
            assert openapi_part(document, response)["description"] in text


def test_page_has_no_script_no_style_of_its_own_and_no_other_host(client: FlaskClient) -> None:
    response = client.get(openapi.DOCS)
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert re.findall(r"<style|<script|\sstyle=|\son[a-z]+=|javascript:", response.text) == []
    assert [value for value in Tags(response.text).values("href", "src") if not value.startswith(("/", "#"))] == []


def test_links_of_the_page_lead_somewhere(client: FlaskClient) -> None:
    page = Tags(client.get(openapi.DOCS).text)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    for target in page.values("href", "src", "aria-labelledby"):
        if target.startswith("/"):
            assert client.get(target.partition("#")[0]).status_code == 200
        else:
            assert target.removeprefix("#") in ids


def test_explorer_leads_to_the_page(client: FlaskClient) -> None:
    assert f'href="{openapi.DOCS}"' in client.get("/").text


def test_example_of_each_operation_is_one_that_a_shell_takes(client: FlaskClient, document: dict[str, Any]) -> None:
    lines = re.findall(r'<p class="line"><code>(.*?)</code></p>', client.get(openapi.DOCS).text)
    commands = [shlex.split(html.unescape(line)) for line in lines]
    assert len(commands) == len(list(operations(document)))
    for command, (path, method, _) in zip(commands, operations(document), strict=True):
        assert command[0] == "curl"
        assert (method == "GET") is ("-X" not in command)
        url = command[-1].partition("?")[0].removeprefix("$HOST")
        assert re.fullmatch(re.sub(r"{[a-z]+}", "[0-9-]+", path), url)
    assert ["-d", '{"n": 20000000}', "$HOST/api/v1/jobs"] in [command[-3:] for command in commands]
