"""The rules between the fields of an agent, and between an agent and its environment.

They hold for what results, not for what one request says: a new agent, an updated one, one with overrides, and one
whose tools a session replaced. It must not read or change anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol
from urllib.parse import urlsplit

from hostler.addresses import covers
from hostler.errors import InvalidRequest
from hostler.mcp.config import STDIO
from hostler.services import resolve_web
from hostler.wire.agents import (
    SessionAgent,
    SessionMultiagentCoordinator,
    SessionTeamEnabled,
    SessionThreadAgent,
    Skill,
)
from hostler.wire.environments import Config, LimitedNetwork, SelfHostedConfig
from hostler.wire.tools import AgentToolset, McpServer, McpToolset, Tool


class Equipped(Protocol):
    """What an agent, a session's agent and a thread's agent have in common."""

    tools: list[Tool]
    mcp_servers: list[McpServer]
    skills: list[Skill]


def check_references(agent: Equipped, within: str = "") -> None:
    """Every MCP toolset names a server, every server has exactly one toolset, and skills can be read."""
    declared = {server.name for server in agent.mcp_servers}
    used: set[str] = set()
    for index, tool in enumerate(agent.tools):
        if not isinstance(tool, McpToolset):
            continue
        name, at = tool.mcp_server_name, f"{within}tools.{index}.mcp_server_name"
        if name not in declared:
            raise InvalidRequest(f"{at}: mcp_servers has no server named {name}; add it, or remove this mcp_toolset")
        if name in used:
            raise InvalidRequest(f"{at}: server {name} already has an mcp_toolset; merge the two")
        used.add(name)
    for index, server in enumerate(agent.mcp_servers):
        if server.name not in used:
            raise InvalidRequest(
                f"{within}mcp_servers.{index}: no mcp_toolset in tools refers to server {server.name}; "
                f'add {{"type": "mcp_toolset", "mcp_server_name": "{server.name}"}}, or remove the server'
            )
    if agent.skills and not any(isinstance(tool, AgentToolset) and _reads(tool) for tool in agent.tools):
        raise InvalidRequest(
            f"{within}skills: an agent reads its skills with the read tool; "
            "enable it in tools, as part of agent_toolset_20260401"
        )


def check_network(agent: SessionAgent, config: Config) -> None:
    """In a limited environment, the MCP servers of all agents must be among the hosts it allows, and so must the
    domains that their web tools are to reach."""
    if isinstance(config, SelfHostedConfig):
        return  # what its workers may reach is not for us to say
    network = config.networking
    if not isinstance(network, LimitedNetwork):
        return
    agents: list[SessionAgent | SessionThreadAgent] = [agent, *roster(agent)]
    for one in agents:
        resolve_web.check_confined(one.tools, network, "agent." if one is agent else f"agent {one.name}: ")
    for one in agents if not network.allow_mcp_servers else ():
        for server in one.mcp_servers:
            if server.url.startswith(STDIO):
                continue  # a program of the operator's, which no network of a sandbox concerns
            host = urlsplit(server.url).hostname or ""
            if not any(covers(allowed, host) for allowed in network.allowed_hosts):
                raise InvalidRequest(
                    f"agent: the environment's network is limited and doesn't allow MCP server {server.name} of "
                    f"{one.name}; add its host to allowed_hosts or set allow_mcp_servers"
                )


def roster(agent: SessionAgent) -> Iterator[SessionThreadAgent]:
    """The agents that a session's agent may delegate to, in order, less its advisor."""
    if agent.multiagent is None:
        return
    if isinstance(agent.multiagent, SessionMultiagentCoordinator):
        yield from (entry for entry in agent.multiagent.agents if isinstance(entry, SessionThreadAgent))
    elif isinstance(agent.multiagent.subagents, SessionTeamEnabled):
        yield from agent.multiagent.subagents.predefined_agents


def _reads(toolset: AgentToolset) -> bool:
    config = next((config for config in toolset.configs if config.name == "read"), toolset.default_config)
    return config.enabled
