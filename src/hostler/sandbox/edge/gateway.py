"""What a server may answer itself on a sandbox's way out: requests for one host name that exists nowhere else.

Who asks is known by the socket, so nothing that stands in a request says it. It must not open a connection: whoever
implements `Gateway` decides what a request may lead to.
"""

from __future__ import annotations

import asyncio
from asyncio import StreamReader
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from http import HTTPStatus

from msgspec import Struct

from hostler.sandbox.edge.httpframing import BadMessage, Body, Head, Write, encode, read_body, request_body

GATEWAY_HOST = "git.hostler.internal"  # `internal` is reserved for such use: no name server knows it


class GatewayRequest(Struct, frozen=True):
    """`target` is the path with the query as it was sent; `body` comes as it arrives and may be left unread."""

    method: str
    target: str
    fields: list[tuple[str, str]]
    body: AsyncIterator[bytes]

    def field(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key.lower() == name), None)


class GatewayResponse(Struct, frozen=True):
    """`body` is sent in chunks as they come."""

    status: int
    fields: list[tuple[str, str]]
    body: AsyncIterator[bytes]


# Called with the sandbox's key. It bounds its own time and sizes, and raises nothing but OSError for a lost peer.
Gateway = Callable[[str, GatewayRequest], AbstractAsyncContextManager[GatewayResponse]]


async def answer(gateway: Gateway, key: str, head: Head, target: str, reader: StreamReader, write: Write) -> None:
    """Carry one request to the gateway and its answer back. Raises `BadMessage` before anything is answered."""
    body = request_body(head)
    async with aclosing(_received(body, reader)) as received:
        request = GatewayRequest(head.start[0], target, head.end_to_end(), received)
        async with gateway(key, request) as response:
            fields = [*response.fields, ("Transfer-Encoding", "chunked"), ("Connection", "close")]
            await write(encode(f"HTTP/1.1 {response.status} {_phrase(response.status)}", fields))
            if head.start[0] == "HEAD":
                return
            async for part in response.body:
                if part:
                    await write(b"%x\r\n%s\r\n" % (len(part), part))
            await write(b"0\r\n\r\n")
        # What the client still sends is taken for a moment: closing on unread bytes would lose the answer.
        with suppress(TimeoutError, EOFError, BadMessage, OSError):
            async with asyncio.timeout(1):
                async for _ in received:
                    continue


async def _received(body: Body, reader: StreamReader) -> AsyncGenerator[bytes]:
    async for part in read_body(body, reader):
        yield part


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Answered"
