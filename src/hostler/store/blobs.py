"""File contents on disk, named by their SHA-256: equal contents are kept once. It must not know whose they are.

A blob is written to a temporary name, synced, and renamed: a name that exists is complete. Rows in `files` hold blobs;
`forget` removes one that no row names any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

import msgspec

from hostler.errors import RequestTooLarge, Unavailable
from hostler.ids import new_id

P = ParamSpec("P")
R = TypeVar("R")


class Blob(msgspec.Struct, frozen=True):
    """A stored content: its name and its size in bytes."""

    name: str
    size: int


class Blobs:
    """The blob folder of a data folder. Two levels, so that no folder grows too large."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"

    def open(self) -> None:
        """Make the folders and remove what an earlier process left half written."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        for stray in self._incoming.iterdir():
            stray.unlink()

    def path(self, name: str) -> Path:
        return self._folder / name[:2] / name

    async def write(self, chunks: AsyncIterator[bytes], *, limit: int) -> Blob:
        """Store what `chunks` gives, never holding more than a chunk in memory, and return it synced to disk.

        Raises RequestTooLarge beyond `limit` bytes, Unavailable when the disk refuses, and what `chunks` raises; then
        nothing is left behind.
        """
        incoming = self._incoming / new_id("blob")
        digest, size = hashlib.sha256(), 0
        with contextlib.ExitStack() as stack:
            stack.callback(incoming.unlink, missing_ok=True)
            file = stack.enter_context(await _on_disk(incoming.open, "wb"))
            async for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise RequestTooLarge(f"The file exceeds the limit of {limit} bytes.")
                await _on_disk(_add, file, digest, chunk)
            await _on_disk(_sync, file)
            name = digest.hexdigest()
            await _on_disk(self._keep, incoming, name)
        return Blob(name, size)

    def names(self) -> list[str]:
        """All stored blobs, for a sweep."""
        return [blob.name for blob in self._folder.glob("[0-9a-f][0-9a-f]/*")]

    def forget(self, name: str) -> None:
        """Remove a blob that nothing names any more."""
        self.path(name).unlink(missing_ok=True)

    def _keep(self, incoming: Path, name: str) -> None:
        target = self.path(name)
        target.parent.mkdir(exist_ok=True, mode=0o700)
        incoming.replace(target)
        for folder in (target.parent, self._folder):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


async def _on_disk(work: Callable[P, R], *args: P.args, **more: P.kwargs) -> R:
    try:
        return await asyncio.to_thread(work, *args, **more)
    except OSError as error:
        raise Unavailable(f"The file could not be stored: {error.strerror}. Check free space.") from error


def _add(file: BinaryIO, digest: hashlib._Hash, chunk: bytes) -> None:
    file.write(chunk)
    digest.update(chunk)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
