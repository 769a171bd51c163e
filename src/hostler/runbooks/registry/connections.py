"""Data connections and mailboxes: what a firm says about the platforms that it has. It must not connect to any.

What looks like a secret in a connection's configuration is sealed, and shown as asterisks.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from sqlalchemy import bindparam, insert, select

from hostler import clock
from hostler.errors import NotFound, Unsupported
from hostler.runbooks.registry import tenants
from hostler.runbooks.registry.finding import check_config, new_id, sent_again
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.store.tables import capabilities
from hostler.store.tables import data_connections as table
from hostler.vault.sealing import Sealer
from hostler.wire.base import timestamp
from hostler.wire.workspace import (
    Capability,
    CapabilityCreate,
    Config,
    ConnectionCreate,
    DataConnection,
    Mailbox,
    MailboxCreate,
    Tenant,
    Tested,
)

MASK = "********"
_SECRET = re.compile(r"secret|passw|passphrase|token|credential|(private|api|access|account|shared)_?key|^key$", re.I)
_c, _k = table.c, capabilities.c
_COLUMNS = (_c.id, _c.name, _c.body, _c.secret, _c.created_at, _c.updated_at)
_ALL = select(*_COLUMNS).where(_c.kind == bindparam("kind")).order_by(_c.created_at, _c.id)
_ONE = _ALL.where(_c.id == bindparam("ref"))
_INSERT = insert(table)
_CAPABILITY = select(_k.id, _k.body).where(_k.name == bindparam("called"), _k.version == bindparam("v"))
_ADD = insert(capabilities)


class Kept(msgspec.Struct, kw_only=True, omit_defaults=True):
    provider: str
    ownership: str | None = None
    region: str | None = None
    config: Config = {}
    tenant_id: str | None = None
    address: str | None = None


class Row(msgspec.Struct, frozen=True):
    id: str
    name: str
    body: bytes
    secret: bytes | None
    created_at: int
    updated_at: int

    @property
    def kept(self) -> Kept:
        return _decode(self.body)

    def __repr__(self) -> str:
        return f"Row(id={self.id!r})"


_decode = msgspec.json.Decoder(Kept).decode


class Connections:
    def __init__(self, store: Store, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer

    # -- data platforms --

    async def create(self, params: ConnectionCreate) -> DataConnection:
        secrets: dict[str, Any] = {}
        config = without_secrets(check_config(params.config, "config"), "", secrets)
        kept = Kept(provider=params.provider, ownership=params.ownership, region=params.region, config=config)
        sealing = msgspec.json.encode(secrets) if secrets else None
        return _connection(await self._keep("data", params.name, kept, sealing))

    async def all(self) -> list[DataConnection]:
        return [_connection(row) for row in await self._rows("data")]

    async def get(self, ref: str) -> DataConnection:
        return _connection(await self._find(ref))

    async def test(self, ref: str) -> Tested:
        row = await self._find(ref)
        return Tested(success=False, message=_not_reached(row))

    async def schemas(self, ref: str) -> list[dict[str, Any]]:
        """Raises Unsupported."""
        raise Unsupported(_not_reached(await self._find(ref)))

    async def tenants(self, ref: str) -> list[Tenant]:
        row = await self._find(ref)
        every = await tenants.Tenants(self._store).all()
        return [each for each in every if each.data_platform_config_id == row.id]

    # -- mailboxes --

    async def create_mailbox(self, params: MailboxCreate, scope: str | None = None) -> Mailbox:
        def find() -> Tx[tenants.TenantRow]:
            return (yield from tenants.find_active_tx(params.tenant_id, scope))

        tenant = await self._store.read(find)
        kept = Kept(provider=params.provider, tenant_id=tenant.id, address=params.address)
        return _mailbox(await self._keep("email", params.address or params.provider, kept, None))

    async def everything(self, scope: str | None = None) -> list[dict[str, Any]]:
        """All of both, each with its `kind`."""
        mailboxes = [_mailbox(row) for row in await self._rows("email")]
        mine = [each for each in mailboxes if scope in (None, each.tenant_id)]
        data = await self.all() if scope is None else []
        told = [("data", each) for each in data] + [("email", each) for each in mine]
        return [{"kind": kind, **msgspec.to_builtins(each)} for kind, each in told]

    # -- capabilities --

    async def add_capability(self, params: CapabilityCreate) -> Capability:
        """One of a name and version is there once; added again, it is the same."""
        now, made = clock.now(), new_id()
        added = Capability(
            id=made,
            name=params.name,
            description=params.description,
            version=params.version,
            created_at=timestamp(now),
        )
        row = {
            "id": made,
            "name": params.name,
            "version": params.version or "",
            "body": msgspec.json.encode(added),
            "created_at": now,
        }

        def tx() -> Tx[Capability]:
            known = yield _CAPABILITY, {"called": params.name, "v": params.version or ""}
            if known:
                return msgspec.json.decode(known[0][1], type=Capability)
            yield _ADD, row
            return added

        return await self._store.write(tx)

    # -- rows --

    async def _keep(self, kind: str, name: str, kept: Kept, secret: bytes | None) -> Row:
        now, made = clock.now(), new_id()
        sealed = self._sealer.seal(made, secret) if secret is not None else None

        def tx() -> Tx[Row]:
            for found in (yield _ALL, {"kind": kind}):
                known = Row(*found)
                same = (known.name, known.kept, self._secrets(known)) == (name, kept, secret)
                if same and sent_again(known.created_at, now):
                    return known
            row = Row(made, name, msgspec.json.encode(kept), sealed, now, now)
            yield _INSERT, {"kind": kind, **msgspec.structs.asdict(row)}
            return row

        return await self._store.write(tx)

    def _secrets(self, row: Row) -> bytes | None:
        return self._sealer.open(row.id, bytes(row.secret)) if row.secret is not None else None

    async def _rows(self, kind: str) -> list[Row]:
        def tx() -> Tx[list[Row]]:
            return [Row(*row) for row in (yield _ALL, {"kind": kind})]

        return await self._store.read(tx)

    async def _find(self, ref: str) -> Row:
        def tx() -> Tx[Row]:
            rows = yield _ONE, {"kind": "data", "ref": ref}
            if not rows:
                raise NotFound(f"Data connection {ref} was not found.")
            return Row(*rows[0])

        return await self._store.read(tx)


def without_secrets(value: Any, path: str, secrets: dict[str, Any]) -> Any:
    """The same with asterisks in place of secrets, which are put into `secrets` by their path."""
    if isinstance(value, list):
        return [without_secrets(item, f"{path}.{index}", secrets) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    shown = {}
    for name, inner in value.items():
        if _SECRET.search(name) and inner not in (None, ""):
            secrets[f"{path}.{name}".lstrip(".")] = inner
            shown[name] = MASK
        else:
            shown[name] = without_secrets(inner, f"{path}.{name}", secrets)
    return shown


def _not_reached(row: Row) -> str:
    return f"Hostler keeps this connection, but does not connect to {row.kept.provider} itself; nothing was tested."


def _connection(row: Row) -> DataConnection:
    kept = row.kept
    said = {
        "id": row.id,
        "name": row.name,
        "provider": kept.provider,
        "ownership": kept.ownership,
        "region": kept.region,
        "config": kept.config,
        "createdAt": timestamp(row.created_at),
        "updatedAt": timestamp(row.updated_at),
    }
    return msgspec.convert(said, DataConnection)


def _mailbox(row: Row) -> Mailbox:
    kept = row.kept
    return Mailbox(
        id=row.id,
        tenant_id=kept.tenant_id or "",
        provider=kept.provider,
        address=kept.address,
        created_at=timestamp(row.created_at),
    )
