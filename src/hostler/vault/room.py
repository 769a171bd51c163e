"""Puts the parts of the vault together for one process, and takes them apart at its end. It must not hold logic."""

from __future__ import annotations

from hostler.store.store import Store
from hostler.vault.outward import Outward
from hostler.vault.renewing import Renewer
from hostler.vault.resolver import Resolver
from hostler.vault.sealing import Sealer
from hostler.vault.variables import Variables


class Vault:
    def __init__(self, store: Store, sealer: Sealer) -> None:
        self.sealer = sealer
        self.outward = Outward()
        self.renewer = Renewer(store, sealer, self.outward)
        self.variables = Variables(store, sealer)
        self.resolver = Resolver(store, sealer, self.renewer)

    async def aclose(self) -> None:
        """Finish what is under way; before the store is closed."""
        await self.renewer.aclose()
        await self.outward.aclose()
