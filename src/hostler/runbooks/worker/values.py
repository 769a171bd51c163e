"""What a runbook's calls take and give, as bytes: pickles of one process's to be read by its successor.

A pickle can run code as it is read. These are made by a bundle's code and read by the same bundle's code, in a worker
process; the server never reads one.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from typing import Any

import msgspec

MAX_VALUE = 16 * 1024 * 1024
_SHOWN = 2000


class Unkeepable(Exception):
    """A value can't be kept for a task that goes on after a crash."""


def dump(value: Any) -> bytes:
    """Raises Unkeepable."""
    buffer = io.BytesIO()
    try:
        pickle.Pickler(buffer, protocol=5).dump(value)
    except Exception as error:  # a class's own `__reduce__` may raise anything
        raise Unkeepable(f"{type(value).__name__} can't be kept: {error}") from error
    if (size := buffer.tell()) > MAX_VALUE:
        raise Unkeepable(f"{size} bytes are more than the {MAX_VALUE} that a value may have")
    return buffer.getvalue()


def load(data: bytes) -> Any:
    """Raises Unkeepable, where the bundle's classes are others than they were."""
    try:
        return pickle.loads(data)
    except Exception as error:
        raise Unkeepable(f"what was kept can't be read: {error}") from error


def portable(value: Any) -> Any:
    """The value for another bundle, which has not this one's classes: models as plain data."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {key: portable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [portable(each) for each in value]
    return value


def fingerprint(*parts: Any) -> str:
    """Tells the arguments of one call from those of another; the same ones give the same, also in another process."""
    return hashlib.blake2b(_canonical(parts), digest_size=8).hexdigest()


def _canonical(value: Any) -> bytes:
    """JSON where that says it all, since pickles of equal values may differ by who shares what."""
    try:
        return json.dumps(value, sort_keys=True, default=_plain).encode()
    except (TypeError, ValueError):
        return dump(value)


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return [type(value).__name__, value.model_dump(mode="json")]
    if hasattr(value, "__dataclass_fields__"):
        return [type(value).__name__, vars(value)]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, bytes | bytearray):
        return hashlib.blake2b(value, digest_size=8).hexdigest()
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    return str(value) if type(value).__module__ in ("decimal", "uuid", "pathlib") else _refuse(value)


def _refuse(value: Any) -> Any:
    raise TypeError(type(value).__name__)


def shown(value: Any) -> Any:
    """The value as JSON, for people; cut where it is long."""
    text = _text(value)
    return msgspec.json.decode(text) if len(text) <= _SHOWN else text[:_SHOWN].decode(errors="ignore") + "…"


def whole(value: Any, limit: int) -> Any:
    """The value as JSON. Raises Unkeepable where that is longer than `limit` bytes."""
    text = _text(value)
    if len(text) > limit:
        raise Unkeepable(f"{len(text)} bytes are more than the {limit} that can be shown")
    return msgspec.json.decode(text)


def _text(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value, enc_hook=_readable)
    except Exception:  # keys that JSON has not, or a class that can't say what it is
        return msgspec.json.encode(repr(value)[:_SHOWN])


def _readable(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else str(value)
