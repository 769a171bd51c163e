"""A model endpoint of fixed cadence, in a process of its own: it says when each request arrived, and streams what it is
told to. Run as a program it prints its URL and serves until killed.

The last user message tells what to do: `plan: N` asks for N rounds of one `bash` call `true` and then ends, `crew: N`
for N messages to the agent `helper`; anything else gets a few tokens. A text begins with the monotonic nanosecond of
its request's arrival.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import time
from typing import Any

import uvicorn

TOKENS = 8
TOKEN_SECONDS = float(os.environ.get("MOCK_TOKEN_SECONDS", "0"))
FIRST_SECONDS = float(os.environ.get("MOCK_FIRST_SECONDS", "0"))


async def app(scope: Any, receive: Any, send: Any) -> None:
    arrived = time.monotonic_ns()
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    request = json.loads(body)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    async for frame in _frames(request, arrived):
        await send({"type": "http.response.body", "body": frame, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _frames(request: dict[str, Any], arrived: int) -> Any:
    usage = {"input_tokens": 100, "output_tokens": 1}
    yield _frame("message_start", {"message": {"id": "msg_1", "model": request["model"], "usage": usage}})
    if FIRST_SECONDS:
        await asyncio.sleep(FIRST_SECONDS)
    verb, done, wanted = _progress(request)
    if verb == "crew" and not done:
        given = [{"type": "input_json_delta", "partial_json": '{"agent":"helper","message":"hello"}'}]
        for number in range(wanted):
            block = {"type": "tool_use", "id": f"toolu_{arrived}_{number}", "name": "ant__send_to_agent", "input": {}}
            yield _block(number, block, given)
        stop = "tool_use"
    elif verb == "plan" and done < wanted:
        block = {"type": "tool_use", "id": f"toolu_{arrived}", "name": "bash", "input": {}}
        yield _block(0, block, [{"type": "input_json_delta", "partial_json": '{"command":"true"}'}])
        stop = "tool_use"
    else:
        yield _frame("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})
        for number in range(TOKENS):
            text = f"{arrived} " if number == 0 else f"token{number} "
            yield _frame("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": text}})
            if TOKEN_SECONDS:
                await asyncio.sleep(TOKEN_SECONDS)
        yield _frame("content_block_stop", {"index": 0})
        stop = "end_turn"
    yield _frame("message_delta", {"delta": {"stop_reason": stop}, "usage": {"output_tokens": TOKENS}})
    yield _frame("message_stop", {})


def _progress(request: dict[str, Any]) -> tuple[str, int, int]:
    """What the last turn is to do, how many tool results it has, and how many it wants."""
    done = 0
    for message in reversed(request["messages"]):
        content = message["content"]
        if message["role"] != "user" or isinstance(content, str):
            continue
        for block in reversed(content):
            if block["type"] == "tool_result":
                done += 1
            elif block["type"] == "text":
                told = re.match(r"(plan|crew): (\d+)", block["text"])
                return (told[1], done, int(told[2])) if told else ("", done, 0)
    return "", done, 0


def _block(index: int, block: dict[str, Any], deltas: list[dict[str, Any]]) -> bytes:
    return b"".join(
        [
            _frame("content_block_start", {"index": index, "content_block": block}),
            *(_frame("content_block_delta", {"index": index, "delta": delta}) for delta in deltas),
            _frame("content_block_stop", {"index": index}),
        ]
    )


def _frame(kind: str, fields: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def main() -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen(4096)
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", backlog=4096)).run(sockets=[listener])


if __name__ == "__main__":
    main()
