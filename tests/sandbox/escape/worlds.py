"""What the probes of this folder share: a sandbox of the embedded backend, and the end of a program run in it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from hostler.sandbox.bubblewrap import BubblewrapBackend, BubblewrapSandbox, Egress
from hostler.sandbox.contract import NO_NETWORK, Exec, SandboxSpec


@contextlib.asynccontextmanager
async def sandbox(folder: Path, *, egress: Egress | None = None, **spec: Any) -> AsyncIterator[BubblewrapSandbox]:
    """A sandbox that goes away behind the block."""
    backend = BubblewrapBackend(folder, egress=egress)
    made = SandboxSpec(**{"key": "hostile", "network": NO_NETWORK, **spec})
    try:
        found = await backend.provision(made)
        assert isinstance(found, BubblewrapSandbox)
        yield found
    finally:
        await backend.destroy(made.key)
        await backend.aclose(stop=True)


async def said(inside: BubblewrapSandbox, program: str, *arguments: str, stdin: bytes = b"") -> str:
    """What a Python program inside prints. It must come to its end without an error of its own."""
    async with asyncio.timeout(60):
        probe = Exec(argv=["python3", "-c", program, *arguments], stdin=stdin)
        result = await inside.run(secrets.token_hex(8), probe)
    assert (result.exit_code, result.errors) == (0, b""), result
    return result.output.decode()


def told(folder: Path, program: str, *arguments: str, **more: Any) -> str:
    """The same in a sandbox made for it."""

    async def main() -> str:
        async with sandbox(folder, **more) as inside:
            return await said(inside, program, *arguments)

    return asyncio.run(main())
