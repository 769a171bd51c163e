"""A process that stands in for a server: provisions a sandbox, starts calls, says so, and waits to be killed."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from hostler.sandbox.bubblewrap import BubblewrapBackend
from hostler.sandbox.contract import NO_NETWORK, Exec, SandboxSpec, Shell


async def main(folder: str, key: str, arrived: bool, commands: list[list[str]]) -> None:
    backend = BubblewrapBackend(Path(folder))
    sandbox = await backend.provision(SandboxSpec(key=key, network=NO_NETWORK))
    calls = []
    for call_id, kind, script in commands:
        command = Shell(script=script) if kind == "shell" else Exec(argv=["bash", "-c", script])
        calls.append(asyncio.create_task(sandbox.run(call_id, command)))
    await asyncio.sleep(0)  # the calls are on their way now; how far, nobody knows
    if arrived:
        await sandbox.link.hello()  # answered in order, so the init has them all
    print("started", flush=True)
    await asyncio.gather(*calls)
    await asyncio.Event().wait()


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3] == "arrived", json.loads(sys.argv[4])))
