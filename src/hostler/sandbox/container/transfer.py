"""Carries snapshots out of a running container and into one: our program works inside, and a thread beside it here.

It must not decide when a container runs, or what becomes of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from hostler.sandbox import rootfs, snapshots, storing
from hostler.sandbox.container import records, setup
from hostler.sandbox.container.notes import Notes
from hostler.sandbox.container.pipes import StreamPipe
from hostler.sandbox.container.records import Contents
from hostler.sandbox.container.relaylink import RelayLink
from hostler.sandbox.container.streams import OpenStream
from hostler.sandbox.contract import SandboxUnavailable, Snapshot
from hostler.sandbox.initlink import Op
from hostler.sandbox.packing import Budget

T = TypeVar("T")


async def prepare(link: RelayLink, config: bytes, seconds: float) -> None:
    """Have a container's init make the agent's folders. Raises `SandboxUnavailable`."""
    try:
        async with asyncio.timeout(seconds):
            await link.hello()
            answer = await link.ask(Op.CONFIGURE, payload=config)
    except TimeoutError:
        raise SandboxUnavailable("the sandbox did not answer") from None
    if answer.status != 0:
        raise SandboxUnavailable("its init could not be set up")


async def pack(open_stream: OpenStream, folders: Sequence[str], notes: Notes, target: Path, limit: int) -> Snapshot:
    """The contract's `snapshot` of a container that runs."""
    packed = [*rootfs.WRITABLE.values(), *rootfs.outside(folders)]
    shell = await asyncio.to_thread(notes.shell)

    def work(pipe: StreamPipe, budget: Budget) -> Snapshot:
        return records.write(pipe, packed, shell, target, budget)

    try:
        return await _beside(open_stream, [*setup.PACK, *packed], limit, work)
    except asyncio.CancelledError:
        snapshots.drop(target)  # it was done at that moment
        raise


async def check(source: Path, wanted: Snapshot, limit: int) -> Contents:
    """Look through a snapshot before anything is changed. Raises SnapshotDamaged, SnapshotTooLarge and
    SandboxUnavailable."""
    return await storing.stoppable(limit, lambda budget: records.check(source, wanted, budget))


async def unpack(open_stream: OpenStream, source: Path, wanted: Snapshot, limit: int) -> None:
    """Make the files of a snapshot that was looked through in a container that is fresh. Raises as `check`."""

    def work(pipe: StreamPipe, budget: Budget) -> None:
        records.send(pipe, source, wanted, budget)

    await _beside(open_stream, setup.UNPACK, limit, work)


async def _beside(
    open_stream: OpenStream, argv: Sequence[str], limit: int, work: Callable[[StreamPipe, Budget], T]
) -> T:
    stream, loop = await open_stream(argv), asyncio.get_running_loop()
    try:
        return await storing.stoppable(limit, lambda budget: work(StreamPipe(stream, budget, loop), budget))
    finally:
        stream.close()
