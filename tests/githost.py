"""A host of git repositories for tests: git's own http-backend behind a small server on the loopback, with tokens.

Repositories are made with the machine's git, as plumbing allows, so that they may also hold what no honest tool makes.
"""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

_ENV = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.com",
    "LC_ALL": "C",
}


def git(folder: Path, *arguments: str | bytes, stdin: bytes = b"") -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, env=_ENV, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode(errors="replace").strip()


class Repository:
    """A bare repository that is served."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokens: set[str] | None = None  # who may read it; None is everybody
        self.status: int | None = None  # what every request gets instead
        self.denied = 404  # what a known token gets that may not read it
        self.old = False  # speaks the first version of the protocol only
        folder.mkdir(parents=True)
        git(folder, "init", "-q", "--bare", "-b", "main")
        git(folder, "config", "http.receivepack", "true")

    def commit(self, files: dict[str, bytes | str], branch: str = "main", parent: bool = True) -> str:
        """Put a commit with exactly these files on a branch; a text is the target of a link. Returns its name."""
        rows = []
        for path, content in files.items():
            mode = "120000" if isinstance(content, str) else "100644"
            data = content.encode() if isinstance(content, str) else content
            oid = git(self.folder, "hash-object", "-w", "--stdin", stdin=data)
            rows.append(f"{mode} {oid}\t".encode() + os.fsencode(path) + b"\0")
        index = {**_ENV, "GIT_INDEX_FILE": str(self.folder / "index.new")}
        subprocess.run(
            ["git", "update-index", "-z", "--index-info"], cwd=self.folder, env=index, input=b"".join(rows), check=True
        )
        tree = subprocess.run(["git", "write-tree"], cwd=self.folder, env=index, capture_output=True, check=True)
        (self.folder / "index.new").unlink()
        return self.commit_tree(tree.stdout.decode().strip(), branch, parent)

    def commit_tree(self, tree: str, branch: str = "main", parent: bool = True) -> str:
        before = git(self.folder, "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}") if parent else ""
        made = git(self.folder, "commit-tree", tree, "-m", "a commit", *(["-p", before] if before else []))
        git(self.folder, "update-ref", f"refs/heads/{branch}", made)
        return made

    def tip(self, branch: str = "main") -> str:
        return git(self.folder, "rev-parse", f"refs/heads/{branch}")


class GitHost:
    """Serves what `repository` has made. `asked` holds method, path with query, and token of every request."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repositories: dict[str, Repository] = {}
        self.asked: list[tuple[str, str, str | None]] = []
        self.hold: threading.Event | None = None  # while unset, packs do not come
        self.holding = threading.Event()
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                host.answer(self)

            def do_POST(self) -> None:
                host.answer(self)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that break off
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def config(self) -> str:
        """The config file's table that allows this host."""
        return f'[git]\nhosts = ["github.com", "{self.address}"]\n'

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"

    def repository(self, name: str = "owner/repo", *, tokens: set[str] | None = None) -> Repository:
        made = self.repositories[name] = Repository(self.folder / name)
        made.tokens = tokens
        return made

    def packs(self) -> int:
        """How many packs were asked for."""
        return sum(1 for method, path, _ in self.asked if method == "POST" and path.endswith("/git-upload-pack#fetch"))

    def __enter__(self) -> GitHost:
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        if self.hold is not None:
            self.hold.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path, _, query = request.path.partition("?")
        name, _, action = path[1:].partition("/info/refs")
        name = name if action or path.endswith("/info/refs") else name.rpartition("/")[0]
        body = request.rfile.read(int(request.headers.get("content-length") or 0))
        if request.headers.get("transfer-encoding") == "chunked":
            body = _unchunked(request)
        fetch = "#fetch" if b"command=fetch" in body or b"want " in body else ""
        token = _token(request.headers.get("authorization"))
        self.asked.append((request.command, request.path + fetch, token))
        status = self._status(self.repositories.get(name.removesuffix(".git")), token)
        if status != 200:
            _plain(request, status)
            return
        if fetch and self.hold is not None:
            self.holding.set()
            self.hold.wait(60)
        found = self.repositories[name.removesuffix(".git")]
        place = f"/{found.folder.relative_to(self.folder)}{path[1 + len(name) :]}"
        self._serve(request, place, query, body, old=found.old)

    def _status(self, found: Repository | None, token: str | None) -> int:
        if found is not None and found.status is not None:
            return found.status
        known = {token for repository in self.repositories.values() for token in repository.tokens or ()}
        if token is not None and token not in known:
            return 401
        if found is None:
            return 404 if token is not None else 401
        if found.tokens is None or token in found.tokens:
            return 200
        return 401 if token is None else found.denied

    def _serve(self, request: BaseHTTPRequestHandler, path: str, query: str, body: bytes, *, old: bool) -> None:
        env = {
            **_ENV,
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": request.command,
            "CONTENT_TYPE": request.headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
            "GIT_PROTOCOL": "" if old else request.headers.get("git-protocol", ""),
            "REMOTE_USER": "tester",
        }
        done = subprocess.run(["git", "http-backend"], env=env, input=body, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        request.send_response(int(fields.pop("Status", "200 OK").split()[0]))
        for name, value in fields.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)


def _plain(request: BaseHTTPRequestHandler, status: int) -> None:
    request.send_response(status)
    if status == 401:
        request.send_header("WWW-Authenticate", 'Basic realm="git"')
    if 300 <= status < 400:
        request.send_header("Location", "http://127.0.0.1:9/elsewhere")
    request.send_header("Content-Length", "0")
    request.end_headers()


def _token(field: str | None) -> str | None:
    if field is None:
        return None
    return base64.b64decode(field.removeprefix("Basic ")).decode().removeprefix("x-access-token:")


def _unchunked(request: BaseHTTPRequestHandler) -> bytes:
    whole = b""
    while size := int(request.rfile.readline(), 16):
        whole += request.rfile.read(size)
        request.rfile.readline()
    request.rfile.readline()
    return whole
