"""Long calculations: asked for, waited for, and looked at."""

import json
import random

from client import Answer, Client
from waiting import DEADLINE, eventually

JOBS = "/api/v1/jobs"


def post(client: Client, start: int, count: int) -> Answer:
    """Ask for a job, and return whatever comes back."""
    wish = json.dumps({"start": start, "count": count}).encode()
    return client.ask(JOBS, {"Content-Type": "application/json"}, "POST", wish)


def submitted(client: Client, count: int, start: int | None = None) -> str:
    """Submit a job for *count* terms, by default one that nobody has asked for yet; return its address."""
    # Below Python's limit of digits.
    start = random.randrange(10_000, 20_000) if start is None else start  # noqa: S311 - no secret
    answer = post(client, start, count)
    assert answer.status == 202, answer.body
    return answer.header("Location") or ""


def finished(client: Client, place: str, deadline: float = DEADLINE) -> str:
    """Wait until the job at *place* is done, at most *deadline* seconds; return its address."""

    def done() -> bool:
        answer = client.ask(place)
        assert answer.status == 200, answer.body
        job = answer.json
        assert job["state"] in ("queued", "running", "done"), job
        return bool(job["state"] == "done")

    eventually(done, deadline)
    return place


def works(client: Client) -> bool:
    """Have a job done that nobody has asked for yet, and fail unless its result is right."""
    place = finished(client, submitted(client, 3))
    start = client.ask(place).json["start"]
    a, b, c = (int(digits) for digits in terms(client, f"{place}/result"))
    # Cassini: three terms that hold together are the right ones.
    assert a * c - b * b == (-1) ** (start + 1)
    return True


def terms(client: Client, target: str) -> list[str]:
    found: list[str] = client.ask(target).json["terms"]
    return found
