"""Turns what a server lists into tools that a model API takes: names, descriptions and schemas made safe and bounded.

It must not talk to a server; a hostile listing costs it no more than a large one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

import msgspec

LONGEST_NAME = 128
LONGEST_BARE_NAME = 256
LONGEST_DESCRIPTION = 8_000
LARGEST_SCHEMA = 64 * 1024
DEEPEST_SCHEMA = 60
CUT = " [...]"

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_PROPERTY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NUL = re.compile("[\x00\ud800-\udfff]")


class RemoteTool(msgspec.Struct, frozen=True):
    """A tool as its server names and describes it, made safe to store and to send."""

    name: str
    description: str
    input_schema: dict[str, Any]


def remote_tool(name: str, description: str, schema: Any) -> RemoteTool | None:
    """None for a name that can't be shown or stored."""
    if not name or len(name) > LONGEST_BARE_NAME or _CONTROL.search(name) or _NUL.search(name):
        return None
    return RemoteTool(name, _described(description), safe_schema(schema))


def _described(text: str) -> str:
    text = _NUL.sub("\ufffd", text).strip()
    return text if len(text) <= LONGEST_DESCRIPTION else text[: LONGEST_DESCRIPTION - len(CUT)] + CUT


def safe_schema(schema: Any) -> dict[str, Any]:
    """The schema as model APIs take it: an object without alternatives at its top and with plain property names.

    The server checks its input itself, so what is left out here costs guidance only.
    """
    free: dict[str, Any] = {"type": "object", "properties": {}}
    if not isinstance(schema, dict) or _deeper(schema, DEEPEST_SCHEMA):
        return free
    safe = {key: value for key, value in schema.items() if key not in ("oneOf", "anyOf", "allOf", "not", "enum")}
    safe["type"] = "object"
    given = safe.get("properties")
    properties = given if isinstance(given, dict) else {}
    safe["properties"] = {
        name: value
        for name, value in properties.items()
        if _PROPERTY.fullmatch(name) and isinstance(value, dict | bool)
    }
    required = safe.pop("required", None)
    if isinstance(required, list):
        names = [name for name in required if isinstance(name, str) and name in safe["properties"]]
        safe |= {"required": list(dict.fromkeys(names))} if names else {}
    encoded = msgspec.json.encode(safe)
    return free if len(encoded) > LARGEST_SCHEMA or b"\\u0000" in encoded else safe


def _deeper(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def model_names(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """The names that a model knows tools by, for (server, tool) in a stable order: `mcp__server__tool`, unique."""
    taken: set[str] = set()
    names = []
    for server, tool in pairs:
        plain = f"mcp__{_NOT_IN_NAMES.sub('_', server)}__{_NOT_IN_NAMES.sub('_', tool)}"
        name = plain
        attempt = 0
        while len(name) > LONGEST_NAME or name in taken:
            digest = hashlib.sha256(f"{server}\0{tool}\0{attempt}".encode()).hexdigest()[:10]
            name = f"{plain[: LONGEST_NAME - 11]}_{digest}"
            attempt += 1
        taken.add(name)
        names.append(name)
    return names
