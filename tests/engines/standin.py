"""A process that stands in for a server: provisions a sandbox in a container, starts calls, and waits to be killed."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from hostler.sandbox.contract import NO_NETWORK, Exec, Limits, SandboxSpec, Shell
from hostler.sandbox.engine.backend import EngineBackend
from hostler.sandbox.engine.ground import Settings
from hostler.sandbox.engine.http import Address


async def main(folder: str, engine: str, image: str, key: str, commands: list[list[str]]) -> None:
    settings = Settings(address=Address.parse(engine), image=image)
    backend = EngineBackend(Path(folder), settings, limits=Limits())
    sandbox = await backend.provision(SandboxSpec(key=key, network=NO_NETWORK))
    calls = []
    for call_id, kind, script in commands:
        command = Shell(script=script) if kind == "shell" else Exec(argv=["bash", "-c", script])
        calls.append(asyncio.create_task(sandbox.run(call_id, command)))
    await asyncio.sleep(0)  # the calls are on their way now
    await sandbox.link.hello()  # answered in order, so the init has them all
    print("started", flush=True)
    await asyncio.gather(*calls)
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:5], json.loads(sys.argv[5])))
