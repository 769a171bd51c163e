"""What every wire type is made of: two base Structs, shared limits, time stamps and how a bad value is explained.

It must not know any resource, and it must not raise the errors of `hostler.errors`: callers do.

Marks of the contract: a field that is always sent, null included, has a plain default; a field that may be absent is
typed `| Unset` with the default `UNSET` and is left out while unset.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta
from msgspec import UnsetType as Unset

__all__ = [
    "UNSET", "Metadata", "MetadataPatch", "ModelId", "Name", "Params", "Reference", "Unset", "Version", "Wire",
    "encode", "explain", "given", "has_nul", "matching", "parse_timestamp", "timestamp",
]  # fmt: skip

METADATA_PAIRS = 16


class Wire(msgspec.Struct, kw_only=True):
    """An object the server sends. Unknown keys are ignored when one of our own is read back."""


class Params(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An object a client sends: unknown keys are refused, since nothing would honour them."""


Name = Annotated[str, Meta(min_length=1, max_length=256)]
ModelId = Annotated[str, Meta(min_length=1, max_length=256)]
Reference = Annotated[str, Meta(min_length=1, max_length=128)]
Version = Annotated[int, Meta(ge=1, le=2**31 - 1)]
MetadataKey = Annotated[str, Meta(max_length=64)]
MetadataValue = Annotated[str, Meta(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Meta(max_length=METADATA_PAIRS)]
# A patch may name more keys than an object may hold, because it may delete them; the merged result is counted again.
MetadataPatch = Annotated[dict[MetadataKey, MetadataValue | None], Meta(max_length=4 * METADATA_PAIRS)]

encode = msgspec.json.Encoder().encode

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def timestamp(micros: int) -> str:
    """Return microseconds since the epoch as RFC 3339 in UTC: `2026-01-02T03:04:05.678901Z`."""
    seconds, rest = divmod(micros, 1_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment.year:04d}-{moment.month:02d}-{moment.day:02d}T{moment:%H:%M:%S}.{rest:06d}Z"


def parse_timestamp(text: str) -> int:
    """Return microseconds since the epoch. Lenient, for filters: any offset, a naive time is UTC, and a `+` that was
    not percent-encoded (hence decoded as a space) is put back. Raises ValueError."""
    if re.search(r"T[\d:.,]+ \d\d:?\d\d$", text):
        text = "+".join(text.rsplit(" ", 1))
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return (moment - _EPOCH) // _MICROSECOND
    except OverflowError as error:
        raise ValueError("out of range") from error


_NUL_ESCAPE = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def has_nul(body: bytes) -> bool:
    """Say whether a JSON text has U+0000 in one of its strings (raw ones are malformed JSON anyway)."""
    return b"\\u0000" in body and _NUL_ESCAPE.search(body) is not None


_WORDS: dict[str, str] = {}  # what a pattern asks for, by the pattern as msgspec quotes it


def matching(pattern: str, words: str, **more: Any) -> Meta:
    """A constraint that is explained in words, since a regular expression tells few people what to send."""
    _WORDS[repr(pattern)] = words
    return Meta(pattern=pattern, **more)


_PATTERN = re.compile(r"Expected `str` matching regex (?P<quoted>.*)\Z", re.DOTALL)
_PLACE = re.compile(r"(?P<what>.*) - at (?:`key` in )?`\$(?P<path>[^`]*)`\Z", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]*)`")
_EXTRA = re.compile(r"Object contains unknown field `(?P<field>[^`]*)`")


def explain(error: msgspec.ValidationError, within: str = "") -> str:
    """Return `tools.0.name: Field required`: the field's path in the API's dotted style, and what is wrong with it.

    `within` is the path of the value that was decoded, when it was not the whole body.
    """
    what, path = str(error), ""
    if place := _PLACE.match(what):
        what, path = place["what"], place["path"]
    parts = [part for part in [within, *re.split(r"[.\[\]]+", path.replace("[...]", ""))] if part]
    if missing := _MISSING.match(what):
        return ".".join([*parts, missing["field"]]) + ": Field required"
    if extra := _EXTRA.match(what):
        return ".".join([*parts, extra["field"]]) + ": Extra inputs are not permitted"
    if pattern := _PATTERN.match(what):
        what = _WORDS.get(pattern["quoted"], what)
    return f"{'.'.join(parts)}: {what}" if parts else what


def given(value: Any) -> bool:
    """Say whether an optional request field carries something: not absent, not null, not an empty container."""
    return value is not UNSET and value is not None and value not in ([], {}, ())
