"""A socket of this machine, in a folder of the server's own, on which a container's connections reach the egress proxy.

It serves the proxy's way of being given its connections; nobody but the folder's owner gets to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path


class Listener:
    """Where connections are made and taken; `close` removes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            path.unlink(missing_ok=True)
            with _short(path) as name:
                self.socket.bind(name)
            self.socket.listen(128)
        except OSError:
            self.socket.close()
            raise

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        with _short(self._path) as name:
            return await asyncio.open_unix_connection(name)

    def close(self) -> None:
        self.socket.close()
        self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """Another name of a socket: one's path may have 107 bytes at most, a data folder's may be longer."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
