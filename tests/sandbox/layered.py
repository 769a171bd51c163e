"""What tests of package layers share: layers that are opened, used and closed, and a look into a sandbox with some."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from hostler.sandbox.backends import SandboxConfig, open_layers
from hostler.sandbox.bubblewrap import BubblewrapBackend
from hostler.sandbox.contract import NO_NETWORK, Backend, Layer, SandboxSpec, Shell

Work = Callable[[Any], Awaitable[None]]
QUIET = {"HOME": "/nonexistent", "PIP_CONFIG_FILE": "/dev/null"}


def play(folder: Path, environ: dict[str, str], work: Work, **config: Any) -> None:
    async def main() -> None:
        layers = open_layers(folder, SandboxConfig(**config), {**QUIET, **environ})
        try:
            async with asyncio.timeout(200):
                await work(layers)
        finally:
            await layers.aclose()

    asyncio.run(main())


def run_in(layers: Sequence[Layer], script: str, folder: Path) -> str:
    """What a script says in an embedded sandbox that has these layers, which lie in `folder`."""

    async def main() -> str:
        return await say(BubblewrapBackend(folder.with_name("sandboxes")), layers, script)

    return asyncio.run(main())


async def say(backend: Backend, layers: Sequence[Layer], script: str) -> str:
    """The same in a sandbox of this backend, which is closed with it."""
    try:
        sandbox = await backend.provision(SandboxSpec(key="sesn_1", network=NO_NETWORK, layers=list(layers)))
        return (await sandbox.run("a", Shell(script=script))).output.decode()
    finally:
        await backend.destroy("sesn_1")
        await backend.aclose(stop=True)
