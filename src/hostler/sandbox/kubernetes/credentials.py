"""The tokens with which a cluster knows us: given, in a file that is renewed, or of a plugin that the kubeconfig names.

A token is never printed, and an error never repeats what a plugin said on its standard output.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec

from hostler.sandbox.contract import SandboxUnavailable

_REREAD_SECONDS = 60.0  # the kubelet renews a service account's token long before its end
_PLUGIN_SECONDS = 60.0
_EARLY_SECONDS = 60.0
_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


class Token(Protocol):
    """Gives the token as it is now; after `refused` a fresh one."""

    async def get(self) -> str:
        """Raises `SandboxUnavailable`. The empty string: there is none."""
        ...

    def refused(self) -> None:
        """The cluster did not know us: what is held is not to be given again."""
        ...


class NoToken:
    async def get(self) -> str:
        return ""

    def refused(self) -> None:
        pass


class StaticToken:
    def __init__(self, token: str) -> None:
        self._token = token

    async def get(self) -> str:
        return self._token

    def refused(self) -> None:
        pass


class TokenFile:
    """A file that somebody else writes anew from time to time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token = ""
        self._read = float("-inf")

    async def get(self) -> str:
        if time.monotonic() - self._read > _REREAD_SECONDS:
            try:
                self._token = self._path.read_text().strip()
            except OSError as error:
                raise SandboxUnavailable(f"the token {self._path} can't be read: {error.strerror}") from error
            self._read = time.monotonic()
        return self._token

    def refused(self) -> None:
        self._read = float("-inf")


class PluginToken:
    """The token that an exec plugin of the kubeconfig prints, kept until shortly before its end."""

    def __init__(
        self, plugin: dict[str, Any], folder: Path, environ: Mapping[str, str], cluster: Mapping[str, Any]
    ) -> None:
        if plugin.get("apiVersion") not in _VERSIONS:
            raise SandboxUnavailable(f"the kubeconfig's exec plugin must speak one of {', '.join(_VERSIONS)}")
        self._plugin = plugin
        self._folder = folder
        self._environ = environ
        self._cluster = cluster
        self._token = ""
        self._until = 0.0
        self._lock = asyncio.Lock()

    async def get(self) -> str:
        async with self._lock:
            if not self._token or time.time() > self._until:
                said = await self._ask()
                self._token, self._until = _token(said)
            return self._token

    def refused(self) -> None:
        self._token = ""

    async def _ask(self) -> bytes:
        info: dict[str, Any] = {"apiVersion": self._plugin["apiVersion"], "kind": "ExecCredential"}
        info["spec"] = {"interactive": False}
        if self._plugin.get("provideClusterInfo"):
            names = ("server", "tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data")
            info["spec"]["cluster"] = {name: self._cluster[name] for name in names if name in self._cluster}
        env = {**self._environ, "KUBERNETES_EXEC_INFO": msgspec.json.encode(info).decode()}
        env |= {str(one["name"]): str(one["value"]) for one in self._plugin.get("env") or []}
        command = str(self._plugin["command"])
        program = str(self._folder / command) if os.sep in command else shutil.which(command, path=env.get("PATH"))
        try:
            return await _output([program or command, *map(str, self._plugin.get("args") or [])], env)
        except OSError as error:  # TimeoutError is one
            why = error.strerror or "no answer in time"
            raise SandboxUnavailable(f"the kubeconfig's exec plugin {command!r} failed: {why}") from error


async def _output(argv: list[str], env: Mapping[str, str]) -> bytes:
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*argv, stdin=null, stdout=pipe, stderr=null, env=dict(env))
    try:
        async with asyncio.timeout(_PLUGIN_SECONDS):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise OSError(0, f"it ended with {process.returncode}")
    return said


def _token(said: bytes) -> tuple[str, float]:
    """A plugin's token, and until when it is good."""
    try:
        status = msgspec.json.decode(said)["status"]
        token = str(status["token"])
        end = status.get("expirationTimestamp")
        until = datetime.fromisoformat(end).timestamp() - _EARLY_SECONDS if end else float("inf")
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, AttributeError):
        raise SandboxUnavailable("the kubeconfig's exec plugin gave no token (certificates are not taken)") from None
    return token, until
