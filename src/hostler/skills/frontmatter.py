"""Reads the head of a SKILL.md: the few plain values that name and describe a skill.

It goes through the YAML parser's events and builds no objects, so that nothing in a hostile file is constructed,
referred to twice or nested without end: anchors, aliases, tags and deep nesting are refused as they come.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from hostler.errors import InvalidRequest

MAX_HEAD = 16 * 1024
MAX_NAME = 64
MAX_DESCRIPTION = 1024
_MAX_DEPTH = 8
_NULLS = ("", "~", "null", "Null", "NULL")
_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_TAG = re.compile(r"<[A-Za-z/!?][^<>]*>")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_FENCE = re.compile(r"^---[ \t]*$", re.MULTILINE)


class Frontmatter(NamedTuple):
    """`name` and `version` are None where the file does not say them."""

    name: str | None
    description: str
    version: str | None


def read_frontmatter(content: bytes, at: str = "SKILL.md") -> Frontmatter:
    """Read a whole SKILL.md. Raises InvalidRequest, whose message begins with `at`, the file's path."""
    values = _values(_head(content, at), at)
    name = values.get("name")
    if name is not None:
        check_name(name, f"{at}: name")
    return Frontmatter(name, _description(values.get("description"), at), values.get("version"))


def check_name(name: str, at: str) -> None:
    if len(name) > MAX_NAME or not _SLUG.fullmatch(name):
        rule = f"1 to {MAX_NAME} lower-case letters and digits, with single hyphens in between"
        raise InvalidRequest(f"{at} must be {rule}, not {name[:80]!r}")


def _description(description: str | None, at: str) -> str:
    text = " ".join((description or "").split())
    if not text:
        raise InvalidRequest(f"{at}: description is missing; it tells the agent when to use the skill")
    if len(text) > MAX_DESCRIPTION:
        raise InvalidRequest(f"{at}: description has {len(text)} characters and may have {MAX_DESCRIPTION}")
    if _TAG.search(text):
        raise InvalidRequest(f"{at}: description must not contain XML tags")
    if _CONTROLS.search(text):
        raise InvalidRequest(f"{at}: description must not contain control characters")
    return text


def _head(content: bytes, at: str) -> str:
    """The text between the two `---` lines that a SKILL.md begins with."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{at}: is not UTF-8 text") from error
    if "\0" in text:
        raise InvalidRequest(f"{at}: contains the character U+0000")
    opened, _, rest = text.replace("\r\n", "\n").partition("\n")
    closing = _FENCE.search(rest) if opened.rstrip() == "---" else None
    if closing is None:
        raise InvalidRequest(f"{at}: must begin with a line '---', then name and description, then a line '---'")
    if closing.start() > MAX_HEAD:
        raise InvalidRequest(f"{at}: the frontmatter is longer than {MAX_HEAD} characters")
    return rest[: closing.start()]


def _values(head: str, at: str) -> dict[str, str]:
    """The plain values at the top of the mapping; nested ones are passed over."""
    import yaml

    values: dict[str, str] = {}
    keys: set[str] = set()
    key: str | None = None
    for depth, event in _events(head, at):
        if depth != 1:
            key = None  # a nested value ends its key
        elif not isinstance(event, yaml.ScalarEvent):
            continue
        elif key is None:
            key = str(event.value)
            if key in keys:
                raise InvalidRequest(f"{at}: the frontmatter has {key[:80]!r} twice")
            keys.add(key)
        else:
            if event.style is not None or event.value not in _NULLS:
                values[key] = event.value
            key = None
    return values


def _events(head: str, at: str) -> Iterator[tuple[int, Any]]:
    """The parser's events with their depth: 1 is inside the outermost mapping. Raises InvalidRequest."""
    import yaml

    depth = 0
    try:
        for event in yaml.parse(head, Loader=yaml.SafeLoader):
            if getattr(event, "anchor", None) is not None:
                raise InvalidRequest(f"{at}: the frontmatter must not use YAML anchors or aliases")
            if getattr(event, "tag", None) is not None:
                raise InvalidRequest(f"{at}: the frontmatter must not use YAML tags")
            if depth == 0 and isinstance(event, yaml.ScalarEvent | yaml.SequenceStartEvent):
                raise InvalidRequest(f"{at}: the frontmatter must be a mapping, such as 'name: my-skill'")
            depth += isinstance(event, yaml.CollectionStartEvent)
            if depth > _MAX_DEPTH:
                raise InvalidRequest(f"{at}: the frontmatter is nested too deeply")
            yield depth, event
            depth -= isinstance(event, yaml.CollectionEndEvent)
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the latter two for numbers beyond its own bounds
        raise InvalidRequest(f"{at}: the frontmatter is not valid YAML{_explained(error)}") from error


def _explained(error: Any) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None:
        return ""
    return f", line {mark.line + 2}: {problem}; a value that contains a colon must stand in quotes"
