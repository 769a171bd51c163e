"""A web site and a SearXNG on 127.0.0.1, for sessions that look things up. It must not be reached from outside."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, urlsplit


class Site:
    """`requests` are the paths that were asked for. Pages below `/slow` come once `release` is set."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.asked = threading.Event()
        self.release = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.requests.append(self.path)
                site.asked.set()
                site.answer(self)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.host = self.url.removeprefix("http://")

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        if parts.path == "/search":
            query = parse_qs(parts.query)["q"][0]
            result = {"url": f"{self.url}/found", "title": "Found", "content": f"about {query.partition(' site:')[0]}"}
            _send(handler, "application/json", json.dumps({"results": [result]}))
            return
        if parts.path == "/away":
            handler.send_response(302)
            handler.send_header("location", "http://169.254.169.254/latest/meta-data/")
            handler.end_headers()
            return
        if parts.path.startswith("/slow"):
            self.release.wait(30)
        text = f"<title>Page</title><p>This is {parts.path}. <a href=/linked>more</a>"
        _send(handler, "text/html; charset=utf-8", text)

    def __enter__(self) -> Site:
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def _send(handler: BaseHTTPRequestHandler, kind: str, text: str) -> None:
    try:
        handler.send_response(200)
        handler.send_header("content-type", kind)
        handler.end_headers()
        handler.wfile.write(text.encode())
    except (BrokenPipeError, ConnectionResetError):
        pass  # who asked has gone
