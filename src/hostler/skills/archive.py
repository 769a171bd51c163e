"""Writes a skill's files as a zip archive, piece by piece. It must not choose them, nor have them all in memory."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_PIECE = 256 * 1024
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # equal contents give equal archives


class Member(NamedTuple):
    """A file: its path below the skill's folder, and where its bytes are."""

    path: str
    source: Path
    executable: bool


def zipped(top: str, members: Sequence[Member]) -> Iterator[bytes]:
    """The archive in pieces, with `top` as its only top folder."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in members:
            with archive.open(_entry(top, member), "w") as into, member.source.open("rb") as source:
                while piece := source.read(_PIECE):
                    into.write(piece)
                    yield sink.take()
    yield sink.take()


def _entry(top: str, member: Member) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(f"{top}/{member.path}", _LONG_AGO)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # so that the mode counts
    entry.external_attr = (stat.S_IFREG | (0o755 if member.executable else 0o644)) << 16
    return entry


class _Sink(io.RawIOBase):
    """What an archive is written to; it can't be sought in, so the archive never goes back."""

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self._held.append(bytes(data))  # type: ignore[call-overload]
        return len(self._held[-1])

    def take(self) -> bytes:
        taken, self._held = b"".join(self._held), []
        return taken
