"""Pages through HAProxy and nginx: from the cache, against a static file and against no cache at all."""

import json
import re
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from tests.bench.lab import base_url, on_host, with_pillar
from tests.bench.tables import Table

TITLE = "Pages through the whole stack"

# Of about 100 bytes, and of about 100 KB as nginx keeps and clients that take gzip get them.
SMALL, LARGE = "/api/v1/fibonacci/10", "/api/v1/fibonacci?page=2&per_page=850"
SECONDS, ROUNDS = 2, 7


@dataclass
class Side:
    """A URL under load, and how many requests a second it has answered, round by round."""

    name: str
    path: str
    rates: list[float] = field(default_factory=list)

    def measure(self) -> None:
        command = ["wrk", "--threads=2", "--connections=16", f"--duration={SECONDS}s", "--header=Accept-Encoding: gzip"]
        told = subprocess.run([*command, base_url() + self.path], stdout=subprocess.PIPE, text=True, check=True).stdout
        if "Non-2xx" in told or "Socket errors" in told:
            raise SystemExit(f"{self.path}: {told}")
        (rate,) = re.findall(r"Requests/sec: *([0-9.]+)", told)
        self.rates.append(float(rate))

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)


def tables() -> Iterator[Table]:
    """Measure all; yield table by table."""
    rows = []
    sizes = {name: _size(path) for name, path in (("small", SMALL), ("large", LARGE))}
    files = {name: f"/bench/{name}" for name in sizes}
    for name, size in sizes.items():
        on_host(f"mkdir -p /var/www/bench && head -c {size} /dev/urandom >/var/www/bench/{name}")
    location = "location ^~ /bench/ { alias /var/www/bench/; }"
    cached = {name: Side("cached", path) for name, path in (("small", SMALL), ("large", LARGE))}
    static = {name: Side("static file", path) for name, path in files.items()}
    uncached = {name: Side("not cached", side.path) for name, side in cached.items()}
    with with_pillar({"nginx": {"snippets": {"server": location}}}, "nginx"):
        _in_turn([*cached.values(), *static.values()])
    with with_pillar({"nginx": {"cache": {"enabled": False}}}, "nginx"):
        _in_turn([*uncached.values()])
    on_host("rm -r /var/www/bench")
    for name, size in sizes.items():
        for other, wanted in ((static[name], 0.8), (uncached[name], 5)):
            ratio = cached[name].rate / other.rate
            rates = [f"{cached[name].rate:,.0f}/s", other.name, f"{other.rate:,.0f}/s"]
            verdict = [f"{ratio:.3g}", f"{wanted:g}", "yes" if ratio >= wanted else "NO"]
            rows.append([f"page of {size:,} bytes, cached", *rates, *verdict])
    about = (
        "Requests a second over 16 connections (wrk) through HAProxy and nginx of a lab host on this machine: medians."
    )
    yield Table(about, ["case", "ours", "against", "gives", "ratio", "wanted", "met"], rows)


def _in_turn(sides: list[Side]) -> None:
    for side in chain.from_iterable([sides] * ROUNDS):
        side.measure()


def _size(path: str) -> int:
    """Return the bytes of the body as it is sent."""
    command = ["curl", "--silent", "--fail", "--header", "Accept-Encoding: gzip", "--output", "/dev/null"]
    told = subprocess.run(
        [*command, "--write-out", "%{json}", base_url() + path], stdout=subprocess.PIPE, text=True, check=True
    )
    return int(json.loads(told.stdout)["size_download"])
