"""Kept connections: one that the vendor closes just as it is used again costs nothing."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from model_servers import ask, collect, messages_stream, said, sse

from hostler.models.anthropic import build
from hostler.models.provider import ProviderSettings

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def test_a_kept_connection_that_is_just_being_closed_is_replaced() -> None:
    """The server answers each connection's first request, and closes at the second without a byte."""
    requests: list[int] = []  # how many each connection had

    handlers = []

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        requests.append(0)
        mine = len(requests) - 1
        with suppress(asyncio.IncompleteReadError):
            while requests[mine] < 2:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
                await reader.readexactly(int(length.split(b":")[1]))
                requests[mine] += 1
                if requests[mine] == 1:
                    body = b"".join(sse(event) for event in messages_stream([{"type": "text", "text": "hello"}]))
                    writer.write(HEAD + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
                    await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        server = await asyncio.start_server(connection, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        model = build(ProviderSettings(api_key="k", base_url=url, read_timeout=5.0))
        for _ in range(2):
            assert said(await collect(model, ask())) == "hello"
        assert requests == [2, 1]
        await model.aclose()
        await asyncio.gather(*handlers)
        server.close()

    asyncio.run(main())
