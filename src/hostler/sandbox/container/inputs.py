"""Packs input files for the program that places them inside (native/files.c), however large they are.

It reads the host's files and decides who places what; it must not decide where a link leads: nobody follows one.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import struct
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import msgspec

from hostler.sandbox.contract import Mount

BATCH_BYTES = 8 * 1024 * 1024
_RECORD = struct.Struct("<HBIQI")
_EXECUTABLE, _LAST, _REPLACE = 1, 2, 4


class Placed(msgspec.Struct):
    """A file to place: of the host (`mount`), or of ours (`text`), which takes the place of what is there."""

    target: str
    mount: Mount | None = None
    text: bytes = b""


def tag() -> str:
    """A name for the half-written files of one round."""
    return secrets.token_hex(8)


def below(source: Path, target: str) -> list[Placed]:
    """The regular files of a folder of the host, or the one file that it is. Links out of it are left out."""
    if source.is_file():
        return [_placed(source, target)]
    top, found = source.resolve(), []
    for path in sorted(top.rglob("*")):
        if path.is_file() and path.resolve().is_relative_to(top):
            found.append(_placed(path, f"{target}/{path.relative_to(top)}"))
    return found


def _placed(source: Path, target: str) -> Placed:
    return Placed(target, Mount(source=source, target=target, executable=os.access(source, os.X_OK)))


async def batches(files: Iterable[Placed]) -> AsyncIterator[bytes]:
    """The records of all files in portions of bounded size. Raises OSError."""
    batch = bytearray()
    for number, file in enumerate(files):
        for record in _records(number, file):
            batch += await asyncio.to_thread(record)
            if len(batch) >= BATCH_BYTES:
                yield bytes(batch)
                batch.clear()
    if batch:
        yield bytes(batch)


class _Part(msgspec.Struct, frozen=True):
    """A part of one file, read when its turn comes."""

    number: int
    file: Placed
    offset: int
    last: bool

    def __call__(self) -> bytes:
        data = self.file.text
        flags = _LAST if self.last else 0
        if self.file.mount is None:
            flags |= _REPLACE
        else:
            flags |= _EXECUTABLE if self.file.mount.executable else 0
            with self.file.mount.source.open("rb") as source:
                source.seek(self.offset)
                data = source.read(BATCH_BYTES)
        path = self.file.target.encode("utf-8", "surrogatepass")
        return _RECORD.pack(len(path), flags, self.number, self.offset, len(data)) + path + data


def _records(number: int, file: Placed) -> Iterator[_Part]:
    size = file.mount.source.stat().st_size if file.mount is not None else 0
    offsets = range(0, max(size, 1), BATCH_BYTES)
    for offset in offsets:
        yield _Part(number, file, offset, offset == offsets[-1])
