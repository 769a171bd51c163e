"""The data folder: that it can be written, that one server has it, and that it belongs to one database.

Files and sandboxes lie in it that only rows of its database name, and what no row names is swept away. So it keeps
the identity of the database that first used it, and a server with another one is refused before anything is lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import insert, select

from hostler.ids import new_id
from hostler.settings import BadSettings
from hostler.store.sql import Tx
from hostler.store.store import AlreadyOpen, Store
from hostler.store.tables import identity

IDENTITY = "database-id"
_READ = select(identity.c.id)
_WRITE = insert(identity)


def make_data_dir(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise BadSettings(
            f"The data folder {folder} can't be written: {error.strerror}. Choose one with --data-dir."
        ) from error


def find_data_dir(folder: Path) -> None:
    """For commands that have no use without what a server has put there. Raises BadSettings."""
    if not folder.is_dir():
        raise BadSettings(f"There is no data folder {folder}. Name the server's with --data-dir.")


@contextlib.contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Hold the data folder: two servers on one would both run its sessions."""
    make_data_dir(folder)
    descriptor = os.open(folder / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise AlreadyOpen(
            f"Another server uses the data folder {folder}. Stop it, or choose another --data-dir."
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


async def belongs(folder: Path, store: Store) -> None:
    """Bind a new data folder to this database. Raises BadSettings when it belongs to another one."""
    known = await store.write(_identity)
    file = folder / IDENTITY
    if not file.exists():
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as made:
            made.write(known + "\n")
    elif file.read_text().strip() != known:
        raise BadSettings(
            f"The data folder {folder} belongs to another database. Choose another --data-dir or the --database it was "
            f"used with. To give the folder to this database, delete {file}: files and sandboxes of the other are then "
            "removed."
        )


def _identity() -> Tx[str]:
    rows = yield _READ
    if rows:
        known: str = rows[0][0]
        return known
    made = new_id("db")
    yield _WRITE, {"id": made}
    return made
