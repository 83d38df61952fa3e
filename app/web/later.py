"""What takes too long for a request: answered from a job's result, or with the job that will have it."""

import json
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response
from werkzeug.exceptions import ServiceUnavailable
from werkzeug.wrappers import Response as BaseResponse

from web.compression import Deflated
from web.documents import Document
from web.jobstore import BacklogFullError, Job, Jobs, UnavailableError, job_id, timestamp
from web.problems import problem

PATH = "/api/v1/jobs"

# How long a client should wait before it asks again, in seconds: for a job that runs, and for each that is before it.
RETRY_AFTER, RETRY_AFTER_EACH, LONGEST_RETRY_AFTER = 1, 1, 60
# And where nothing is known, in seconds.
LATER = 5


class NotYetError(Exception):
    """The terms are being calculated: *job* tells how far."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.id)
        self.job = job


class Results:
    """Bodies whose terms a job's result has; where there is none, the job is queued, and NotYetError raised.

    The job is that for the body's own terms, unless *job* says which.
    """

    def __init__(self, jobs: Jobs, job: Job | None = None) -> None:
        self._jobs, self._job = jobs, job

    def compressed(self, document: Document, tag: str) -> bytes:
        return document.compressed(self._terms(document))

    def plain(self, document: Document) -> Iterator[bytes]:
        return document.plain(self._terms(document))

    def _terms(self, document: Document) -> list[Deflated]:
        terms = self._jobs.terms(document.start, document.count)
        if terms is None:
            whole = self._job or document
            job = self._jobs.get(job_id(whole.start, whole.count))
            if job and job.state == "failed":
                # Not begun anew by each client that looks: by the one who says so.
                raise ServiceUnavailable(f"The calculation failed. {job.error} POST to {PATH} to try it again.")
            raise NotYetError(self._jobs.submit(whole.start, whole.count))
        return terms


def register(app: Flask) -> None:
    """Answer what jobs raise: 202 with the job, or 503 with a time to come again."""
    app.register_error_handler(NotYetError, lambda error: accepted(error.job, shared=True))
    app.register_error_handler(UnavailableError, lambda _: come_again("Jobs are out of reach: Redis does not answer."))
    app.register_error_handler(BacklogFullError, lambda _: come_again("As many jobs wait as may wait."))


def come_again(detail: str) -> BaseResponse:
    """Return the 503 for what may be better soon."""
    return problem(ServiceUnavailable(detail, retry_after=LATER))


def accepted(job: Job, shared: bool = False) -> Response:
    """Return the 202 that tells of *job*; a *shared* one nginx may give to all who ask at the same moment."""
    response = Response(body(job), status=202, content_type="application/json")
    response.headers["Location"] = f"{PATH}/{job.id}"
    response.headers["Retry-After"] = str(
        min(RETRY_AFTER + RETRY_AFTER_EACH * (job.position or 0), LONGEST_RETRY_AFTER)
    )
    if shared:
        # For nginx alone, which takes it away: those who wait for the first one's answer get this, not a turn each.
        # Before Cache-Control: nginx takes the first that it meets at its word.
        response.headers["X-Accel-Expires"] = "1"
    response.headers["Cache-Control"] = "no-store"
    return response


def body(job: Job) -> str:
    """Return the JSON of *job*."""
    return json.dumps(document(job)) + "\n"


def document(job: Job) -> dict[str, Any]:
    """Return what clients are told of *job*."""
    links = {"self": f"{PATH}/{job.id}"}
    if job.state == "done":
        links["result"] = f"{PATH}/{job.id}/result"
    return {
        "id": job.id,
        "state": job.state,
        "start": job.start,
        "count": job.count,
        "progress": job.progress,
        "position": job.position,
        "submitted": timestamp(job.submitted),
        "started": timestamp(job.started),
        "finished": timestamp(job.finished),
        "error": job.error,
        "links": links,
    }
