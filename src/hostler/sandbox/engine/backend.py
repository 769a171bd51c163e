"""A session's container on an engine: how one is made, looked at and ended, through Docker's or podman's API.

It removes nothing that does not carry its own data folder's label.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

from hostler.sandbox.container.backend import ContainerBackend, Life
from hostler.sandbox.container.egress import Egress
from hostler.sandbox.container.setup import Conditions
from hostler.sandbox.contract import Check, Limits, SandboxSpec, SandboxUnavailable
from hostler.sandbox.engine import probe
from hostler.sandbox.engine import spec as words
from hostler.sandbox.engine.api import Engine
from hostler.sandbox.engine.ground import Ground, Settings
from hostler.sandbox.engine.http import EngineError, ExecStream

_HELPER_SECONDS = 600.0


class EngineContainers:
    """One engine's, for one data folder: the backend's `Containers`."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._settings = settings
        self.engine = Engine(settings.http())
        self.ground = Ground(folder.absolute(), settings, self.engine)

    async def ready(self, spec: SandboxSpec) -> Conditions:
        if (spec.shared or spec.layers) and not self._settings.address.local:
            raise SandboxUnavailable("folders of this machine can't be shared with an engine on another one")
        await self.ground.ready()
        return self.ground.conditions()

    async def start(self, spec: SandboxSpec, limits: Limits) -> Life:
        made = await self.ground.ready()
        labels = made.labels(spec.key)
        await asyncio.gather(*(self.engine.make_volume(name, labels) for name in made.volumes(spec)))
        container = await self.engine.create(made.name(spec.key), words.container(made, spec, limits))
        try:
            await self.engine.start(container)
        except EngineError as error:
            await self.engine.remove(container)
            raise SandboxUnavailable(f"the container does not start: {error}") from error
        found = await self.engine.inspect(container)
        if found is None:
            raise SandboxUnavailable("the container vanished at its start")
        return Life(found.id, found.started)

    def copies(self, spec: SandboxSpec) -> dict[str, str]:
        return {}  # the container has mounts of them

    async def runs(self, key: str, life: Life) -> bool:
        found = await self.engine.inspect(life.container)
        return found is not None and found.running and found.started == life.started

    async def stream(self, key: str, life: Life, argv: list[str]) -> ExecStream:
        return await self.engine.stream(life.container, argv)

    async def explain(self, key: str, life: Life) -> str:
        with contextlib.suppress(SandboxUnavailable):
            found = await self.engine.inspect(life.container)
            if found is not None and not found.running:
                said = found.error or await self.engine.logs(life.container)
                return f"it ended with {found.exit_code}: {said or 'without a word'}"
        return ""

    async def stop(self, key: str) -> None:
        await self.engine.remove((await self.ground.known()).name(key))

    async def remove(self, key: str) -> None:
        made = await self.ground.known()
        await self.engine.remove(made.name(key))
        for volume in await self.engine.volumes(f"{words.SESSION_LABEL}={key}"):
            if volume.startswith(f"{made.name(key)}."):  # a label of ours may stand on another server's
                await self.engine.remove_volume(volume)

    async def keys(self) -> set[str]:
        found = await self.remove_helpers()
        return {(one.get("Labels") or {}).get(words.SESSION_LABEL, "") for one in found}

    async def remove_helpers(self) -> list[dict[str, Any]]:
        """Those that a killed server left. One that is young may be another process's at work. Returns all containers
        that there were."""
        made = await self.ground.known()
        found = await self.engine.labelled(f"{words.FOLDER_LABEL}={made.install}")
        for one in found:
            old = time.time() - float(one.get("Created") or 0) > _HELPER_SECONDS
            if words.SESSION_LABEL not in (one.get("Labels") or {}) and old:
                with contextlib.suppress(SandboxUnavailable):
                    await self.engine.remove(str(one.get("Id")))
        return found

    def probe(self, limits: Limits) -> list[Check]:
        return probe.checks(self._settings, limits)

    async def aclose(self) -> None:
        pass  # each request has its own connection


class EngineBackend(ContainerBackend):
    """The backends `docker` and `podman`."""

    def __init__(self, folder: Path, settings: Settings, *, limits: Limits, egress: Egress | None = None) -> None:
        containers = EngineContainers(folder, settings)
        self.engine = containers.engine
        self.ground = containers.ground
        self.remove_helpers = containers.remove_helpers
        super().__init__(folder, containers, limits=limits, egress=egress)
