"""A process that stands in for a server: provisions a sandbox in a cluster, starts calls, and waits to be killed."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from hostler.sandbox.container.backend import ContainerBackend
from hostler.sandbox.contract import NO_NETWORK, Exec, Limits, SandboxSpec, Shell
from hostler.sandbox.kubernetes import access, cluster
from hostler.sandbox.kubernetes.settings import KubernetesConfig


async def main(folder: str, kubeconfig: str, key: str, commands: list[list[str]]) -> None:
    settings = cluster.Settings(config=KubernetesConfig(), image="registry.example/sandbox:1")
    containers = cluster.Cluster(Path(folder), settings, lambda: access.find(kubeconfig, "", {}))
    backend = ContainerBackend(Path(folder), containers, limits=Limits())
    sandbox = await backend.provision(SandboxSpec(key=key, network=NO_NETWORK))
    calls = []
    for call_id, kind, script in commands:
        command = Shell(script=script) if kind == "shell" else Exec(argv=["bash", "-c", script])
        calls.append(asyncio.create_task(sandbox.run(call_id, command)))
    await asyncio.sleep(0)  # the calls are on their way now
    await sandbox.calls.hello()  # answered in order, so the init has them all
    print("started", flush=True)
    await asyncio.gather(*calls)
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:4], json.loads(sys.argv[4])))
