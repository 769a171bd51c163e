"""Makes the tables that a tenant's PostgreSQL database lacks, and binds the database to its tenant.

The published SQL has no column that tells tenants apart, so a database is one tenant's: a second one is refused, and so
is the database that the server keeps its own rows in.
"""

from __future__ import annotations

import asyncpg

from hostler.runbooks.dataplane.problems import NotOpened, NotTheirs
from hostler.runbooks.dataplane.schema import INDEXES, SCHEMAS, TABLES

_LOCK = 0x686F73745F64  # so that two that open it at once don't make the same table
_OWN = "SELECT to_regclass('registered_agents') IS NOT NULL AND to_regclass('api_keys') IS NOT NULL"
_BIND = "INSERT INTO system.data_plane (one, tenant) VALUES (1, $1) ON CONFLICT DO NOTHING"
_HAS_HASH = """SELECT 1 FROM information_schema.columns
    WHERE table_schema = 'ingest' AND table_name = 'submitted_documents' AND column_name = 'sha256'"""
# Uncompressed, so that a piece of a document can be read without the rest of it.
_STORAGE = "ALTER TABLE ingest.submitted_documents ALTER COLUMN data_bytes SET STORAGE EXTERNAL"


async def prepare(connection: asyncpg.Connection, tenant: str) -> None:
    """Raises NotTheirs, NotOpened."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        if await connection.fetchval(_OWN):
            raise NotOpened("This is the server's own database; give the data plane another one.")
        for schema in SCHEMAS:
            if not await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", schema):
                await connection.execute(f"CREATE SCHEMA {schema}")
        for name, statement in TABLES.items():
            if not await _there(connection, name):
                await connection.execute(statement)
                if name == "ingest.submitted_documents":
                    await connection.execute(_STORAGE)
        if not await connection.fetchval(_HAS_HASH):
            await connection.execute("ALTER TABLE ingest.submitted_documents ADD COLUMN sha256 text")
        for name, statement in INDEXES.items():
            if not await _there(connection, name):
                await connection.execute(statement)
        await connection.execute(_BIND, tenant)
        owner = await connection.fetchval("SELECT tenant FROM system.data_plane WHERE one = 1")
    if owner != tenant:
        raise NotTheirs(
            f"The database of the data plane belongs to the tenant {owner!r}, so {tenant!r} can't have it too. Put "
            "{tenant} into the URL's database name to give each tenant one of its own, or name one for "
            f"{tenant!r} in the config file under [data_plane.tenants]."
        )


async def _there(connection: asyncpg.Connection, name: str) -> bool:
    return bool(await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", name))
