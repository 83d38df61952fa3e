"""A change of the app, as somebody might make it in the repository, and how clients see it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from client import Client, another_site
from machine import REPOSITORY, Machine

# What a change of the app might be: something that a client can see.
CHANGE = """

_create_app = create_app


def create_app(*arguments):  # noqa: F811 - in place of the one above
    app = _create_app(*arguments)

    @app.after_request
    def tell(response):
        response.headers["X-Code"] = "changed"
        return response

    return app
"""


def source(host: Machine, url: str) -> str:
    """Return where the file or folder of a salt:// URL lies on the host."""
    return host.check("readlink --canonicalize-existing %s", f"{REPOSITORY}/salt/sources/{url.removeprefix('salt://')}")


def module(host: Machine) -> str:
    """Return the source file of the app's WSGI callable."""
    app = host.settings("app")
    name = app["wsgi"].partition(":")[0].replace(".", "/")
    return host.check("ls %s/%s.py %s/%s/__init__.py 2>/dev/null || true", *[source(host, app["source"]), name] * 2)


@contextmanager
def edited(host: Machine, path: str, edit: Callable[[str], str]) -> Iterator[None]:
    """Change a file of the repository on the host for the block."""
    before = host.check("base64 --wrap=0 %s", path)
    host.write(path, edit(host.read(path) + "\n"), mode=host.check("stat --format=%%a %s", path))
    try:
        yield
    finally:
        host.check("echo %s | base64 --decode > %s", before, path)


def code(client: Client) -> str | None:
    answer = client.page(headers=another_site())
    assert answer.status == 200, answer.body
    return answer.header("X-Code")
