"""A process that stands in for a server: it builds a layer in containers, and may be killed meanwhile."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from engines import daemons
from hostler.sandbox.backends import SandboxConfig, open_layers
from hostler.sandbox.layers.packages import PackageSet


async def main(folder: str, engine: str, *lines: str) -> None:
    config = SandboxConfig(backend="docker", engine=engine, image=daemons.IMAGE)
    layers = open_layers(Path(folder), config, os.environ)
    print((await layers.ensure(PackageSet(lines=lines))).key, flush=True)
    await layers.aclose()


asyncio.run(main(*sys.argv[1:]))
