"""Which values a place in a request may have, so that a refusal can name them. It must not decide what is valid.

It walks a type as msgspec describes it, and only when something was refused already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec import inspect

MOST = 20  # a longer list tells nobody anything


def choices(kind: Any, path: Sequence[str]) -> list[str]:
    """The literals and tags that may stand at `path` below `kind`; empty when they are not a short list."""
    found: list[inspect.Type | str] = [inspect.type_info(kind)]
    for part in path:
        found = [below for known in _flat(found) for below in _below(known, part)]
    values: set[str] = set()
    for known in _flat(found):
        if isinstance(known, str):
            values.add(known)
        elif isinstance(known, inspect.LiteralType):
            values.update(map(str, known.values))
    return sorted(values) if len(values) <= MOST else []


def _flat(found: Iterable[inspect.Type | str]) -> Iterator[inspect.Type | str]:
    for known in found:
        if isinstance(known, inspect.UnionType):
            yield from _flat(known.types)
        elif isinstance(known, inspect.Metadata):
            yield from _flat([known.type])
        else:
            yield known


def _below(known: inspect.Type | str, part: str) -> Iterator[inspect.Type | str]:
    if isinstance(known, inspect.StructType):
        if part == known.tag_field:
            yield str(known.tag)
        yield from (field.type for field in known.fields if field.encode_name == part)
    elif isinstance(known, inspect.ListType) and part.isdigit():
        yield known.item_type
