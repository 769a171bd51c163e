"""The runbook side of a server, opened and closed as one: what is deployed, the tasks, and who works on them.

It must not know HTTP, nor how a browser or a client sees any of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from hostler.runbooks.contract import Agents
from hostler.runbooks.library import Library
from hostler.runbooks.runner import Runner, Settings
from hostler.store.dispatch import EmbeddedDispatcher
from hostler.store.store import Store
from hostler.store.tables import tasks


class Runbooks:
    def __init__(self, store: Store, folder: Path, agents: Agents, environ: Mapping[str, str]) -> None:
        self.store = store
        self.library = Library(store, folder)
        self.runner = Runner(store, EmbeddedDispatcher(store, tasks), self.library, agents, Settings())

    async def run(self) -> NoReturn:
        """Work on tasks until cancelled; the next start goes on."""
        await self.runner.run()
