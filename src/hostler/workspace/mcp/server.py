"""Speaks MCP, over one HTTP request at a time: nothing of a client is kept in between.

So every request is judged by the key that it brings, and a restart of the server is not noticed. It imports the SDK
(35 MB), so it must itself only be imported once somebody asks.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import mcp_types as types
import msgspec
from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.types import Receive, Scope, Send

import hostler
from hostler.errors import HostlerError
from hostler.store.store import StoreClosed
from hostler.wire.base import encode
from hostler.workspace.mcp import prompts
from hostler.workspace.mcp.callers import Caller
from hostler.workspace.mcp.resources import Resources
from hostler.workspace.mcp.tool import Contents, Tool, builtins

log = logging.getLogger("hostler.workspace.mcp")

MAX_BODY = 8 * 1024 * 1024
CALLER = "hostler.caller"
INSTRUCTIONS = (
    "Tasks of runbooks, their documents, and the tenants, entities and workflows that they belong to. If a task has "
    "called you, ntro_task_get without arguments tells what it is about."
)

# What a client sends is not ours to write into our log.
logging.getLogger("mcp").setLevel(logging.CRITICAL)

Context = ServerRequestContext[Any]


class Protocol:
    def __init__(self, tools: Mapping[str, Tool], resources: Resources) -> None:
        self._tools = tools
        self._resources = resources
        self._shown = {name: _shown(tool) for name, tool in tools.items()}
        self._server: Server[Any] = Server(
            "hostler",
            version=hostler.__version__,
            instructions=INSTRUCTIONS,
            get_tool_input_schema=lambda name: self._shown[name].input_schema if name in self._shown else None,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources,
            on_list_resource_templates=self._list_templates,
            on_read_resource=self._read_resource,
            on_list_prompts=self._list_prompts,
            on_get_prompt=self._get_prompt,
        )

    async def handle(self, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, all of which ends with it. The gate has judged its host and origin."""
        manager = StreamableHTTPSessionManager(
            self._server, json_response=True, stateless=True, max_request_body_size=MAX_BODY
        )
        async with manager.run():
            await manager.handle_request({**scope, CALLER: caller}, receive, send)

    # -- tools --

    async def _list_tools(self, ctx: Context, _: Any) -> types.ListToolsResult:
        caller = _caller(ctx)
        return types.ListToolsResult(
            tools=[self._shown[name] for name, tool in self._tools.items() if tool.offered(caller)]
        )

    async def _call_tool(self, ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        tool = self._tools.get(params.name)
        if tool is None:
            raise MCPError(types.INVALID_PARAMS, f"There is no tool {params.name[:100]}.")
        try:
            return _result(await tool.call(_caller(ctx), dict(params.arguments or {})))
        except HostlerError as error:
            return _failed(error.message)
        except StoreClosed:
            return _failed("The server is shutting down; try again.")
        except Exception:
            log.exception("%s failed", tool.name)
            return _failed("The tool has failed on the server's side; its log says how.")

    # -- resources and prompts --

    async def _list_resources(self, ctx: Context, _: Any) -> types.ListResourcesResult:
        found = self._resources.offered(_caller(ctx), templates=False)
        return types.ListResourcesResult(
            resources=[
                types.Resource(uri=each.uri, name=each.name, description=each.description, mime_type="application/json")
                for each in found
            ]
        )

    async def _list_templates(self, ctx: Context, _: Any) -> types.ListResourceTemplatesResult:
        found = self._resources.offered(_caller(ctx), templates=True)
        return types.ListResourceTemplatesResult(
            resource_templates=[
                types.ResourceTemplate(
                    uri_template=each.uri, name=each.name, description=each.description, mime_type="application/json"
                )
                for each in found
            ]
        )

    async def _read_resource(self, ctx: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        uri = str(params.uri)
        try:
            text = encode(await self._resources.read(_caller(ctx), uri)).decode()
        except HostlerError as error:
            raise MCPError(types.INVALID_PARAMS, error.message) from None
        contents = types.TextResourceContents(uri=uri, mime_type="application/json", text=text)
        return types.ReadResourceResult(contents=[contents])

    async def _list_prompts(self, ctx: Context, _: Any) -> types.ListPromptsResult:
        return types.ListPromptsResult(
            prompts=[
                types.Prompt(
                    name=each.name,
                    description=each.description,
                    arguments=[
                        types.PromptArgument(name=it.name, description=it.description, required=it.default is None)
                        for it in each.arguments
                    ],
                )
                for each in prompts.PROMPTS
            ]
        )

    async def _get_prompt(self, ctx: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
        try:
            text = prompts.find(params.name).filled(dict(params.arguments or {}))
        except HostlerError as error:
            raise MCPError(types.INVALID_PARAMS, error.message) from None
        message = types.PromptMessage(role="user", content=types.TextContent(text=text))
        return types.GetPromptResult(messages=[message])


def _caller(ctx: Context) -> Caller:
    assert ctx.request is not None
    caller: Caller = ctx.request.scope[CALLER]
    return caller


def _shown(tool: Tool) -> types.Tool:
    return types.Tool(
        name=tool.name,
        description=tool.description,
        input_schema=tool.schema(),
        annotations=types.ToolAnnotations(read_only_hint=tool.reads, open_world_hint=False),
    )


def _result(answer: Any) -> types.CallToolResult:
    """As structure, and the same as text for whoever reads only that."""
    if isinstance(answer, Contents):
        about, blocks = answer.about, answer.blocks
    else:
        about, blocks = builtins(answer), []
    text = msgspec.json.encode(about).decode()
    content = [{"type": "text", "text": text}, *blocks]
    return types.CallToolResult.model_validate({"content": content, "structuredContent": about})


def _failed(message: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=message)], is_error=True)
