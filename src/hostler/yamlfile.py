"""Reads a YAML file into plain data and remembers the line of every value. It must not know what the data means.

Stricter than YAML, so that what is sent is what the file seems to say: no duplicate keys, no tags, no merge keys, and
dates stay text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yaml.constructor import SafeConstructor

from hostler.errors import HostlerError

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 40
MAX_VALUES = 20_000  # with aliases counted as often as they are used
_TAG = "tag:yaml.org,2002:"
_PLAIN = ("null", "bool", "int", "float")


class BadDefinition(HostlerError):
    """The file can't be applied."""


class Document(NamedTuple):
    """`lines` holds the line of every value by its dotted path: `tools.0.type`."""

    file: Path
    data: dict[str, Any]
    lines: dict[str, int]

    def fault(self, path: str, what: str) -> BadDefinition:
        """An error at the nearest place that the file has."""
        parts = path.split(".")
        while parts and ".".join(parts) not in self.lines:
            parts.pop()
        place = f", line {self.lines['.'.join(parts)]}" if parts else ""
        return BadDefinition(f"{self.file}{place}: {what}")


def read(file: Path) -> Document:
    """Raises BadDefinition with the file and line at fault."""
    text = read_text(file)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise BadDefinition(f"{file}{line}: not valid YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise BadDefinition(f"{file}: not valid YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(root, yaml.MappingNode):
        raise BadDefinition(f"{file}: Input should be a mapping such as `name: my-agent`")
    reader = _Reader(file)
    return Document(file, reader.value(root, ()), reader.lines)


def read_text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise BadDefinition(f"{file}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadDefinition(f"{file}: is not UTF-8 text") from error
    if len(content) > MAX_BYTES:
        raise BadDefinition(f"{file}: is larger than {MAX_BYTES // 1024} KiB")
    return text


class _Reader:
    def __init__(self, file: Path) -> None:
        self.lines: dict[str, int] = {}
        self._file = file
        self._left = MAX_VALUES

    def value(self, node: Any, path: tuple[str, ...]) -> Any:
        line = node.start_mark.line + 1
        self.lines[".".join(path)] = line
        self._left -= 1
        if self._left < 0 or len(path) > MAX_DEPTH:
            raise BadDefinition(f"{self._file}, line {line}: too many or too deeply nested values")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, str(index))) for index, item in enumerate(node.value)]
        return self._scalar(node, line)

    def _mapping(self, node: Any, path: tuple[str, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag == f"{_TAG}merge" or not key.value.isprintable():
                raise BadDefinition(f"{self._file}, line {line}: a key has to be plain text; write merged keys out")
            if key.value in found:
                raise BadDefinition(f"{self._file}, line {line}: the key {key.value} is there twice")
            found[key.value] = self.value(value, (*path, key.value))
        return found

    def _scalar(self, node: Any, line: int) -> Any:
        kind = node.tag.removeprefix(_TAG)
        try:
            if kind in ("str", "timestamp"):
                node.value.encode()  # an escaped half of a surrogate pair is no text
                return node.value
            if kind in _PLAIN:
                value = SafeConstructor().construct_object(node)
                json.dumps(value, allow_nan=False)
                return value
        except ValueError as error:
            raise BadDefinition(f"{self._file}, line {line}: {node.value[:40]!r} can't be sent as JSON") from error
        raise BadDefinition(f"{self._file}, line {line}: the tag {node.tag} is not allowed")
