"""The page of the API for people: the OpenAPI document, laid out; no script, and nothing that it does not say."""

import json
import shlex
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from web import explorer

TEMPLATE = "docs.html"

# What makes a websocket of a request (RFC 6455, section 4.1); any 16 bytes are a key.
HANDSHAKE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: Rmlib25hY2NpIG51bWJlcg==",
)


def page(document: dict[str, Any], source: str) -> str:
    """Return the HTML of the OpenAPI *document*, which is served at *source*; it looks like the explorer."""
    operations = [
        operation | {"path": path, "method": method.upper(), "curl": curl(path, method.upper(), operation)}
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            document=document,
            operations=operations,
            prefix=explorer.path_of(explorer.read()),
            resolved=partial(resolved, document),
            source=source,
        )
    )


@cache  # and with it the compiled template, which takes longer than all else at a start
def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["bounds"] = bounds
    return environment


def resolved(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Return *part*, or what it refers to."""
    while "$ref" in part:
        target: Any = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        part = target
    return part


def bounds(schema: dict[str, Any]) -> str:
    """Return in words what *schema* permits."""
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return ", ".join(schema["enum"])
    kinds = schema.get("type", "anything")
    words = [kinds if isinstance(kinds, str) else " or ".join(kinds)]
    if "minimum" in schema:
        words.append(f"from {schema['minimum']}")
    if "maximum" in schema:
        words.append(f"to {schema['maximum']}")
    if "pattern" in schema:
        words.append(schema["pattern"])
    elif "format" in schema:
        words.append(f"({schema['format']})")
    if "default" in schema:
        words.append(f"(default {schema['default']})")
    return " ".join(words)


def curl(path: str, method: str, operation: dict[str, Any]) -> str:
    """Return the line that asks for the examples of *operation*; $HOST stands for this service's origin."""
    parameters = operation.get("parameters", [])
    for parameter in parameters:
        path = path.replace(f"{{{parameter['name']}}}", str(parameter["example"]))
    query = urlencode({each["name"]: each["example"] for each in parameters if each["in"] == "query"})
    words = ["curl"] if method == "GET" else ["curl", "-X", method]
    if "101" in operation["responses"]:
        words += ["--include", "--no-buffer", "--http1.1", "--output", "-"]
        words += [word for header in HANDSHAKE for word in ("-H", shlex.quote(header))]
    if "requestBody" in operation:
        (content,) = operation["requestBody"]["content"].items()
        body = json.dumps(next(iter(content[1]["examples"].values()))["value"])
        words += ["-H", shlex.quote(f"Content-Type: {content[0]}"), "-d", shlex.quote(body)]
    return " ".join([*words, f'"$HOST{path}{"?" + query if query else ""}"'])
