"""Natural numbers out of URLs: one spelling per value, and every refusal names the parameter and its bounds."""

import re
from collections.abc import Sequence
from urllib.parse import parse_qsl

from flask import request

from web.problems import InvalidParameter

# [0-9], not \d: that would take the digits of every script.
NATURAL = re.compile(r"0|[1-9][0-9]*")


def query(*known: str) -> dict[str, list[str]]:
    """Return the values of each query parameter; raise InvalidParameter for one that is not *known*."""
    # Latin-1 maps every byte, so that raw bytes, which servers let through, end as a refused value and not as a 500.
    pairs = parse_qsl(request.query_string.decode("latin-1"), keep_blank_values=True)
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        if name not in known:
            there_are = "known here: " + ", ".join(known) if known else "this resource has none"
            raise InvalidParameter(name, f"There is no such parameter; {there_are}.")
        values.setdefault(name, []).append(value)
    return values


def natural(name: str, texts: list[str], minimum: int, maximum: int) -> int:
    """Return the number that *texts*, the values given for *name*, hold; they must be one, in decimal digits.

    Raises InvalidParameter for anything else, and for a number below *minimum* or above *maximum*.
    """
    if len(texts) != 1:
        raise InvalidParameter(name, f"{name} must be given once.", minimum, maximum)
    (text,) = texts
    # The length decides before int() does: that one is quadratic, and raises above 4,300 digits.
    if not NATURAL.fullmatch(text) or len(text) > len(str(maximum)) or not minimum <= int(text) <= maximum:
        detail = f"{name} must be an integer from {minimum} to {maximum}, in decimal digits without leading zeros."
        raise InvalidParameter(name, detail, minimum, maximum)
    return int(text)


def choice(name: str, texts: list[str], choices: Sequence[str]) -> str:
    """Return the one of *choices* that *texts*, the values given for *name*, hold; raise InvalidParameter otherwise."""
    if len(texts) != 1 or texts[0] not in choices:
        raise InvalidParameter(name, f"{name} must be given once, as one of: {', '.join(choices)}.")
    return texts[0]
