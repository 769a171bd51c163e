"""A live sandbox in a container: the contract's `Sandbox`, over a relay, whichever engine runs the container.

Inputs are placed and outputs collected by our own program inside, so that no path of the agent's is followed out here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec

from hostler.sandbox import files
from hostler.sandbox.container import inputs
from hostler.sandbox.container.inputs import Placed
from hostler.sandbox.container.relaylink import RelayLink
from hostler.sandbox.container.setup import INIT
from hostler.sandbox.contract import (
    LAYERS,
    OUTPUTS,
    CommandResult,
    Limits,
    Mount,
    Network,
    OutputFile,
    SandboxUnavailable,
)
from hostler.sandbox.initlink import Op
from hostler.sandbox.linked import Linked, words
from hostler.sandbox.rootfs import WRITABLE

_CHUNK = 4 * 1024 * 1024
_TIMEOUT_MS = 120_000
_USER_SITE = "import site; print(site.getusersitepackages(), end='')"
_log = logging.getLogger(__name__)


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What is written down of a sandbox before anything runs in it. `config` is what its init must be told;
    `texts`, `layers` (their keys) and `copies` what it is given before the first command."""

    container: str
    started: str
    limits: Limits
    network: Network
    folders: list[str]
    proxy: bool
    config: bytes
    texts: dict[str, str]
    layers: list[str]
    copies: dict[str, str] = {}  # where inside -> the host's file or folder


