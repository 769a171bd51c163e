"""Builds of package layers in containers of the sessions' own image, and what gets out of them: data, as a stream.

To its engine a build is a session like any other, but that it reaches what its package manager may. Nothing of the
server's machine is lent to it but folders that the operator has named as places of packages. It must not know what is
built, nor what becomes of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from hostler.sandbox.container import collecting, installation
from hostler.sandbox.container.records import Unreadable
from hostler.sandbox.contract import LAYERS, Backend, Layer, Sandbox, SandboxUnavailable
from hostler.sandbox.engine.api import Engine
from hostler.sandbox.engine.backend import EngineBackend
from hostler.sandbox.engine.hearing import hearing
from hostler.sandbox.engine.images import Images
from hostler.sandbox.engine.spec import FOLDER_LABEL
from hostler.sandbox.layers import manifests
from hostler.sandbox.layers.packages import Manager, Programs
from hostler.sandbox.layers.places import BUILT
from hostler.sandbox.packing import ENTRY_BYTES, TooMuch
from hostler.sandbox.unpacking import Misplaced


class Workshop:
    """See `layers.places.Place`. `backends`, one for each manager, have the same folder and the same engine."""

    def __init__(self, engine: Engine, images: Images, backends: Mapping[str, EngineBackend], max_bytes: int) -> None:
        self._engine = engine
        self._images = images
        self._backends = backends
        self._max_bytes = max_bytes

    async def programs(self, base: Layer | None) -> Programs:
        return await self._images.programs()

    def backend(self, manager: str) -> Backend:
        return self._backends[manager]

    def hearing(self, sandbox: Sandbox, log: Path) -> AbstractAsyncContextManager[None]:
        return hearing(sandbox, log)

    async def take_out(self, manager: Manager, sandbox: str, half: Path) -> None:
        """In another container with the same files: in that of the build, packages have run."""
        limit = self._max_bytes + ENTRY_BYTES * manifests.MOST_FILES
        try:
            async with self._backends[manager.name].resting(sandbox) as open_stream:
                await collecting.collect(open_stream, BUILT, half, limit)
        except TooMuch as error:
            raise manifests.too_large(self._max_bytes) from error
        except (Misplaced, Unreadable) as error:
            raise manifests.Unfit(f"what the build has left is no folder of packages ({error})") from error

    async def destroy(self, sandbox: str) -> None:
        await next(iter(self._backends.values())).destroy(sandbox)

    async def tidy(self) -> None:
        await next(iter(self._backends.values())).remove_helpers()

    async def in_use(self, sandboxes: Path) -> set[str]:
        install = await asyncio.to_thread(_install, sandboxes)
        found = await self._engine.labelled(f"{FOLDER_LABEL}={install}") if install else []
        targets = [target for each in found for target in await self._engine.mounts(str(each.get("Id")))]
        return {target.removeprefix(f"{LAYERS}/") for target in targets if target.startswith(f"{LAYERS}/")}

    async def aclose(self) -> None:
        for backend in self._backends.values():
            with contextlib.suppress(SandboxUnavailable):
                await backend.aclose(stop=False)


def _install(sandboxes: Path) -> str:
    return installation.name(sandboxes.absolute()) if sandboxes.is_dir() else ""
