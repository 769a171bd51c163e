"""A model endpoint that answers as a test tells it to, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from model_servers import SSE_HEAD, Handler, Seen, Server, messages_stream, serving, sse, streaming

from failures.client import SECONDS


def saying(text: str) -> Handler:
    """A handler that gives a whole and honest answer."""
    return streaming(*map(sse, messages_stream([{"type": "text", "text": text}])))


class Endpoint:
    """`plan` holds the handlers of the next requests; the last one answers all further ones."""

    def __init__(self) -> None:
        self.plan: list[Handler] = [saying("fine")]
        self.asked: list[Seen] = []
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._end: asyncio.Event
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    def __enter__(self) -> Endpoint:
        self._thread.start()
        assert self._ready.wait(SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(SECONDS)
        self._loop.close()

    async def _serve(self) -> None:
        self._end = asyncio.Event()

        async def answer(seen: Seen, writer: Any) -> None:
            self.asked.append(seen)
            handler = self.plan.pop(0) if len(self.plan) > 1 else self.plan[0]
            await handler(seen, writer)

        server: Server
        async with serving(answer) as server:
            self.url = server.url
            self._ready.set()
            await self._end.wait()


async def half_a_head(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """Break off in the middle of the response's head."""
    writer.write(SSE_HEAD[:20])
    await writer.drain()


async def not_http(seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.9\r\n")
    await writer.drain()
