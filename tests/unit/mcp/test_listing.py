"""What a listing of a server becomes: names, descriptions and schemas that model APIs take."""

from __future__ import annotations

import re
from typing import Any

import pytest

from hostler.mcp.listing import (
    CUT,
    LARGEST_SCHEMA,
    LONGEST_DESCRIPTION,
    LONGEST_NAME,
    model_names,
    remote_tool,
    safe_schema,
)

FREE = {"type": "object", "properties": {}}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"x": schema}}
    return schema


@pytest.mark.parametrize("schema", [None, "string", [], nested(60), {"description": "x" * LARGEST_SCHEMA}, {"a": "\0"}])
def test_a_schema_that_can_t_be_used_is_left_out(schema: Any) -> None:
    assert safe_schema(schema) == FREE


def test_a_usable_schema_stays_what_it_is() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/A"}, "b": True},
        "required": ["a"],
        "$defs": {"A": {"type": "string"}},
        "additionalProperties": False,
    }
    assert safe_schema(schema) == schema


def test_only_what_a_model_api_refuses_is_taken_away() -> None:
    schema = {
        "type": "string",
        "oneOf": [{}],
        "anyOf": [{}],
        "allOf": [{}],
        "properties": {"a b": {}, "ok": {"anyOf": [{"type": "string"}]}, "x" * 65: {}, "words": "text"},
        "required": ["a b", "ok", "ok", 7],
    }
    kept = {"type": "object", "properties": {"ok": {"anyOf": [{"type": "string"}]}}, "required": ["ok"]}
    assert safe_schema(schema) == kept
    assert safe_schema({"properties": [], "required": "a"}) == FREE


@pytest.mark.parametrize("name", ["", "a\0b", "bell\x07", "x" * 257])
def test_names_that_can_t_be_shown(name: str) -> None:
    assert remote_tool(name, "", {}) is None


def test_a_description_is_bounded() -> None:
    tool = remote_tool("ä/ü", "x" * 100_000 + "\0", {})
    assert tool is not None
    assert (tool.name, len(tool.description)) == ("ä/ü", LONGEST_DESCRIPTION)
    assert tool.description.endswith(CUT)
    short = remote_tool("t", " a\0b ", {})
    assert short is not None
    assert short.description == "a\ufffdb"


def test_names_are_plain_unique_and_the_same_every_time() -> None:
    pairs = [
        ("crm", "find"),
        ("crm", "a b"),
        ("crm", "a_b"),
        ("crm", "ä/ü"),
        ("a", "b__c"),
        ("a__b", "c"),
        ("s" * 255, "one"),
        ("s" * 255, "two"),
    ]
    names = model_names(pairs)
    assert names[:2] == ["mcp__crm__find", "mcp__crm__a_b"]
    assert re.fullmatch(r"mcp__crm__a_b_[0-9a-f]{10}", names[2])
    assert len(set(names)) == len(pairs)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,128}", name) for name in names)
    assert max(map(len, names)) == LONGEST_NAME
    assert model_names(pairs) == names
