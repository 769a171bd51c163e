"""Which programs an image has, asked once in a container of it and kept in the folder of layers.

A file of this machine is shared with that container: where an engine does not see the same files, no layer can ever be
mounted, and it is better to know that before. It must not build anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import time
from pathlib import Path

import msgspec

from hostler.sandbox.contract import NO_NETWORK, Backend, Exec, Folder, SandboxSpec, SandboxUnavailable
from hostler.sandbox.engine.api import Engine
from hostler.sandbox.engine.ground import find_image
from hostler.sandbox.layers import imageprograms
from hostler.sandbox.layers.imageprograms import Facts, ImagePrograms
from hostler.sandbox.layers.places import provisioned
from hostler.sandbox.layers.storage import LayerFolder

_FORMAT = 1  # of what is asked: counted up, it is asked anew
_SHARED, _TOKEN = "/mnt/layers", "token"
_TIMEOUT_MS = 60_000
_RETRY_SECONDS = 60.0
_KEEP_SECONDS = 30 * 24 * 3600.0


class Images:
    """What is known of the image of that name, whatever it is at the moment. `folder` is that of layers."""

    def __init__(self, folder: LayerFolder, engine: Engine, image: str, backend: Backend) -> None:
        self._folder = folder
        self._engine = engine
        self._name = image
        self._backend = backend
        self._lock = asyncio.Lock()
        self._known: ImagePrograms | None = None
        self._refused: tuple[str, float, str] | None = None

    async def programs(self) -> ImagePrograms:
        """Raises `SandboxUnavailable`."""
        found = str((await find_image(self._engine, self._name)).get("Id", ""))
        async with self._lock:
            if self._known is None or self._known.id != found:
                self._known = ImagePrograms(self._name, found, await self._facts(found))
            return self._known

    async def _facts(self, image: str) -> Facts:
        if self._refused and self._refused[0] == image and time.monotonic() - self._refused[1] < _RETRY_SECONDS:
            raise SandboxUnavailable(self._refused[2])
        try:
            return await self._kept(image)
        except SandboxUnavailable as error:
            self._refused = image, time.monotonic(), str(error)
            raise
        except OSError as error:
            raise SandboxUnavailable(f"what the image has cannot be kept: {error.strerror}") from error

    async def _kept(self, image: str) -> Facts:
        key = hashlib.sha256(f"{_FORMAT} image {image}".encode()).hexdigest()[:32]
        path = self._folder.path / "images" / f"{key}.json"
        async with self._folder.locked(key):
            if (facts := _read(path)) is None:
                facts = await self._ask(key, path.parent)
                await asyncio.to_thread(_write, path, facts)
            return facts

    async def _ask(self, key: str, folder: Path) -> Facts:
        name, token = self._folder.place(key), secrets.token_hex(16)
        await asyncio.to_thread(_share, folder / _SHARED.rpartition("/")[2], token)
        spec = SandboxSpec(
            key=name,
            network=NO_NETWORK,
            shared=[Folder(source=folder / _SHARED.rpartition("/")[2], target=_SHARED)],
        )
        await self._backend.destroy(name)
        try:
            sandbox = await provisioned(self._backend, spec)
            asking = Exec(argv=imageprograms.asking(f"{_SHARED}/{_TOKEN}"), timeout_ms=_TIMEOUT_MS)
            said = await sandbox.run("ask", asking)
        finally:
            await asyncio.shield(self._backend.destroy(name))
        facts = imageprograms.understood(said.output)
        if facts.seen != token:
            raise SandboxUnavailable(
                f"a container does not see the files that this server shares with it from {self._folder.path}: the "
                "server and the engine must have the data folder under the same path (and SELinux must permit it)"
            )
        return facts


def _share(folder: Path, token: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    (folder / _TOKEN).write_text(f"{token}\n")
    (folder / _TOKEN).chmod(0o644)


def _read(path: Path) -> Facts | None:
    try:
        facts = msgspec.json.decode(path.read_bytes(), type=Facts)
        path.touch()
    except (OSError, msgspec.MsgspecError):
        return None
    return facts


def _write(path: Path, facts: Facts) -> None:
    """And remove what nobody has read for long. Raises OSError."""
    half = path.with_suffix(f".{secrets.token_hex(4)}")
    half.write_bytes(msgspec.json.encode(facts))
    half.replace(path)
    for other in path.parent.glob("*.*"):
        with contextlib.suppress(OSError):
            if other.stat().st_mtime < time.time() - _KEEP_SECONDS:
                other.unlink()
