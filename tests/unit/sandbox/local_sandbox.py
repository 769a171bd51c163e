"""A double of the sandbox contract for tests: real bash, real file tools, a directory in place of a sandbox.

It confines nothing and must never leave the tests.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from hostler.sandbox.contract import (
    OUTPUT_LIMIT,
    RIPGREP,
    TOOLS,
    Command,
    CommandResult,
    Exec,
    Mount,
    OutputFile,
    RestartShell,
    UnknownCall,
)
from hostler.sandbox.ripgrep import find_ripgrep

_DRIVER = 'cd "$(cat "$1/cwd")"; . "$1/env"; . "$1/script"; s=$?; pwd >"$1/cwd"; export -p >"$1/env"; exit $s'


class LocalSandbox:
    def __init__(self, workspace: Path, tools: Path, *, ripgrep: Path | None = None) -> None:
        self.workspace = workspace
        self.calls: dict[str, asyncio.Task[CommandResult]] = {}
        self._stops: dict[str, asyncio.Event] = {}
        self.started: list[tuple[str, Command]] = []
        self.acknowledged: list[str] = []
        self._state = workspace.parent / "shell"
        self._paths = {
            TOOLS: str(tools),
            RIPGREP: str(ripgrep or find_ripgrep() or "/nonexistent"),
            "/mnt/session/tool_outputs": str(workspace.parent / "tool_outputs"),
        }
        self._restart()

    def path(self, inside: str) -> str:
        return self._paths.get(inside, inside)

    async def run(self, call_id: str, command: Command) -> CommandResult:
        if call_id in self.calls:
            raise ValueError(f"call {call_id} is known already")
        self.started.append((call_id, command))
        self._stops[call_id] = asyncio.Event()
        self.calls[call_id] = asyncio.create_task(self._perform(command, self._stops[call_id]))
        return await asyncio.shield(self.calls[call_id])

    async def attach(self, call_id: str) -> CommandResult:
        if call_id not in self.calls:
            raise UnknownCall(call_id)
        return await asyncio.shield(self.calls[call_id])

    async def cancel(self, call_id: str) -> None:
        if call_id in self._stops:
            self._stops[call_id].set()

    async def acknowledge(self, call_id: str) -> None:
        self.acknowledged.append(call_id)
        self.calls.pop(call_id, None)

    async def set_mounts(self, mounts: list[Mount]) -> None:
        raise NotImplementedError

    async def outputs(self) -> list[OutputFile]:
        raise NotImplementedError

    def read_output(self, path: str) -> AsyncIterator[bytes]:
        raise NotImplementedError

    def _restart(self) -> None:
        shutil.rmtree(self._state, ignore_errors=True)
        self._state.mkdir()
        (self._state / "cwd").write_text(str(self.workspace))
        (self._state / "env").touch()

    async def _perform(self, command: Command, stop: asyncio.Event) -> CommandResult:
        if isinstance(command, RestartShell):
            self._restart()
            return CommandResult(exit_code=0)
        if isinstance(command, Exec):
            argv = [self.path(word) for word in command.argv]
            return await self._process(argv, command.stdin, command.timeout_ms, stop, merge=False)
        (self._state / "script").write_text(command.script)
        stamp = (self._state / "env").stat().st_mtime_ns
        argv = ["/bin/bash", "-c", _DRIVER, "bash", str(self._state)]
        result = await self._process(argv, b"", command.timeout_ms, stop, merge=True)
        if (self._state / "env").stat().st_mtime_ns == stamp and not result.timed_out:
            self._restart()
            return _ended(result)
        return result

    async def _process(
        self, argv: list[str], stdin: bytes, timeout_ms: int, stop: asyncio.Event, *, merge: bool
    ) -> CommandResult:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=self.workspace,
            stdin=pipe,
            stdout=pipe,
            stderr=asyncio.subprocess.STDOUT if merge else pipe,
            start_new_session=True,
        )
        talk = asyncio.create_task(process.communicate(stdin))
        stopped = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait((talk, stopped), timeout=timeout_ms / 1000, return_when=asyncio.FIRST_COMPLETED)
        cancelled, timed_out = stopped in done and talk not in done, not done
        stopped.cancel()
        if timed_out or cancelled:
            os.killpg(process.pid, signal.SIGKILL)
        out, err = await talk
        code = process.returncode
        assert code is not None
        return CommandResult(
            exit_code=code if code >= 0 else None,
            output=_clip(out),
            output_bytes=len(out),
            errors=err or b"",
            signal=-code if code < 0 else None,
            timed_out=timed_out,
            cancelled=cancelled,
        )


def _clip(out: bytes) -> bytes:
    half = OUTPUT_LIMIT // 2
    return out if len(out) <= OUTPUT_LIMIT else out[:half] + out[-half:]


def _ended(result: CommandResult) -> CommandResult:
    return CommandResult(
        exit_code=result.exit_code,
        output=result.output,
        output_bytes=result.output_bytes,
        signal=result.signal,
        cancelled=result.cancelled,
        shell_ended=True,
    )
