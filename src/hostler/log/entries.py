"""What a session's log is made of: entries, the drafts they come from, and their form on the wire. It must not store
them.

An entry's `body` is the event's JSON without `processed_at`, which follows from its position: so consuming a queued
event changes one number, and a list is cut out of the table without decoding anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from hostler.ids import new_id
from hostler.store.tables import QUEUED, entries

PRIVATE_PREFIX = "hostler."

# Who sees an entry, the `private` column: everybody who reads the session, nobody but the harness, or those who read
# its own thread (what a child thread does is not in the session's list).
PUBLIC, NOTE, OF_THREAD = 0, 1, 2

# The columns that an Entry is made of, in its order.
COLUMNS = (
    entries.c.seq,
    entries.c.position,
    entries.c.id,
    entries.c.thread_id,
    entries.c.type,
    entries.c.private,
    entries.c.body,
)


class Entry(msgspec.Struct, frozen=True):
    """One stored entry. `position` below QUEUED is its `processed_at` in microseconds; from there on it still waits."""

    seq: int
    position: int
    id: str
    thread_id: str
    type: str
    private: int
    body: bytes

    @property
    def queued(self) -> bool:
        return self.position >= QUEUED

    def shown_on(self, thread_id: str | None) -> bool:
        """Whether it belongs into the stream of a thread, or into the session's when that is None."""
        if thread_id is None:
            return self.private == PUBLIC
        return self.private != NOTE and self.thread_id == thread_id

    def wire(self) -> bytes:
        """The event as JSON, `processed_at` last: null while it waits to be consumed."""
        stamp = b"null" if self.queued else b'"' + _stamp(self.position) + b'"'
        return self.body[:-1] + b',"processed_at":' + stamp + b"}"

    def decode(self) -> dict[str, Any]:
        value: dict[str, Any] = msgspec.json.decode(self.body)
        return value

    def fields(self) -> dict[str, Any]:
        """The event's own fields, as a Draft has them."""
        return {name: value for name, value in self.decode().items() if name not in ("id", "type")}


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """An entry to be. `fields` are the event's own, without `id`, `type` and `processed_at`.

    `queued` leaves it waiting at the tail of the list until a `Consume`. `answers` is the tool use it answers: the
    database takes one answer each. `private` entries are the harness's notes and never leave the server. `thread_id` is
    the child thread it belongs to; None is the session's primary thread.
    """

    type: str
    fields: dict[str, Any] = {}
    id: str = msgspec.field(default_factory=lambda: new_id("sevt"))
    queued: bool = False
    answers: str | None = None
    thread_id: str | None = None

    @property
    def private(self) -> bool:
        return self.type.startswith(PRIVATE_PREFIX)

    def place(self, seq: int, position: int, primary_id: str) -> Entry:
        """The entry it becomes."""
        thread_id = self.thread_id or primary_id
        seen = NOTE if self.private else PUBLIC if thread_id == primary_id else OF_THREAD
        return Entry(seq, position, self.id, thread_id, self.type, seen, self.body())

    def body(self) -> bytes:
        return msgspec.json.encode({"id": self.id, "type": self.type, **self.fields})


class Consume(msgspec.Struct, frozen=True):
    """Give a queued entry its place in the list, here."""

    entry: Entry


Item = Draft | Consume


def ids(items: Iterable[Entry | Draft]) -> list[str]:
    return [item.id for item in items]


@lru_cache(maxsize=64)
def _second(seconds: int) -> bytes:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()


def _stamp(micros: int) -> bytes:
    return b"%s.%06dZ" % (_second(micros // 1_000_000), micros % 1_000_000)
