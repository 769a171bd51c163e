"""An MCP server made with the official library, behind a bearer token.

Run as `python real_mcp.py KIND TOKEN`; prints its port.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

import uvicorn
from mcp.server.mcpserver import MCPServer

KINDS: dict[str, Any] = {
    "streams": lambda server: server.streamable_http_app(),
    "json": lambda server: server.streamable_http_app(json_response=True),
    "stateless": lambda server: server.streamable_http_app(stateless_http=True),
    "older": lambda server: server.sse_app(sse_path="/mcp"),
}


def main(kind: str, token: str) -> None:
    server = MCPServer("real")

    @server.tool()
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    app = KINDS[kind](server)

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope.get("headers", ()))
        if scope["type"] == "http" and headers.get(b"authorization") != f"Bearer {token}".encode():
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b"who are you?"})
            return
        await app(scope, receive, send)

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        print(listener.getsockname()[1], flush=True)
        uvicorn.Server(uvicorn.Config(guarded, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
