"""What an engine must have before any session's container: the image, and a volume with our programs.

It is looked at once a process. It must not be tried again and again where something is missing for good: each start of
a session asks, and hears the reason.
"""

from __future__ import annotations

import asyncio
import hashlib
import platform
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from hostler.sandbox import rootfs
from hostler.sandbox.container import installation, setup
from hostler.sandbox.container.setup import Conditions
from hostler.sandbox.contract import SandboxUnavailable
from hostler.sandbox.engine import spec as words
from hostler.sandbox.engine.api import Engine
from hostler.sandbox.engine.http import Address, EngineError, EngineHttp
from hostler.sandbox.engine.spec import Made

_READY = ".ready"
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator chose."""

    address: Address
    image: str
    runtime: str = ""
    ripgrep: Path | None = None
    bundle: Callable[[], Path | None] | None = None  # the certificates that the inside trusts
    lonely_seconds: int = 3600

    def http(self) -> EngineHttp:
        return EngineHttp(self.address)


def machine_of(info: dict[str, object]) -> str:
    """The engine's machine in the words of Python's `platform`."""
    name = str(info.get("Architecture", ""))
    return _MACHINES.get(name, name)


async def find_image(engine: Engine, name: str) -> dict[str, Any]:
    """Raises `SandboxUnavailable` where it is missing."""
    found = await engine.image(name)
    if found is None:
        raise SandboxUnavailable(f"the engine has no image {name!r}: build it (docker/Dockerfile) or pull it there")
    return found


class Ground:
    """One backend's."""

    def __init__(self, folder: Path, settings: Settings, engine: Engine) -> None:
        self._folder = folder
        self._settings = settings
        self._engine = engine
        self._made: Made | None = None
        self._ready = False
        self._lock = asyncio.Lock()

    async def known(self) -> Made:
        """What the engine can do. Raises `SandboxUnavailable`."""
        async with self._lock:
            return await self._known()

    async def ready(self) -> Made:
        """The same, once all that a container needs is there. Raises `SandboxUnavailable`."""
        async with self._lock:
            made = await self._known()
            if not self._ready:
                made = self._made = msgspec.structs.replace(made, health=await self._check_image())
                await self._bring_programs(made)
                self._ready = True
            return made

    def conditions(self) -> Conditions:
        """What a container's init is to be told of all this. Only after `ready`."""
        assert self._made is not None
        return Conditions(
            machine=platform.machine(),
            ripgrep=self._settings.ripgrep is not None,
            bundle=self._bundle() is not None,
            watch_memory=not self._made.memory,
            lonely_seconds=self._settings.lonely_seconds,
        )

    async def _known(self) -> Made:
        if self._made is None:
            info = await self._engine.info()
            if machine_of(info) != platform.machine():
                raise SandboxUnavailable(
                    f"the engine runs on {machine_of(info)}, and this server's programs are for {platform.machine()}"
                )
            programs = await asyncio.to_thread(self._programs)
            self._made = Made(
                install=installation.name(self._folder),
                image=self._settings.image,
                runtime=self._settings.runtime,
                programs=f"hostler-programs-{_digest(programs)}",
                memory=bool(info.get("MemoryLimit")),
                swap=bool(info.get("SwapLimit")),
                processes=bool(info.get("PidsLimit")),
                cpus=bool(info.get("CpuCfsQuota")),
            )
        return self._made

    def _bundle(self) -> Path | None:
        return self._settings.bundle() if self._settings.bundle else rootfs.ca_bundle(None)

    def _programs(self) -> dict[str, bytes]:
        paths = installation.programs(self._settings.ripgrep, self._bundle())
        return {name: path.read_bytes() for name, path in paths.items()}

    async def _check_image(self) -> bool:
        """Whether it has a health check of its own. Raises `SandboxUnavailable` where it is missing."""
        found = await find_image(self._engine, self._settings.image)
        return bool((found.get("Config") or {}).get("Healthcheck"))

    async def _bring_programs(self, made: Made) -> None:
        """Fill the volume, unless it is full: its mark is written when all else is there."""
        name = f"hostler-{made.install}.helper-{secrets.token_hex(4)}"
        helper = await self._engine.create(name, words.helper(made))
        try:
            if not await self._engine.has_file(helper, f"{setup.PROGRAMS}/{_READY}"):
                await self._upload(helper, await asyncio.to_thread(self._programs))
                await self._upload(helper, {_READY: b""})
        finally:
            await self._engine.remove(helper)

    async def _upload(self, helper: str, files: dict[str, bytes]) -> None:
        """Twice, if need be: the same files may be put there again."""
        try:
            await self._engine.upload(helper, setup.PROGRAMS, files)
        except EngineError:
            await self._engine.upload(helper, setup.PROGRAMS, files)


def _digest(programs: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, data in sorted(programs.items()):
        digest.update(f"{name} {len(data)} ".encode() + data)
    return digest.hexdigest()[:16]
