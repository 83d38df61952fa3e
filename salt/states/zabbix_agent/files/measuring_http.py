# Managed by Salt, formula zabbix_agent.
"""What those of the scripts that measure have in common which ask by HTTP.

Apart from the others, as loading Python's client takes longer than most measurements.
"""

import contextlib
import http.client
import socket

import measuring


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket of this host."""

    def __init__(self, path):
        super().__init__("localhost", timeout=measuring.LIMIT)
        self._path = path

    def connect(self):
        """Connect to it."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(measuring.LIMIT)
        self.sock.connect(self._path)


def ask(connection, path):
    """Return status and body of a request."""
    with contextlib.closing(connection):
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise measuring.CannotMeasureError(f"{type(error).__name__}: {error}") from error


def tcp(address, port):
    """Return an HTTP connection that waits for nothing longer than LIMIT."""
    return http.client.HTTPConnection(address, int(port), timeout=measuring.LIMIT)
