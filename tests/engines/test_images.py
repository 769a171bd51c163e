"""An image is asked once what it has; another one, or one that can't see the server's files, is noticed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from hostler.sandbox.contract import Backend, CommandResult, Exec, SandboxSpec, SandboxUnavailable
from hostler.sandbox.engine.api import Engine
from hostler.sandbox.engine.images import Images
from hostler.sandbox.layers.storage import LayerFolder


class _Engine:
    """Has one image, or none; makes containers that see the server's files, or others."""

    def __init__(self) -> None:
        self.id = "sha256:1"
        self.sees = True
        self.asked = 0
        self.destroyed = 0

    async def image(self, name: str) -> dict[str, Any] | None:
        return {"Id": self.id} if self.id else None

    async def destroy(self, key: str) -> None:
        self.destroyed += 1

    async def provision(self, spec: SandboxSpec) -> _Container:
        self.asked += 1
        (shared,) = spec.shared
        return _Container(shared.source / "token" if self.sees else Path("/nonexistent"))


class _Container:
    def __init__(self, token: Path) -> None:
        self._token = token

    async def run(self, call_id: str, command: Exec) -> CommandResult:
        seen = self._token.read_text() if self._token.exists() else ""
        return CommandResult(exit_code=0, output=f"program npm /usr/bin/npm\nseen {seen}\n".encode())


def _images(folder: Path, engine: _Engine) -> Images:
    return Images(LayerFolder(folder), cast(Engine, engine), "the-image", cast(Backend, engine))


def test_an_image_is_asked_once_and_a_new_one_anew(tmp_path: Path) -> None:
    async def main() -> None:
        engine = _Engine()
        images, other = _images(tmp_path, engine), _images(tmp_path, engine)  # as two processes
        found = await asyncio.gather(*(each.programs() for each in (images, other, images)))
        assert [programs.find("npm") for programs in found] == ["/usr/bin/npm"] * 3
        assert engine.asked == 1
        engine.id = "sha256:2"
        assert (await images.programs()).identity != found[0].identity
        assert engine.asked == 2
        engine.id = ""
        with pytest.raises(SandboxUnavailable, match="no image 'the-image'"):
            await images.programs()

    asyncio.run(main())


def test_an_engine_that_sees_other_files_is_noticed(tmp_path: Path) -> None:
    async def main() -> None:
        engine = _Engine()
        engine.sees = False
        images = _images(tmp_path, engine)
        for _ in range(3):
            with pytest.raises(SandboxUnavailable, match="under the same path"):
                await images.programs()
        assert engine.asked == 1  # not all the time
        assert engine.destroyed == 2  # before, and after
        engine.sees = True
        assert (await _images(tmp_path, engine).programs()).find("npm")

    asyncio.run(main())
