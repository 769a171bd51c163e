"""What the server and the worker of a task say to each other over their one socket: msgpack, each after its length.

It must not know what a journal is for.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Any, Literal

import msgspec

from hostler.runbooks.entries import Draft, Entry

MAX_MESSAGE = 64 * 1024 * 1024  # of a worker
MAX_OF_SERVER = 1024 * 1024 * 1024  # a worker begins with its whole journal
_HEAD = struct.Struct("<I")


class Message(msgspec.Struct, kw_only=True, tag=True, omit_defaults=True):
    """Whatever has an `id` is answered with it."""


# -- of the server --


class Begin(Message):
    """Load the bundle in `folder` and run its class to its end, or go on where `entries` end. `input` is the JSON that
    somebody gave; a parent's runbook gives a `value` instead. `slugs` are the runbooks that are deployed."""

    task_id: str
    folder: str
    slug: str
    workflow_class: str
    modules: list[str]
    slugs: list[str]
    entries: list[Entry]
    input: Any = None
    value: bytes | None = None
    attempt: int = 1
    rest_seconds: float = 60.0
    tenant: str = ""


class Reply(Message):
    """`data` is what a statement gives, as `cells` has it."""

    id: int
    entries: list[Entry] = []
    data: bytes | None = None
    refused: str | None = None


class Signal(Message):
    entry: Entry


class Query(Message):
    id: int
    name: str


class Cancel(Message):
    pass


class Ping(Message):
    id: int


# -- of the worker --


class Append(Message):
    id: int
    drafts: list[Draft]
    view: dict[str, Any] | None = None


class StartChild(Message):
    id: int
    key: str
    task_id: str
    slug: str
    value: bytes


class AwaitChild(Message):
    id: int
    task_id: str


class RunAgent(Message):
    id: int
    key: str
    call: dict[str, Any]


class Sql(Message):
    """Run a statement on the data of a tenant, by slug or id; `args` are encoded by `cells`."""

    id: int
    tenant: str
    how: Literal["fetch", "fetchrow", "execute"]
    sql: str
    args: bytes


class Forget(Message):
    """Nobody waits for the answer to this any more."""

    asked: int


class Answer(Message):
    id: int
    value: Any = None
    error: str | None = None


class Show(Message):
    """What the task looks like now, where nothing was to be written down."""

    view: dict[str, Any]


class Rest(Message):
    """All that is left is to wait: for what somebody sends, for agents and children, or for a time in seconds since the
    epoch. `position` is the last entry that it knows, `heard` the last signal; it does not rest when there are more."""

    position: int
    heard: int
    until: float | None = None


class Pong(Message):
    id: int


OfServer = Begin | Reply | Signal | Query | Cancel | Ping
OfWorker = Append | StartChild | AwaitChild | RunAgent | Sql | Forget | Rest | Show | Answer | Pong

_encode = msgspec.msgpack.Encoder().encode
decode_of_server = msgspec.msgpack.Decoder(OfServer).decode
_decode_of_worker = msgspec.msgpack.Decoder(OfWorker).decode


class BadMessage(Exception):
    """What came is no message, or none that a worker may send."""


def decode_of_worker(data: bytes) -> OfWorker:
    """Raises BadMessage: a bundle's code can write to the socket, too."""
    try:
        decoded: OfWorker = _decode_of_worker(data)
        return decoded
    except (msgspec.MsgspecError, ValueError, RecursionError) as problem:
        raise BadMessage(f"no message: {problem}") from problem


def framed(message: Message) -> bytes:
    data = _encode(message)
    return _HEAD.pack(len(data)) + data


async def read(reader: asyncio.StreamReader, most: int = MAX_MESSAGE) -> bytes | None:
    """The next message, still encoded; None once the other side has closed, or was killed. Raises BadMessage for one of
    more than `most` bytes."""
    try:
        (size,) = _HEAD.unpack(await reader.readexactly(_HEAD.size))
        if size > most:
            raise BadMessage(f"a message of {size} bytes")
        return await reader.readexactly(size)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
