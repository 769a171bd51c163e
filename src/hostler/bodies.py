"""Request bodies as values of their types, for both APIs: what is wrong is said with its place. It knows no HTTP."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from hostler.errors import InvalidRequest
from hostler.wire.base import explain, has_nul

T = TypeVar("T")
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def decode_clean(body: bytes, kind: type[T]) -> T:
    """The same, without U+0000, which PostgreSQL keeps in no string. Raises InvalidRequest."""
    if has_nul(body):
        raise InvalidRequest("The request body contains the character U+0000, which is not allowed in strings.")
    return decode(body, kind)


def decode(body: bytes, kind: type[T]) -> T:
    """Raises InvalidRequest."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        result: T = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidRequest(explain(error, kind=kind)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The request body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise InvalidRequest("The request body is nested too deeply.") from error
    return result
