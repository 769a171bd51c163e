"""Takes a folder out of a container in which nothing runs, and makes it one of the host, as nothing but data.

What is in it was made by a stranger: no link is followed on either side, and what is made is the server's own, without
set-user-id bits and attributes. It must not know what the folder is for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

from hostler.sandbox import storing
from hostler.sandbox.container import records, setup
from hostler.sandbox.container.pipes import StreamPipe
from hostler.sandbox.container.records import Pipe
from hostler.sandbox.container.streams import OpenStream
from hostler.sandbox.packing import Budget
from hostler.sandbox.tarstream import Member
from hostler.sandbox.unpacking import Unpacker

_TOPS: Sequence[bytes] = (b"top",)
_MODE = 0o777


class _Data:
    """Of the record that was taken last."""

    def __init__(self, pipe: Pipe, budget: Budget) -> None:
        self._pipe = pipe
        self._budget = budget

    def chunks(self, member: Member) -> Iterator[tuple[int, bytes]]:
        return records.data(self._pipe, member, self._budget)


async def collect(open_stream: OpenStream, folder: str, target: Path, limit_bytes: int) -> None:
    """Make `target`, which is new, what the agent's `folder` is. Raises TooMuch, Misplaced, Unreadable, OSError and
    SandboxUnavailable; then part of it may be there."""
    stream, loop = await open_stream([*setup.PACK, folder]), asyncio.get_running_loop()
    try:
        await storing.in_thread(limit_bytes, lambda budget: unpack(StreamPipe(stream, budget, loop), target, budget))
    finally:
        stream.close()


def unpack(pipe: Pipe, target: Path, budget: Budget) -> None:
    """Make `target` of what `pack` says. Raises as `collect`."""
    target.mkdir(mode=0o700)
    unpacker, data = Unpacker(lambda parts: (target, parts[1:]), None, budget), _Data(pipe, budget)
    try:
        while (member := records.take(pipe, _TOPS)) is not None:
            member.mode &= _MODE
            member.xattrs = {}
            unpacker.unpack(data, member)
        unpacker.finish()
    finally:
        unpacker.close()
