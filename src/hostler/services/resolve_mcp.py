"""Resolves an agent's MCP servers and toolsets. It must not connect to anything: a bad server shows in a session.

Where a policy or switch is left out, a toolset asks before every call.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from hostler.errors import InvalidRequest
from hostler.mcp.config import STDIO
from hostler.wire.base import Unset
from hostler.wire.tools import (
    AlwaysAsk,
    DefaultConfig,
    DefaultConfigParams,
    McpServer,
    McpToolConfig,
    McpToolset,
    McpToolsetParams,
)

_NOT_IN_URLS = re.compile(r"[\x00-\x20\x7f]")


def toolset(params: McpToolsetParams, at: str) -> McpToolset:
    """Fill in what was left out: enabled, and asking first."""
    sent = params.default_config or DefaultConfigParams()
    default = DefaultConfig(
        enabled=sent.enabled if isinstance(sent.enabled, bool) else True,
        permission_policy=sent.permission_policy or AlwaysAsk(),
    )
    configs: list[McpToolConfig] = []
    names: set[str] = set()
    for index, config in enumerate(params.configs or ()):
        if config.name in names:
            raise InvalidRequest(f"{at}.configs.{index}.name: duplicate config for tool {config.name}")
        names.add(config.name)
        enabled = config.enabled if isinstance(config.enabled, bool) else default.enabled
        policy = config.permission_policy or default.permission_policy
        configs.append(McpToolConfig(name=config.name, enabled=enabled, permission_policy=policy))
    return McpToolset(mcp_server_name=params.mcp_server_name, configs=configs, default_config=default)


def servers(params: list[McpServer] | Unset | None, within: str = "") -> list[McpServer]:
    """Check that names are unique and URLs usable. A message never repeats a URL, which may hold a password."""
    names: set[str] = set()
    for index, server in enumerate(params or ()):
        at = f"{within}mcp_servers.{index}"
        if server.name in names:
            raise InvalidRequest(f"{at}.name: duplicate server name {server.name}")
        names.add(server.name)
        _check_url(server.url, f"{at}.url")
    return list(params or ())


def check_programs(params: list[McpServer] | Unset | None, programs: Collection[str], within: str = "") -> None:
    """Refuse a stdio server that is not configured here."""
    for index, server in enumerate(params or ()):
        if server.url.startswith(STDIO) and server.url.removeprefix(STDIO) not in programs:
            raise InvalidRequest(
                f"{within}mcp_servers.{index}.url: this server's configuration has no stdio MCP server of that name; "
                "add it as [mcp.stdio.NAME]"
            )


def _check_url(url: str, at: str) -> None:
    if url.startswith(STDIO):
        return  # `check_programs` knows which there are
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or _NOT_IN_URLS.search(url):
        raise InvalidRequest(f"{at}: Input should be an http or https URL with a host, like https://example.com/mcp")
