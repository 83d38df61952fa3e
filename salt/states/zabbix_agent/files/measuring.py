# Managed by Salt, formula zabbix_agent.
"""What the scripts that measure have in common: one JSON object, soon, or a word on why there is none."""

import json
import signal
import socket
import subprocess
import sys

# Seconds, for the whole of it: less than the Zabbix server waits (zabbix_server:timeout, and the bound of that).
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
            # Four times a minute on each host: what is not needed is not loaded, which takes longer than all the rest.
            import ssl

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
