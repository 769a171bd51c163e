"""Compares ways to read a model's stream: our reader and the vendors' SDKs, against one local server.

Prints a table and writes JSON: CPU per token, time to the first token beyond a bare socket's, import time and memory.
Run: `python bench/model_clients.py [--tokens 2000] [--rounds 5] [--json bench/results/model_clients.json]`.
The `openai` SDK is measured only where it is installed; it is no dependency of Hostler.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import multiprocessing
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hostler.models.anthropic import build as anthropic
from hostler.models.openai import build as openai
from hostler.models.protocol import Model, ModelRequest, TextDelta
from hostler.models.provider import ProviderSettings

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
WORD = "token "
REQUEST = ModelRequest(model="claude-opus-5-5", messages=[{"role": "user", "content": "go"}], max_tokens=9999)
Read = Callable[[], AsyncIterator[str]]


def messages_events(tokens: int) -> list[bytes]:
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "x", "content": [], "usage": usage}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": message | {"stop_reason": None}}]
    block = {"type": "text", "text": "", "citations": None}
    events.append({"type": "content_block_start", "index": 0, "content_block": block})
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORD}}
    events += [delta] * tokens
    events.append({"type": "content_block_stop", "index": 0})
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    events.append({"type": "message_delta", "delta": stop, "usage": {"output_tokens": tokens}})
    events.append({"type": "message_stop"})
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]


def chat_events(tokens: int) -> list[bytes]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "x", "choices": [choice]}

    chunks = [chunk({"content": WORD})] * tokens + [chunk({}, "stop")]
    last = chunk({}) | {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": 1}}
    return [f"data: {json.dumps(each)}\n\n".encode() for each in [*chunks, last]] + [b"data: [DONE]\n\n"]


def serve(pipe: Connection, tokens: int) -> None:
    """The server's own process: sends every event as one chunk and one write, as vendors do."""
    bodies = {b"/v1/messages": messages_events(tokens), b"/v1/chat/completions": chat_events(tokens)}
    framed = {path: [b"%x\r\n%s\r\n" % (len(e), e) for e in events] for path, events in bodies.items()}

    async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(x.split(b":")[1]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-len")
                )
                await reader.readexactly(length)
                writer.write(HEAD)
                for event in framed[head.split()[1].partition(b"?")[0]]:
                    writer.write(event)
                    await writer.drain()
                writer.write(b"0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(on_connect, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


async def measure(read: Read, tokens: int, rounds: int) -> dict[str, float]:
    """Median CPU microseconds per token, tokens per second and milliseconds to the first token, after one warm-up."""
    cpu, wall, first = [], [], []
    for round_number in range(rounds + 1):
        began, burnt, heard, at = time.perf_counter(), time.process_time(), 0, 0.0
        async for _ in read():
            at = at or time.perf_counter() - began
            heard += 1
        assert heard == tokens, f"{heard} of {tokens} tokens"
        if round_number:
            cpu.append((time.process_time() - burnt) / tokens * 1e6)
            wall.append(tokens / (time.perf_counter() - began))
            first.append(at * 1000)
    return {
        "cpu_us_per_token": round(statistics.median(cpu), 1),
        "tokens_per_second": round(statistics.median(wall)),
        "first_token_ms": round(statistics.median(first), 2),
    }


def bare_socket(port: int) -> Read:
    """The floor: read the events from a socket without understanding them."""

    async def read() -> AsyncIterator[str]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
        while (line := await reader.readline()) != b"0\r\n":
            if b"text_delta" in line:
                yield WORD
        writer.close()

    return read


def ours(model: Model) -> Read:
    async def read() -> AsyncIterator[str]:
        async for event in model.stream(REQUEST):
            if isinstance(event, TextDelta):
                yield event.text

    return read


def openai_sdk(port: int) -> Read:
    import openai as sdk

    client = sdk.AsyncOpenAI(api_key="k", base_url=f"http://127.0.0.1:{port}/v1", max_retries=0)

    async def read() -> AsyncIterator[str]:
        stream = await client.chat.completions.create(
            model="x", messages=[{"role": "user", "content": "go"}], stream=True
        )
        async for chunk in stream:
            if chunk.choices and (text := chunk.choices[0].delta.content):
                yield text

    return read


def import_cost(module: str) -> dict[str, float]:
    """Milliseconds and megabytes to import a library in a fresh interpreter, beyond the interpreter's own."""
    code = f"""import json, time
def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))
began, before = time.perf_counter(), resident()
import {module}
took, grew = time.perf_counter() - began, resident() - before
print(json.dumps({{"import_ms": round(took * 1000), "import_mb": round(grew / 1024, 1)}}))"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    return dict(json.loads(done.stdout))


async def compare(port: int, tokens: int, rounds: int) -> dict[str, dict[str, float]]:
    url = f"http://127.0.0.1:{port}"
    models: dict[str, Model] = {
        "anthropic http": anthropic(ProviderSettings(base_url=url)),
        "anthropic sdk": anthropic(ProviderSettings(base_url=url, client="sdk")),
        "chat http": openai(ProviderSettings(base_url=f"{url}/v1")),
    }
    reads = {"bare socket": bare_socket(port), **{name: ours(model) for name, model in models.items()}}
    if importlib.util.find_spec("openai") is not None:
        reads["openai sdk"] = openai_sdk(port)
    libraries = {
        "anthropic http": "httpx2",
        "anthropic sdk": "anthropic",
        "chat http": "httpx2",
        "openai sdk": "openai",
    }
    results = {}
    for name, read in reads.items():
        results[name] = await measure(read, tokens, rounds)
        if name in libraries:
            results[name] |= import_cost(libraries[name])
    closes: list[Awaitable[None]] = [model.aclose() for model in models.values()]
    await asyncio.gather(*closes)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path("bench/results/model_clients.json"))
    args = parser.parse_args()
    pipe, remote = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(remote, args.tokens), daemon=True)
    server.start()
    try:
        results = asyncio.run(compare(pipe.recv(), args.tokens, args.rounds))
    finally:
        server.terminate()
        server.join()
    columns = ["cpu_us_per_token", "tokens_per_second", "first_token_ms", "import_ms", "import_mb"]
    print(f"{'':16}" + "".join(f"{column:>19}" for column in columns))
    for name, row in results.items():
        print(f"{name:16}" + "".join(f"{row.get(column, ''):>19}" for column in columns))
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
