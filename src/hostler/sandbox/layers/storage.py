"""The folder in which layers are kept, shared by all processes of this data: names, locks, what is there, and removal.

A folder under a key is whole: it gets there by one rename and goes by one. It must not build anything.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import time
from asyncio import sleep
from collections.abc import AsyncIterator
from pathlib import Path

from hostler.sandbox import files
from hostler.sandbox.contract import Layer
from hostler.sandbox.layers import manifests
from hostler.sandbox.layers.manifests import MANIFEST
from hostler.sandbox.layers.packages import Kept
from hostler.sandbox.rootfs import Layout

_KEY = re.compile(r"[0-9a-f]{32}")


class LayerFolder:
    """Paths and locks below one folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder.absolute()

    def layer(self, key: str) -> Layer:
        return Layer(key=key, source=self.path / key)

    def look(self, key: str) -> Layer | None:
        layer = self.layer(key)
        return layer if manifests.read(layer.source) is not None else None

    def take(self, key: str) -> Layer | None:
        """The layer if it is there, marked as used."""
        layer = self.look(key)
        if layer is not None:
            with contextlib.suppress(OSError):
                os.utime(layer.source / MANIFEST)
        return layer

    def keep(self, key: str, half: Path) -> None:
        """Give a finished layer its name. Raises OSError."""
        if (self.path / key).exists():  # and is no layer: somebody has been at it
            os.rename(self.path / key, self.half(key))
        os.rename(half, self.path / key)

    def place(self, key: str) -> str:
        """The name of a build's sandbox: not that of the same build in another data folder of this machine."""
        return f"{key}-{hashlib.sha256(os.fsencode(self.path)).hexdigest()[:8]}"

    def layout(self, key: str) -> Layout:
        """The directory of a build's sandbox."""
        return Layout(self.path / "building" / self.place(key))

    def half(self, key: str) -> Path:
        folder = self.path / "half"
        folder.mkdir(exist_ok=True)
        return folder / f"{key}-{secrets.token_hex(4)}"

    @contextlib.asynccontextmanager
    async def locked(self, key: str, *, wait: bool = True) -> AsyncIterator[None]:
        """Hold the lock of a key, also against other processes; the system lets go of it when its holder dies. Raises
        BlockingIOError when another one has it and this one is not to wait."""
        folder = self.path / "locks"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(folder / key, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _try_lock(fd):
                if not wait:
                    raise BlockingIOError(errno.EAGAIN, "another process works on it")
                await sleep(0.1)
            yield
        finally:
            os.close(fd)

    def names(self) -> set[str]:
        """The keys of which there is a lock, and so perhaps something else."""
        try:
            return {name for name in os.listdir(self.path / "locks") if _KEY.fullmatch(name)}
        except OSError:
            return set()

    def kept(self) -> list[Kept]:
        """All whole layers, the one that was used last first."""
        found = []
        for key in self.names():
            manifest, used = manifests.read(self.path / key), manifests.last_used(self.path / key)
            if manifest is not None and used is not None:
                kept = Kept(
                    key=key,
                    manager=manifest.manager,
                    lines=manifest.lines,
                    packages=manifest.packages,
                    bytes=manifest.size.bytes,
                    built_at=manifest.built_at,
                    last_used_at=used,
                )
                found.append(kept)
        return sorted(found, key=lambda kept: kept.last_used_at, reverse=True)

    def remove_halves(self, key: str) -> None:
        for left in (self.path / "half").glob(f"{key}-*"):
            files.remove_tree(left)

    def remove(self, key: str, keep_seconds: float) -> bool:
        """Remove a layer unless it was used within that time. The caller holds its lock. Raises OSError."""
        used = manifests.last_used(self.path / key)
        if used is None or used >= time.time() - keep_seconds:
            return False
        gone = self.half(key)
        os.rename(self.path / key, gone)  # at once, or not at all
        files.remove_tree(gone)
        return True


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
