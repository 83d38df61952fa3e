"""Pages: which terms each has, which pages there are, and how they are linked."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace

from web.chunks import terms_length
from web.parameters import Natural, query
from web.problems import InvalidParameter

DEFAULT_PER_PAGE = 100

# More than a page's body has besides its terms: five short members and four links.
ENVELOPE_BYTES = 1_024


@dataclass(frozen=True)
class Page:
    """The *number*-th page, from 1, of *per_page* consecutive terms, counted from F(*first*) and not beyond *stop*."""

    number: int
    per_page: int
    first: int = 0
    stop: int | None = None

    @property
    def start(self) -> int:
        """The index of the first term."""
        return self.first + (self.number - 1) * self.per_page

    @property
    def count(self) -> int:
        """The number of terms."""
        return self.per_page if self.stop is None else min(self.per_page, self.stop - self.start)

    def at(self, number: int) -> "Page":
        """Return another page of the same division."""
        return replace(self, number=number)

    def link(self, path: str) -> str:
        """Return the relative reference of this page of the resource at *path*, arguments always in this order."""
        return f"{path}?page={self.number}&per_page={self.per_page}"

    def links(self, path: str, has_next: bool) -> dict[str, str]:
        """Return the references from here by relation: prev and next only where there is such a page."""
        pages = {"self": self, "first": self.at(1)}
        if self.number > 1:
            pages["prev"] = self.at(self.number - 1)
        if has_next:
            pages["next"] = self.at(self.number + 1)
        return {relation: page.link(path) for relation, page in pages.items()}


@dataclass(frozen=True)
class Limits:
    """Which pages are given: by the number of terms, their largest index and the bytes of the body."""

    per_page: int
    index: int
    page_bytes: int

    @property
    def number_parameter(self) -> Natural:
        """The number of a page; how many there are depends on their size."""
        return Natural("page", 1, self.index + 1, "number of the page", 1)

    @property
    def size_parameter(self) -> Natural:
        """The size of a page."""
        return Natural("per_page", 1, self.per_page, "terms on a page", DEFAULT_PER_PAGE)

    def page_asked_for(self) -> Page:
        """Return the page that the request's query names; raise InvalidParameter with the bounds otherwise."""
        values = query("page", "per_page")
        per_page = self.size_parameter.of(values)
        number = self.number_parameter.of(values, (self.index + 1) // per_page)
        page = Page(number, per_page)
        if not self.fits(page):
            self._refuse(page)
        return page

    def links(self, page: Page, path: str) -> dict[str, str]:
        """Return the references from *page* by relation: prev and next only where there is such a page."""
        return page.links(path, has_next=self.fits(page.at(page.number + 1)))

    def fits(self, page: Page) -> bool:
        """Tell whether *page* is within the limits, without calculating its terms."""
        if page.start + page.per_page - 1 > self.index:
            return False
        return terms_length(page.start, page.per_page) + ENVELOPE_BYTES <= self.page_bytes

    def _refuse(self, page: Page) -> None:
        too_long = f"The body of this page would exceed {self.page_bytes} bytes"
        most = last_for_which(lambda per_page: self.fits(Page(page.number, per_page)), page.per_page)
        if most:
            detail = f"{too_long}; on page {page.number} per_page may be at most {most}."
            raise InvalidParameter("per_page", detail, 1, most)
        # A single term is too long: no per_page helps so far out in the sequence.
        last = last_for_which(lambda number: self.fits(page.at(number)), page.number)
        detail = f"{too_long}, whatever per_page; the last page for per_page {page.per_page} is {last}."
        raise InvalidParameter("page", detail, 1, last)


def last_for_which(holds: Callable[[int], bool], upper: int) -> int:
    """Return the largest number from 1 to *upper* for which *holds*, given that it holds up to some number; else 0."""
    return bisect_left(range(1, upper + 1), True, key=lambda number: not holds(number))
