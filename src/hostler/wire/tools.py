"""Tools of an agent: what a request says and what a response resolves it to, and how a call was judged.

It must not resolve or check anything: `services/` does.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from hostler.wire.base import UNSET, Params, Unset, Wire, matching

BuiltinName = Literal["bash", "edit", "glob", "grep", "read", "web_fetch", "web_search", "write"]
BUILTIN_NAMES = ("bash", "edit", "glob", "grep", "read", "web_fetch", "web_search", "write")

ToolName = Annotated[
    str, matching(r"^[A-Za-z0-9_-]+\Z", "must have only letters, digits, _ and -", min_length=1, max_length=128)
]
ServerName = Annotated[str, Meta(min_length=1, max_length=255)]
Permission = Literal["allow", "ask", "deny"]


class AlwaysAllow(Params, tag="always_allow", tag_field="type", kw_only=True):
    pass


class AlwaysAsk(Params, tag="always_ask", tag_field="type", kw_only=True):
    pass


class Auto(Params, tag="auto", tag_field="type", kw_only=True):
    pass


Policy = AlwaysAllow | AlwaysAsk | Auto


# -- requests


class DefaultConfigParams(Params, kw_only=True):
    enabled: bool | Unset | None = UNSET
    permission_policy: Policy | Unset | None = UNSET


class ToolReference(Params, tag="tool_reference", tag_field="type", kw_only=True):
    """The same in both directions."""

    name: Annotated[str, Meta(min_length=1, max_length=128)]


ToolReferences = Annotated[list[ToolReference], Meta(min_length=1, max_length=128)]


class UrlSourceAll(Params, tag="all", tag_field="type", kw_only=True):
    pass


class UrlSourceNone(Params, tag="none", tag_field="type", kw_only=True):
    pass


class UrlSourceOnly(Params, tag="only", tag_field="type", kw_only=True):
    tools: ToolReferences


class UrlSourceExcept(Params, tag="except", tag_field="type", kw_only=True):
    tools: ToolReferences


UserUrlSource = UrlSourceAll | UrlSourceNone
ToolUrlSource = UrlSourceAll | UrlSourceNone | UrlSourceOnly | UrlSourceExcept
UrlSourceShorthand = Literal["all", "none"]


class UrlSourcesParams(Params, kw_only=True):
    """Which parts of a conversation give URLs that `web_fetch` may fetch."""

    client_tool_results: UrlSourceShorthand | ToolUrlSource | Unset | None = UNSET
    server_tool_results: UrlSourceShorthand | ToolUrlSource | Unset | None = UNSET
    user_input: UrlSourceShorthand | UserUrlSource | Unset | None = UNSET


LocationPart = Annotated[str, Meta(min_length=1, max_length=255)]


class UserLocation(Params, tag="approximate", tag_field="type", kw_only=True):
    """Where a search is made for; the same in both directions, but for null, which is left out of responses."""

    city: LocationPart | Unset | None = UNSET
    country: LocationPart | Unset | None = UNSET
    region: LocationPart | Unset | None = UNSET
    timezone: LocationPart | Unset | None = UNSET


class BuiltinConfigParams(Params, kw_only=True):
    """One entry of `configs`; `name` tells the tool, `type` may repeat it. Fields after `permission_policy` are those
    of the web tools."""

    name: BuiltinName
    type: BuiltinName | Unset = UNSET
    enabled: bool | Unset | None = UNSET
    permission_policy: Policy | Unset | None = UNSET
    allowed_domains: list[str] | Unset | None = UNSET
    blocked_domains: list[str] | Unset | None = UNSET
    max_content_tokens: Annotated[int, Meta(ge=1)] | Unset | None = UNSET
    url_sources: UrlSourcesParams | Unset | None = UNSET
    user_location: UserLocation | Unset | None = UNSET


class AgentToolsetParams(Params, tag="agent_toolset_20260401", tag_field="type", kw_only=True):
    configs: Annotated[list[BuiltinConfigParams], Meta(max_length=256)] | Unset | None = UNSET
    default_config: DefaultConfigParams | Unset | None = UNSET


class McpToolConfigParams(Params, kw_only=True):
    name: Annotated[str, Meta(min_length=1, max_length=128)]
    enabled: bool | Unset | None = UNSET
    permission_policy: Policy | Unset | None = UNSET


class McpToolsetParams(Params, tag="mcp_toolset", tag_field="type", kw_only=True):
    mcp_server_name: ServerName
    configs: Annotated[list[McpToolConfigParams], Meta(max_length=256)] | Unset | None = UNSET
    default_config: DefaultConfigParams | Unset | None = UNSET


class CustomTool(Params, tag="custom", tag_field="type", kw_only=True):
    """The same in both directions. `input_schema` is JSON Schema, kept as it came."""

    name: ToolName
    description: Annotated[str, Meta(min_length=1)]
    input_schema: dict[str, Any]


ToolParams = AgentToolsetParams | McpToolsetParams | CustomTool


# -- responses


class DefaultConfig(Wire, kw_only=True):
    enabled: bool
    permission_policy: Policy


class UrlSources(Wire, kw_only=True):
    """Null is a source that was not set, which counts as all."""

    client_tool_results: ToolUrlSource | None = None
    server_tool_results: ToolUrlSource | None = None
    user_input: UserUrlSource | None = None


class BuiltinConfig(Wire, kw_only=True):
    """The fields after `permission_policy` are those of the web tools; only `url_sources` may be null."""

    type: BuiltinName
    name: BuiltinName
    enabled: bool
    permission_policy: Policy
    url_sources: UrlSources | Unset | None = UNSET
    allowed_domains: list[str] | Unset = UNSET
    blocked_domains: list[str] | Unset = UNSET
    max_content_tokens: int | Unset = UNSET
    user_location: UserLocation | Unset = UNSET


class AgentToolset(Wire, tag="agent_toolset_20260401", tag_field="type", kw_only=True):
    configs: list[BuiltinConfig]
    default_config: DefaultConfig


class McpToolConfig(Wire, kw_only=True):
    name: str
    enabled: bool
    permission_policy: Policy


class McpToolset(Wire, tag="mcp_toolset", tag_field="type", kw_only=True):
    mcp_server_name: str
    configs: list[McpToolConfig]
    default_config: DefaultConfig


Tool = AgentToolset | McpToolset | CustomTool


# -- how a call was judged


class EvaluatedAllow(Wire, tag="always_allow", tag_field="type", kw_only=True):
    pass


class EvaluatedAsk(Wire, tag="always_ask", tag_field="type", kw_only=True):
    pass


class AutoVerdict(Wire, kw_only=True):
    type: Permission
    reason_code: str | Unset = UNSET


class EvaluatedAuto(Wire, tag="auto", tag_field="type", kw_only=True):
    evaluated_permission: AutoVerdict


Evaluation = EvaluatedAllow | EvaluatedAsk | EvaluatedAuto


class McpServer(Params, tag="url", tag_field="type", kw_only=True):
    """An MCP server of an agent; the same in both directions."""

    name: ServerName
    url: Annotated[str, Meta(min_length=1, max_length=2048)]
