"""An MCP server without a library that misbehaves as its first argument says; it notes what is called."""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

parser = argparse.ArgumentParser()
parser.add_argument("how")
parser.add_argument("--ledger", type=Path, required=True)
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--elsewhere", default="")
options = parser.parse_args()

DEEP: dict[str, Any] = {"type": "object"}
for _ in range(70):
    DEEP = {"type": "object", "properties": {"x": DEEP}}

JSON = "application/json"
SESSIONS: list[str] = []
ODD = [
    {"name": "a b", "inputSchema": {"type": "object"}},
    {"name": "a_b", "inputSchema": {"type": "object"}},
    {"name": "ä/ü", "inputSchema": {"type": "object"}},
    {"name": "bell\u0007", "inputSchema": {"type": "object"}},
    {"name": "", "inputSchema": {"type": "object"}},
    {"name": "l" * 200, "inputSchema": {"type": "object"}},
    {"name": "m" * 5000, "inputSchema": {"type": "object"}},
    {"name": "either", "inputSchema": {"type": "object", "oneOf": [{"required": ["x"]}], "properties": {"x": {}}}},
    {"name": "keys", "inputSchema": {"type": "object", "properties": {"a b": {}, "ok": {}}}},
    {"name": "deep", "inputSchema": DEEP},
    {"name": "large", "inputSchema": {"type": "object", "description": "x" * 100_000}},
    {"name": "talk", "description": "y" * 100_000 + "\u0000", "inputSchema": {"type": "object"}},
]


def listed(cursor: str | None) -> dict[str, Any]:
    match options.how:
        case "many":
            return {"tools": [{"name": f"t{n:05}", "inputSchema": {"type": "object"}} for n in range(10_000)]}
        case "endless":
            number = int(cursor or 0)
            tool = {"name": f"t{number}", "inputSchema": {"type": "object"}}
            return {"tools": [tool], "nextCursor": str(number + 1)}
        case "same":
            return {"tools": [{"name": "t", "inputSchema": {"type": "object"}}], "nextCursor": "again"}
        case "odd":
            return {"tools": ODD}
        case "broken":
            return {"tools": [{"inputSchema": "none"}]}
    schema = {"type": "object", "properties": {"value": {"pattern": "^(a+)+$", "type": "string"}}}
    return {"tools": [{"name": "t", "inputSchema": {"type": "object"}, "outputSchema": schema}]}


def called() -> dict[str, Any]:
    match options.how:
        case "liar":
            image = {"type": "image", "mimeType": "image/png", "data": "bm8gcGljdHVyZQ=="}
            return {"content": [image, {**image, "data": "%%%"}, {"type": "text", "text": "a\u0000b"}]}
        case "regex":
            return {"content": [], "structuredContent": {"value": "a" * 60 + "!"}}
        case "nonsense":
            return {"content": "no list"}
    return {"content": [{"type": "text", "text": "ok"}]}


async def answer(request: Request) -> Response:
    body = await request.json()
    with options.ledger.open("a") as ledger:
        ledger.write(f"{body.get('method')} {request.headers.get('authorization', '-')}\n")
    method = body.get("method")
    if options.how == "redirect":
        return RedirectResponse(options.elsewhere, status_code=307)
    if options.how == "silent":
        await asyncio.sleep(600)
    if options.how == "zipped":
        return Response(gzip.compress(b" " * 10_000_000), headers={"content-encoding": "gzip"}, media_type=JSON)
    if options.how == "list":
        return JSONResponse({"jsonrpc": "2.0", "id": body.get("id"), "result": []})
    if options.how == "html":
        return Response("<html>Welcome</html>", media_type="text/html")
    if options.how == "forbidden" or (options.how == "forbidden later" and method == "tools/call"):
        return Response(status_code=403)
    known = request.headers.get("mcp-session-id") == f"session-{len(SESSIONS)}"
    if options.how == "forgetful" and method == "tools/call" and (len(SESSIONS) == 1 or not known):
        return Response(status_code=404)
    if options.how == "failing" and method == "tools/call":
        return Response("bad gateway", status_code=502)
    if "id" not in body:
        return Response(status_code=202)
    if method == "server/discover":
        error = {"code": -32601, "message": "Method not found"}
        return JSONResponse({"jsonrpc": "2.0", "id": body["id"], "error": error})
    if method == "initialize":
        info = {"name": options.how, "version": "1"}
        result: dict[str, Any] = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}
    elif method == "tools/list":
        result = listed((body.get("params") or {}).get("cursor"))
    elif options.how == "bomb":
        large = {"content": [{"type": "text", "text": "x" * 50_000_000}]}
        packed = gzip.compress(json.dumps({"jsonrpc": "2.0", "id": body["id"], "result": large}).encode())
        return Response(packed, media_type="application/json", headers={"content-encoding": "gzip"})
    elif options.how == "flood":
        return Response("x" * 40_000_000, media_type=JSON)
    else:
        result = called()
    headers = {}
    if options.how == "forgetful" and method == "initialize":
        SESSIONS.append(method)
        headers["mcp-session-id"] = f"session-{len(SESSIONS)}"
    return JSONResponse({"jsonrpc": "2.0", "id": body["id"], "result": result}, headers=headers)


class Announcing(uvicorn.Server):
    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        print(f"port {self.servers[0].sockets[0].getsockname()[1]}", flush=True)


app = Starlette(routes=[Route("/mcp", answer, methods=["POST"])])
Announcing(uvicorn.Config(app, host="127.0.0.1", port=options.port, log_level="error")).run()
