"""The only place that speaks text/event-stream: a followed session as a raw ASGI response.

It must not interpret events. Every frame has an `event:` line, for clients drop frames without one; a `ping` goes out
at least every 10 seconds. A reader that does not read blocks only this response: its buffer, in the log, is bounded.
"""

from __future__ import annotations

import asyncio
import logging

from starlette.types import Message, Receive, Scope, Send

from hostler.api.render import envelope
from hostler.errors import HostlerError, Unavailable
from hostler.log.entries import Entry
from hostler.log.tail import Tail
from hostler.wire.base import encode

log = logging.getLogger("hostler.api")

HEARTBEAT = 9.0
LAST = ("session.deleted", "session.status_terminated")
_PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class EventStream:
    """Streams a tail to one client; `over` ends it at once, for a session where nothing will come any more."""

    def __init__(self, tail: Tail, request_id: str, *, over: bool = False) -> None:
        self._tail = tail
        self._request_id = request_id
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._tail:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            watch = asyncio.create_task(self._watch(receive))
            try:
                if not self._over:
                    await self._pump(send)
            except OSError:
                return  # the client went away in the middle of a frame
            except Exception as error:
                log.exception("a stream failed (%s)", self._request_id)
                await send(_body(self._failure(error)))
            finally:
                watch.cancel()
                await asyncio.gather(watch, return_exceptions=True)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _watch(self, receive: Receive) -> None:
        """End the stream when the client goes away."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._tail.end()

    async def _pump(self, send: Send) -> None:
        async for batch in self._tail.batches(HEARTBEAT):
            await send(_body(b"".join(map(frame, batch)) if batch else _PING))
            if any(isinstance(item, Entry) and item.type in LAST for item in batch):
                return

    def _failure(self, error: Exception) -> bytes:
        known = error if isinstance(error, HostlerError) else Unavailable("The stream failed; open it again.")
        return b"event: error\ndata: " + encode(envelope(known, self._request_id)) + b"\n\n"


def frame(item: Entry | bytes) -> bytes:
    """One frame: a stored event, or the JSON of a preview. Encoded JSON has no line breaks."""
    if isinstance(item, Entry):
        return b"event: " + item.type.encode() + b"\ndata: " + item.wire() + b"\n\n"
    name = b"event_start" if item.startswith(b'{"type":"event_start"') else b"event_delta"
    return b"event: " + name + b"\ndata: " + item + b"\n\n"


def _body(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}
