"""The explorer's files: what is sent, under which policy, for how long it is kept, and that the page names them all."""

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from service import problem
from web import create_app, explorer
from web.settings import Settings

GZIP = {"Accept-Encoding": "gzip"}
CODINGS = pytest.mark.parametrize("headers", [{}, GZIP])
NAMES = sorted(path.name for path in explorer.FOLDER.iterdir())
FILES = [name for name in NAMES if name != explorer.HOME]


def paths(client: FlaskClient) -> dict[str, str]:
    """Return the path of each file that the page names."""
    found = re.findall(r'(?:href|src)="(/explorer/[^"]+)"', client.get("/").text)
    return {path.rpartition("/")[2]: path for path in found}


@CODINGS
def test_page_is_asked_for_again_each_time_and_costs_a_304(client: FlaskClient, headers: dict[str, str]) -> None:
    first = client.get("/", headers=headers)
    assert first.status_code == 200
    assert first.content_type == "text/html; charset=utf-8"
    assert first.headers["Cache-Control"] == "no-cache"
    assert first.headers["Vary"] == "Accept-Encoding"
    tag, weak = first.get_etag()
    assert weak is False
    again = client.get("/", headers=headers | {"If-None-Match": f'"{tag}"'})
    assert (again.status_code, again.data) == (304, b"")
    assert again.get_etag() == first.get_etag()


@CODINGS
@pytest.mark.parametrize("name", FILES)
def test_files_may_be_kept_for_ever(client: FlaskClient, name: str, headers: dict[str, str]) -> None:
    response = client.get(paths(client)[name], headers=headers)
    assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert (
        response.content_type.split(";")[0]
        == {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}[name.rpartition(".")[2]]
    )
    body = gzip.decompress(response.data) if headers else response.data
    assert body == (explorer.FOLDER / name).read_bytes()
    assert ("Content-Encoding" in response.headers) is bool(headers)


def test_page_names_every_file_and_no_other_host(client: FlaskClient) -> None:
    assert sorted(paths(client)) == FILES
    for name in NAMES:
        text = (explorer.FOLDER / name).read_text(encoding="utf-8")
        assert set(re.findall(r"https?://[^/\"' ]*", text)) <= {"http://www.w3.org"}, name


def test_modules_import_only_modules_that_there_are() -> None:
    for path in explorer.FOLDER.glob("*.js"):
        imported = re.findall(r'^import .* from "\./([a-z.]+)";$', path.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(imported) <= set(FILES)
        # No other way in: what makes code or markup out of text has no place here.
        banned = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|import\("
        assert re.findall(banned, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("name", ["", *FILES])
def test_everything_is_sent_under_the_strict_policy(client: FlaskClient, name: str) -> None:
    response = client.get(paths(client)[name] if name else "/")
    policy = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"


def test_page_has_no_code_or_style_of_its_own(client: FlaskClient) -> None:
    page = client.get("/").text
    assert re.findall(r"<style|<script(?![^>]*\ssrc=)|\sstyle=|\son[a-z]+=|javascript:", page) == []
    assert explorer.PREFIX not in page


@CODINGS
@pytest.mark.parametrize("name", ["", "explorer.js"])
def test_head_has_the_headers_of_get_and_no_body(client: FlaskClient, name: str, headers: dict[str, str]) -> None:
    path = paths(client)[name] if name else "/"
    get, head = client.get(path, headers=headers), client.head(path, headers=headers)
    assert head.status_code == 200
    assert head.data == b""
    ours = [{key: value for key, value in answer.headers.items() if key != "X-Request-ID"} for answer in (get, head)]
    assert ours[0] == ours[1]


def test_any_change_of_any_file_changes_the_path_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def all_paths() -> set[str]:
        return set(paths(create_app(Settings()).test_client()).values())

    for name in NAMES:
        (tmp_path / name).write_bytes((explorer.FOLDER / name).read_bytes())
    before = all_paths()
    monkeypatch.setattr(explorer, "FOLDER", tmp_path)
    assert all_paths() == before
    (tmp_path / "icon.svg").write_text("<svg/>")
    assert not before & all_paths()


@pytest.mark.parametrize("path", ["/explorer/", "/explorer/0123456789abcdef/explorer.js", "/explorer/explorer.js"])
def test_files_of_another_release_are_not_found(client: FlaskClient, path: str) -> None:
    problem(client.get(path), 404)


@pytest.mark.parametrize(
    "name", ["index.html", "nothing.js", "..", "..%2fexplorer.py", "%2e%2e/explorer.py", ".hidden"]
)
def test_only_the_files_of_the_page_are_given(client: FlaskClient, name: str) -> None:
    folder = paths(client)["explorer.js"].rpartition("/")[0]
    assert client.get(f"{folder}/{name}").status_code == 404


def test_query_of_a_shared_link_changes_nothing(client: FlaskClient) -> None:
    assert client.get("/?from=a-friend").data == client.get("/").data


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_page_can_only_be_read(make_client: Callable[..., FlaskClient], method: str) -> None:
    problem(make_client().open("/", method=method), 405)
