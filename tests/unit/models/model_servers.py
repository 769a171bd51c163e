"""A small raw HTTP server on 127.0.0.1 whose handlers write the bytes themselves, so that it can lie in every way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from hostler.models.protocol import Model, ModelEvent, ModelFailure, ModelRequest, ModelResponse, TextDelta


@dataclass
class Seen:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: Any


class Server:
    """Where it listens and what it was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: list[Seen] = []
        self.asked = asyncio.Event()
        self.hung_up = asyncio.Event()


Handler = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Server]:
    tasks: set[asyncio.Task[None]] = set()

    async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            seen = await _read_request(reader)
            server.seen.append(seen)
            server.asked.set()
            work = asyncio.ensure_future(handler(seen, writer))
            gone = asyncio.ensure_future(reader.read())
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done() and not work.done():
                server.hung_up.set()
            work.cancel()
            gone.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()
            with suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    listener = await asyncio.start_server(on_connect, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    server = Server(f"http://127.0.0.1:{port}")
    try:
        yield server
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read_request(reader: asyncio.StreamReader) -> Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.split("\r\n")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Seen(first.split()[1], headers, json.loads(body) if body else None)


SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n\r\n"


def answering(status: int, body: Any, headers: dict[str, str] | None = None, kind: str = "application/json") -> Handler:
    """A handler that gives one plain answer."""
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())

    async def handler(seen: Seen, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(raw)}\r\n{extra}"
        writer.write(head.encode() + b"connection: close\r\n\r\n" + raw)
        await writer.drain()

    return handler


def streaming(*chunks: bytes, reset: bool = False, hang: bool = False) -> Handler:
    """A handler that starts an event stream and writes the chunks, then ends, resets or goes silent."""

    async def handler(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD)
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
        if hang:
            await asyncio.Event().wait()
        if reset:
            transport: Any = writer.transport
            transport.abort()

    return handler


def sse(event: dict[str, Any]) -> bytes:
    """One event of the Messages API."""
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def chunk(value: dict[str, Any] | str) -> bytes:
    """One event of a chat-completions stream."""
    return f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode()


def messages_stream(
    blocks: list[dict[str, Any]], stop_reason: str = "end_turn", usage: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """The events with which the Messages API would stream these blocks."""
    start = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": []}
    start |= {"stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 10, "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    for index, block in enumerate(blocks):
        events += _block_events(index, block)
    delta = {"stop_reason": stop_reason, "stop_sequence": None}
    events.append({"type": "message_delta", "delta": delta, "usage": usage or {"output_tokens": 7}})
    events.append({"type": "message_stop"})
    return events


def _block_events(index: int, block: dict[str, Any]) -> list[dict[str, Any]]:
    def delta(value: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": index, "delta": value}

    start, deltas = dict(block), []
    match block["type"]:
        case "text":
            start["text"] = ""
            deltas = [delta({"type": "text_delta", "text": char}) for char in block["text"]]
        case "thinking":
            start |= {"thinking": "", "signature": ""}
            deltas = [delta({"type": "thinking_delta", "thinking": block["thinking"]})]
            deltas.append(delta({"type": "signature_delta", "signature": block["signature"]}))
        case "tool_use" | "server_tool_use":
            start["input"] = {}
            raw = block["input"] if isinstance(block["input"], str) else json.dumps(block["input"])
            deltas = [delta({"type": "input_json_delta", "partial_json": part}) for part in ("", raw[:5], raw[5:])]
    head = {"type": "content_block_start", "index": index, "content_block": start}
    return [head, *deltas, {"type": "content_block_stop", "index": index}]


def ask(text: str = "hi", **changes: Any) -> ModelRequest:
    fields: dict[str, Any] = {
        "model": "claude-opus-5-5",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 1000,
        "session_id": "sesn_1",
    }
    return ModelRequest(**(fields | changes))


async def collect(model: Model, request: ModelRequest) -> list[ModelEvent]:
    return [event async for event in model.stream(request)]


async def answer(model: Model, request: ModelRequest) -> ModelResponse:
    events = await collect(model, request)
    last = events[-1]
    assert isinstance(last, ModelResponse)
    assert not any(isinstance(event, ModelResponse) for event in events[:-1])
    return last


def said(events: list[ModelEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def failure(model: Model, request: ModelRequest) -> ModelFailure:
    try:
        await collect(model, request)
    except ModelFailure as error:
        return error
    raise AssertionError("the request did not fail")
