"""Every setting of the service: name, default, bounds and meaning in one place, read from the environment."""

import os
import sys
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, NoReturn

from redis import ConnectionPool

from web import sentinels

PREFIX = "FIBONACCI_"

# Gunicorn restarts a worker that exits, for ever, unless by this status ("app failed to load"): then it gives up.
EXIT_STATUS = 4


class SettingsError(ValueError):
    """A setting that cannot be used; the text names the environment's variable and what it may be."""


def _number(
    default: int | float, minimum: int | float, maximum: int | float, meaning: str, variable: str | None = None
) -> Any:
    bounds = {"minimum": minimum, "maximum": maximum}
    named = {"variable": variable} if variable else {}
    return field(default=default, metadata={**bounds, "meaning": meaning, **named})


def _choice(default: str, choices: tuple[str, ...], meaning: str) -> Any:
    return field(default=default, metadata={"choices": choices, "meaning": meaning})


@dataclass(frozen=True)
class Settings:
    """The settings, checked: making one with a value out of its bounds raises SettingsError.

    The lower bound of ``max_page_bytes`` is more than the first page of ``max_per_page`` terms can take, and that of
    ``inline_limit`` more than its last index, so that a first page exists whatever the settings.
    """

    max_per_page: int = _number(1_000, 100, 2_000, "most terms on a page")
    max_page_bytes: int = _number(32 * 2**20, 2**20, 2**30, "largest body of a page before compression, in bytes")
    inline_limit: int = _number(10_000_000, 10_000, 100_000_000, "largest index answered within the request")
    redis_timeout: float = _number(0.25, 0.01, 10.0, "longest wait for Redis to connect or to answer, in seconds")
    redis_pause: float = _number(5.0, 0.1, 3_600.0, "how long Redis is left alone after a failure, in seconds")
    cache_expiry: int = _number(86_400, 1, 31_536_000, "how long Redis keeps a body, in seconds")
    cache_max_bytes: int = _number(16 * 2**20, 1_024, 2**29, "largest body kept in Redis, in bytes")
    sequence_max_bytes: int = _number(
        64 * 2**20, 0, 2**30, "how much of the sequence's text Redis keeps from its beginning, in bytes (0: none)"
    )
    job_max_index: int = _number(200_000_000, 10_000, 1_000_000_000, "largest index that a job calculates")
    job_max_bytes: int = _number(64 * 2**20, 2**20, 2**29, "largest result of a job before compression, in bytes")
    short_job_max_index: int = _number(30_000_000, 0, 1_000_000_000, "largest index of a job in the short queue")
    short_job_max_bytes: int = _number(
        16 * 2**20, 0, 2**29, "largest result of a job in the short queue, before compression, in bytes"
    )
    job_backlog: int = _number(1_000, 1, 100_000, "most jobs that wait; beyond them new ones are refused")
    job_expiry: int = _number(86_400, 60, 31_536_000, "how long a job and its result are kept once ended, in seconds")
    job_time_limit: int = _number(600, 1, 86_400, "longest time that a job may take, in seconds")
    job_attempts: int = _number(3, 1, 10, "how often a job is begun before it fails, as its workers die")
    job_lease: float = _number(10.0, 1.0, 600.0, "how long a job stays with a worker that gives no sign, in seconds")
    stream_connections: int = _number(
        400,
        1,
        10_000,
        "most websockets open in one process, whose threads are more",
        "STREAM_CONNECTIONS",
    )
    stream_batch_bytes: int = _number(64 * 2**10, 1_024, 2**20, "terms in one message of a websocket, in bytes")
    stream_deadline: float = _number(30.0, 0.1, 3_600.0, "longest wait for a websocket to take 64 KiB, in seconds")
    stream_ping: float = _number(60.0, 0.1, 3_600.0, "time between pings; five unanswered ones close, in seconds")
    cors_origins: str = _choice("none", ("none", "*"), "web sites whose scripts may read the API, by GET and HEAD")
    log_level: str = _choice("INFO", ("DEBUG", "INFO", "WARNING", "ERROR"), "least severe log lines written")
    redis_url: str | None = field(
        default=None,
        repr=False,  # it may hold a password
        metadata={
            "variable": "REDIS_URL",
            "form": "redis://, rediss://, unix:// or sentinel://",
            "meaning": "the Redis for what is shared, and for jobs; unset: neither",
        },
    )

    def __post_init__(self) -> None:
        for setting in fields(self):
            _check(setting, getattr(self, setting.name))


