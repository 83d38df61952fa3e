"""An HTTP client that sends what a test says and no more: no header of its own, no nicer URL, no proxy, no retry."""

import gzip
import http.client
import json
import socket
import uuid
from dataclasses import dataclass
from typing import Any

# Longer than any of the servers' own timeouts: what hangs for ever fails, what is slow does not.
PATIENCE = 120

PAGES = "/api/v1/fibonacci"


class CutOffError(ConnectionError):
    """An answer had begun, and its body broke off."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the value of a header, of repeated ones all."""
        values = self.headers.get_all(name)
        return None if values is None else ", ".join(values)

    @property
    def plain(self) -> bytes:
        """The body without its content coding."""
        return gzip.decompress(self.body) if self.header("Content-Encoding") == "gzip" else self.body

    @property
    def json(self) -> Any:
        return json.loads(self.plain)

    @property
    def cache(self) -> str | None:
        """What the cache says it did."""
        return self.header("X-Cache-Status")

    @property
    def is_problem(self) -> bool:
        """Whether it is an RFC 9457 problem whose members agree with the answer."""
        if self.header("Content-Type") != "application/problem+json":
            return False
        problem = self.json
        return problem["status"] == self.status and all(problem[member] for member in ("type", "title", "detail"))


class Client:
    """Asks the service at one address."""

    def __init__(self, address: str, port: int, patience: float = PATIENCE) -> None:
        self.address = address
        self.port = port
        self.patience = patience

    def ask(
        self,
        target: str,
        headers: dict[str, str] | None = None,
        method: str = "GET",
        body: bytes | None = None,
        connection: http.client.HTTPConnection | None = None,
    ) -> Answer:
        """Send one request; on a *connection* of the caller's, which is then kept."""
        headers = {"Host": self.address} | (headers or {})
        used = connection or self.connection()
        try:
            used.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                used.putheader(name, value)
            if body is not None and "Transfer-Encoding" not in headers:
                used.putheader("Content-Length", str(len(body)))
            used.endheaders(body)
            response = used.getresponse()
            try:
                return Answer(response.status, response.headers, response.read())
            except (http.client.IncompleteRead, OSError) as error:
                raise CutOffError(repr(error)) from error
        finally:
            if connection is None:
                used.close()

    def page(self, page: int = 1, per_page: int = 5, **more: Any) -> Answer:
        """Ask for one page of the sequence."""
        return self.ask(f"{PAGES}?page={page}&per_page={per_page}", **more)

    def send(self, request: bytes) -> Answer:
        """Send bytes as they are and read one answer."""
        with socket.create_connection((self.address, self.port), timeout=self.patience) as sock:
            sock.sendall(request)
            response = http.client.HTTPResponse(sock)
            response.begin()
            return Answer(response.status, response.headers, response.read())

    def send_many(self, requests: bytes) -> int:
        """Send several requests in one go, the last of which closes the connection; count the answers 200."""
        with socket.create_connection((self.address, self.port), timeout=self.patience) as sock:
            sock.sendall(requests)
            return sock.makefile("rb").read().count(b"HTTP/1.1 200 OK\r\n")

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address, self.port, timeout=self.patience)


def another_site() -> dict[str, str]:
    """Return headers that ask for a site which nobody has asked for yet: its pages are the same, and in no cache."""
    return {"Host": f"{uuid.uuid4().hex}.test"}


def with_id() -> dict[str, str]:
    """Return headers with a request id that finds the request in every log."""
    return {"X-Request-ID": uuid.uuid4().hex}
