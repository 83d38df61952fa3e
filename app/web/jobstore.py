"""All jobs: long calculations off the request path, each known to all hosts through Redis and calculated once.

A job is a range of terms. What happens to it happens in one script (``lua/jobs.lua``), at once or not at all; Celery
only tells a worker that there is something to do. A worker holds a job by a lease that it must renew, so that whatever
dies leaves nothing locked: see docs/decisions/jobs.rst.
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import redis

from web import chunks, sentinels
from web.compression import Deflated
from web.connection import PROBE_KEY, connect, is_wrong_type, reason
from web.settings import Settings
from web.store import decode, encode

logger = logging.getLogger(__name__)

# The digit is the layout's version: raise it when code that is older could not read what this writes.
PREFIX = "fibonacci:jobs:1"
SCRIPT = files("web").joinpath("lua/jobs.lua").read_text()

ACTIVE, ENDED = ("queued", "running"), ("done", "failed", "cancelled")
STATES = ACTIVE + ENDED

# Queues by name, with their priority: the lower number is served first.
SHORT, LONG = "short", "long"
PRIORITIES = {SHORT: 0, LONG: 1}

ID = re.compile(r"(0|[1-9][0-9]{0,9})-([1-9][0-9]{0,9})")

# Beyond any time that Redis gives: what is later is no time.
LAST_TIME = 9_999_999_999

# How many longer results are looked at for a shorter request: those that begin nearest before it.
CANDIDATES = 100


class UnavailableError(Exception):
    """Redis cannot be asked: nothing can be said about jobs, and none taken."""


class LostError(Exception):
    """The job is no longer its worker's: cancelled, or given to another; or what was written of it is gone."""


class BacklogFullError(Exception):
    """As many jobs wait as may wait."""


@dataclass(frozen=True)
class Job:
    """What is known of a job: times are UNIX times in seconds, *progress* is from 0 to 1."""

    id: str
    state: str
    start: int
    count: int
    progress: float
    position: int | None
    submitted: float
    started: float | None
    finished: float | None
    error: str | None


def job_id(start: int, count: int) -> str:
    """Return the id of the job for F(start) … F(start + count - 1): the same request is the same job."""
    return f"{start}-{count}"


def parse_id(text: str) -> tuple[int, int] | None:
    """Return start and count of the job whose id *text* is, or None if it is none."""
    match = ID.fullmatch(text)
    return (int(match[1]), int(match[2])) if match else None


