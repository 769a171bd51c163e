"""A store with one process's vault on it."""

from __future__ import annotations

import msgspec

from credentials import Json
from hostler.services.credentials import Credentials
from hostler.services.vaults import Vaults
from hostler.store.store import Store
from hostler.vault import records
from hostler.vault.records import Record, Secrets
from hostler.vault.room import Vault
from hostler.vault.sealing import Sealer
from hostler.wire.vaults import CredentialCreate, CredentialUpdate, VaultCreate


class Place:
    """What one process has of a vault. Two of them on one store are two processes, as far as refreshing goes."""

    def __init__(self, store: Store, sealer: Sealer) -> None:
        self.store = store
        self.sealer = sealer
        self.vault = Vault(store, sealer)
        self.resolver = self.vault.resolver
        self.vaults = Vaults(store)
        self.credentials = Credentials(store, sealer)

    async def add_vault(self) -> str:
        return (await self.vaults.create(VaultCreate(display_name="v"))).id

    async def add(self, vault_id: str, auth: Json) -> str:
        params = msgspec.convert({"auth": auth}, CredentialCreate)
        return (await self.credentials.create(vault_id, params)).id

    async def update(self, vault_id: str, credential_id: str, auth: Json) -> None:
        params = msgspec.convert({"auth": auth}, CredentialUpdate)
        await self.credentials.update(vault_id, credential_id, params)

    async def record(self, credential_id: str) -> Record:
        found = await self.store.read(lambda: records.find_tx(credential_id))
        assert found is not None
        return found

    async def secrets(self, credential_id: str) -> Secrets:
        return (await self.record(credential_id)).secrets(self.sealer)
