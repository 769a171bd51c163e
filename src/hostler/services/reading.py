"""The smallest transactions: one statement, all its rows or the first. It must not know any table."""

from __future__ import annotations

from typing import Any

from sqlalchemy.sql.base import Executable

from hostler.store.sql import Row, Tx


def rows(statement: Executable, params: dict[str, Any] | None = None) -> Tx[list[Row]]:
    found = yield statement, params or {}
    return found


def first(statement: Executable, params: dict[str, Any] | None = None) -> Tx[Row | None]:
    found = yield statement, params or {}
    return found[0] if found else None
