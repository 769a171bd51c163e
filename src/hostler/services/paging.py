"""Keyset pages over `(created_at, id)`: cursors that carry their order, and the SQL for them.

It must not know any resource. A cursor is opaque to clients and not a secret: it is checked, never trusted.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Column, ColumnElement, Select, literal, tuple_

from hostler.errors import InvalidRequest

BAD_CURSOR = "invalid page cursor"
BAD_ORDER = "page token order does not match request"


class Between(NamedTuple):
    """A range of time in microseconds; None is open."""

    gt: int | None = None
    gte: int | None = None
    lt: int | None = None
    lte: int | None = None

    def on(self, column: ColumnElement[int]) -> list[ColumnElement[bool]]:
        conditions = []
        if self.gt is not None:
            conditions.append(column > self.gt)
        if self.gte is not None:
            conditions.append(column >= self.gte)
        if self.lt is not None:
            conditions.append(column < self.lt)
        if self.lte is not None:
            conditions.append(column <= self.lte)
        return conditions

    def holds(self, moment: int) -> bool:
        return not (
            (self.gt is not None and moment <= self.gt)
            or (self.gte is not None and moment < self.gte)
            or (self.lt is not None and moment >= self.lt)
            or (self.lte is not None and moment > self.lte)
        )


ALWAYS = Between()


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where a page ends: the key of its last row. `back` asks for what is before it instead of after it."""

    order: str
    at: int
    id: str
    back: bool = False

    def encode(self) -> str:
        return "page_" + base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")


_decode = msgspec.json.Decoder(Cursor).decode


def read_cursor(token: str | None, order: str, between: Between = ALWAYS) -> Cursor | None:
    """Return the cursor of a `page` parameter. Raises InvalidRequest for a broken one, one of another order, and one
    that lies outside the `created_at` filter of the request."""
    if token is None:
        return None
    try:
        raw = token.removeprefix("page_")
        cursor = _decode(base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4)))
    except (ValueError, binascii.Error, msgspec.DecodeError) as error:
        raise InvalidRequest(BAD_CURSOR) from error
    if cursor.order not in ("asc", "desc") or not 0 <= cursor.at < 2**63 or "\0" in cursor.id:
        raise InvalidRequest(BAD_CURSOR)
    if cursor.order != order:
        raise InvalidRequest(BAD_ORDER)
    if not between.holds(cursor.at):
        raise InvalidRequest("page token lies outside the created_at filter of the request")
    return cursor


class Slice(NamedTuple):
    """One page of a list, in the order of the list, and the cursors to its neighbours."""

    rows: list[Any]
    next_page: str | None
    prev_page: str | None = None


def page_of(
    statement: Select[Any],
    at: Column[int],
    key: Column[str],
    *,
    order: str,
    limit: int,
    cursor: Cursor | None,
) -> Select[Any]:
    """Return the statement for one page, with one row too many to see whether there is a next one."""
    back = cursor is not None and cursor.back
    rising = (order == "asc") != back
    if cursor is not None:
        # Typed, or PostgreSQL would take the number for a 32-bit one.
        here, there = tuple_(at, key), tuple_(literal(cursor.at, at.type), literal(cursor.id, key.type))
        statement = statement.where(here > there if rising else here < there)
    keys = (at.asc(), key.asc()) if rising else (at.desc(), key.desc())
    return statement.order_by(*keys).limit(limit + 1)


def slice_of(rows: Sequence[Any], *, order: str, limit: int, cursor: Cursor | None) -> Slice:
    """Cut what `page_of` found down to a page. Rows begin with `id` and `created_at`."""
    back = cursor is not None and cursor.back
    more, page = len(rows) > limit, list(rows[:limit])
    if back:
        page.reverse()
    if not page:
        return Slice([], None)
    first, last = page[0], page[-1]
    has_next, has_prev = (True, more) if back else (more, cursor is not None)
    return Slice(
        page,
        Cursor(order, last[1], last[0]).encode() if has_next else None,
        Cursor(order, first[1], first[0], True).encode() if has_prev else None,
    )
