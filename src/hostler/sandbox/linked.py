"""The part of a live sandbox that is the same wherever its init runs: calls over a link.

It knows nothing of files, and not how the link came to be.
"""

from __future__ import annotations

from hostler.sandbox.contract import Command, CommandResult, Exec, RestartShell, Shell
from hostler.sandbox.initlink import Link, Op


def words(argv: list[str], cwd: str) -> bytes:
    """A program, its arguments and where it runs, as the init takes them. Raises ValueError."""
    every = [cwd, *argv]
    if not argv or any("\0" in word for word in every):
        raise ValueError("a program and its arguments must be given, without NUL bytes")
    return b"".join(_encode(word) + b"\0" for word in every)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


class Linked:
    """The calls of the contract's `Sandbox`."""

    def __init__(self, link: Link) -> None:
        self.calls = link

    async def run(self, call_id: str, command: Command) -> CommandResult:
        if isinstance(command, RestartShell):
            return await self.calls.call(Op.RESTART, call_id)
        if isinstance(command, Shell):
            if "\0" in command.script:
                return CommandResult(exit_code=2, output=b"bash: the script contains a NUL byte\n", output_bytes=37)
            return await self.calls.call(Op.SHELL, call_id, _encode(command.script), timeout_ms=command.timeout_ms)
        return await self._exec(call_id, command)

    async def _exec(self, call_id: str, command: Exec) -> CommandResult:
        payload = words(command.argv, command.cwd)
        return await self.calls.call(Op.EXEC, call_id, payload, stdin=command.stdin, timeout_ms=command.timeout_ms)

    async def attach(self, call_id: str) -> CommandResult:
        return await self.calls.call(Op.ATTACH, call_id)

    async def cancel(self, call_id: str) -> None:
        (await self.calls.ask(Op.CANCEL, call_id)).close()

    async def acknowledge(self, call_id: str) -> None:
        (await self.calls.ask(Op.ACK, call_id)).close()
