"""What PostgreSQL has and SQLite lacks: functions, casts, LIKE's case, and values that come back as what they were.

All run in bounded time over their arguments: a function holds the interpreter, so no regular expression is run on what
a runbook sends. It must not open a database.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from hostler.runbooks.cells import JsonText

MAX_PATTERN = 4096
MAX_DIGITS = 18  # before the point, less one
MAX_TRIED = 20_000_000  # characters that one LIKE compares one by one
MAX_JOINED = 64 * 1024 * 1024
_STAMP = "%Y-%m-%d %H:%M:%S.%f"
_STAMP_LENGTH = len("2026-01-31 12:00:00.000000+00:00")


class BadValue(Exception):
    """A value does not fit; SQLite forgets what a function raises, so it is kept in `Functions.problem`."""


class Functions:
    """Those of one connection, with the moment of its transaction."""

    def __init__(self) -> None:
        self.now = ""
        self.problem: str | None = None

    def begin(self) -> None:
        self.now = stamp(datetime.now(UTC))
        self.problem = None

    def register(self, connection: sqlite3.Connection) -> None:
        connection.create_function("pg_now", 0, lambda: self.now)
        connection.create_function("pg_today", 0, lambda: self.now[:10])
        connection.create_function("pg_new_uuid", 0, lambda: str(uuid.uuid4()))
        for name, function in _CASTS.items():
            connection.create_function(f"pg_{name}", 1, self._kept(function), deterministic=True)
        connection.create_function("pg_encode", 2, self._kept(_encode), deterministic=True)
        connection.create_function("pg_concat", -1, _concat, deterministic=True)
        for count in (2, 3):
            connection.create_function("like", count, self._kept(like), deterministic=True)
            connection.create_function("match", count, self._kept(ilike), deterministic=True)

    def _kept(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            try:
                return None if args[0] is None else function(*args)
            except (BadValue, ValueError, TypeError, InvalidOperation, RecursionError) as error:
                self.problem = str(error) or type(error).__name__
                raise

        return call


def bound(value: Any) -> Any:
    """An argument as SQLite takes it. Raises TypeError."""
    match value:
        case None | bool() | float() | bytes():
            return value
        case int():
            return value if -(2**63) <= value < 2**63 else str(value)
        case str():
            return str.__str__(value)
        case datetime():
            return stamp(value)
        case date() | time() | uuid.UUID() | Decimal() | timedelta():
            return str(value)
        case bytearray() | memoryview():
            return bytes(value)
        case dict() | list() | tuple() | set() | frozenset():
            return json.dumps(list(value) if isinstance(value, set | frozenset) else value, default=_plain)
    raise TypeError(f"a value of type {type(value).__name__} can't be an argument")


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, bytes):
        raise TypeError("bytes can't be in a list or in JSON")
    return bound(value)


def stamp(value: datetime) -> str:
    """In UTC and of one length, so that the order of text is that of time; one without a zone stays without."""
    return value.strftime(_STAMP) if value.tzinfo is None else value.astimezone(UTC).strftime(_STAMP) + "+00:00"


# -- values that come back --


def guessed(data: bytes) -> str | datetime:
    """Text that no column declares: the times that we write can be told by their form."""
    text = data.decode(errors="replace")
    if len(text) == _STAMP_LENGTH and text.endswith("+00:00") and text[10] == " ":
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            return text
    return text


def _back_stamp(data: bytes) -> datetime | str:
    """Without a zone it is UTC: that is what `datetime.utcnow` gives."""
    try:
        value = datetime.fromisoformat(data.decode())
    except ValueError:
        return data.decode(errors="replace")
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


def _or_text(read: Callable[[str], Any]) -> Callable[[bytes], Any]:
    def back(data: bytes) -> Any:
        text = data.decode(errors="replace")
        try:
            return read(text)
        except (ValueError, InvalidOperation):
            return text

    return back


_BACK: dict[str, Callable[[bytes], Any]] = {
    "TEXT": lambda data: data.decode(errors="replace"),
    "PG_STAMP_TEXT": _back_stamp,
    "PG_NAIVE_TEXT": _or_text(lambda text: datetime.fromisoformat(text).replace(tzinfo=None)),
    "PG_DATE_TEXT": _or_text(lambda text: datetime.fromisoformat(text).date()),
    "PG_UUID_TEXT": _or_text(uuid.UUID),
    "PG_JSON_TEXT": _or_text(JsonText),
    "PG_ARRAY_TEXT": _or_text(json.loads),
    "PG_DECIMAL": _or_text(Decimal),
    "PG_BOOLEAN": lambda data: data not in (b"0", b"", b"false"),
}


def register_types() -> None:
    """For all connections that ask for declared types; the store's don't."""
    for name, back in _BACK.items():
        sqlite3.register_converter(name, back)


# -- casts --


def _uuid(value: Any) -> str:
    try:
        return str(uuid.UUID(str(value)))
    except ValueError:
        raise BadValue(f'invalid input syntax for type uuid: "{str(value)[:60]}"') from None


def _json(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    try:
        json.loads(text)
    except ValueError as error:
        raise BadValue(f"invalid input syntax for type json: {error}") from None
    return text


def _array(value: Any) -> str:
    text = str(value)
    if text.startswith("{") and text.endswith("}"):
        return json.dumps([each.strip().strip('"') for each in text[1:-1].split(",")] if text != "{}" else [])
    if not text.startswith("["):
        raise BadValue("an array has to be given as a list")
    return text


def _int(value: Any) -> int:
    try:
        read = Decimal(str(value).strip())
        # Before it becomes one: 1e999999999 as an integer takes hours.
        if read.is_finite() and read.adjusted() > MAX_DIGITS:
            raise BadValue("bigint out of range")
        return int(read.to_integral_value())
    except (InvalidOperation, OverflowError):
        raise BadValue(f'invalid input syntax for type integer: "{str(value)[:60]}"') from None


def _float(value: Any) -> float:
    try:
        return float(value)
    except ValueError:
        raise BadValue(f'invalid input syntax for type double precision: "{str(value)[:60]}"') from None


def _decimal(value: Any) -> str:
    try:
        return str(Decimal(str(value).strip()))
    except InvalidOperation:
        raise BadValue(f'invalid input syntax for type numeric: "{str(value)[:60]}"') from None


def _bool(value: Any) -> bool:
    if isinstance(value, int | float):
        return bool(value)
    text = str(value).strip().lower()
    if text in ("t", "true", "y", "yes", "on", "1"):
        return True
    if text in ("f", "false", "n", "no", "off", "0"):
        return False
    raise BadValue(f'invalid input syntax for type boolean: "{text[:60]}"')


def _time(value: Any) -> datetime:
    try:
        return datetime.fromisoformat(str(value).strip())
    except ValueError:
        raise BadValue(f'invalid input syntax for type timestamp: "{str(value)[:60]}"') from None


def _stamp(value: Any) -> str:
    read = _time(value)
    return stamp(read if read.tzinfo is not None else read.replace(tzinfo=UTC))


def _naive(value: Any) -> str:
    return stamp(_time(value).replace(tzinfo=None))


def _date(value: Any) -> str:
    return _time(value).date().isoformat()


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    text = str(value)
    return bytes.fromhex(text[2:]) if text.startswith("\\x") else text.encode()


def _encode(value: Any, form: str) -> str:
    import base64

    data = _bytes(value)
    if form == "hex":
        return data.hex()
    if form == "base64":
        return base64.b64encode(data).decode()
    raise BadValue(f'unrecognized encoding: "{form}"')


def _concat(*values: Any) -> str:
    texts = [str(value) for value in values if value is not None]
    if sum(map(len, texts)) > MAX_JOINED:
        raise BadValue(f"a text may have {MAX_JOINED} characters")
    return "".join(texts)


_CASTS: dict[str, Callable[[Any], Any]] = {
    "uuid": _uuid,
    "json": _json,
    "array": _array,
    "int": _int,
    "float": _float,
    "decimal": _decimal,
    "bool": _bool,
    "stamp": _stamp,
    "naive": _naive,
    "date": _date,
    "bytes": _bytes,
    "octets": lambda value: len(_bytes(value)),
    "md5": lambda value: hashlib.md5(_bytes(value), usedforsecurity=False).hexdigest(),
    "sha256": lambda value: hashlib.sha256(_bytes(value)).digest(),
}


# -- LIKE: SQLite's own knows no case --


def like(pattern: str, value: Any, escape: str = "\\") -> bool:
    return _matches(str(pattern), str(value), escape)


def ilike(pattern: str, value: Any, escape: str = "\\") -> bool:
    return _matches(str(pattern).lower(), str(value).lower(), escape)


def _matches(pattern: str, value: str, escape: str) -> bool:
    """Each piece between two % is taken where it first fits, which is as good as any other place."""
    if len(pattern) > MAX_PATTERN:
        raise BadValue(f"a pattern may have {MAX_PATTERN} characters")
    pieces = _pieces(pattern, escape)
    if len(pieces) == 1:
        return len(value) == len(pieces[0]) and _fits(pieces[0], value, 0)
    first, *middle, last = pieces
    end = len(value) - len(last)
    if end < len(first) or not _fits(first, value, 0) or not _fits(last, value, end):
        return False
    at = len(first)
    for piece in middle:
        found = _find(piece, value, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def _pieces(pattern: str, escape: str) -> list[list[str | None]]:
    """The characters between the %; None is any one."""
    pieces: list[list[str | None]] = [[]]
    characters = iter(pattern)
    for character in characters:
        if escape and character == escape:
            pieces[-1].append(next(characters, escape))
        elif character == "%":
            pieces.append([])
        else:
            pieces[-1].append(None if character == "_" else character)
    return pieces


def _fits(piece: list[str | None], value: str, at: int) -> bool:
    return all(wanted is None or value[at + n] == wanted for n, wanted in enumerate(piece)) if piece else True


def _find(piece: list[str | None], value: str, at: int, end: int) -> int:
    if None not in piece:
        return value.find("".join(each or "" for each in piece), at, end)
    if (end - at) * len(piece) > MAX_TRIED:
        raise BadValue("a pattern with _ is too long for a text as long as this")
    return next((n for n in range(at, end - len(piece) + 1) if _fits(piece, value, n)), -1)
