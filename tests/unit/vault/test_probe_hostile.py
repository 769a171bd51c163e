"""The probe of `mcp_oauth_validate` against servers that mean no good."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from hostler.vault.outward import Outward
from hostler.vault.probe import Refused, _events, probe

EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n"
Answer = Callable[[bytes], bytes]


def probed(answer: Answer) -> Refused | None:
    """Against a server that gives each request, of which it gets the first line, these bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(head.split(b"\r\n")[0]))
        await writer.drain()
        writer.close()

    async def main() -> Refused | None:
        outward = Outward()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            return await probe(outward, f"http://127.0.0.1:{port}/mcp", "s3cret")
        finally:
            await outward.aclose()
            server.close()

    return asyncio.run(main())


@pytest.mark.parametrize("place", [b"http://[", b"//[x]/", b"http://127.0.0.1:1/", b""])
def test_a_place_that_is_none(place: bytes) -> None:
    def answer(line: bytes) -> bytes:
        if line.startswith(b"GET"):
            return EVENTS + b"\r\nevent: endpoint\ndata: " + place + b"\n\n"
        return b"HTTP/1.1 405 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

    refused = probed(answer)
    assert refused is not None
    assert refused.method == "initialize"


class Pieces:
    """A response that comes in very small pieces."""

    async def aiter_raw(self) -> AsyncIterator[bytes]:
        for _ in range(300_000):
            yield b"x"
        yield b"\n\ndata: the end\n\n"


def test_a_long_line_in_small_pieces_costs_little() -> None:
    async def main() -> list[str]:
        return [event async for event in _events(Pieces())]  # type: ignore[arg-type]

    started = time.process_time()
    assert asyncio.run(main()) == ["the end"]
    assert time.process_time() - started < 3
