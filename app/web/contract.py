"""What may be asked: each parameter, its bounds and its meaning, once.

The resources check requests with these, and the OpenAPI document shows them.
"""

from dataclasses import dataclass
from functools import cached_property

from fibonacci import digits
from web.chunks import terms_length
from web.jobstore import ENDED, STATES
from web.pagination import DEFAULT_PER_PAGE, ENVELOPE_BYTES, Limits, last_for_which
from web.parameters import Choice, Natural
from web.settings import Settings

# Jobs on a page of them, and pages: beyond any backlog.
DEFAULT_JOBS_PER_PAGE, MOST_JOBS_PER_PAGE, LAST_JOBS_PAGE = 20, 100, 1_000_000

SOME_STATE = Choice("state", STATES, "only jobs in this state")
ENDED_STATE = Choice("state", ENDED, "the jobs to remove: all that have ended like this")
JOBS_PAGE = Natural("page", 1, LAST_JOBS_PAGE, "number of the page, the newest jobs first", 1)
JOBS_PER_PAGE = Natural("per_page", 1, MOST_JOBS_PER_PAGE, "jobs on a page", DEFAULT_JOBS_PER_PAGE)


@dataclass(frozen=True)
class Contract:
    """The parameters of a service with *settings*; with jobs, terms above the inline limit may be asked for."""

    settings: Settings
    has_jobs: bool = False

    @cached_property
    def limits(self) -> Limits:
        """Which pages there are."""
        return Limits(self.settings.max_per_page, self._last_index, self.settings.max_page_bytes)

    @cached_property
    def n(self) -> Natural:
        """The index of a term."""
        return Natural("n", 0, self._last_index, "index of the term; F(0) = 0, F(1) = 1")

    @cached_property
    def job_n(self) -> Natural:
        """The index of a job's single term."""
        return Natural("n", 0, self._last_job_index, "index of a single term")

    @cached_property
    def job_start(self) -> Natural:
        """The first index of a job's range."""
        return Natural("start", 0, self._last_job_index, "index of the first term")

    def job_count(self, start: int = 0) -> Natural:
        """Return how many terms a job's range from *start* on may have."""
        fits = self.settings.job_max_bytes - ENVELOPE_BYTES
        most = last_for_which(lambda count: terms_length(start, count) <= fits, self._last_job_index + 1 - start)
        return Natural("count", 1, most, "number of terms")

    def result_page(self, count: int, per_page: int) -> Natural:
        """Return which pages of *per_page* terms a result of *count* terms has."""
        return Natural("page", 1, -(-count // per_page), "number of the page", 1)

    @cached_property
    def result_per_page(self) -> Natural:
        """How many terms a page of a result may have: as on any page; its bytes are bounded by the job's."""
        return Natural("per_page", 1, self.settings.max_per_page, "terms on a page", DEFAULT_PER_PAGE)

    @cached_property
    def stream_start(self) -> Natural:
        """The index that a stream begins at."""
        return Natural("start", 0, self.settings.inline_limit, "index of the first term", 0)

    def stream_count(self, start: int = 0) -> Natural:
        """Return how many terms a stream from *start* on may have; by default as many as there are."""
        most = self.settings.inline_limit - start + 1
        return Natural("count", 1, most, "number of terms; left out: until the client leaves", most)

    @cached_property
    def _last_index(self) -> int:
        return max(self.settings.inline_limit, self._last_job_index) if self.has_jobs else self.settings.inline_limit

    @cached_property
    def _last_job_index(self) -> int:
        fits = self.settings.job_max_bytes - ENVELOPE_BYTES
        return last_for_which(lambda n: digits(n) <= fits, self.settings.job_max_index)
