"""Offers the tools of an agent's MCP servers and runs their calls: the `ServedTools` of MCP.

A server that can't be used is a problem of this wake: the session goes on without it, and the next wake tries again. It
must not keep anything that a restart would need: connections and listings are found anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import msgspec

from hostler.harness.deps import Credentials
from hostler.harness.drafts import session_error
from hostler.harness.parts import Call
from hostler.harness.run import Run
from hostler.harness.served import Effect, Offer, ServedResult
from hostler.harness.tooltable import Tool
from hostler.harness.wake import Wake
from hostler.log.entries import Draft
from hostler.mcp.listing import RemoteTool, model_names
from hostler.mcp.pool import Key, Pool
from hostler.mcp.problems import (
    NotAuthorized,
    NotConnected,
    NotSent,
    OutcomeUnknown,
    Refused,
    Unauthorized,
)
from hostler.mcp.results import content_of
from hostler.vault.bearer import Bearer
from hostler.wire.tools import McpServer, McpToolset

NOTHING = Offer()
NOT_REACHED = "The MCP server {server} can't be used, so the tool did not run: {why}."
NOT_ALLOWED = "The MCP server {server} did not authorize the session, so the tool did not run: {why}."
UNKNOWN = (
    "The outcome of this call is unknown: it was sent to the MCP server {server}, but {why}. It may have run, in part "
    "or in full. Check before you repeat it."
)
GONE = "The tool {name} of the MCP server {server} is not available any more, so it did not run."


class Authority:
    """The credential for one server in one session, looked up again at each wake; see `mcp.http.Authority`."""

    def __init__(self, credentials: Credentials, server_url: str) -> None:
        self._credentials = credentials
        self._server_url = server_url
        self._found: Bearer | None = None

    async def resolve(self, vault_ids: list[str]) -> None:
        self._found = await self._credentials.authorization(vault_ids, self._server_url) if vault_ids else None

    async def token(self) -> str | None:
        return self._found.token if self._found is not None else None

    async def renewed(self, rejected: str) -> str | None:
        if self._found is None:
            return None
        if self._found.token == rejected:  # else another request has had it renewed meanwhile
            self._found = await self._credentials.refreshed(self._found, rejected)
        return await self.token()


class View(msgspec.Struct):
    """What a wake knows of one server."""

    authority: Authority
    tools: list[RemoteTool] | None = None
    problem: NotConnected | None = None


class McpTools:
    """Serves all sessions of a process."""

    effect: Effect = "outside"

    def __init__(self, pool: Pool, credentials: Credentials) -> None:
        self._pool = pool
        self._credentials = credentials
        self._wakes: WeakKeyDictionary[Wake, dict[Key, View]] = WeakKeyDictionary()
        # A connection keeps its authority; nothing else of an idle session stays.
        self._authorities: WeakValueDictionary[Key, Authority] = WeakValueDictionary()

    @property
    def programs(self) -> frozenset[str]:
        """The stdio servers that agents may name."""
        return frozenset(self._pool.config.stdio)

    def offer(self, run: Run) -> Offer | Awaitable[Offer]:
        toolsets = [tool for tool in run.agent.tools if isinstance(tool, McpToolset)]
        return self._offer(run, toolsets) if toolsets else NOTHING

    async def _offer(self, run: Run, toolsets: list[McpToolset]) -> Offer:
        servers = {server.name: server for server in run.agent.mcp_servers}
        wanted = [(toolset, servers[toolset.mcp_server_name]) for toolset in toolsets]
        views = await asyncio.gather(*(self._look(run, server) for _, server in wanted))
        chosen = [
            (toolset, tool)
            for (toolset, _), view in zip(wanted, views, strict=True)
            for tool in enabled(toolset, view.tools or [])[: self._pool.config.tools]
        ]
        names = model_names((toolset.mcp_server_name, tool.name) for toolset, tool in chosen)
        tools = [_tool(name, toolset, tool) for name, (toolset, tool) in zip(names, chosen, strict=True)]
        problems = [
            problem_event(server.name, view.problem)
            for (_, server), view in zip(wanted, views, strict=True)
            if view.problem is not None
        ]
        return Offer(tools=tools, problems=problems)

    def serves(self, call: Call) -> bool:
        return call.kind == "mcp"

    async def perform(self, run: Run, call: Call) -> ServedResult:
        server = next((server for server in run.agent.mcp_servers if server.name == call.server), None)
        if server is None or call.tool is None:
            return _failed(GONE.format(name=call.shown_name, server=call.server))
        try:
            result = await self._called(run, server, call.tool, call.input)
        except NotConnected as problem:
            text = NOT_ALLOWED if isinstance(problem, NotAuthorized) else NOT_REACHED
            return _failed(text.format(server=server.name, why=problem))
        except OutcomeUnknown as problem:
            return _failed(UNKNOWN.format(server=server.name, why=problem))
        except Refused as problem:
            return _failed(str(problem) or "The MCP server refused the call and did not say why.")
        return ServedResult(content=content_of(result), is_error=bool(result.get("isError")))

    def forget(self, session_id: str) -> None:
        """The session has ended."""
        self._pool.forget(session_id)

    async def _called(self, run: Run, server: McpServer, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The result of a call; one that provably was not sent is sent once more, over a new connection.

        Raises NotConnected for one that did not run, Refused and OutcomeUnknown.
        """
        view = await self._view(run, server)
        key = _key(run, server)
        for attempt in (1, 2):
            try:
                connection = await self._pool.connection(key, view.authority)
                return await connection.call(tool, arguments)
            except NotSent as problem:
                if attempt == 2:
                    raise self._noticed(view, NotConnected(str(problem))) from None
            except Unauthorized as problem:
                raise self._noticed(view, NotAuthorized(str(problem))) from None
            except NotConnected as problem:
                self._noticed(view, problem)
                raise
        raise AssertionError("unreachable")

    def _noticed(self, view: View, problem: NotConnected) -> NotConnected:
        """A server that fails in mid-turn: the client is told with the next request, and the tools stay offered."""
        view.problem = problem
        return problem

    async def _look(self, run: Run, server: McpServer) -> View:
        """The server's tools: connected to once a wake, listed again when the server says that they have changed."""
        view = await self._view(run, server)
        if view.problem is not None and view.tools is None:
            return view
        key = _key(run, server)
        if view.tools is not None and not self._pool.changed(key):
            return view
        try:
            view.tools = await self._pool.tools(key, view.authority, fresh=view.tools is None)
        except NotConnected as problem:
            view.problem = problem
        return view

    async def _view(self, run: Run, server: McpServer) -> View:
        """What this wake knows of a server. At its beginning that is the credential only."""
        views = self._wakes.setdefault(run.wake, {})
        key = _key(run, server)
        if key not in views:
            authority = self._authorities.setdefault(key, Authority(self._credentials, server.url))
            await authority.resolve(run.row.vault_ids)
            views.setdefault(key, View(authority))
        return views[key]