class ContainerSandbox(Linked):
    """`folder` is the session's on the server's side; nothing of the agent's lies in it."""

    def __init__(self, folder: Path, link: RelayLink, state: State) -> None:
        super().__init__(link)
        self.link = link
        self.state = state
        self.egress: asyncio.Task[None] | None = None
        self._folder = folder
        self._placing = asyncio.Lock()

    @property
    def generation(self) -> str:
        return f"{self.state.container}:{self.state.started}"

    @property
    def live(self) -> bool:
        return not self.link.closed.done()

    async def release(self) -> None:
        """Let go of the connection and of the proxy; the container goes on."""
        if self.egress is not None:
            self.egress.cancel()
            await asyncio.gather(self.egress, return_exceptions=True)
            self.egress = None
        await self.link.aclose()

    # -- inputs --

    async def set_mounts(self, mounts: list[Mount]) -> None:
        for mount in mounts:
            files.check_target(mount.target)
        async with self._placing:
            await self._forget_others({mount.target: _origin(mount) for mount in mounts})
            missing = await self._missing([mount.target for mount in mounts])
            await self._place([Placed(mount.target, mount) for mount in mounts if mount.target in missing])

    async def place_texts(self, texts: dict[str, str]) -> None:
        """Put files of ours, by their whole path, in the place of what is there."""
        await self._place([Placed(path, text=text.encode()) for path, text in texts.items()])

    async def place_copies(self, copies: dict[str, str]) -> None:
        """Put files of the host, and folders with all that is in them, where the container can't see them."""
        for target, source in copies.items():
            await self._place(await asyncio.to_thread(inputs.below, Path(source), target))

    async def link_layers(self, layers: list[str]) -> None:
        """Let the sandbox's Python find these layers; see interpreter.py."""
        if not layers:
            return
        result = await self._do(["python3", "-c", _USER_SITE], program=None)
        if result.exit_code == 0 and (site := result.output.decode(errors="replace")).startswith("/"):
            texts = {f"{site}/hostler-{key}.pth": f"{LAYERS}/{key}/python\n" for key in layers}
            await self.place_texts(texts)

    async def _forget_others(self, wanted: dict[str, str]) -> None:
        """Take away what `wanted` does not name, and write down `wanted` before any of it is placed."""
        note = self._folder / "inputs.json"
        placed = _read_note(note)
        if placed == wanted:
            return
        gone = [target for target, origin in placed.items() if wanted.get(target) != origin]
        if gone := [target for target in gone if not self._is_agents(target)]:
            text = "".join(f"{target}\0" for target in gone).encode("utf-8", "surrogatepass")
            await self._files(["drop"], text, keeper=True)
        half = note.with_suffix(".new")
        half.write_bytes(msgspec.json.encode(wanted))
        half.replace(note)

    async def _missing(self, targets: list[str]) -> set[str]:
        if not targets:
            return set()
        asked = "".join(f"{target}\0" for target in targets).encode("utf-8", "surrogatepass")
        said = await self._files(["missing"], asked)
        return {part.decode("utf-8", "surrogatepass") for part in said.output.split(b"\0")}

    async def _place(self, placed: list[Placed]) -> None:
        """What lies in the agent's folders is placed as the agent, all else as root."""
        for keeper in (True, False):
            group = [file for file in placed if self._is_agents(file.target) is not keeper]
            try:
                await self._put(group, keeper)
            except OSError as error:
                raise SandboxUnavailable(f"cannot read an input: {error.strerror}") from error

    async def _put(self, group: list[Placed], keeper: bool) -> None:
        tag = inputs.tag()
        async for batch in inputs.batches(group):
            blocked = (await self._files(["put", tag], batch, keeper=keeper)).output
            for path in blocked.split(b"\0")[:-1]:
                _log.warning("%s: cannot place an input at %r: something is in the way", self._folder.name, path)

    def _is_agents(self, target: str) -> bool:
        return any(target.startswith(f"{own}/") for own in (*WRITABLE.values(), *self.state.folders))

    # -- outputs --

    async def outputs(self) -> list[OutputFile]:
        fields = (await self._files(["list", OUTPUTS])).output.split(b"\0")[:-1]
        found = []
        with contextlib.suppress(ValueError):  # the agent can meddle with a process of its own user, to its own harm
            for path, size, mtime in zip(fields[::3], fields[1::3], fields[2::3], strict=True):
                name = path.decode("utf-8", "surrogateescape")
                found.append(OutputFile(path=name, size_bytes=int(size), mtime_ns=int(mtime)))
        return sorted((file for file in found if _is_below(file.path)), key=lambda file: file.path)

    async def read_output(self, path: str) -> AsyncIterator[bytes]:
        if not _is_below(path):
            raise FileNotFoundError(path)
        offset, inode = 0, b""
        while True:
            argv = ["read", OUTPUTS, str(offset), str(_CHUNK)]
            result = await self._files(argv, path.encode("utf-8", "surrogateescape"), may_fail=True)
            said = result.output
            if result.exit_code != 0 or len(said) < 8 or (inode and said[:8] != inode):
                raise FileNotFoundError(path)
            inode = said[:8]
            if len(said) > 8:
                yield said[8:]
            offset += len(said) - 8
            if len(said) - 8 < _CHUNK:
                return

    # -- our program inside --

    async def _files(
        self, argv: Sequence[str], stdin: bytes = b"", *, keeper: bool = False, may_fail: bool = False
    ) -> CommandResult:
        result = await self._do([*argv], stdin, keeper=keeper)
        if result.exit_code != 0 and not may_fail:
            said = result.errors[-300:].decode(errors="replace").strip()
            raise SandboxUnavailable(f"cannot work on the sandbox's files: {said or 'no answer'}")
        return result

    async def _do(
        self, argv: list[str], stdin: bytes = b"", *, program: str | None = "files", keeper: bool = False
    ) -> CommandResult:
        call_id = f"hostler {secrets.token_hex(8)}"
        payload = words([INIT, program, *argv] if program else argv, "/")
        result = await self.link.call(Op.EXEC, call_id, payload, stdin=stdin, timeout_ms=_TIMEOUT_MS, keeper=keeper)
        await self.acknowledge(call_id)
        return result


def _is_below(path: str) -> bool:
    return all(part not in ("", ".", "..") for part in path.split("/")) and "\0" not in path


def _origin(mount: Mount) -> str:
    return f"{mount.source} executable" if mount.executable else str(mount.source)


def _read_note(path: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except (FileNotFoundError, msgspec.MsgspecError):
        return {}
