"""The runbook side of a server, opened and closed as one: what is deployed, the tasks, and who works on them.

It must not know HTTP, nor how a browser or a client sees any of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from hostler.runbooks.config import RunbooksConfig
from hostler.runbooks.invoking.agents import Agents, Home
from hostler.runbooks.invoking.directory import Registered
from hostler.runbooks.invoking.passback import Documents
from hostler.runbooks.library import Library
from hostler.runbooks.runner import Runner, Settings
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
        documents: Documents,
        folder: Path,
        config: RunbooksConfig,
        environ: Mapping[str, str],
    ) -> None:
        """`folder` is this room's own. Of `environ` a bundle sees what `config` names."""
        self.store = store
        self.library = Library(store, folder / "bundles")
        self.agents = Agents(
            store,
            Registered(store, sealer),
            documents,
            folder=folder / "incoming",
            max_bytes=config.document_mb * MIB,
        )
        seen = {name: environ[name] for name in config.environ if name in environ}
        settings = Settings(stall_seconds=config.stall_seconds, environ={**seen, **config.variables})
        self.runner = Runner(store, EmbeddedDispatcher(store, tasks), self.library, self.agents, settings)

    async def run(self, home: Home) -> NoReturn:
        """Work on tasks until cancelled; the next start goes on. `home` is where agents of this server are called."""
        self.agents.at_home(home)
        await self.runner.run()

    async def aclose(self) -> None:
        await self.agents.aclose()
