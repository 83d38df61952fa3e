"""Clients of every kind that go on while something happens to the cluster, and what they saw of it."""

import threading
import time
from contextlib import ExitStack
from itertools import pairwise
from types import TracebackType
from typing import Any

from client import Answer, Client
from jobs import finished, post, terms
from load import Load
from stream import Stream
from waiting import eventually

# Seconds after which these clients give an answer up, as people would.
PATIENCE = 15.0
# Seconds between two frames that are read, and between two jobs that are asked for.
FRAME_EVERY, JOB_EVERY = 0.1, 0.5
# Of each term that many digits are followed.
MODULUS = 10**15
# Where the websocket begins: at frames of a few dozen terms.
FIRST = 10_000
# Jobs begin here, where their terms are below Python's limit of digits, and end before those that other tests ask for.
FIRST_JOB = 2_000


class Watcher:
    """One websocket, resumed whenever it breaks, as often as that is."""

    def __init__(self, client: Client) -> None:
        self.frames: list[float] = []
        self.breaks: list[str] = []
        # What must never be: a gap, a double, a wrong term.
        self.wrong: list[str] = []
        self._client = client
        self._following = FIRST
        self._last: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                with Stream(self._client, self._following) as stream:
                    for frame in stream:
                        self._take(frame)
                        if self._over.wait(FRAME_EVERY):
                            return
                self.breaks.append(f"closed with {stream.code} at {self._following}")
            except OSError as error:
                self.breaks.append(f"{error} at {self._following}")
                self._over.wait(0.1)

    def _take(self, frame: dict[str, Any]) -> None:
        if frame["start"] != self._following:
            self.wrong.append(f"a frame from {frame['start']} on where {self._following} was to come")
        for term in frame["terms"]:
            number = int(term[-15:])
            if len(self._last) == 2 and number != sum(self._last) % MODULUS:
                self.wrong.append(f"a wrong term at {self._following}")
            self._last = [*self._last[-1:], number]
            self._following += 1
        self.frames.append(time.monotonic())


class Submitter:
    """Asks for one job after the other, each of which nobody has asked for yet."""

    def __init__(self, client: Client) -> None:
        self.accepted: list[tuple[float, str]] = []
        self.refused: list[str] = []
        self.failed: list[str] = []
        self._client = client
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    # One number for all tests of a session: no job is asked for twice.
    _start = FIRST_JOB

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(JOB_EVERY):
            Submitter._start += 1
            try:
                answer = post(self._client, Submitter._start, 3)
            except (OSError, ValueError) as error:
                self.failed.append(repr(error))
                continue
            if answer.status == 202:
                self.accepted.append((time.monotonic(), answer.header("Location") or ""))
            elif is_refusal(answer):
                self.refused.append(answer.json["detail"])
            else:
                self.failed.append(f"status {answer.status}: {answer.body[:200]!r}")

    def all_done(self, client: Client) -> bool:
        """Wait until each job that was accepted is done; fail unless its result is right."""
        for _, place in self.accepted:
            a, b, c = (int(digits) for digits in terms(client, f"{finished(client, place)}/result"))
            start = client.ask(place).json["start"]
            # Cassini: three terms that hold together are the right ones.
            assert a * c - b * b == (-1) ** (start + 1), place
        return True


def is_refusal(answer: Answer) -> bool:
    """Whether it says that there is nothing now, and when to come again."""
    return answer.status == 503 and answer.is_problem and int(answer.header("Retry-After") or 0) > 0


class Steady:
    """The steady load. ``with steady("what happens") as running: …``; `happens` marks the moment of the fault."""

    def __init__(self, client: Client, what: str) -> None:
        self.what = what
        self.notes: list[str] = []
        self._client = Client(client.address, client.port, PATIENCE)
        self.pages = Load(self._client)
        self.watcher, self.submitter = Watcher(self._client), Submitter(self._client)
        self._stack = ExitStack()
        self._fault = self._end = 0.0

    def __enter__(self) -> "Steady":
        self._stack.enter_context(self.pages)
        for part in (self.watcher, self.submitter):
            part.start()
            self._stack.callback(part.stop)
        eventually(lambda: self.watcher.frames and self.submitter.accepted)
        self.happens()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.goes_on()
        finally:
            self._stack.__exit__(kind, error, trace)
            self._end = time.monotonic()
        if error is None:
            self.submitter.all_done(self._client)

    def goes_on(self) -> None:
        """Wait until each kind of client has got something more: what happened has had the chance to show."""
        pages, frames, jobs = len(self.pages.answered), len(self.watcher.frames), len(self.submitter.accepted)
        eventually(lambda: len(self.pages.answered) > pages + 40)
        eventually(lambda: len(self.watcher.frames) > frames + 5 and len(self.submitter.accepted) > jobs + 2)

    def happens(self) -> None:
        """Take down this moment as that of the fault."""
        self._fault = time.monotonic()

    @property
    def since(self) -> float:
        """Seconds since the fault."""
        return time.monotonic() - self._fault

    @property
    def failed(self) -> list[str]:
        """Page requests without an answer, with a 5xx or with a wrong body; not those that broke off half way."""
        cut = set(self.pages.cut)
        return [failure for failure in self.pages.failures if failure not in cut]

    @property
    def outage(self) -> float:
        """The longest time without a right page, in seconds."""
        return self._longest(self.pages.answered)

    def _longest(self, moments: list[float]) -> float:
        """Return the longest gap from the fault on, in seconds."""
        seen = [self._fault, *(moment for moment in sorted(moments) if moment > self._fault), self._end]
        return max(after - before for before, after in pairwise(seen))

    def report(self) -> str:
        jobs = self.submitter
        accepted = [moment for moment, _ in jobs.accepted]
        return (
            f"{self.what}: {self.pages.total} page requests, {len(self.failed)} failed, {len(self.pages.cut)} cut, "
            f"longest gap {self.outage:.1f} s; websocket: {len(self.watcher.breaks)} breaks, "
            f"longest gap {self._longest(self.watcher.frames):.1f} s, {len(self.watcher.wrong)} wrong; "
            f"jobs: {len(jobs.accepted)} accepted and done, {len(jobs.refused)} refused, {len(jobs.failed)} failed, "
            f"longest gap {self._longest(accepted):.1f} s" + "".join(f"; {note}" for note in self.notes)
        )
