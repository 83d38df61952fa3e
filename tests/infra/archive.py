"""The log host: what it keeps of all hosts, and how it is asked."""

import collections
import json
from typing import Any

from client import PAGES, Client
from machine import Machine

MEASURE = "/usr/local/lib/turnkey/measure-rsyslog"
# A line of HAProxy's has at least so many bytes on its way.
SHORTEST = 250

# Count, by its id, each line of a program in the archive whose id begins with a mark; rotated and compressed ones too.
COUNT = r"""
import collections, glob, gzip, json, sys
counts = collections.Counter()
for name in glob.glob(f"{sys.argv[1]}/*/{sys.argv[3]}.log*"):
    for line in gzip.open(name, "rt") if name.endswith(".gz") else open(name):
        if sys.argv[2] in line and line.endswith("\n"):
            counts[json.loads(line)["data"]["id"]] += 1
print(json.dumps(counts))
"""


def measured(host: Machine) -> dict[str, int]:
    """What the host counts of its flow of logs, told to a user without any privilege."""
    found: dict[str, int] = json.loads(host.check("runuser --user nobody -- %s", MEASURE))
    return found


def traced(keeper: Machine, id: str) -> list[dict[str, Any]]:
    """Return the lines of a request, in the order in which they are told; none if there are none yet."""
    done = keeper.run("turnkey-trace --json %s", id)
    return [json.loads(line) for line in done.stdout.splitlines()]


def counted(keeper: Machine, mark: str, program: str = "haproxy") -> dict[str, int]:
    """Return how often each id that begins with *mark* is in a line of a program's."""
    found: dict[str, int] = json.loads(keeper.python(COUNT, keeper.settings("rsyslog")["archive"], mark, program))
    return found


def logged(balancer: Machine, mark: str) -> list[str]:
    """Return the id of each line in the journal of HAProxy itself that begins with *mark*."""
    command = "journalctl --unit=haproxy.service --since=-30min --output=cat --no-pager --grep=%s || true"
    return [json.loads(line)["id"] for line in balancer.check(command, f'"id":"{mark}').splitlines()]


def ask_many(client: Client, mark: str, first: int, count: int, at_once: int = 200) -> list[str]:
    """Ask for a page *count* times, each with an id of its own; return the ids."""
    ids = [f"{mark}-{number}" for number in range(first, first + count)]
    request = f"GET {PAGES}?page=1&per_page=5 HTTP/1.1\r\nHost: x\r\nX-Request-ID: %s\r\n%s\r\n"
    for start in range(0, count, at_once):
        batch = ids[start : start + at_once]
        text = "".join(request % (id, "Connection: close\r\n" if id is batch[-1] else "") for id in batch)
        assert client.send_many(text.encode()) == len(batch)
    return ids


def missing(keeper: Machine, mark: str, ids: list[str]) -> list[str]:
    """Return the *ids* that are in no line; a line of nobody's request is an error at once."""
    found = collections.Counter(counted(keeper, mark))
    assert set(found) <= set(ids)
    return sorted(set(ids) - set(found))