def variable(setting: "Field[Any]") -> str:
    """Return the name of the environment's variable that holds *setting*."""
    name: str = setting.metadata.get("variable", PREFIX + setting.name.upper())
    return name


def permitted(setting: "Field[Any]") -> str:
    """Return in words what *setting* may be."""
    if "choices" in setting.metadata:
        return "one of " + ", ".join(setting.metadata["choices"])
    if "form" in setting.metadata:
        return f"a {setting.metadata['form']} URL"
    kind = "an integer" if setting.type is int else "a number"
    return f"{kind} from {setting.metadata['minimum']} to {setting.metadata['maximum']}"


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Return the settings that *environment* holds, defaults for the rest.

    Raises SettingsError for the first value that is out of bounds and for an unknown variable with our prefix.
    """
    by_variable = {variable(setting): setting for setting in fields(Settings)}
    unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in by_variable)
    if unknown:
        known = ", ".join(by_variable)
        raise SettingsError(f"{unknown[0]} is no setting of this service; there are {known}")
    given: dict[str, Any] = {
        setting.name: _parse(setting, environment[name]) for name, setting in by_variable.items() if name in environment
    }
    return Settings(**given)


def from_environment_or_exit() -> Settings:
    """Return the settings of this process; wrong ones end it with one line and no traceback."""
    try:
        return from_environment(os.environ)
    except SettingsError as error:
        print(f"web: wrong setting: {error}", file=sys.stderr, flush=True)
        sys.exit(EXIT_STATUS)


def table() -> str:
    """Return all settings as a reStructuredText table."""
    rows = [("variable", "default", "permitted", "meaning")]
    for setting in fields(Settings):
        default = "unset" if setting.default is None else str(setting.default)
        rows.append((f"``{variable(setting)}``", default, permitted(setting), setting.metadata["meaning"]))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rule = " ".join("=" * width for width in widths)
    lines = [" ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])


def _parse(setting: "Field[Any]", text: str) -> int | float | str:
    if "minimum" not in setting.metadata:
        return text
    # The length bounds what int() and float() are given: nothing permitted is longer.
    if not (text.isascii() and text.replace(".", "", 1).isdigit() and len(text) <= 20):
        _refuse(setting, repr(text[:40]))
    try:
        return int(text) if setting.type is int else float(text)
    except ValueError:
        _refuse(setting, repr(text))


def _check(setting: "Field[Any]", value: Any) -> None:
    if "choices" in setting.metadata:
        if value not in setting.metadata["choices"]:
            _refuse(setting, repr(value)[:40])
    elif "form" in setting.metadata:
        if value is not None and (fault := _fault_of_redis_url(value)):
            _refuse(setting, f"set, but {fault} (not shown: it may hold a password)")
    else:
        number = int if setting.type is int else (int, float)
        right = isinstance(value, number) and not isinstance(value, bool)
        if not right or not setting.metadata["minimum"] <= value <= setting.metadata["maximum"]:
            _refuse(setting, repr(value)[:40])


def _fault_of_redis_url(url: object) -> str:
    """Return what is wrong with *url*, in words that do not tell what it is; nothing where it is right."""
    unreadable = "its value cannot be read"
    if not isinstance(url, str):
        return unreadable
    try:
        if sentinels.is_watched(url):
            return _fault_of_sentinel_url(url)
        pool = ConnectionPool.from_url(url)
        pool.make_connection()  # no more than the object: it connects when first used
        str(pool.connection_kwargs.get("host", "")).encode("idna")  # as the resolver will, which fails late
    except (TypeError, ValueError):  # an option that is unknown, or a part that cannot be read
        return unreadable
    return ""


def _fault_of_sentinel_url(url: str) -> str:
    try:
        sentinels.parse(url)
    except sentinels.UrlError as error:
        return str(error)
    return ""


def _refuse(setting: "Field[Any]", value: str) -> NoReturn:
    # From nothing: the error it replaces could quote a URL with its password.
    raise SettingsError(f"{variable(setting)} is {value}; it must be {permitted(setting)}") from None
