"""The runbook side of a server, opened and closed as one: what is deployed, the tasks, and who works on them.

It must not know HTTP, nor how a browser or a client sees any of it.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from hostler.runbooks.acting import Acting
from hostler.runbooks.catalogue import Catalogue
from hostler.runbooks.config import RunbooksConfig
from hostler.runbooks.confining import Confining
from hostler.runbooks.dataplane.asked import Asked
from hostler.runbooks.dataplane.plane import DataPlane
from hostler.runbooks.invoking.agents import Agents, Home
from hostler.runbooks.invoking.directory import Registered
from hostler.runbooks.library import Library
from hostler.runbooks.registry.agents import RegisteredAgents
from hostler.runbooks.registry.connections import Connections
from hostler.runbooks.registry.entities import Entities
from hostler.runbooks.registry.tenants import Tenants
from hostler.runbooks.registry.workflows import Workflows
from hostler.runbooks.runner import Runner, Settings
from hostler.runbooks.schedules import Schedules
from hostler.runbooks.starting import Starts
from hostler.runbooks.uploads import Uploads
from hostler.runbooks.validating import import_faults
from hostler.store.dispatch import EmbeddedDispatcher
from hostler.store.store import Store
from hostler.store.tables import tasks
from hostler.vault.sealing import Sealer

MIB = 1024 * 1024


class Runbooks:
    def __init__(
        self,
        store: Store,
        sealer: Sealer,
        data: DataPlane,
        folder: Path,
        config: RunbooksConfig,
        environ: Mapping[str, str],
    ) -> None:
        """`folder` is this room's own. Of `environ` a bundle sees what `config` names."""
        self.store = store
        self.data = data
        confine = Confining(config.isolation, config.folders)
        self.library = Library(store, folder / "bundles", functools.partial(import_faults, confine=confine))
        directory = Registered(store, sealer)
        self.agents = Agents(
            store,
            directory,
            data,
            folder=folder / "incoming",
            max_bytes=config.document_mb * MIB,
        )
        seen = {name: environ[name] for name in config.environ if name in environ}
        settings = Settings(
            stall_seconds=config.stall_seconds,
            rest_seconds=config.rest_seconds,
            spare_seconds=config.spare_seconds,
            tasks_at_once=config.tasks_at_once,
            environ={**seen, **config.variables},
        )
        self.runner = Runner(
            store, EmbeddedDispatcher(store, tasks), self.library, self.agents, Asked(store, data), confine, settings
        )
        self.tenants = Tenants(store)
        self.entities = Entities(store)
        self.workflows = Workflows(store, self.library)
        self.registered = RegisteredAgents(store, sealer, self.agents.look)
        self.connections = Connections(store, sealer)
        self.catalogue = Catalogue(store, self.library)
        self.starts = Starts(store, self.library, self.runner.wake)
        self.acting = Acting(store, self.runner.wake, self.agents.reply)
        self.uploads = Uploads(
            self.acting, data, directory.place, folder=folder / "incoming", max_bytes=config.document_mb * MIB
        )
        self._schedules = Schedules(store, self.starts)

    async def run(self, home: Home) -> NoReturn:
        """Work on tasks, and start what is due, until cancelled; the next start goes on. `home` is where agents of this
        server are called."""
        self.agents.at_home(home)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._schedules.run(), name="schedules")
            await self.runner.run()

    async def aclose(self) -> None:
        await self.agents.aclose()
        await self.data.aclose()
