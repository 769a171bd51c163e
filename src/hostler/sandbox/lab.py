"""What a trial of the conformance suite works with: sandboxes that go away behind it, and short words for asserting.

Holds no trial itself.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

import msgspec

from hostler.sandbox.contract import NO_NETWORK, Backend, Command, CommandResult, Exec, Sandbox, SandboxSpec, Shell


class Failed(Exception):
    """The backend breaks the law that the trial is about."""


class Trial(msgspec.Struct, frozen=True):
    """A law of the contract, and the experiment that would find it broken."""

    name: str
    law: str
    run: Callable[[Lab], Awaitable[None]]


class Trials(list[Trial]):
    """Collects the trials of a module: the function's name is the trial's, its docstring the law."""

    def __call__(self, function: Callable[[Lab], Awaitable[None]]) -> Callable[[Lab], Awaitable[None]]:
        name = getattr(function, "__name__", "trial").replace("_", " ")
        self.append(Trial(name, (function.__doc__ or "").strip(), function))
        return function


class Lab:
    """Sandboxes for one trial, and a folder of the host."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._keys: list[str] = []
        self._ids = itertools.count()
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for key in self._keys:
            await self.backend.destroy(key)
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def folder(self) -> Path:
        """A folder of the host that no sandbox may see."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="selfcheck-")
        return Path(self._folder.name)

    def spec(self, **more: object) -> SandboxSpec:
        """A spec with a key of its own."""
        key = f"selfcheck_{secrets.token_hex(6)}"
        self._keys.append(key)
        return msgspec.structs.replace(SandboxSpec(key=key, network=NO_NETWORK), **more)

    async def sandbox(self, **more: object) -> Sandbox:
        return await self.backend.provision(self.spec(**more))

    def call_id(self) -> str:
        return f"call_{next(self._ids)}_{secrets.token_hex(4)}"

    async def run(self, sandbox: Sandbox, command: Command) -> CommandResult:
        """Run a command under an id of its own and acknowledge it."""
        call_id = self.call_id()
        async with asyncio.timeout(60):
            result = await sandbox.run(call_id, command)
        await sandbox.acknowledge(call_id)
        return result

    async def shell(self, sandbox: Sandbox, script: str, timeout_ms: int = 30_000) -> CommandResult:
        return await self.run(sandbox, Shell(script=script, timeout_ms=timeout_ms))

    async def python(self, sandbox: Sandbox, program: str, timeout_ms: int = 30_000) -> CommandResult:
        return await self.run(sandbox, Exec(argv=["python3", "-c", program], timeout_ms=timeout_ms))

    async def text(self, sandbox: Sandbox, script: str) -> str:
        """The output of a script, as text without the last newline."""
        return (await self.shell(sandbox, script)).output.decode(errors="replace").rstrip("\n")


def expect(condition: bool, failure: str) -> None:
    """Raise `Failed` unless the condition holds."""
    if not condition:
        raise Failed(failure)


def expect_equal(found: object, wanted: object, what: str) -> None:
    expect(found == wanted, f"{what}: found {found!r}, wanted {wanted!r}")


async def until(look: Callable[[], Awaitable[bool]], failure: str, seconds: float = 10.0) -> None:
    """Look again and again until it is so; raise `Failed` when it never is."""
    try:
        async with asyncio.timeout(seconds):
            while not await look():  # noqa: ASYNC110 - what is looked at is a process, it sets no event
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise Failed(failure) from None
