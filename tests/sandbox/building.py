"""A process that stands in for a server: it builds a layer, says where it is, and may be killed meanwhile."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from hostler.sandbox.backends import SandboxConfig, open_layers
from hostler.sandbox.layers.packages import LayerUnavailable, PackageSet


async def main(folder: str, *lines: str) -> None:
    layers = open_layers(Path(folder), SandboxConfig(), os.environ)
    print("started", flush=True)
    try:
        print((await layers.ensure(PackageSet(lines=lines))).key, flush=True)
    except LayerUnavailable as problem:
        print(problem)
    await layers.aclose()


asyncio.run(main(*sys.argv[1:]))
