"""Tiny wheels made on the spot, and an index on the loopback that serves them, so that a build needs no internet."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def wheel(folder: Path, name: str, version: str = "1.0", *, needs: tuple[str, ...] = (), more: int = 0) -> Path:
    """A wheel with one module that says its version; `more` bytes make it larger."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + "".join(f"Requires-Dist: {need}\n" for need in needs),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if more:
        files[f"{name}_data.bin"] = "x" * more
    record = []
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, text in files.items():
            archive.writestr(file, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record.append(f"{file},sha256={digest},{len(text)}")
        archive.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,"]) + "\n")
    return path


class Index:
    """A package index with a user's name and password. `held` keeps the answers back until it is set."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.url = f"http://reader:s3cret-pass@127.0.0.1:{port}/simple"
        self.asked: list[str] = []
        self.held: threading.Event | None = None
        self.reached = threading.Event()
        self.down = False


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Index]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.asked.append(self.path)
            index.reached.set()
            if index.held is not None:
                index.held.wait(60)
            wanted = "Basic " + base64.b64encode(b"reader:s3cret-pass").decode()
            if self.headers.get("authorization") != wanted or index.down:
                self._answer(401 if not index.down else 503, b"no")
                return
            parts = self.path.strip("/").split("/")
            if parts[0] == "simple":
                names = [path.name for path in sorted(folder.glob(f"{parts[1].replace('-', '_')}-*.whl"))]
                page = "".join(f'<a href="/files/{name}">{name}</a>\n' for name in names)
                self._answer(200, page.encode(), "text/html")
            else:
                self._answer(200, (folder / parts[1]).read_bytes())

        def _answer(self, status: int, body: bytes, kind: str = "application/octet-stream") -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that was killed has hung up."""

    with Server(("127.0.0.1", 0), Handler) as server:
        index = Index(folder, server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield index
        finally:
            if index.held is not None:
                index.held.set()
            server.shutdown()
            thread.join()
