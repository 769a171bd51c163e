"""What layers cost a session's start: with none, with cached ones, and with an overlay over the system.

It builds nothing: the layers are made of a few files, since a start does not depend on how many there are.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from hostler.sandbox.backends import SandboxConfig, open_layers
from hostler.sandbox.contract import NO_NETWORK, Layer, SandboxSpec
from hostler.sandbox.layers.packages import PackageSet
from rows import MS, Bench, Row, now, p
from sandbox_rows import backend, bare, ran


def made_layer(folder: Path, key: str, *files: str) -> Layer:
    for name in files:
        path = folder / key / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\necho probe\n")
        path.chmod(0o755)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    return Layer(key=key, source=folder / key)


async def starts(bench: Bench, layers: list[Layer], count: int) -> list[float]:
    spent = []
    async with backend(bench) as made:
        for number in range(count):
            start = now()
            sandbox = await made.provision(SandboxSpec(key=f"box_{number}", network=NO_NETWORK, layers=layers))
            await ran(sandbox, "first")
            spent.append((now() - start) / MS)
            await made.destroy(f"box_{number}")
    return spent


async def looked_up(folder: Path, count: int) -> list[float]:
    """How long it takes to know that a layer is there, as before each start."""
    layers, spent = open_layers(folder / "none", SandboxConfig(), {"PIP_CONFIG_FILE": "/dev/null"}), []
    for number in range(count):
        start = now()
        await layers.find(PackageSet(lines=(f"probe=={number}",)))
        spent.append((now() - start) / MS)
    await layers.aclose()
    return spent


async def layers(bench: Bench) -> list[Row]:
    count, folder = max(5, int(30 * bench.scale)), bench.folder / "layers"
    programs = made_layer(folder, "programs", "bin/probe", "python/probe.py", "lib/node_modules/probe/index.js")
    system = made_layer(folder, "system", "system/usr/bin/probe", "system/etc/probe/x", "system/var/lib/probe/x")
    none = await starts(bench, [], count)
    cached = await starts(bench, [programs], count)
    overlaid = await starts(bench, [programs, system], count)
    raw = [await bare("bash", "-c", "true") for _ in range(count)]
    known = await asyncio.create_task(looked_up(folder, count))
    return [
        Row(name="layers: start with none", unit="ms", value=p(none, 0.5), p99=p(none, 0.99), raw=p(raw, 0.5),
            note="raw: bwrap bash -c true"),
        Row(name="layers: start with a cached one", unit="ms", value=p(cached, 0.5), p99=p(cached, 0.99),
            raw=p(raw, 0.5), target=60),
        Row(name="layers: start with one over the system, too", unit="ms", value=p(overlaid, 0.5),
            p99=p(overlaid, 0.99), raw=p(raw, 0.5), target=60),
        Row(name="layers: to know whether one is there", unit="ms", value=p(known, 0.5), p99=p(known, 0.99)),
    ]  # fmt: skip


ROWS = [layers]
