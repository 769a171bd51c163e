"""Runs git on the server's side, on folders that only this server writes to: no configuration but what stands here, no
hooks, no prompts, one protocol, and an end.

A credential goes by the environment, never by arguments. It must not run git in a working tree.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from hostler.git.failures import RepositoryFailure

CHUNK = 65536
MAX_ERRORS = 16 * 1024
_PASSED = ("http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "all_proxy", "ALL_PROXY")
_ALWAYS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.askPass": "",
    "credential.helper": "",
    "safe.directory": "*",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "fetch.unpackLimit": "1",
    "fetch.recurseSubmodules": "no",
    "fetch.writeCommitGraph": "false",
    "http.followRedirects": "false",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "60",
    "protocol.version": "2",
    "protocol.allow": "never",
    "protocol.https.allow": "always",
    "pack.threads": "1",
}


class GitFailed(Exception):
    """git ended with an error; `errors` is the end of what it wrote."""

    def __init__(self, errors: str) -> None:
        super().__init__(errors)
        self.errors = errors


class Git:
    """The machine's git. `program` is None where there is none: every use then says so."""

    def __init__(self, environ: Mapping[str, str], program: str | None = None) -> None:
        self.program = program or shutil.which("git", path=environ.get("PATH", os.defpath))
        self._environ = environ

    def environment(self, config: Mapping[str, str] | None = None) -> dict[str, str]:
        """The whole environment of a git process. What is in `config` is not seen in the process list."""
        environ = self._environ
        passed = {name: environ[name] for name in _PASSED if name in environ}
        if bundle := environ.get("SSL_CERT_FILE") or environ.get("REQUESTS_CA_BUNDLE"):
            passed["GIT_SSL_CAINFO"] = bundle
        settings = {**_ALWAYS, **(config or {})}
        for number, (key, value) in enumerate(settings.items()):
            passed |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        return {
            **passed,
            "PATH": environ.get("PATH", os.defpath),
            "HOME": "/nonexistent",
            "LC_ALL": "C",
            "GIT_CONFIG_COUNT": str(len(settings)),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
        }

    async def run(
        self,
        folder: Path,
        arguments: Sequence[str],
        *,
        stdin: bytes = b"",
        config: Mapping[str, str] | None = None,
        file_bytes: int | None = None,
        most: int = 256 * 1024 * 1024,
    ) -> bytes:
        """Run to the end and return the output. Raises GitFailed, and RepositoryFailure where there is no git."""
        output = bytearray()
        async with self.stream(folder, arguments, stdin, config=config, file_bytes=file_bytes) as parts:
            async for part in parts:
                output += part
                if len(output) > most:
                    raise GitFailed("too much output")
        return bytes(output)

    @asynccontextmanager
    async def stream(
        self,
        folder: Path,
        arguments: Sequence[str],
        stdin: bytes = b"",
        *,
        config: Mapping[str, str] | None = None,
        file_bytes: int | None = None,
    ) -> AsyncGenerator[AsyncIterator[bytes]]:
        """The output as it comes; GitFailed is raised at its end. Leaving the block ends the process."""
        if self.program is None:
            raise RepositoryFailure("clone", "This server has no git program; `hostler doctor` says what to install.")
        process = await asyncio.create_subprocess_exec(
            self.program,
            *arguments,
            cwd=folder,
            env=self.environment(config),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
        )
        if file_bytes is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
        errors = asyncio.create_task(_last(process))
        feed = asyncio.create_task(_feed(process, stdin))
        try:
            yield _parts(process, errors)
        finally:
            _end(process)
            feed.cancel()
            await asyncio.gather(process.wait(), feed, errors, return_exceptions=True)


async def _parts(process: Process, errors: asyncio.Task[str]) -> AsyncGenerator[bytes]:
    assert process.stdout is not None
    while part := await process.stdout.read(CHUNK):
        yield part
    if await process.wait() != 0:
        raise GitFailed(await errors)


async def _feed(process: Process, data: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(ConnectionError):
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.close()


async def _last(process: Process) -> str:
    assert process.stderr is not None
    kept = b""
    while part := await process.stderr.read(CHUNK):
        kept = (kept + part)[-MAX_ERRORS:]
    return kept.decode(errors="replace")


def _end(process: Process) -> None:
    """End the process with all that it started, a group of their own; its id is safe to use until it is waited for."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
