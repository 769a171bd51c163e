"""A simulated container engine: the endpoints that the adapter uses, on a unix socket, with real processes behind.

It stands in where nobody may run an engine, and does on command what a real one does only on a bad day. A container is
an entry of a table and a fake init; programs run as ordinary processes of this machine, so nothing is confined.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import platform
import re
import struct
import time
import urllib.parse
from pathlib import Path
from typing import Any, NamedTuple

from hostler.sandbox.initlink import VERSION, Op

_REQUEST = struct.Struct("<IBBHII")
_ANSWER = struct.Struct("<IBBHiiQII")
_UNKNOWN, _DUPLICATE, _OK = 2, 1, 0


class Refused(Exception):
    """An answer other than success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Container:
    """What the engine knows of one, and the calls of its init, which outlive every connection."""

    def __init__(self, name: str, body: dict[str, Any], age: float = 0) -> None:
        self.created = time.time() - age
        self.id = f"{abs(hash(name)):064x}"[:64]
        self.name = name
        self.body = body
        self.running = False
        self.started = "0001-01-01T00:00:00Z"
        self.config = b""
        self.calls: dict[str, asyncio.Task[bytes]] = {}
        self.called = asyncio.Event()


class Trouble:
    """What goes wrong. Each is looked at when its turn comes."""

    def __init__(self) -> None:
        self.start = ""  # why no container starts
        self.garbage = b""  # what an attached stream carries in the place of answers


