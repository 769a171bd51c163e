"""One message's body on its way through: what is replaced in it, and what that does to its length.

Small bodies of a known length are held and get their new length; big ones lose theirs. It must not hold more than that.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from hostler.sandbox.edge.httpframing import BadMessage
from hostler.sandbox.edge.substitution import Fields, Replacer

HELD_BYTES = 1024 * 1024
GROWTH = 4  # a secret may be longer than its placeholder: more than this is refused
_PIECE = 65536
_UNPACKED_BYTES = 1024**3
_GZIP = 31  # zlib's name for the format


class Coder(Protocol):
    """Yields what is ready; an empty piece is a moment to let others run."""

    def feed(self, data: bytes) -> Iterator[bytes]: ...

    def finish(self) -> Iterator[bytes]: ...


class _Identity:
    def __init__(self, replacer: Replacer) -> None:
        self._replacer = replacer

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield self._replacer.feed(data)

    def finish(self) -> Iterator[bytes]:
        yield self._replacer.finish()


class _Packed:
    """Unpacks, replaces, and packs again in the same coding: at no time more than a piece of it is unpacked."""

    def __init__(self, replacer: Replacer, coding: bytes) -> None:
        self._replacer = replacer
        self._coding = coding
        self._unpacker: zlib._Decompress | None = None
        self._packer = zlib.compressobj(1, wbits=_GZIP if coding == b"gzip" else zlib.MAX_WBITS)
        self._unpacked = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._unpacker is None or (self._unpacker.eof and self._coding == b"gzip"):
                self._unpacker = self._start(data)
            if self._unpacker.eof:
                raise BadMessage("something stands behind its compressed body")
            piece = self._unpack(self._unpacker, data)
            yield self._packer.compress(self._replacer.feed(piece))
            data = self._unpacker.unused_data if self._unpacker.eof else self._unpacker.unconsumed_tail
            if not data and len(piece) == _PIECE and not self._unpacker.eof:
                yield from self._rest(self._unpacker)
        yield self._packer.flush(zlib.Z_SYNC_FLUSH)

    def _rest(self, unpacker: zlib._Decompress) -> Iterator[bytes]:
        """What zlib has unpacked already and had no room to give."""
        while piece := self._unpack(unpacker, b""):
            yield self._packer.compress(self._replacer.feed(piece))

    def finish(self) -> Iterator[bytes]:
        if self._unpacker is None:
            return  # nothing came
        if not self._unpacker.eof:
            raise BadMessage("its compressed body breaks off")
        yield self._packer.compress(self._replacer.finish()) + self._packer.flush()

    def _start(self, data: bytes) -> zlib._Decompress:
        if self._coding == b"gzip":
            return zlib.decompressobj(_GZIP)
        return zlib.decompressobj(zlib.MAX_WBITS if data[0] & 15 == 8 else -zlib.MAX_WBITS)  # both are in use

    def _unpack(self, unpacker: zlib._Decompress, data: bytes) -> bytes:
        try:
            piece = unpacker.decompress(data, _PIECE)
        except zlib.error:
            raise BadMessage("its compressed body is damaged") from None
        self._unpacked += len(piece)
        if self._unpacked > _UNPACKED_BYTES:
            raise BadMessage("its body is too large when it is unpacked")
        return piece


class Rewriting:
    """How a body is passed on. `held`: it must be taken whole, for the length in front of it."""

    def __init__(self, replacer: Replacer | None = None, coder: Coder | None = None, *, held: bool = False) -> None:
        self.replacer = replacer
        self.coder = coder
        self.held = held


class Budget:
    """How much of all bodies of a session may be held at once: what finds no room is sent without its length."""

    def __init__(self, most: int = 16 * HELD_BYTES) -> None:
        self._left = most

    def take(self, size: int) -> bool:
        if size > self._left:
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        self._left += size


def rewriting(
    fields: Fields, needles: Mapping[bytes, bytes], *, empty: bool, may_hold: Callable[[int], bool]
) -> Rewriting:
    """For a message with these fields; `empty` says that it has no body, whatever they say."""
    length = value_of(fields, b"content-length")
    if not needles or empty or length == b"0":
        return Rewriting()
    replacer = Replacer(needles)
    coding = coding_of(fields)
    if coding not in (b"identity", b"gzip", b"deflate"):
        return Rewriting()
    coder = _Identity(replacer) if coding == b"identity" else _Packed(replacer, coding)
    held = length is not None and int(length) <= HELD_BYTES and may_hold(GROWTH * int(length))
    return Rewriting(replacer, coder, held=held)


def coding_of(fields: Fields) -> bytes:
    """The content coding: `identity` where there is none, and whatever stands there where we can't read it."""
    codings = [value for name, value in fields if name.lower() == b"content-encoding"]
    coding = b", ".join(codings).strip().lower() or b"identity"
    return b"gzip" if coding == b"x-gzip" else coding


def value_of(fields: Fields, wanted: bytes) -> bytes | None:
    return next((value for name, value in fields if name.lower() == wanted), None)


def without(fields: Fields, *unwanted: bytes) -> Fields:
    return [(name, value) for name, value in fields if name.lower() not in unwanted]


def readable(fields: Fields) -> Fields:
    """A request's fields that ask for no coding that we can't look into."""
    return [(n, _understood(v)) if n.lower() == b"accept-encoding" else (n, v) for n, v in fields]


def _understood(value: bytes) -> bytes:
    known = (b"gzip", b"x-gzip", b"deflate", b"identity")
    parts = [part.strip() for part in value.split(b",")]
    return b", ".join(part for part in parts if part.partition(b";")[0].strip().lower() in known) or b"identity"
