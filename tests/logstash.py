"""As much of Logstash as its configuration here needs: what becomes of a line, by the filters of a rendered file.

There is no Logstash where these tests run. Its configuration is read by its own grammar (logstash-pipeline-parser), its
patterns are matched by pygrok, and Ruby code is run by Ruby; the rest of a filter is told here, as its documentation
has it. What is not told here is refused, so that the configuration cannot outgrow the tests.
"""

import dataclasses
import datetime
import functools
import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import regex
from logstash_pipeline_parser import Pipeline
from pygrok import Grok

Event = dict[str, Any]
Node = list[Any]


class UnknownError(Exception):
    """The configuration says something that is not told here."""


def parse(text: str) -> dict[str, Node]:
    """Return the plugins and branches of each section; an error of grammar is the parser's."""
    # The parser takes the backslashes out of strings. Logstash leaves them in.
    parser = Pipeline(text.replace("\\", "\\\\"))
    # Neither would Logstash make a path of what is called so.
    for name in list(parser.get_types()):
        parser.remove_type(name)
    return dict(parser.parse())


def plugins(section: Node) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each plugin of a section, with its options, whatever branch it is in."""
    for name, content in section:
        if name in ("if", "else if"):
            yield from plugins(content[-1][0])
        elif name == "else":
            yield from plugins(content)
        else:
            yield name, options_of(content)


def options_of(content: Node) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, values in content:
        if name in found:
            raise UnknownError(f"option {name} is there twice")
        (value,) = values
        # Hashes come as lists of pairs, each with its value in a list.
        is_hash = isinstance(value, list) and value and all(isinstance(entry, list) for entry in value)
        found[name] = {key: only for key, (only,) in value} if is_hash else value
    return found


# --- fields -----------------------------------------------------------------------------------------------------------


def path_of(field: str) -> list[str]:
    return regex.findall(r"\[([^\]]+)\]", field) if field.startswith("[") else [field]


def get(event: Event, field: str) -> Any:
    found: Any = event
    for name in path_of(field):
        if not isinstance(found, dict) or name not in found:
            return None
        found = found[name]
    return found


def has(event: Event, field: str) -> bool:
    *above, name = path_of(field)
    holder = get(event, "".join(f"[{each}]" for each in above)) if above else event
    return isinstance(holder, dict) and name in holder


def put(event: Event, field: str, value: Any) -> None:
    *above, name = path_of(field)
    for each in above:
        event = event.setdefault(each, {})
    event[name] = value


def take(event: Event, field: str) -> Any:
    *above, name = path_of(field)
    holder = get(event, "".join(f"[{each}]" for each in above)) if above else event
    return holder.pop(name, None) if isinstance(holder, dict) else None


def add(event: Event, field: str, value: Any) -> None:
    """What Logstash does with a field that is there already: it becomes a list."""
    if has(event, field):
        before = get(event, field)
        value = [*(before if isinstance(before, list) else [before]), value]
    put(event, field, value)


def text_of(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def filled(event: Event, text: str) -> str:
    """*text* with each ``%{field}`` replaced by what the event says; left alone where it says nothing."""

    def value(match: Any) -> str:
        found = get(event, match[1])
        return str(match[0]) if found is None else text_of(found)

    return str(regex.sub(r"%\{([^}+]+)\}", value, text))


# --- filters ----------------------------------------------------------------------------------------------------------


@functools.cache
def pattern(text: str, definitions: tuple[tuple[str, str], ...]) -> Grok:
    # ^ and $ are those of Ruby: of a line, not of the text.
    return Grok(f"(?m){text}", custom_patterns=dict(definitions))


@dataclasses.dataclass(frozen=True)
class Tried:
    """A pattern that a text was matched with, the regular expression that it comes to, and what that found."""

    pattern: str
    expression: str
    text: str
    found: dict[str, Any] | None


class Filters:
    """The filters of a configuration."""

    def __init__(self, text: str) -> None:
        self._section = parse(text)["filter"]
        self.tried: list[Tried] = []
        self._plugins: dict[str, Callable[[Event, dict[str, Any]], bool]] = {
            "date": self._date,
            "grok": self._grok,
            "json": self._json,
            "mutate": self._mutate,
            "ruby": self._ruby,
        }

    def patterns(self) -> set[str]:
        """All patterns that lines may be matched with."""
        return {
            text for name, options in plugins(self._section) if name == "grok" for text in options["match"].values()
        }

    def run(self, path: str, line: str) -> Event:
        """Return the event that is made of a *line* of the file *path*."""
        event: Event = {"message": line, "log": {"file": {"path": path}}}
        self._run(self._section, event)
        return event

    def _run(self, nodes: Node, event: Event) -> None:
        passed = False
        for name, content in nodes:
            if name in ("if", "else if"):
                passed = passed and name == "else if"
                if not passed and holds(event, content[:-1]):
                    passed = True
                    self._run(content[-1][0], event)
            elif name == "else":
                if not passed:
                    self._run(content, event)
            elif name in self._plugins:
                self._plugin(name, options_of(content), event)
            else:
                raise UnknownError(f"filter {name}")

    def _plugin(self, name: str, options: dict[str, Any], event: Event) -> None:
        added = options.pop("add_field", {})
        removed = options.pop("remove_field", [])
        tags = options.pop("tag_on_failure", [f"_{name}failure"])
        if not self._plugins[name](event, options):
            event.setdefault("tags", []).extend(tags)
            return
        for field, value in added.items():
            add(event, field, filled(event, value))
        for field in removed:
            take(event, field)

    def _grok(self, event: Event, options: dict[str, Any]) -> bool:
        refuse(options, "grok", {"match", "pattern_definitions"})
        ((field, text),) = options["match"].items()
        definitions = tuple(options.get("pattern_definitions", {}).items())
        value = get(event, field)
        if value is None:
            return False
        compiled = pattern(text, definitions)
        found = compiled.match(text_of(value))
        self.tried.append(Tried(text, compiled.regex_obj.pattern.removeprefix("(?m)"), text_of(value), found))
        for name, value in (found or {}).items():
            # What matched nothing is no field.
            if value not in (None, ""):
                add(event, name, value)
        return found is not None

    def _json(self, event: Event, options: dict[str, Any]) -> bool:
        refuse(options, "json", {"source", "target"})
        try:
            put(event, options["target"], json.loads(str(get(event, options["source"]))))
        except ValueError:
            return False
        return True

    def _date(self, event: Event, options: dict[str, Any]) -> bool:
        refuse(options, "date", {"match"})
        field, kind = options["match"]
        value = get(event, field)
        if value is None:
            return True
        try:
            moment = (
                datetime.datetime.fromtimestamp(float(value), datetime.UTC)
                if kind == "UNIX"
                else datetime.datetime.fromisoformat(str(value))
            )
        except ValueError:
            return False
        put(event, "@timestamp", moment.astimezone(datetime.UTC).isoformat(timespec="milliseconds"))
        return True

    def _mutate(self, event: Event, options: dict[str, Any]) -> bool:
        # In this order, whatever the configuration's is.
        refuse(options, "mutate", {"rename", "replace", "convert", "gsub", "lowercase", "copy"})
        for before, after in options.get("rename", {}).items():
            if has(event, before):
                put(event, after, take(event, before))
        for field, value in options.get("replace", {}).items():
            put(event, field, filled(event, value))
        for field, kind in options.get("convert", {}).items():
            if kind != "integer":
                raise UnknownError(f"convert to {kind}")
            if (value := get(event, field)) is not None:
                put(event, field, int(value))
        changes = options.get("gsub", [])
        for field, old, new in zip(changes[::3], changes[1::3], changes[2::3], strict=True):
            if isinstance(value := get(event, field), str):
                put(event, field, regex.sub(old, new, value))
        for field in options.get("lowercase", []):
            if isinstance(value := get(event, field), str):
                put(event, field, value.lower())
        for before, after in options.get("copy", {}).items():
            if (value := get(event, before)) is not None:
                put(event, after, value)
        return True

    def _ruby(self, event: Event, options: dict[str, Any]) -> bool:
        refuse(options, "ruby", {"code"})
        event |= ruby(options["code"], json.dumps(event))
        return True


def refuse(options: dict[str, Any], name: str, known: set[str]) -> None:
    if unknown := set(options) - known:
        raise UnknownError(f"{name}: {', '.join(sorted(unknown))}")


# An event as Ruby code knows it: set and get, by Logstash's names of fields. One process for all events.
RUBY = r"""
require "json"
class Event
  attr_reader :data
  def initialize(data) = @data = data
  def path(field) = field.start_with?("[") ? field.scan(/\[([^\]]+)\]/).flatten : [field]
  def get(field) = @data.dig(*path(field))
  def set(field, value)
    *above, name = path(field)
    above.inject(@data) { |holder, each| holder[each] ||= {} }[name] = value
  end
