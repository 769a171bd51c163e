"""The `[mcp]` table of the config file, and what an agent's server URL stands for. It must not read the environment or
connect to anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

STDIO = "stdio:"
# What any program needs to find its way about. Nothing else of the server's environment reaches a stdio server.
INHERITED = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER")

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class StdioServer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[mcp.stdio.NAME]`: a program of the operator, run on this machine with the server's own rights.

    `env_from` names variables of the server's environment to pass on, for secrets that don't belong into a file.
    """

    command: Annotated[str, msgspec.Meta(min_length=1)]
    args: list[str] = []
    env: dict[str, str] = {}
    env_from: list[str] = []
    cwd: str | None = None

    def __repr__(self) -> str:
        return f"StdioServer(command={self.command!r})"


ServerName = Annotated[str, msgspec.Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.-]+$")]


class McpConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[mcp]` table. Times are seconds."""

    setup_seconds: Seconds = 15.0  # to connect and list the tools
    call_seconds: Seconds = 120.0  # of silence in a call; progress starts it anew
    call_limit_seconds: Seconds = 3600.0  # of a call in all
    idle_seconds: Seconds = 300.0  # until an unused connection is closed
    connections: Count = 256
    tools: Count = 128  # of one server
    result_bytes: Count = 16 * 1024 * 1024
    stdio: dict[ServerName, StdioServer] = {}


class Target(msgspec.Struct, frozen=True):
    """What to connect to: a URL, or a program of this machine with its whole environment."""

    url: str
    program: StdioServer | None = None
    environment: dict[str, str] = {}

    def __repr__(self) -> str:
        return "Target(...)"  # a URL may hold a password, an environment may hold keys


def target(config: McpConfig, url: str, environ: Mapping[str, str]) -> Target | None:
    """What a server's URL stands for here; None for a stdio server that is not configured."""
    if not url.startswith(STDIO):
        return Target(url)
    program = config.stdio.get(url.removeprefix(STDIO))
    if program is None:
        return None
    passed = {name: environ[name] for name in (*INHERITED, *program.env_from) if name in environ}
    return Target(url, program, {**passed, **program.env})
