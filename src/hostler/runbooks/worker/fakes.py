"""Makes up what an activity returns from what it says that it returns: always the same, and of the right type.

It must not call anything of the runbook's.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

_DEEPEST = 8
_PLAIN: dict[Any, Any] = {
    str: "mocked", int: 0, float: 0.0, bool: True, bytes: b"", Decimal: Decimal(0), UUID: UUID(int=0),
    datetime: datetime(2026, 1, 1, tzinfo=UTC), date: date(2026, 1, 1), timedelta: timedelta(),
}  # fmt: skip


def returned(work: Callable[..., Any]) -> Any:
    """What `work` would return; None where it does not say."""
    return fake(_annotation(work))


def converted(work: Callable[..., Any], value: Any) -> Any:
    """What a person wrote, as the type that `work` returns. Raises ValueError."""
    from pydantic import TypeAdapter

    annotation = _annotation(work)
    if annotation is None or annotation is Any:
        return value
    try:
        adapter = TypeAdapter(annotation)
    except Exception:
        return value
    return adapter.validate_python(value)


def fake(annotation: Any, depth: int = 0) -> Any:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if depth > _DEEPEST or annotation in (None, Any, type(None)):
        return None
    if origin is typing.Annotated:
        return fake(arguments[0], depth)
    if origin is typing.Literal:
        return arguments[0]
    if origin in (typing.Union, types.UnionType):
        return fake(next((each for each in arguments if each is not type(None)), None), depth)
    kind = origin or annotation
    if not isinstance(kind, type):
        return None
    if kind in _PLAIN:
        return _PLAIN[kind]
    if issubclass(kind, list | set | frozenset):
        return kind([fake(arguments[0], depth + 1)] if arguments else [])
    if issubclass(kind, tuple):
        return tuple(fake(each, depth + 1) for each in arguments if each is not Ellipsis)
    if issubclass(kind, dict):
        return {}
    if issubclass(kind, enum.Enum):
        return next(iter(kind))
    return _object(kind, depth)


def _object(kind: Any, depth: int) -> Any:
    """A model or a dataclass, with what it requires; its own defaults are its author's idea of a value."""
    if hasattr(kind, "model_fields"):
        wanted = {name: field.annotation for name, field in kind.model_fields.items() if field.is_required()}
        return kind.model_validate({name: fake(each, depth + 1) for name, each in wanted.items()}, by_name=True)
    if hasattr(kind, "__dataclass_fields__"):
        import dataclasses

        hints = typing.get_type_hints(kind)
        missing = dataclasses.MISSING
        wanted = {
            field.name: hints.get(field.name)
            for field in dataclasses.fields(kind)
            if field.init and field.default is missing and field.default_factory is missing
        }
        return kind(**{name: fake(each, depth + 1) for name, each in wanted.items()})
    return None


def _annotation(work: Callable[..., Any]) -> Any:
    try:
        return typing.get_type_hints(work).get("return")
    except Exception:
        return None
