"""The Celery worker: ``celery --app web.worker worker --queues short,long``.

Celery carries messages and runs processes. Whose a job is and what came of it stands in Redis: see web.jobstore.
"""

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import redis
from celery import bootsteps, signals
from celery.exceptions import SoftTimeLimitExceeded
from celery.worker import state

from web import chunks, logs, queue
from web.connection import connect, reason
from web.jobstore import Jobs, LostError, UnavailableError
from web.settings import EXIT_STATUS, Settings, from_environment_or_exit

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

# How many chunks of a result are written at once: a megabyte of text.
WRITTEN_AT_ONCE = 16
# How often a job's progress is told, in seconds.
PROGRESS_EVERY = 0.5
# How long Redis may be away while a result is written, in seconds, and how often it is tried.
PATIENCE, TRY_EVERY = 60.0, 0.5
# What the jump costs, counted in terms of its size that are compressed: the share of progress that it is given.
JUMP_IN_TERMS = 20


def _settings() -> Settings:
    settings = from_environment_or_exit()
    if settings.redis_url is None:
        print("web: wrong setting: REDIS_URL is unset; a worker needs it", file=sys.stderr, flush=True)
        sys.exit(EXIT_STATUS)
    return settings


settings = _settings()
app = queue.make(settings)
client = connect(settings)
jobs = Jobs(settings, partial(queue.tell, app, client))


@app.task(name=queue.TASK)
def calculate(id: str) -> None:
    """Calculate job *id*, if it is there to be taken."""
    token = _token(os.getpid())
    found = _patiently(lambda: jobs.claim(id, token))
    if found is None:
        logger.info("message of a job that is not to be taken", extra={"job": id})
        return
    start, count = found
    began = time.perf_counter()
    logger.info("job begun", extra={"job": id})
    try:
        number = _write(id, token, start, count)
        _patiently(lambda: jobs.done(id, token, number))
    except LostError as error:
        # If it is still ours the lease runs out, and another begins anew.
        logger.info("job is no longer ours", extra={"job": id, "error": str(error)})
    except SoftTimeLimitExceeded:
        _fail(id, token, f"It took longer than {settings.job_time_limit} seconds.")
    except MemoryError:
        _fail(id, token, "The worker has too little memory for it.")
    except UnavailableError as error:
        # Redis away or full for so long: there is nobody to tell. The lease runs out, and another begins anew.
        logger.error("job given up: Redis takes nothing", extra={"job": id, "error": str(error)})
    except Exception as error:
        logger.exception("job failed", extra={"job": id})
        _fail(id, token, f"Unexpected error: {type(error).__name__}.")
    else:
        duration = round(time.perf_counter() - began, 3)
        logger.info("job calculated", extra={"job": id, "duration_s": duration})


def _write(id: str, token: str, start: int, count: int) -> int:
    """Calculate the terms, compress them and write them to Redis, telling how far it is; return how many stretches."""
    teller = _Progress(id, token)
    jump = JUMP_IN_TERMS / (JUMP_IN_TERMS + count)
    length = chunks.terms_length(start, count)
    stretches = chunks.calculated(start, count, lambda fraction: teller.tell(jump * fraction))
    written = numbered = 0
    while batch := list(islice(stretches, WRITTEN_AT_ONCE)):
        _patiently(partial(jobs.append, id, token, numbered, batch))
        numbered += len(batch)
        written += sum(stretch.length for stretch in batch)
        teller.tell(jump + (1 - jump) * written / length)
    if written != length:
        raise RuntimeError(f"the text has {written} bytes and not {length}")
    return numbered


def _fail(id: str, token: str, error: str) -> None:
    logger.error("job failed", extra={"job": id, "error": error})
    _patiently(lambda: jobs.failed(id, token, error))


class _Progress:
    """Tells Redis how far a job is, not too often; raises LostError where nobody wants it any more."""

    def __init__(self, id: str, token: str) -> None:
        self._id, self._token = id, token
        self._next = 0.0

    def tell(self, fraction: float) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + PROGRESS_EVERY
        try:
            held = jobs.progress(self._id, self._token, fraction)
        except UnavailableError:
            return  # the next one tells
        if not held:
            raise LostError("the job is another's")


def _patiently(command: Callable[[], Answer]) -> Answer:
    """Return what *command* gives, trying again while Redis is away; UnavailableError if it stays away."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return command()
        except UnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(TRY_EVERY)


def _token(pid: int) -> str:
    """Return the name under which process *pid* of this host holds jobs: the main process can tell it too."""
    return f"{socket.gethostname()}/{pid}"


class Keeper(bootsteps.StartStopStep):
    """Renews the leases of this worker's jobs, ends calculations that nobody wants any more, and sweeps.

    In the main process: one that multiplies long numbers does nothing else for seconds.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        self._timer = consumer.timer.call_repeatedly(settings.job_lease / 5, keep, (consumer.pool,))

    def stop(self, consumer: Any) -> None:
        self._timer.cancel()


app.steps["consumer"].add(Keeper)


def keep(pool: Any = None) -> None:
    """Renew leases and sweep; with *pool*, end the processes whose job is gone."""
    try:
        for request in list(state.active_requests):
            if request.worker_pid and not jobs.renew(request.id, _token(request.worker_pid)) and pool:
                logger.info("ending a calculation that nobody wants any more", extra={"job": request.id})
                request.terminate(pool, signal="KILL")
        jobs.sweep()
    except UnavailableError as error:
        logger.warning("leases not renewed", extra={"error": str(error)})


@signals.worker_shutting_down.connect
def _keep_on(**_: Any) -> None:
    """Go on renewing while a warm shutdown waits for jobs: the main loop and its timer are at rest then."""

    def run() -> None:
        while True:
            keep()
            time.sleep(settings.job_lease / 5)

    threading.Thread(target=run, daemon=True, name="keeper").start()


@signals.worker_init.connect
def _mend(**_: Any) -> None:
    """Begin with a queue that is one: what it dies of the worker that is started next removes."""
    try:
        queue.mend(client)
    except redis.RedisError as error:
        logger.warning("queue not looked at", extra={"error": reason(error)})


@signals.setup_logging.connect
def _log_as_the_service_does(**_: Any) -> None:
    logs.configure(settings.log_level)
