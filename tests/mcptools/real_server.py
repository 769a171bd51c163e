"""A real MCP server from the SDK, as a process: `real_server.py http|sse|stdio --ledger FILE [--port N] [--token T]`.

Every call that does something adds a line to the ledger, so that a test can count side effects.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = base64.b64encode(b"%PDF-1.4\n%%EOF\n").decode()

parser = argparse.ArgumentParser()
parser.add_argument("transport", choices=["http", "sse", "stdio"])
parser.add_argument("--ledger", type=Path, required=True)
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--token", default="")
parser.add_argument("--json", action="store_true")
parser.add_argument("--stubborn", action="store_true", help="stays when its input is closed")
options = parser.parse_args()

server = MCPServer("real", instructions="Be kind.", log_level="ERROR")


def note(line: str) -> None:
    with options.ledger.open("a") as ledger:
        ledger.write(line + "\n")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    note(f"add {a} {b}")
    return a + b


@server.tool()
def echo(text: str) -> CallToolResult:
    """Says it back."""
    note(f"echo {text}")
    return CallToolResult(content=[TextContent(type="text", text=text)])


@server.tool()
def repeat(ctx: Context[Any, Any]) -> str:
    """Says what it was sent, as careless servers do."""
    return f"you sent {dict(ctx.headers or {}).get('authorization')}"


@server.tool()
def fail(why: str) -> str:
    """Fails."""
    raise ValueError(why)


@server.tool()
def show() -> CallToolResult:
    """Gives content of all kinds."""
    return CallToolResult(
        content=[
            TextContent(type="text", text="Here it is."),
            ImageContent(type="image", data=PNG, mime_type="image/png"),
            AudioContent(type="audio", data="UklGRg==", mime_type="audio/wav"),
            EmbeddedResource(
                type="resource",
                resource=TextResourceContents(uri="file:///a.md", mime_type="text/markdown", text="# A"),
            ),
            EmbeddedResource(
                type="resource",
                resource=BlobResourceContents(uri="file:///a.pdf", mime_type="application/pdf", blob=PDF),
            ),
            ResourceLink(type="resource_link", name="b", uri="https://example.com/b"),
        ]
    )


@server.tool()
def huge(characters: int) -> CallToolResult:
    """Says very much."""
    return CallToolResult(content=[TextContent(type="text", text="x" * (characters - 4) + " end")])


@server.tool()
async def wait(seconds: float, ctx: Context[Any, Any], steps: Annotated[int, "progress reports"] = 0) -> str:
    """Takes its time."""
    note("wait began")
    try:
        for step in range(max(1, steps)):
            await asyncio.sleep(seconds / max(1, steps))
            if steps:
                await ctx.report_progress(step + 1, steps)
    except BaseException:
        note("wait cancelled")
        raise
    note("wait ended")
    return "done"


@server.tool()
async def grow(ctx: Context[Any, Any]) -> str:
    """Adds a tool named grown."""

    def grown() -> str:
        """A new tool."""
        return "I am new"

    server.add_tool(grown)
    await ctx.notify_tools_changed()
    await ctx.session.send_tool_list_changed()
    return "grown"


@server.tool()
def surroundings() -> dict[str, str]:
    """Its environment, process id and folder."""
    return {**os.environ, "PID": str(os.getpid()), "CWD": os.getcwd()}


def wanted() -> str:
    """The token to ask for; one that is changed while the server runs is in a file."""
    return Path(options.token).read_text() if options.token.startswith("/") else options.token


class Guard:
    """Turns away what has no token, and notes the authorization of every request."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(b"authorization", b"").decode()
            note(f"http {scope['method']} {scope['path']} {given or '-'}")
            if wanted() and given != f"Bearer {wanted()}":
                await send({"type": "http.response.start", "status": 401, "headers": []})
                await send({"type": "http.response.body", "body": b""})
                return
        await self.app(scope, receive, send)


class Announcing(uvicorn.Server):
    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        print(f"port {self.servers[0].sockets[0].getsockname()[1]}", flush=True)


if options.transport == "stdio":
    note(f"started {os.getpid()}")
    server.run("stdio")
    if options.stubborn:
        import signal
        import time

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
else:
    app = server.sse_app() if options.transport == "sse" else server.streamable_http_app(json_response=options.json)
    config = uvicorn.Config(
        Guard(app), host="127.0.0.1", port=options.port, log_level="error", timeout_graceful_shutdown=1
    )
    Announcing(config).run()
