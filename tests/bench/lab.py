"""The lab's host, for benches of the whole stack: ``lab/up`` first."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@cache
def base_url() -> str:
    """Return the URL of the lab that is up; without one, end with what to do."""
    told = subprocess.run([ROOT / "lab" / "status", "--url"], stdout=subprocess.PIPE, text=True, check=False)
    if told.returncode:
        raise SystemExit("this bench needs the stack: lab/up")
    return told.stdout.strip()


def on_host(command: str) -> str:
    """Return what *command* prints on the lab's host, as root."""
    done = subprocess.run(
        ["docker", "exec", _container(), "sh", "-c", command], stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def path_on_host(path: str) -> str:
    """Return where this machine sees the host's *path*, sockets in /run too."""
    pid = _told(["docker", "inspect", "--format", "{{.State.Pid}}", _container()])
    return f"/proc/{pid}/root{path}"


@contextlib.contextmanager
def with_pillar(pillar: dict[str, object], formula: str) -> Iterator[None]:
    """Apply *formula* with *pillar* over the site's; afterwards as it was."""
    apply = f"salt-call --local --retcode-passthrough state.apply {formula} queue=10"
    on_host(f"{apply} pillar='{json.dumps(pillar)}' >/dev/null")
    try:
        yield
    finally:
        on_host(f"{apply} >/dev/null")


@cache
def _container() -> str:
    return _told(["docker", "ps", "--quiet", "--filter", "label=turnkey.lab"]).split()[0]


def _told(command: list[str]) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
