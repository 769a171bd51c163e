"""What can go wrong with a tenant's data, in words that name no password and quote no row. It must not run anything."""

from __future__ import annotations

from hostler.errors import Conflict, InvalidRequest, RequestTooLarge, Unavailable


class SqlFailed(InvalidRequest):
    """The statement can't be run. `sqlstate` is PostgreSQL's code, on both databases."""

    def __init__(self, message: str, sqlstate: str = "42601") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class TooMuch(RequestTooLarge):
    """The statement gives more than one answer may have."""

    sqlstate = "54000"


class NotTheirs(Conflict):
    """The database belongs to another tenant."""


class InDoubt(Unavailable):
    """The database was lost while it committed, and can't say whether it did."""


class NotOpened(Unavailable):
    """The database can't be used, and another attempt changes nothing."""
