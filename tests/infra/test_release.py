"""Releases: a new one takes over without a failed request, a broken one never does, some old ones stay."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from client import Client
from load import Load
from machine import Applied, Machine
from releases import CHANGE, code, edited, module, source
from waiting import eventually

pytestmark = [pytest.mark.disruptive, pytest.mark.roles("web")]


@dataclass
class Story:
    """What happened when the app was changed, and when it was changed back."""

    before: str
    changed: Applied
    after: str
    workers: set[str]
    tags: set[str | None]
    releases: list[str]
    back: Applied
    last: str
    failures: list[str]


@pytest.fixture(scope="module")
def story(host: Machine, client: Client) -> Story:
    before = host.release()
    tag = client.page().header("ETag")
    with edited(host, module(host), lambda text: text + CHANGE):
        with Load(client) as running:
            changed = host.apply()
        # Workers of the old release may finish what they have begun.
        eventually(lambda: [code(client) for _ in range(20)] == ["changed"] * 20)
        after, releases = host.release(), host.releases()
        workers = {host.check("readlink /proc/%s/cwd", str(pid)) for pid in host.processes("gunicorn.service")}
        tags = {tag, client.page().header("ETag")}
    with Load(client) as running_back:
        back = host.apply()
    eventually(lambda: [code(client) for _ in range(20)] == [None] * 20)
    return Story(
        before, changed, after, workers, tags, releases, back, host.release(), running.failures + running_back.failures
    )


class TestAChangedApp:
    def test_it_takes_over_without_a_failed_request(self, story: Story) -> None:
        assert story.changed.ok, story.changed.message
        assert story.after != story.before
        assert story.failures == []

    def test_all_of_gunicorn_runs_in_it(self, story: Story) -> None:
        assert story.workers == {f"{story.after}/src"}

    def test_its_pages_have_tags_of_their_own(self, story: Story) -> None:
        assert len(story.tags) == 2

    def test_the_old_one_stays_and_going_back_builds_nothing(self, story: Story) -> None:
        assert {story.before.rpartition("/")[2], story.after.rpartition("/")[2]} <= set(story.releases)
        assert story.back.ok, story.back.message
        assert story.last == story.before
        assert [name for name in story.back.changed if name.startswith(story.before)] == []


@contextmanager
def wrong_syntax(host: Machine) -> Iterator[None]:
    with edited(host, module(host), lambda text: text + "\ndef broken(:\n"):
        yield


@contextmanager
def forbidden_memory(host: Machine) -> Iterator[None]:
    # What a just-in-time compiler would do: harmless where the app is tried by hand, stopped where it serves.
    asks = "\nimport mmap\nmmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)\n"
    with edited(host, module(host), lambda text: text + asks):
        yield


@contextmanager
def wrong_setting(host: Machine) -> Iterator[None]:
    with host.site({"app": {"environment": {"FIBONACCI_MAX_PER_PAGE": "no"}}}):
        yield


@contextmanager
def wrong_hashes(host: Machine) -> Iterator[None]:
    lock = source(host, host.settings("app")["requirements"])
    with edited(host, lock, lambda text: re.sub("sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", text)):
        yield


BROKEN: dict[str, tuple[Any, list[str]]] = {
    "wrong syntax": (wrong_syntax, ["SyntaxError", "def broken(:"]),
    "what its sandbox forbids": (forbidden_memory, ["PermissionError", "PROT_EXEC"]),
    "a setting that the app refuses": (wrong_setting, ["FIBONACCI_MAX_PER_PAGE", "an integer from"]),
    "other packages than locked": (wrong_hashes, ["hash"]),
}


@pytest.mark.parametrize(("breakage", "reasons"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_release_never_serves_and_says_why(
    host: Machine, client: Client, load: Callable[..., Load], breakage: Any, reasons: list[str]
) -> None:
    before, releases, started = host.release(), set(host.releases()), host.started()
    password = host.settings("redis")["password"]

    with load() as running:
        with breakage(host):
            broken = host.apply()
        during, left = host.release(), set(host.releases()) - releases
        started_then = host.started()
        repaired = host.apply()

    assert broken.retcode == 2
    assert len(broken.failed) == 1
    for reason in reasons:
        assert reason in broken.message
    assert password not in broken.output
    assert during == before
    assert started_then == started
    assert running.failures == []
    # Repaired, nothing is left of it.
    assert repaired.ok, repaired.message
    assert host.release() == before
    assert left & set(host.releases()) == set()


def test_the_last_releases_are_kept_and_no_more(host: Machine) -> None:
    root, keep, current = f"{host.root}/releases", host.settings("app")["keep"], host.release().rpartition("/")[2]
    old = [f"{number:016x}" for number in range(keep + 2)]
    for age, name in enumerate(old):
        host.check("mkdir %s/%s && touch --date=%s %s/%s/tried", root, name, f"2001-01-01 00:00:{59 - age}", root, name)
    host.check("mkdir %s/never-finished", root)

    applied = host.apply()

    assert applied.ok, applied.message
    kept = host.releases()
    assert current in kept
    assert "never-finished" not in kept
    # Younger ones of this host may be among the last, but never an older one in place of a younger one.
    assert len(kept) <= keep + 1
    remaining = [name for name in old if name in kept]
    assert remaining == old[: len(remaining)]
    host.check(f"rm -rf {' '.join(['%s'] * len(old))}", *(f"{root}/{name}" for name in old))
