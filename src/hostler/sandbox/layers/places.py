"""Where builds run, and how what they leave gets out: on this machine in sandboxes of its own programs.

Another place is a container's image (engine/workshop.py). It must not know what is built, nor what becomes of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from hostler.sandbox.contract import WORKSPACE, Backend, Layer, Sandbox, SandboxSpec
from hostler.sandbox.layers import systembase
from hostler.sandbox.layers.packages import Manager, Programs
from hostler.sandbox.layers.toolchains import MachinePrograms
from hostler.sandbox.rootfs import Layout

_LAYER = "layer"
BUILT = f"{WORKSPACE}/{_LAYER}"  # where a build leaves what it has made, unless it changes the system's own folders


class Place(Protocol):
    """`sandbox` names a build's; what this server keeps of it lies in a folder of that name, and goes with it."""

    async def programs(self, base: Layer | None) -> Programs:
        """Those that builds upon this apt layer have. Raises `SandboxUnavailable`."""
        ...

    def backend(self, manager: str) -> Backend:
        """Makes the sandboxes of its builds, which reach what the manager may."""
        ...

    def hearing(self, sandbox: Sandbox, log: Path) -> AbstractAsyncContextManager[None]:
        """Meanwhile what the build writes to its log stands in `log`, and all of it once this has ended."""
        ...

    async def take_out(self, manager: Manager, sandbox: str, half: Path) -> None:
        """Make the new folder `half` of what a build has left. Nothing of it runs any more. Raises `Unfit`, OSError and
        `SandboxUnavailable`."""
        ...

    async def destroy(self, sandbox: str) -> None:
        """Remove what a build has left. Raises `SandboxUnavailable`."""
        ...

    async def tidy(self) -> None:
        """Remove what processes that were killed have left and no build's name stands for. Raises
        `SandboxUnavailable`."""
        ...

    async def in_use(self, sandboxes: Path) -> set[str]:
        """The layers that sandboxes of this folder may have mounted. Raises `SandboxUnavailable`."""
        ...

    async def aclose(self) -> None: ...


class Machine:
    """See `Place`. All backends have the folder `building`."""

    def __init__(self, building: Path, backends: Mapping[str, Backend]) -> None:
        self._building = building
        self._backends = backends

    async def programs(self, base: Layer | None) -> Programs:
        return MachinePrograms(base)

    def backend(self, manager: str) -> Backend:
        return self._backends[manager]

    def hearing(self, sandbox: Sandbox, log: Path) -> AbstractAsyncContextManager[None]:
        return contextlib.nullcontext()  # it is the very file

    async def take_out(self, manager: Manager, sandbox: str, half: Path) -> None:
        layout = Layout(self._building / sandbox)
        if manager.system:
            await asyncio.to_thread(systembase.collect, layout, half)
        else:
            os.rename(layout.files / "workspace" / _LAYER, half)  # of a link, the link itself

    async def destroy(self, sandbox: str) -> None:
        await next(iter(self._backends.values())).destroy(sandbox)

    async def tidy(self) -> None:
        """There is nothing but the builds' folders."""

    async def in_use(self, sandboxes: Path) -> set[str]:
        return await asyncio.to_thread(_mounted, sandboxes)

    async def aclose(self) -> None:
        for backend in self._backends.values():
            await backend.aclose(stop=False)


async def provisioned(backend: Backend, spec: SandboxSpec) -> Sandbox:
    """Start a sandbox, not cut off in the middle: so nothing of it is made after all of it was removed."""
    starting = asyncio.ensure_future(backend.provision(spec))
    try:
        return await asyncio.shield(starting)
    finally:
        await asyncio.wait({starting})


def _mounted(sandboxes: Path) -> set[str]:
    found: set[str] = set()
    with contextlib.suppress(OSError):
        for folder in sandboxes.iterdir():
            layout = Layout(folder)
            if layout.state.exists():
                with contextlib.suppress(OSError):
                    found |= set(os.listdir(layout.root / "opt/hostler/layers"))
    return found