class Asked(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    body: bytes


class SimulatedEngine:
    """Use as `async with SimulatedEngine(path) as engine`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.address = f"unix://{path}"
        self.containers: dict[str, Container] = {}
        self.volumes: dict[str, dict[str, str]] = {}
        self.files: set[str] = set()
        self.images = {"hostler-sandbox"}
        self.trouble = Trouble()
        self.conflict = 409
        self.asked: list[str] = []
        self._execs: dict[str, tuple[Container, list[str]]] = {}
        self._starts = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> SimulatedEngine:
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.drop_all()
        tasks = [task for container in self.containers.values() for task in container.calls.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)

    def drop_all(self) -> None:
        """End every connection, as an engine that is restarted does."""
        for writer in self._writers:
            writer.transport.abort()

    # -- HTTP --

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            asked = await _read(reader)
            self.asked.append(f"{asked.method} {asked.path}")
            if found := re.fullmatch(r"/exec/(\w+)/start", asked.path):
                await self._attach(found[1], reader, writer)
            else:
                writer.write(self._answer(asked))
                await writer.drain()
        except (OSError, EOFError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _answer(self, asked: Asked) -> bytes:
        try:
            status, found = 200, self._do(asked)
        except Refused as refused:
            status, found = refused.status, {"message": str(refused)}
        data = b"" if found is None else json.dumps(found).encode()
        return f"HTTP/1.1 {status} Said\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data

    def _do(self, asked: Asked) -> Any:
        for pattern, method in _ROUTES.items():
            if found := re.fullmatch(pattern, f"{asked.method} {asked.path}"):
                return getattr(self, method)(asked, *found.groups())
        raise Refused(404, f"page not found: {asked.method} {asked.path}")

    def info(self, _: Asked) -> Any:
        return {"Architecture": platform.machine(), "MemoryLimit": True, "PidsLimit": True, "Runtimes": {"runc": {}}}

    def version(self, _: Asked) -> Any:
        return {"Version": "1.0", "Components": [{"Name": "Simulated"}]}

    def image(self, _: Asked, name: str) -> Any:
        if name not in self.images:
            raise Refused(404, f"no such image: {name}")
        return {"Id": "sha256:1"}

    def create(self, asked: Asked) -> Any:
        name = asked.query["name"]
        if name in self.containers:
            raise Refused(self.conflict, f"the container name {name} is already in use")
        made = self.containers[name] = Container(name, json.loads(asked.body))
        return {"Id": made.id, "Warnings": []}

    def container(self, name: str) -> Container:
        for container in self.containers.values():
            if name in (container.id, container.name):
                return container
        raise Refused(404, f"no such container: {name}")

    def start(self, _: Asked, name: str) -> None:
        if self.trouble.start:
            raise Refused(500, self.trouble.start)
        self._starts += 1
        container = self.container(name)
        container.running, container.started = True, f"2026-01-01T00:00:{self._starts:02}Z"

    def inspect(self, _: Asked, name: str) -> Any:
        found = self.container(name)
        state = {"Running": found.running, "StartedAt": found.started, "ExitCode": 0, "Error": ""}
        return {"Id": found.id, "State": state}

    def kill(self, _: Asked, name: str) -> None:
        container = self.container(name)
        container.running = False
        for task in container.calls.values():
            task.cancel()

    def remove(self, _: Asked, name: str) -> None:
        self.containers.pop(self.container(name).name)

    def listing(self, asked: Asked) -> Any:
        wanted = _wanted(asked)
        return [
            {"Id": one.id, "Labels": one.body["Labels"], "Created": int(one.created)}
            for one in self.containers.values()
            if wanted <= one.body["Labels"].items()
        ]

    def logs(self, _: Asked, name: str) -> None:
        self.container(name)

    def new_exec(self, asked: Asked, name: str) -> Any:
        container = self.container(name)
        if not container.running:
            raise Refused(409, "the container does not run")
        self._execs[number := f"e{len(self._execs)}"] = (container, json.loads(asked.body)["Cmd"])
        return {"Id": number}

    def look(self, asked: Asked, name: str) -> None:
        if asked.query["path"] not in self.files:
            raise Refused(404, "no such file")

    def upload(self, asked: Asked, name: str) -> None:
        self.files.add(f"{asked.query['path']}/.ready")

    def new_volume(self, asked: Asked) -> Any:
        body = json.loads(asked.body)
        self.volumes[body["Name"]] = body["Labels"]
        return {"Name": body["Name"]}

    def volume_list(self, asked: Asked) -> Any:
        wanted = _wanted(asked)
        return {"Volumes": [{"Name": name} for name, labels in self.volumes.items() if wanted <= labels.items()]}

    def remove_volume(self, _: Asked, name: str) -> None:
        self.volumes.pop(name)

    # -- the stream to a fake init --

    async def _attach(self, number: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        container, argv = self._execs[number]
        writer.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        assert argv[1] == "relay", argv
        if self.trouble.garbage:
            writer.write(self.trouble.garbage)
        waiting: set[asyncio.Task[None]] = set()
        try:
            while True:
                (length,) = struct.unpack("<I", await reader.readexactly(4))
                message = await reader.readexactly(length)
                task = asyncio.create_task(self._reply(container, message, writer))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
        finally:
            for task in list(waiting):
                task.cancel()

    async def _reply(self, container: Container, message: bytes, writer: asyncio.StreamWriter) -> None:
        seq, op, _, id_length, _, payload_length = _REQUEST.unpack_from(message)
        call_id = message[_REQUEST.size : _REQUEST.size + id_length].decode()
        payload = message[_REQUEST.size + id_length :][:payload_length]
        status, value, body = _OK, 0, b""
        if op == Op.HELLO:
            value = VERSION
        elif op == Op.CONFIGURE:
            container.config = payload
        elif op in (Op.EXEC, Op.SHELL):
            if call_id in container.calls:
                status = _DUPLICATE
            else:
                container.calls[call_id] = asyncio.create_task(_run(op, payload))
                container.called.set()
        if op in (Op.EXEC, Op.SHELL, Op.ATTACH) and status == _OK:
            if call_id not in container.calls:
                status = _UNKNOWN
            else:
                body = await asyncio.shield(container.calls[call_id])
        answer = _ANSWER.pack(seq, status, 0, 0, value, 0, len(body), len(body), 0) + body
        answer = struct.pack("<I", len(answer)) + answer
        with contextlib.suppress(OSError):
            for part in (answer[:5], answer[5:]):  # as frames of the engine's, cut where it likes
                writer.write(b"\x01\0\0\0" + struct.pack(">I", len(part)) + part)
            await writer.drain()


async def _run(op: int, payload: bytes) -> bytes:
    """A program's output. Our own program for files is not there: it has nothing to say."""
    argv = [b"bash", b"-c", payload] if op == Op.SHELL else payload.split(b"\0")[1:-1]
    if argv[0].startswith(b"/opt/hostler/"):
        return b""
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    try:
        return (await process.communicate())[0]
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise


def _wanted(asked: Asked) -> set[tuple[str, str]]:
    labels = json.loads(asked.query["filters"])["label"]
    return {(name, value) for name, _, value in (label.partition("=") for label in labels)}


async def _read(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    method, target, _ = head.split("\r\n")[0].split(" ")
    length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
    url = urllib.parse.urlsplit(target)
    body = await reader.readexactly(int(length[1])) if length else b""
    query = dict(urllib.parse.parse_qsl(url.query))
    return Asked(method, re.sub(r"^/v1\.\d+", "", urllib.parse.unquote(url.path)), query, body)


_ROUTES = {
    r"GET /info": "info",
    r"GET /version": "version",
    r"GET /images/(.+)/json": "image",
    r"POST /containers/create": "create",
    r"POST /containers/([^/]+)/start": "start",
    r"GET /containers/json": "listing",
    r"GET /containers/([^/]+)/json": "inspect",
    r"POST /containers/([^/]+)/kill": "kill",
    r"GET /containers/([^/]+)/logs": "logs",
    r"POST /containers/([^/]+)/exec": "new_exec",
    r"HEAD /containers/([^/]+)/archive": "look",
    r"PUT /containers/([^/]+)/archive": "upload",
    r"DELETE /containers/([^/]+)": "remove",
    r"POST /volumes/create": "new_volume",
    r"GET /volumes": "volume_list",
    r"DELETE /volumes/([^/]+)": "remove_volume",
}
