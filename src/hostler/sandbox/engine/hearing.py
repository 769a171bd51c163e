"""Copies what a build in a container writes to its log to a file of the server's, where every process may read it.

The log is the packages' to fill or to exchange: it is read inside, as the agent, and what comes is kept as bounded
bytes. It must not end a build.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from hostler.sandbox.contract import WORKSPACE, Exec, Sandbox, SandboxUnavailable
from hostler.sandbox.layers import buildlog

_PATH = f"{WORKSPACE}/{buildlog.NAME}"
_PAUSE = 0.5
_PART = 256 * 1024
_MOST = 8 * 1024 * 1024  # of what is copied from the beginning on
_END = 16 * 1024  # and of the end of a longer one
_TIMEOUT_MS = 10_000  # should something without an end be put in its place at that very moment
_READ = 'if [ -f "$2" ] && [ ! -L "$2" ]; then tail -c "$1" "$2" | head -c "$3"; fi'


@contextlib.asynccontextmanager
async def hearing(sandbox: Sandbox, log: Path) -> AsyncIterator[None]:
    """Copy meanwhile; once this has ended, all is there, unless it has ended with an exception."""
    log.parent.mkdir(parents=True, exist_ok=True)
    copy = _Copy(sandbox, log)
    task = asyncio.create_task(copy.listen(), name=f"log of {log.parent}")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
    await copy.finish()


class _Copy:
    def __init__(self, sandbox: Sandbox, log: Path) -> None:
        self._sandbox = sandbox
        self._log = log
        self._position = 0
        self._calls = 0

    async def listen(self) -> None:
        with contextlib.suppress(SandboxUnavailable, OSError):  # the build itself will say so
            while True:
                if await self._more() < _PART:
                    await asyncio.sleep(_PAUSE)

    async def finish(self) -> None:
        with contextlib.suppress(SandboxUnavailable, OSError):
            while await self._more() == _PART:
                continue
            if self._position >= _MOST:
                self._keep(b"\n[...]\n" + await self._read(f"-{_END}", _END))

    async def _more(self) -> int:
        if self._position >= _MOST:
            return 0
        said = await self._read(f"+{self._position + 1}", _PART)
        self._keep(said)
        self._position += len(said)
        return len(said)

    async def _read(self, start: str, most: int) -> bytes:
        self._calls += 1
        call_id = f"log_{self._calls}"
        argv = ["sh", "-c", _READ, "sh", start, _PATH, str(most)]
        result = await self._sandbox.run(call_id, Exec(argv=argv, timeout_ms=_TIMEOUT_MS))
        await self._sandbox.acknowledge(call_id)
        return result.output[:most]

    def _keep(self, said: bytes) -> None:
        with self._log.open("ab") as file:
            file.write(said)
