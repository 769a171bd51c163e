"""Resolves what an agent or a session override asks for into what runs, and refuses what this server can't honour.

It must not read or write anything: it works on the request alone.
"""

from __future__ import annotations

import re
from typing import Any, cast

from hostler.errors import InvalidRequest
from hostler.models.catalogue import Catalogue
from hostler.models.table import ModelInfo
from hostler.services import resolve_mcp, resolve_web
from hostler.wire.agents import AwsRoleIdentity, Effort, EffortLevel, EffortParams, ModelConfig, ModelParams
from hostler.wire.base import Unset, given
from hostler.wire.tools import (
    BUILTIN_NAMES,
    AgentToolset,
    AgentToolsetParams,
    AlwaysAllow,
    BuiltinConfig,
    BuiltinConfigParams,
    CustomTool,
    DefaultConfig,
    DefaultConfigParams,
    McpToolset,
    McpToolsetParams,
    Tool,
    ToolParams,
)

MAX_TOOLS = 256
NOT_YET = "not supported by this server yet"
_PROPERTY = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def refuse(params: Any, fields: tuple[str, ...], within: str = "") -> None:
    """Refuse, by name, fields that nothing here would honour. Absent, null and empty are fine."""
    for field in fields:
        if given(getattr(params, field)):
            raise InvalidRequest(f"{within}{field}: {NOT_YET}")


def refuse_identity(identity: object) -> None:
    if isinstance(identity, AwsRoleIdentity):
        raise InvalidRequest(f"execution_identity.type: aws_role is {NOT_YET}")


def model(params: str | ModelParams, catalogue: Catalogue, before: ModelConfig | None = None) -> ModelConfig:
    """A sent model replaces the whole object; only `effort` stays, when it is left out and the id is the same.

    What the model can't do is refused; a model without effort levels has none.
    """
    if isinstance(params, str):
        params = ModelParams(id=params)
    traits = catalogue.traits(params.id)
    if params.speed == "fast" and not traits.fast:
        raise InvalidRequest(f"model.speed: fast is not supported by {params.id}")
    if params.inference_geo and not traits.inference_geo:
        raise InvalidRequest(f"model.inference_geo: is not supported by {params.id}")
    kept = before.effort if before is not None and before.id == params.id else None
    return ModelConfig(
        id=params.id,
        effort=_effort(params, traits, kept),
        inference_geo=params.inference_geo or None,
        speed=params.speed or "standard",
    )


def _effort(params: ModelParams, traits: ModelInfo, kept: Effort | None) -> Effort | None:
    sent = params.effort
    if isinstance(sent, Unset) and kept is not None:
        return kept
    if isinstance(sent, Unset) or sent is None:
        return Effort(type=cast("EffortLevel", traits.default_effort)) if traits.default_effort else None
    level = sent.type if isinstance(sent, EffortParams) else sent
    if level not in traits.efforts:
        raise InvalidRequest(f"model.effort: {level} is not supported by {params.id}")
    return Effort(type=level)


def tools(params: list[ToolParams] | Unset | None, within: str = "") -> list[Tool]:
    """Resolve `tools`: every config complete, names unique, nothing that can't run here."""
    resolved: list[Tool] = []
    names: set[str] = set()
    for index, tool in enumerate(params or ()):
        at = f"{within}tools.{index}"
        if isinstance(tool, McpToolsetParams):
            resolved.append(resolve_mcp.toolset(tool, at))
        elif isinstance(tool, AgentToolsetParams):
            if any(isinstance(other, AgentToolset) for other in resolved):
                raise InvalidRequest(f"{at}: only one agent_toolset_20260401 is allowed")
            resolved.append(_toolset(tool, at))
        else:
            _check_custom(tool, at, names)
            resolved.append(tool)
    total = sum(_count(tool) for tool in resolved)
    if total > MAX_TOOLS:
        raise InvalidRequest(f"tools: at most {MAX_TOOLS} tools are allowed over all toolsets, there are {total}")
    resolve_web.check_references(resolved, within)
    return resolved


def _count(tool: Tool) -> int:
    """An MCP toolset counts by the tools it names: what a server has is not known here."""
    if isinstance(tool, AgentToolset):
        return len(BUILTIN_NAMES)
    return len(tool.configs) if isinstance(tool, McpToolset) else 1


def _toolset(params: AgentToolsetParams, at: str) -> AgentToolset:
    default = _default(params.default_config or DefaultConfigParams())
    configs: list[BuiltinConfig] = []
    for index, config in enumerate(params.configs or ()):
        place = f"{at}.configs.{index}"
        if any(config.name == other.name for other in configs):
            raise InvalidRequest(f"{place}.name: duplicate config for tool {config.name}")
        configs.append(_config(config, default, place))
    return AgentToolset(configs=configs, default_config=default)


def _default(params: DefaultConfigParams) -> DefaultConfig:
    return DefaultConfig(
        enabled=params.enabled if isinstance(params.enabled, bool) else True,
        permission_policy=params.permission_policy or AlwaysAllow(),
    )


def _config(params: BuiltinConfigParams, default: DefaultConfig, at: str) -> BuiltinConfig:
    if isinstance(params.type, str) and params.type != params.name:
        raise InvalidRequest(f"{at}.type: does not match the name {params.name}")
    enabled = params.enabled if isinstance(params.enabled, bool) else default.enabled
    return BuiltinConfig(
        type=params.name,
        name=params.name,
        enabled=enabled,
        permission_policy=params.permission_policy or default.permission_policy,
        **resolve_web.web_fields(params, at),
    )


def _check_custom(tool: CustomTool, at: str, names: set[str]) -> None:
    if tool.name in BUILTIN_NAMES:
        raise InvalidRequest(f"{at}.name: {tool.name} is the name of a built-in tool")
    if tool.name.startswith(("mcp__", "ant__")):
        raise InvalidRequest(f"{at}.name: the prefix {tool.name[:5]} is reserved")
    if tool.name in names:
        raise InvalidRequest(f"{at}.name: duplicate tool name {tool.name}")
    names.add(tool.name)
    _check_schema(tool.input_schema, f"{at}.input_schema")


def _check_schema(schema: dict[str, Any], at: str) -> None:
    if schema.get("type") != "object":
        raise InvalidRequest(f"{at}.type: Input should be 'object'")
    for word in ("oneOf", "anyOf", "allOf"):
        if word in schema:
            raise InvalidRequest(f"{at}.{word}: not allowed at the top level")
    if _has_ref(schema):
        raise InvalidRequest(f"{at}: $ref is not allowed")
    properties = schema.get("properties")
    if properties is not None and not isinstance(properties, dict):
        raise InvalidRequest(f"{at}.properties: Input should be an object")
    for name in properties or ():
        if not _PROPERTY.fullmatch(name):
            raise InvalidRequest(f"{at}.properties: {name[:80]!r} does not match {_PROPERTY.pattern}")
    required = schema.get("required")
    if required is not None and not (isinstance(required, list) and all(isinstance(name, str) for name in required)):
        raise InvalidRequest(f"{at}.required: Input should be a list of strings")


def _has_ref(schema: Any) -> bool:
    pending = [schema]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                return True
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return False