class Jobs:
    """All jobs, as Redis has them. Every method raises UnavailableError where Redis fails."""

    def __init__(self, settings: Settings, tell: Callable[[str, str], None]) -> None:
        """Make the door to them; *tell* sends a worker the message that job *id* waits in *queue*."""
        self._settings = settings
        self._tell = tell
        self._redis = connect(settings)
        self._script = self._redis.register_script(SCRIPT)
        self._has_replicas = sentinels.is_watched(str(settings.redis_url))

    def queue_for(self, start: int, count: int) -> str:
        """Return the queue for a range: "short" if it takes seconds at the most."""
        small = chunks.terms_length(start, count) <= self._settings.short_job_max_bytes
        return SHORT if small and start + count - 1 <= self._settings.short_job_max_index else LONG

    def submit(self, start: int, count: int) -> Job:
        """Return the job for F(start) … F(start + count - 1), new unless it was there. Raises BacklogFullError.

        One that failed or was cancelled, or whose result is gone, begins anew. Where Redis has replicas, one of them
        has the job too before this returns: it outlives the primary.
        """
        id, queue = job_id(start, count), self.queue_for(start, count)
        arguments = (id, start, count, queue, PRIORITIES[queue], self._settings.job_backlog)
        state, is_new = (self._run_on_two if self._has_replicas else self._run)("submit", *arguments)
        if state == b"full":
            raise BacklogFullError
        if is_new:
            self._tell(id, queue)
        job = self.get(id)
        if job is None:
            raise UnavailableError("the job was removed at once")
        # What ties the request to what its worker says.
        logger.info("job asked for", extra={"job": id})
        return job

    def get(self, id: str) -> Job | None:
        """Return the job, or None if there is none."""
        (job,) = self._jobs([id.encode()])
        return job

    def page(self, number: int, per_page: int, state: str | None = None) -> tuple[int, list[Job]]:
        """Return how many jobs there are, and page *number* of them: the newest first, the queue in its order."""
        key = f"{PREFIX}:{state or 'all'}"
        first = (number - 1) * per_page

        def look() -> Any:
            pipeline = self._redis.pipeline()
            pipeline.zcard(key)
            pipeline.zrange(key, first, first + per_page - 1, desc=state != "queued")
            return pipeline.execute()

        total, ids = self._mended(look)
        listed = self._jobs(ids)
        if None in listed:
            self._run("mend", *ids)
        return total, [job for job in listed if job]

    def delete(self, id: str) -> str | None:
        """Cancel the job if it is active, else remove it; return the state it was in, None if there is none."""
        state = self._run("delete", id)
        return state.decode() if state else None

    def delete_all(self, state: str) -> int:
        """Remove all jobs that have ended in *state*; return how many."""
        removed = 0
        while batch := int(self._run("delete_all", state)):
            removed += batch
        return removed

    # What a result holds.

    def covering(self, start: int, count: int) -> tuple[int, int] | None:
        """Return start and count of a result that F(start) … F(start + count - 1) are in, or None."""
        key = f"{PREFIX}:results"
        ids: Any = self._mended(lambda: self._redis.zrevrangebyscore(key, start, "-inf", 0, CANDIDATES))
        for id in ids:
            there = parse_id(id.decode("latin-1"))
            if there and there[0] <= start and start + count <= sum(there):
                return there
        return None

    def terms(self, start: int, count: int) -> list[Deflated] | None:
        """Return the text of F(start) … F(start + count - 1) out of a result, or None if no result has it."""
        there = self.covering(start, count)
        if there is None:
            return None
        id = job_id(*there)
        whole, wanted = chunks.span(*there), chunks.span(start, count)
        # A result is cut where chunks end, so its first stretch may be a short one.
        begins = [whole.start, *range(_next_chunk(whole.start), whole.stop, chunks.CHUNK_BYTES)]
        lengths = [end - begin for begin, end in zip(begins, [*begins[1:], whole.stop], strict=True)]
        first = (wanted.start // chunks.CHUNK_BYTES) - (whole.start // chunks.CHUNK_BYTES)
        last = ((wanted.stop - 1) // chunks.CHUNK_BYTES) - (whole.start // chunks.CHUNK_BYTES)
        entries = self._entries(id, first, last)
        numbers = range(first, last + 1)
        found = [
            decode(_name(id, number), entry, lengths[number]) for number, entry in zip(numbers, entries, strict=False)
        ]
        if len(found) < len(numbers) or None in found:
            # Evicted, expired or damaged: without its result the job is worth nothing.
            self._run("lost", id)
            return None
        stretches = [stretch for stretch in found if stretch is not None]
        return list(chunks.slice_of(stretches, begins[first], wanted))

    def _entries(self, id: str, first: int, last: int) -> list[bytes]:
        with _available():
            try:
                entries: Any = self._redis.lrange(f"{PREFIX}:result:{id}", first, last)
            except redis.ResponseError as error:
                if not is_wrong_type(error):
                    raise
                return []  # as good as none
        return list(entries)

    # What a worker does.

    def claim(self, id: str, token: str) -> tuple[int, int] | None:
        """Take the job for *token*; return its start and count, or None if it is not there to be taken."""
        found = self._run("claim", id, token, self._lease)
        return (int(found[0]), int(found[1])) if found else None

    def renew(self, id: str, token: str) -> bool:
        """Prolong the lease; return whether the job is still *token*'s."""
        return bool(self._run("renew", id, token, self._lease))

    def progress(self, id: str, token: str, fraction: float) -> bool:
        """Say how far it is; return whether the job is still *token*'s."""
        return bool(self._run("progress", id, token, f"{fraction:.4f}"))

    def append(self, id: str, token: str, first: int, stretches: Iterable[Deflated]) -> None:
        """Append *stretches*, the first of them number *first*, to the result that *token* writes. Raises LostError.

        Done once however often it is tried: an answer that is late may be to a step that was taken.
        """
        entries = [encode(_name(id, number), stretch) for number, stretch in enumerate(stretches, first)]
        _check(self._run("append", id, token, first, self._settings.job_time_limit, *entries))

    def done(self, id: str, token: str, length: int) -> None:
        """Make the *length* stretches that were appended the result. Raises LostError."""
        _check(self._run("done", id, token, length, self._settings.job_expiry))

    def failed(self, id: str, token: str, error: str) -> bool:
        """Say why there will be no result; return whether the job was still *token*'s."""
        return bool(self._run("failed", id, token, error))

    def sweep(self) -> None:
        """Put right what died or expired, and tell workers again of jobs whose message was lost."""
        settings = self._settings
        unheard = self._run(
            "sweep", settings.job_attempts, settings.job_time_limit, settings.job_expiry, settings.job_lease * 2
        )
        for id, queue in zip(unheard[::2], unheard[1::2], strict=True):
            self._tell(id.decode(), queue.decode())

    @property
    def _lease(self) -> int:
        return int(self._settings.job_lease * 1_000)

    def _run(self, step: str, *arguments: str | int | float | bytes) -> Any:
        with _available():
            return self._script([PREFIX], [step, *arguments])

    def _run_on_two(self, step: str, *arguments: str | int | float | bytes) -> Any:
        """As `_run`, but raise UnavailableError unless a replica has what was done."""
        with _available():
            pipeline = self._redis.pipeline(transaction=False)
            self._script([PREFIX], [step, *arguments], client=pipeline)
            # WAIT is for what its connection wrote last: a write of now comes after all that others wrote, so that
            # this holds too where the step has found the job there already.
            pipeline.set(PROBE_KEY, b"", ex=60)
            # Before the patience with Redis itself ends.
            pipeline.wait(1, int(self._settings.redis_timeout * 800))
            answer, _, replicas = pipeline.execute()
        if not replicas:
            raise UnavailableError("no replica has it")
        return answer

    def _mended(self, look: Callable[[], Any], ids: Sequence[bytes] = ()) -> Any:
        """Return what *look* finds, where need be after what has a name of ours, or of jobs *ids*, and is none."""
        with _available():
            try:
                return look()
            except redis.ResponseError as error:
                if not is_wrong_type(error):
                    raise
            logger.warning("rubbish among the jobs in Redis: removing it")
            self._script([PREFIX], ["mend", *ids])
            return look()

    def _jobs(self, ids: Sequence[bytes]) -> list[Job | None]:
        def look() -> Any:
            pipeline = self._redis.pipeline()
            for id in ids:
                # By latin-1 every name is text; what is no id of ours is no job's.
                pipeline.hgetall(f"{PREFIX}:{id.decode('latin-1')}")
                pipeline.zrank(f"{PREFIX}:queued", id)
            return pipeline.execute()

        found = self._mended(look, ids)
        listed = [_job(id, found[2 * i], found[2 * i + 1]) for i, id in enumerate(ids)]
        if damaged := [id for i, id in enumerate(ids) if found[2 * i] and not listed[i]]:
            self._run("mend", *damaged)
        return listed


def _check(answer: int) -> None:
    if answer != 1:
        raise LostError("the job is another's" if answer == 0 else "the result was lost while it was written")


@contextmanager
def _available() -> Iterator[None]:
    """Turn what redis-py raises into UnavailableError, which says no more than the error's class."""
    try:
        yield
    except redis.RedisError as error:
        raise UnavailableError(reason(error)) from None


def _name(id: str, number: int) -> str:
    """Return the name of stretch *number* of a result: another job's has another, wherever it may stand."""
    return f"{id} {number}"


def _next_chunk(place: int) -> int:
    return (place // chunks.CHUNK_BYTES + 1) * chunks.CHUNK_BYTES


def _job(id: bytes, fields: dict[bytes, bytes], rank: int | None) -> Job | None:
    """Return the job that *fields* tell of, None where they are none's."""

    def seconds(name: bytes) -> float | None:
        return int(fields[name]) / 1_000 if name in fields else None

    try:
        start, count = int(fields[b"start"]), int(fields[b"count"])
        progress, submitted = float(fields[b"progress"]), int(fields[b"submitted"]) / 1_000
        started, finished = seconds(b"started"), seconds(b"finished")
        state = fields[b"state"].decode()
    except (KeyError, ValueError):
        return None
    times = (submitted, started or 0.0, finished or 0.0)
    if state not in STATES or job_id(start, count).encode() != id or not 0 <= progress <= 1:
        return None
    if not all(0 <= time <= LAST_TIME for time in times):
        return None
    return Job(
        id=job_id(start, count),
        state=state,
        start=start,
        count=count,
        progress=progress,
        position=rank + 1 if state == "queued" and rank is not None else None,
        submitted=submitted,
        started=started,
        finished=finished,
        error=fields.get(b"error", b"").decode(errors="replace") or None,
    )


def timestamp(seconds: float | None) -> str | None:
    """Return a UNIX time as RFC 3339 in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
