"""What a runbook's statement may do to a SQLite database, and for how long. It must not know tables.

The statement's first word was looked at before (`dialect.verb_of`); this is asked by SQLite itself, for each thing that
it is about to do.
"""

from __future__ import annotations

import sqlite3
import time

_STEPS = 10_000
_DENIED = frozenset(
    {
        sqlite3.SQLITE_ATTACH,
        sqlite3.SQLITE_DETACH,
        sqlite3.SQLITE_PRAGMA,
        sqlite3.SQLITE_TRANSACTION,
        sqlite3.SQLITE_SAVEPOINT,
        sqlite3.SQLITE_CREATE_VTABLE,
        sqlite3.SQLITE_DROP_VTABLE,
        sqlite3.SQLITE_CREATE_TEMP_TABLE,
        sqlite3.SQLITE_CREATE_TEMP_VIEW,
        sqlite3.SQLITE_CREATE_TEMP_INDEX,
        sqlite3.SQLITE_CREATE_TEMP_TRIGGER,
        sqlite3.SQLITE_CREATE_TRIGGER,
    }
)
_FUNCTIONS = frozenset({"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit", "randomblob", "zeroblob"})
OURS = "data_plane"


class Guard:
    """`begin` before each statement, `stop` from any thread."""

    def __init__(self) -> None:
        self._ours = True
        self._until = 0.0
        self._stopped = False
        self.expired = False

    def install(self, connection: sqlite3.Connection) -> None:
        connection.set_authorizer(self._allows)
        connection.set_progress_handler(self._over, _STEPS)

    def begin(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self.expired = False
        self._stopped = False

    def trust(self, ours: bool) -> None:
        """Whether the next statements are ours, and not a runbook's."""
        self._ours = ours

    def stop(self) -> None:
        self._stopped = True

    def _over(self) -> bool:
        self.expired = self.expired or time.monotonic() > self._until
        return self._stopped or self.expired

    def _allows(self, action: int, first: str | None, second: str | None, _schema: str | None, _by: str | None) -> int:
        if self._ours:
            return sqlite3.SQLITE_OK
        if action in _DENIED or (action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _FUNCTIONS):
            return sqlite3.SQLITE_DENY
        if OURS in (first, second) and action not in (sqlite3.SQLITE_READ, sqlite3.SQLITE_SELECT):
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK
