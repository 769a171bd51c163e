"""Values of SQL rows and arguments on their way between a worker and the server: msgpack, no type lost.

It must not know any statement.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

_INT64 = range(-(2**63), 2**63)
_UUID, _DECIMAL, _DATETIME, _DATE, _TIME, _DURATION, _JSON, _INT = range(1, 9)


class JsonText(str):
    """JSON of a `json` or `jsonb` column, as text: what PostgreSQL's driver gives where nobody tells it otherwise."""

    __slots__ = ()


_READ: dict[int, Callable[[str], Any]] = {
    _DECIMAL: Decimal,
    _DATETIME: datetime.fromisoformat,
    _DATE: date.fromisoformat,
    _TIME: time.fromisoformat,
    _JSON: JsonText,
    _INT: int,
}


def encode(value: Any) -> bytes:
    """Raises TypeError for what no column can hold."""
    return msgspec.msgpack.encode(_packed(value))


def decode(data: bytes) -> Any:
    """Raises msgspec.MsgspecError, ValueError."""
    return msgspec.msgpack.decode(data, ext_hook=_unpacked)


def _packed(value: Any) -> Any:
    match value:
        case None | bool() | float():
            return value
        case int():
            return int(value) if value in _INT64 else _ext(_INT, str(int(value)))
        case JsonText():
            return _ext(_JSON, value)
        case str():
            return str.__str__(value)  # of an Enum, its value
        case bytes() | bytearray() | memoryview():
            return bytes(value)
        case UUID():
            return msgspec.msgpack.Ext(_UUID, value.bytes)
        case Decimal():
            return _ext(_DECIMAL, str(value))
        case datetime():
            return _ext(_DATETIME, value.isoformat())
        case date():
            return _ext(_DATE, value.isoformat())
        case time():
            return _ext(_TIME, value.isoformat())
        case timedelta():
            return _ext(_DURATION, f"{value.days} {value.seconds} {value.microseconds}")
        case list() | tuple() | set() | frozenset():
            return [_packed(each) for each in value]
        case dict():
            return {str(name): _packed(each) for name, each in value.items()}
    raise TypeError(f"a value of type {type(value).__name__} can't be sent")


def _ext(code: int, text: str) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, text.encode())


def _unpacked(code: int, data: memoryview) -> Any:
    if code == _UUID:
        return UUID(bytes=bytes(data))
    text = bytes(data).decode()
    if code == _DURATION:
        days, seconds, microseconds = map(int, text.split())
        return timedelta(days, seconds, microseconds)
    if code not in _READ:
        raise ValueError(f"there is no value of kind {code}")
    return _READ[code](text)
