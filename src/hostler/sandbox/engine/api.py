"""The few calls of the Docker Engine API that a sandbox needs; podman serves the same ones.

It holds no state and decides nothing: what a container is made of stands in spec.py.
"""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Sequence
from typing import Any

import msgspec

from hostler.sandbox.engine.http import EngineError, EngineHttp, ExecStream

_API = "/v1.40"  # Docker 19.03, podman 3
_NOT_THERE, _CONFLICT = 404, 409


class Found(msgspec.Struct, frozen=True):
    """A container as the engine sees it."""

    id: str
    running: bool
    started: str
    exit_code: int
    error: str


class Engine:
    """One engine. Every method raises `SandboxUnavailable`."""

    def __init__(self, http: EngineHttp) -> None:
        self.http = http

    async def info(self) -> dict[str, Any]:
        return await self.http.ask_json("GET", f"{_API}/info")

    async def version(self) -> dict[str, Any]:
        return await self.http.ask_json("GET", f"{_API}/version")

    async def image(self, name: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = await _unless_gone(self.http.ask_json("GET", f"{_API}/images/{name}/json"))
        return found

    async def create(self, name: str, body: dict[str, Any]) -> str:
        """Make a container, in the place of a left-over of that name; return its id."""
        for last in (False, True):
            try:
                made = await self.http.ask_json("POST", f"{_API}/containers/create", query={"name": name}, body=body)
            except EngineError as error:
                if last or error.status not in (_CONFLICT, 500):  # podman says 500 for a name that is taken
                    raise
                await self.remove(name)
                continue
            return str(made.get("Id", ""))
        raise AssertionError

    async def start(self, container: str) -> None:
        await self.http.ask("POST", f"{_API}/containers/{container}/start")

    async def inspect(self, container: str) -> Found | None:
        found = await _unless_gone(self.http.ask_json("GET", f"{_API}/containers/{container}/json"))
        if found is None:
            return None
        state = found.get("State") or {}
        return Found(
            str(found.get("Id", "")),
            bool(state.get("Running")),
            str(state.get("StartedAt", "")),
            int(state.get("ExitCode") or 0),
            str(state.get("Error") or ""),
        )

    async def mounts(self, container: str) -> list[str]:
        """Where something is mounted in a container; nothing when there is none."""
        found = await _unless_gone(self.http.ask_json("GET", f"{_API}/containers/{container}/json"))
        return [str(mount.get("Destination")) for mount in (found or {}).get("Mounts") or []]

    async def remove(self, container: str) -> None:
        """End a container at once and delete it; its volumes stay. No-op when there is none."""
        with contextlib.suppress(EngineError):  # it is not there, or does not run: the next call says so
            await self.http.ask("POST", f"{_API}/containers/{container}/kill")
        query = {"force": "true", "v": "false"}
        await _unless_gone(self.http.ask("DELETE", f"{_API}/containers/{container}", query=query))

    async def labelled(self, label: str) -> list[dict[str, Any]]:
        """All containers with a label, running or not."""
        query = {"all": "true", "filters": msgspec.json.encode({"label": [label]}).decode()}
        return await self.http.ask_list("GET", f"{_API}/containers/json", query=query)

    async def logs(self, container: str) -> str:
        query = {"stdout": "false", "stderr": "true", "tail": "20"}
        raw = await self.http.ask("GET", f"{_API}/containers/{container}/logs", query=query)
        return raw[-2000:].decode(errors="replace").strip()

    async def stream(self, container: str, argv: Sequence[str]) -> ExecStream:
        """Start a program inside as the container's root."""
        body = {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "Cmd": [*argv], "User": "0:0"}
        made = await self.http.ask_json("POST", f"{_API}/containers/{container}/exec", body=body)
        body = {"Detach": False, "Tty": False}
        return ExecStream(*await self.http.upgrade(f"{_API}/exec/{made.get('Id', '')}/start", body))

    async def has_file(self, container: str, path: str) -> bool:
        query = {"path": path}
        return (
            await _unless_gone(self.http.ask("HEAD", f"{_API}/containers/{container}/archive", query=query)) is not None
        )

    async def upload(self, container: str, folder: str, files: dict[str, bytes]) -> None:
        """Put programs into a folder of a container that does not run."""
        query = {"path": folder}
        path = f"{_API}/containers/{container}/archive"
        await self.http.ask("PUT", path, query=query, raw=_archive(files), seconds=300)

    async def make_volume(self, name: str, labels: dict[str, str]) -> None:
        await self.http.ask("POST", f"{_API}/volumes/create", body={"Name": name, "Labels": labels})

    async def volumes(self, label: str) -> list[str]:
        query = {"filters": msgspec.json.encode({"label": [label]}).decode()}
        found = await self.http.ask_json("GET", f"{_API}/volumes", query=query)
        return [str(volume.get("Name")) for volume in found.get("Volumes") or []]

    async def remove_volume(self, name: str) -> None:
        await _unless_gone(self.http.ask("DELETE", f"{_API}/volumes/{name}", query={"force": "true"}))


async def _unless_gone(asked: Any) -> Any:
    try:
        return await asked
    except EngineError as error:
        if error.status == _NOT_THERE:
            return None
        raise


def _archive(files: dict[str, bytes]) -> bytes:
    """A tar of programs that anybody may run and nobody but root may change.

    It ends where a tar must, without the usual filling: podman fails now and then when nobody reads that.
    """
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            tar.addfile(entry, io.BytesIO(data))
        end = tar.offset + 2 * tarfile.BLOCKSIZE
    return out.getvalue()[:end]
