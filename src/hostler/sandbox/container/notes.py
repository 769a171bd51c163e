"""What a server notes of a session's sandbox in a container, so that the next server finds it, or wakes it, as it was.

All of it is the server's own; nothing that the agent makes comes here but the state of its shell, which is only kept.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
from pathlib import Path

import msgspec

from hostler.sandbox import initlink
from hostler.sandbox.container.session import ContainerSandbox, State
from hostler.sandbox.contract import SandboxUnavailable
from hostler.sandbox.initlink import Op

_DUMP_SECONDS = 6


class Notes:
    """One session's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "egress.sock"
        self._state = folder / "state.json"
        self._shell = folder / "shell.state"
        self._fresh = folder / "fresh"  # it stands while a started sandbox has not been told all that it must be

    def begin(self) -> None:
        """Before a container is started. Raises `SandboxUnavailable`."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._state.unlink(missing_ok=True)
            self._fresh.touch()
        except OSError as error:
            raise SandboxUnavailable(f"cannot make the sandbox's directory {self.folder}: {error}") from error

    def write(self, state: State) -> None:
        """Once it runs, and before anything runs in it."""
        _write_whole(self._state, msgspec.json.encode(state))

    def read(self) -> State | None:
        try:
            return msgspec.json.decode(self._state.read_bytes(), type=State)
        except (OSError, msgspec.MsgspecError):
            return None

    def there(self) -> bool:
        """Whether there is a sandbox, or the beginning of one."""
        return self.folder.is_dir()

    def shell(self) -> bytes:
        """The state of its shell at its last rest; none when it has never rested."""
        try:
            return self._shell.read_bytes()
        except FileNotFoundError:
            return b""

    def restored(self, state: State, shell: bytes) -> None:
        """Of a sandbox that was made of a snapshot and has not run yet. Raises `SandboxUnavailable` and OSError."""
        self.begin()
        if shell:
            _write_whole(self._shell, shell)
        self.write(state)

    async def finish_start(self, sandbox: ContainerSandbox) -> None:
        """Tell the init what it is, and its shell what it was, unless that is done. Raises `SandboxUnavailable`."""
        if not self._fresh.exists():
            return
        answer = await sandbox.link.ask(Op.CONFIGURE, payload=sandbox.state.config)
        if answer.status != 0:
            raise SandboxUnavailable("its init could not be set up")
        if shell := self.shell():
            await sandbox.link.ask(Op.RESTORE, payload=shell)
        await sandbox.place_copies(sandbox.state.copies)
        await sandbox.place_texts(sandbox.state.texts)
        await sandbox.link_layers(sandbox.state.layers)
        self._fresh.unlink(missing_ok=True)

    async def keep_shell_state(self, sandbox: ContainerSandbox) -> None:
        """Before it rests."""
        if sandbox.link.broken:
            return
        try:
            async with asyncio.timeout(_DUMP_SECONDS):
                state = await sandbox.link.memory(Op.DUMP)
        except (initlink.Busy, initlink.Refused, SandboxUnavailable, TimeoutError):
            return  # at work or gone: the state of the last rest stands
        _write_whole(self._shell, state)

    async def remove(self) -> None:
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)


def _write_whole(path: Path, data: bytes) -> None:
    half = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    half.write_bytes(data)
    half.replace(path)
