"""A live sandbox of the embedded backend: the contract's words turned into requests to its init.

Files are placed and collected through `files`, never by a path that the agent made.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import BinaryIO

import msgspec

from hostler.sandbox import files, launcher
from hostler.sandbox.contract import NO_NETWORK, Limits, Mount, Network, OutputFile, SandboxUnavailable
from hostler.sandbox.initlink import InitLink
from hostler.sandbox.linked import Linked
from hostler.sandbox.rootfs import Layout

_CHUNK = 1 << 20


class State(msgspec.Struct, frozen=True):
    """What is written down of a sandbox before anything runs in it."""

    init: launcher.Running
    uid: int | None
    limits: Limits
    network: Network = NO_NETWORK  # of one that an older server started and that says none: closed


def _read(file: BinaryIO) -> bytes:
    try:
        return file.read(_CHUNK)
    except OSError as error:
        raise SandboxUnavailable(f"an output cannot be read: {error.strerror}") from error


class BubblewrapSandbox(Linked):
    """A live sandbox of this backend: the contract's `Sandbox`."""

    def __init__(self, layout: Layout, link: InitLink, state: State) -> None:
        super().__init__(link)
        self.layout = layout
        self.link = link
        self.state = state
        self.egress: asyncio.Task[None] | None = None
        self.listener: socket.socket | None = None  # the proxy's

    @property
    def generation(self) -> str:
        init = self.state.init
        return f"{init.boot_id}:{init.pid}:{init.start_time}"

    async def set_mounts(self, mounts: list[Mount]) -> None:
        for mount in mounts:
            files.check_target(mount.target)
        if mounts or self.layout.inputs.exists():
            await asyncio.to_thread(files.place_all, self.layout, mounts, self.state.uid)

    async def outputs(self) -> list[OutputFile]:
        return await asyncio.to_thread(files.list_outputs, self.layout.outputs)

    async def read_output(self, path: str) -> AsyncIterator[bytes]:
        # Not by its number: a thread may still read when nobody waits for it any more, and the number be another's.
        with files.open_output(self.layout.outputs, path) as file:
            while chunk := await asyncio.to_thread(_read, file):
                yield chunk

    @property
    def live(self) -> bool:
        return not self.link.closed.done()

    async def release(self) -> None:
        """Let go of the connection and of the proxy; the sandbox goes on."""
        self.link.close()
        if self.egress is not None:
            self.egress.cancel()
            await asyncio.gather(self.egress, return_exceptions=True)
            self.egress = None
        if self.listener is not None:
            self.listener.close()  # also when the proxy had not begun
