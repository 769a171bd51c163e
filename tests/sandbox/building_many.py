"""Stands in for a server: builds layers of several package managers, and says what a session with all of them sees."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from hostler.sandbox.backends import SandboxConfig, open_layers
from hostler.sandbox.bubblewrap import BubblewrapBackend
from hostler.sandbox.contract import NO_NETWORK, SandboxSpec, Shell
from hostler.sandbox.layers import packagelists


async def main(folder: str, script: str, *lists: str) -> None:
    wanted = {name: lines.split(",") for name, _, lines in (each.partition("=") for each in lists)}
    layers = open_layers(Path(folder) / "layers", SandboxConfig(), os.environ)
    backend = BubblewrapBackend(Path(folder) / "sandboxes")
    try:
        built = [await packagelists.ensure(layers, packages) for packages in packagelists.sets_of(wanted)]
        sandbox = await backend.provision(SandboxSpec(key="s", network=NO_NETWORK, layers=built))
        print((await sandbox.run("c", Shell(script=script))).output.decode(), end="")
    finally:
        await layers.aclose()
        await backend.destroy("s")
        await backend.aclose(stop=True)


asyncio.run(main(*sys.argv[1:]))
