# Managed by Salt, formula zabbix_agent.
"""What the scripts that measure have in common: one JSON object, soon, or a word on why there is none."""

import json
import signal
import socket
import ssl
import subprocess
import sys

# Seconds, for the whole of it: the Zabbix server gives up after three.
LIMIT = 2.5


class CannotMeasureError(Exception):
    """What was to be measured does not answer, or not as expected."""


def main(measure, usage, least, most=None):
    """Print what *measure* returns for the arguments; without it, say why on standard error and end with 1."""
    arguments = sys.argv[1:]
    if not least <= len(arguments) <= (least if most is None else most):
        sys.exit(f"Usage: {usage}")
    signal.signal(signal.SIGALRM, _late)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        print(json.dumps(measure(*arguments), sort_keys=True))
    except (CannotMeasureError, OSError, ValueError, KeyError, IndexError) as error:
        sys.exit(f"cannot measure: {type(error).__name__}: {error}")


def _late(*_):
    raise CannotMeasureError(f"no answer within {LIMIT} s")


def output(*command):
    """Return what *command* prints, which must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        words = (done.stderr or done.stdout).strip()
        raise CannotMeasureError(f"{command[0]} ended with {done.returncode}: {words}")
    return done.stdout


class Redis:
    """A connection to Redis or Sentinel, as the user whose name and password the last line of the file *secret* has."""

    def __init__(self, address, port, secret, authority=None):
        plain = socket.create_connection((address, int(port)), timeout=LIMIT)
        if authority:
            plain = ssl.create_default_context(cafile=authority).wrap_socket(plain, server_hostname=address)
        self._file = plain.makefile("rwb")
        with open(secret, encoding="utf-8") as file:
            self("AUTH", *file.read().splitlines()[-1].split())

    def __call__(self, *words):
        """Return the answer to one command; an error of Redis's is one of ours."""
        encoded = [str(word).encode() for word in words]
        self._file.write(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in encoded))
        self._file.flush()
        answer = self._read()
        if isinstance(answer, CannotMeasureError):
            raise answer
        return answer

    def _read(self):
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise CannotMeasureError("the connection was closed")
        kind, rest = line[:1], line[1:-2].decode(errors="replace")
        if kind == b"+":
            return rest
        if kind == b"-":
            return CannotMeasureError(rest)
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if int(rest) < 0:
                return None
            return self._file.read(int(rest) + 2)[:-2].decode(errors="replace")
        if kind == b"*":
            return [self._read() for _ in range(int(rest))]
        raise CannotMeasureError(f"this is not Redis: {line[:40]!r}")


def http(address, port, path, method="GET", body=b"", headers=(), unix=None):
    """Return status and body of a request over a plain connection, or over the socket *unix*."""
    with dial(address, port, unix) as door, door.makefile("rwb") as file:
        status = ask(file, address, path, method, body, headers)
        return status, file.read()


def dial(address, port, unix=None):
    """Return a connection, which waits for nothing longer than LIMIT."""
    if not unix:
        return socket.create_connection((address, int(port)), timeout=LIMIT)
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    door.settimeout(LIMIT)
    door.connect(unix)
    return door


def ask(file, address, path, method="GET", body=b"", headers=(), version="1.0"):
    """Send a request, read the head of the answer and return its status."""
    host = f"[{address}]" if ":" in (address or "") else address or "localhost"
    length = [f"Content-Length: {len(body)}"] if body else []
    lines = [f"{method} {path} HTTP/{version}", f"Host: {host}", *length, *headers, "", ""]
    file.write("\r\n".join(lines).encode() + body)
    file.flush()
    first = file.readline().decode(errors="replace").split()
    if len(first) < 2 or not first[0].startswith("HTTP/"):
        raise CannotMeasureError(f"{path}: this is not HTTP")
    while file.readline().strip():
        pass
    return int(first[1])