end
$stdout.sync = true
while line = $stdin.gets
  code, data = JSON.parse(line)
  event = Event.new(JSON.parse(data))
  eval(code)
  puts JSON.generate(event.data)
end
"""


@functools.cache
def interpreter() -> subprocess.Popen[str]:
    return subprocess.Popen(["ruby", "-e", RUBY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ruby(code: str, event: str) -> Event:
    process = interpreter()
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps([code, event]) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    assert answer, f"Ruby refuses {code}"
    found: Event = json.loads(answer)
    return found


# --- conditions -------------------------------------------------------------------------------------------------------


def holds(event: Event, condition: Node) -> bool:
    """Whether the condition of an ``if`` is true of an event: expressions, joined by ``and`` or ``or``."""
    result = expression(event, condition[0])
    for operator, right in zip(condition[1::2], condition[2::2], strict=True):
        if operator == "and":
            result = result and expression(event, right)
        elif operator == "or":
            result = result or expression(event, right)
        else:
            raise UnknownError(f"operator {operator}")
    return result


def expression(event: Event, node: Node) -> bool:
    if len(node) == 1:
        return truth(value_of(event, node[0]))
    if len(node) == 2 and node[0] == "!":
        return not truth(value_of(event, node[1]))
    left, operator, right = node
    value = value_of(event, left)
    if operator == "=~":
        return value is not None and regex.search(right, text_of(value), regex.MULTILINE) is not None
    if operator == "in":
        return value in right
    if operator in ("==", "!="):
        return bool(value == value_of(event, right)) == (operator == "==")
    if operator in ("<", ">="):
        return value is not None and (value < right if operator == "<" else value >= right)
    raise UnknownError(f"operator {operator}")


def truth(value: Any) -> bool:
    return value is not None and value is not False


def value_of(event: Event, node: Any) -> Any:
    return get(event, node) if isinstance(node, str) and node.startswith("[") else node
