"""The one ASGI app of the process: gives each request to whom its path belongs. It must not look further into it."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

_WORKSPACE = (b"/v1/me", b"/v1/workspace", b"/v1/runbooks")
_SKILL = b"/v1/skills/"


class Front:
    def __init__(self, *, api: ASGIApp, workspace: ASGIApp, mcp: ASGIApp, console: ASGIApp) -> None:
        """`api` has what belongs to nobody else."""
        self.api = api
        self.workspace = workspace
        self.mcp = mcp
        self.console = console

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._whose(scope)(scope, receive, send)

    def _whose(self, scope: Scope) -> ASGIApp:
        if scope["type"] != "http":
            return self.api
        path: bytes = (scope.get("raw_path") or scope["path"].encode()).split(b"?", 1)[0]
        if _below(path, b"/mcp"):
            return self.mcp
        if _below(path, b"/console"):
            return self.console
        if any(_below(path, each) for each in _WORKSPACE) or _is_runbook_skill(path, scope):
            return self.workspace
        return self.api


def _below(path: bytes, place: bytes) -> bool:
    return path == place or path.startswith(place + b"/")


def _is_runbook_skill(path: bytes, scope: Scope) -> bool:
    """Both APIs have this path. Whoever means the managed agents' says a version of that API, as all its clients do."""
    if scope["method"] != "GET" or not path.startswith(_SKILL) or path.count(b"/") != 3:
        return False
    return not any(name == b"anthropic-version" for name, _ in scope["headers"])
