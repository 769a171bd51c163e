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

MAX_VALUE = 16 * 1024 * 1024
WHOLE = 256 * 1024  # what people act on: a cut one would be no use
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


def shown(value: Any, most: int = _SHOWN) -> Any:
    """The value as JSON, for people; cut to text where it is long."""
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json")
    text = json.dumps(value, default=str, ensure_ascii=False)
    return json.loads(text) if len(text) <= most else text[:most] + "…"
