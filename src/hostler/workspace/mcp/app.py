"""Puts all tools behind the gate of the MCP server. It must hold no rules."""

from __future__ import annotations

from typing import Any

from hostler.runbooks.room import Runbooks
from hostler.services.keys import Keys
from hostler.workspace.mcp.callers import McpCallers
from hostler.workspace.mcp.files import Files
from hostler.workspace.mcp.gate import McpGate
from hostler.workspace.mcp.origins import Origins
from hostler.workspace.mcp.progress import Progress
from hostler.workspace.mcp.registry import Registry
from hostler.workspace.mcp.resources import Resources
from hostler.workspace.mcp.tasks import Tasks
from hostler.workspace.mcp.tool import Tool


def create_mcp(room: Runbooks, keys: Keys, public_url: str | None, host: str, port: int) -> McpGate:
    """`host` and `port` are where the server listens."""
    tasks, registry = Tasks(room), Registry(room)
    every = {each.name: each for each in tools(room, tasks, registry)}
    resources = Resources(room, tasks, registry)

    def make(module: Any) -> Any:
        return module.Protocol(every, resources)

    origins = Origins(public_url, host, port)
    return McpGate(McpCallers(keys, room.registered), origins, public_url, make)


def tools(room: Runbooks, tasks: Tasks, registry: Registry) -> list[Tool]:
    """All of them; docs are checked against them."""
    return [*tasks.tools(), *Files(room).tools(), *Progress(room).tools(), *registry.tools()]
