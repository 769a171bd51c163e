"""A local token endpoint and a local MCP server, for whoever refreshes and uses OAuth tokens.

Each runs in threads of its own on 127.0.0.1, keeps what it was asked, and can be told to misbehave.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote_plus

SECONDS = 20.0


class Asked(NamedTuple):
    """One request: its headers in lower case, and its body as text."""

    method: str
    path: str
    headers: dict[str, str]
    body: str

    @property
    def form(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(self.body, keep_blank_values=True).items()}

    @property
    def basic(self) -> tuple[str, str]:
        """Client id and secret of the `Authorization` header."""
        scheme, _, value = self.headers["authorization"].partition(" ")
        assert scheme == "Basic"
        name, _, secret = base64.b64decode(value).decode().partition(":")
        return unquote_plus(name), unquote_plus(secret)


class Said(NamedTuple):
    status: int
    body: Any
    headers: Mapping[str, str] = MappingProxyType({})


class LocalServer:
    """Answers with what `answer` returns; a subclass says what that is. Use it as a context manager."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients may hang up
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, asked: Asked) -> Said:
        raise NotImplementedError

    def __enter__(self) -> Any:
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class TokenServer(LocalServer):
    """Takes a refresh token once, and gives a new one each time (`rotates`); a used one is refused.

    `script` holds answers to give before it does its work. `gate` stops answers until it is set; `reached` says that a
    request waits there.
    """

    def __init__(self, refresh_token: str, *, rotates: bool = True, expires_in: int | None = 3600) -> None:
        super().__init__()
        self.good = refresh_token
        self.rotates = rotates
        self.expires_in = expires_in
        self.script: list[Said] = []
        self.gate = threading.Event()
        self.gate.set()
        self.reached = threading.Event()
        self.given: list[str] = []

    def answer(self, asked: Asked) -> Said:
        with self.lock:
            if self.script:
                return self.script.pop(0)
            if asked.form.get("refresh_token") != self.good:
                return Said(400, {"error": "invalid_grant", "error_description": f"not {asked.form['refresh_token']}"})
            number = len(self.given) + 1
            self.given.append(f"s3cret-access-{number}")
            said: dict[str, Any] = {"access_token": self.given[-1], "token_type": "Bearer"}
            if self.expires_in is not None:
                said["expires_in"] = self.expires_in
            if self.rotates:
                self.good = said["refresh_token"] = f"s3cret-refresh-{number}"
        self.reached.set()
        assert self.gate.wait(SECONDS)
        return Said(200, said)


class McpServer(LocalServer):
    """An MCP server over streamable HTTP that takes the tokens of `good`, and answers others with 401."""

    def __init__(self, *good: str) -> None:
        super().__init__()
        self.good = list(good)
        self.script: list[Said] = []
        self.tools: list[dict[str, Any]] = []  # each gives the text "3"
        self.errors: set[str] = set()  # methods whose error repeats the request's headers
        self.streams = False
        self.deleted = 0

    @property
    def methods(self) -> list[str]:
        """The MCP methods that were asked, in order."""
        return [json.loads(asked.body)["method"] for asked in self.asked if asked.method == "POST"]

    def answer(self, asked: Asked) -> Said:
        with self.lock:
            if self.script:
                return self.script.pop(0)
        if asked.headers.get("authorization", "").removeprefix("Bearer ") not in self.good:
            return Said(401, {"error": "unauthorized", "sent": asked.headers.get("authorization")})
        if asked.method == "DELETE":
            self.deleted += 1
            return Said(200, {})
        if asked.method == "GET":
            return Said(405, {"error": "no stream"})
        message = json.loads(asked.body)
        if "id" not in message:
            return Said(202, {})
        results = {
            "initialize": {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "local", "version": "1"},
            },
            "tools/list": {"tools": self.tools},
            "tools/call": {"content": [{"type": "text", "text": "3"}]},
        }
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        if message["method"] in self.errors:
            reply["error"] = {"code": -32603, "message": f"not good: {asked.headers}"}
        elif message["method"] in results:
            reply["result"] = results[message["method"]]
        else:
            reply["error"] = {"code": -32601, "message": "no such method"}
        headers = {"mcp-session-id": "local-1"}
        if self.streams:
            text = f": hello\r\n\r\nevent: message\r\ndata: {json.dumps(reply)}\r\n\r\n"
            return Said(200, text, {**headers, "content-type": "text/event-stream"})
        return Said(200, reply, headers)


def _handler(owner: LocalServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, body)
            with owner.lock:
                owner.asked.append(asked)
            self._say(owner.answer(asked))

        do_GET = do_DELETE = do_POST

        def _say(self, said: Said) -> None:
            content = said.body if isinstance(said.body, bytes) else (
                said.body if isinstance(said.body, str) else json.dumps(said.body)
            ).encode()  # fmt: skip
            self.send_response(said.status)
            for name, value in {"content-type": "application/json", **said.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
