"""What clients may give: one spelling per value, and every refusal names the parameter and its bounds."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Natural:
    """A natural number that clients may give: in a URL as decimal digits, in JSON as an integer."""

    name: str
    minimum: int
    maximum: int
    meaning: str
    default: int | None = None

    def of(self, values: Mapping[str, list[str]], maximum: int | None = None) -> int:
        """Return the number among a query's *values*, the default where it is left out.

        *maximum* is a bound that other parameters narrow. Raises InvalidParameter, as all methods here do.
        """
        if self.name not in values and self.default is not None:
            return self.default
        return self.parsed(values.get(self.name, []), maximum)

    def parsed(self, texts: list[str], maximum: int | None = None) -> int:
        """Return the number that *texts* hold, which must be one, in decimal digits."""
        maximum = self.maximum if maximum is None else maximum
        if len(texts) != 1:
            raise InvalidParameter(self.name, f"{self.name} must be given once.", self.minimum, maximum)
        (text,) = texts
        # The length decides before int() does: that one is quadratic, and raises above 4,300 digits.
        if not NATURAL.fullmatch(text) or len(text) > len(str(maximum)) or not self.minimum <= int(text) <= maximum:
            bounds = f"from {self.minimum} to {maximum}, in decimal digits without leading zeros"
            raise InvalidParameter(self.name, f"{self.name} must be an integer {bounds}.", self.minimum, maximum)
        return int(text)

    def checked(self, value: object, maximum: int | None = None) -> int:
        """Return *value*, out of JSON, if it is an integer within the bounds."""
        maximum = self.maximum if maximum is None else maximum
        if not isinstance(value, int) or isinstance(value, bool) or not self.minimum <= value <= maximum:
            detail = f"{self.name} must be an integer from {self.minimum} to {maximum}."
            raise InvalidParameter(self.name, detail, self.minimum, maximum)
        return value

    @property
    def schema(self) -> dict[str, object]:
        """The JSON Schema of it."""
        schema: dict[str, object] = {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}
        return schema if self.default is None else schema | {"default": self.default}


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    name: str
    choices: tuple[str, ...]
    meaning: str

    def of(self, values: Mapping[str, list[str]]) -> str:
        """Return the one that a query's *values* name."""
        texts = values.get(self.name, [])
        if len(texts) != 1 or texts[0] not in self.choices:
            detail = f"{self.name} must be given once, as one of: {', '.join(self.choices)}."
            raise InvalidParameter(self.name, detail)
        return texts[0]

    @property
    def schema(self) -> dict[str, object]:
        """The JSON Schema of it."""
        return {"type": "string", "enum": list(self.choices)}