def enabled(toolset: McpToolset, tools: Iterable[RemoteTool]) -> list[RemoteTool]:
    configs = {config.name: config.enabled for config in toolset.configs}
    return [tool for tool in tools if configs.get(tool.name, toolset.default_config.enabled)]


def problem_event(server: str, problem: NotConnected) -> Draft:
    """The session goes on without the server. A credential is not tried again by itself, a connection is: by the next
    wake."""
    if isinstance(problem, NotAuthorized):
        message = f"The MCP server {server} did not authorize the session: {problem}."
        return session_error("mcp_authentication_failed_error", message, "exhausted", mcp_server_name=server)
    message = f"The MCP server {server} can't be used: {problem}."
    return session_error("mcp_connection_failed_error", message, "retrying", mcp_server_name=server)


def _tool(name: str, toolset: McpToolset, tool: RemoteTool) -> Tool:
    config = next((config for config in toolset.configs if config.name == tool.name), toolset.default_config)
    definition = {"name": name, "description": tool.description, "input_schema": tool.input_schema}
    policy = str(config.permission_policy.__struct_config__.tag)
    return Tool(name, "mcp", definition, policy, server=toolset.mcp_server_name, tool=tool.name)


def _key(run: Run, server: McpServer) -> Key:
    return Key(run.session_id, server.name, server.url)


def _failed(text: str) -> ServedResult:
    return ServedResult(content=[{"type": "text", "text": text}], is_error=True)
