"""Which columns hold sealed values, and how all of them are sealed anew. It must not know what the secrets are for.

A room that stores sealed values adds its column to `SEALED`; then the start checks that its key is known, and a
rotation covers it. Each value says by which key it was sealed, so this may stop at any point and be taken up again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Column, bindparam, func, literal_column, select, update

from hostler.store.sql import Many, Tx
from hostler.store.store import Store
from hostler.store.tables import data_connections, registered_agents, resources, vault_credentials
from hostler.vault import keyfile
from hostler.vault.sealing import PREFIX_BYTES, Key, Sealer

BATCH = 200


class SealedColumn(NamedTuple):
    """A nullable column of sealed values, and the column with the id of the owner that each is bound to: the primary
    key of its table."""

    owner: Column[str]
    sealed: Column[bytes]


SEALED = (
    SealedColumn(vault_credentials.c.id, vault_credentials.c.sealed),
    SealedColumn(resources.c.id, resources.c.secret),
    SealedColumn(registered_agents.c.id, registered_agents.c.secret),
    SealedColumn(data_connections.c.id, data_connections.c.secret),
)


class Progress(NamedTuple):
    """Told after each batch: of which table, and how many values of it are done out of how many."""

    table: str
    done: int
    total: int


class Rotated(NamedTuple):
    """How a rotation ended: the key that now seals everything, how many values were sealed anew, whether this finished
    an earlier rotation, whether the key comes from the environment, and whether the key file holds keys beside it."""

    key_id: str
    resealed: int
    resumed: bool
    configured: bool
    file_left: bool


Tell = Callable[[Progress], None]


def in_use_tx() -> Tx[set[bytes]]:
    """What stored values begin with: one prefix for each key in use."""
    found: set[bytes] = set()
    for column in SEALED:
        rows = yield select(_prefix(column)).where(column.sealed.is_not(None)).distinct()
        found.update(bytes(row[0]) for row in rows)
    return found


async def rotate(store: Store, data_dir: Path, configured: str | None, tell: Tell) -> Rotated:
    """Seal everything with another key: a new one in the key file, or the first one of the environment.

    The caller holds the data folder and the database, so nobody else seals meanwhile. The file knows the old key and
    the new one from before the first value is sealed anew until after the last one, so this may be killed at any point:
    a server works with the file as it is, and the next rotation takes this one up. Raises BadSettings or NotOpened.
    """
    file = data_dir / keyfile.NAME
    found = keyfile.find_keys(data_dir, configured)
    keyfile.check_known(data_dir, found.keys, await store.read(in_use_tx))
    keys, resumed = found.keys, not found.configured and len(found.keys) > 1
    if not found.configured and not resumed:
        keys = [Key.new(), *keys]
        keyfile.write_file(file, keys)
    resealed = await reseal(store, Sealer(keys), tell)
    if not found.configured:
        keyfile.write_file(file, keys[:1])
    left = found.configured and file.exists()
    return Rotated(keys[0].id.hex(), resealed, resumed, found.configured, left)


async def reseal(store: Store, sealer: Sealer, tell: Tell) -> int:
    """Seal every value anew that is not sealed with the sealer's key, batch by batch; return how many there were.
    Raises NotOpened for one that can't be opened; what was done by then stays."""
    return sum([await _reseal(store, sealer, column, tell) for column in SEALED])


async def _reseal(store: Store, sealer: Sealer, column: SealedColumn, tell: Tell) -> int:
    total, done = await store.read(lambda: _count_tx(column, sealer)), 0
    while count := await store.write(lambda: _batch_tx(column, sealer)):
        done += count
        tell(Progress(column.sealed.table.name, done, max(total, done)))
    return done


def _prefix(column: SealedColumn) -> Any:
    return func.substr(column.sealed, literal_column("1"), literal_column(str(PREFIX_BYTES)))


def _count_tx(column: SealedColumn, sealer: Sealer) -> Tx[int]:
    rows = yield select(func.count()).where(column.sealed.is_not(None), _prefix(column) != sealer.prefix)
    count: int = rows[0][0]
    return count


def _batch_tx(column: SealedColumn, sealer: Sealer) -> Tx[int]:
    stale = select(column.owner, column.sealed).where(column.sealed.is_not(None), _prefix(column) != sealer.prefix)
    rows = yield stale.limit(BATCH).with_for_update()
    anew = [{"key": owner, "anew": sealer.seal(owner, sealer.open(owner, bytes(sealed)))} for owner, sealed in rows]
    if anew:
        change = update(column.sealed.table).where(column.owner == bindparam("key"))
        yield Many(change.values({column.sealed.name: bindparam("anew")}), anew)
    return len(rows)
