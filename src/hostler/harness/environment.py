"""What a session's environment means for its sandbox. It must not make one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from hostler.addresses import bare_host
from hostler.harness.skill_packages import roster
from hostler.sandbox.contract import NO_NETWORK, Network

if TYPE_CHECKING:
    from hostler.harness.recalling import Row


class _Stored(msgspec.Struct):
    """What is looked at of a stored environment."""

    config: dict[str, Any]


def config_of(environment: bytes | None, snapshot: bytes) -> dict[str, Any]:
    """The config that a sandbox starts with: the environment's as it is now, else the one that the session was created
    with. Environments have no versions: a change takes hold with the next start of a session's sandbox."""
    if environment is None:
        return msgspec.json.decode(snapshot, type=dict[str, Any])
    return msgspec.json.decode(environment, type=_Stored).config


def network_of(row: Row) -> Network:
    """What the session's sandbox may reach. An environment of unknown make gets no network."""
    networking: dict[str, Any] = row.environment.get("networking", {})
    match networking.get("type", "unrestricted"):
        case "unrestricted":
            return Network()
        case "limited":
            hosts = [*map(bare_host, networking["allowed_hosts"])]
            if networking["allow_mcp_servers"]:
                hosts += _mcp_hosts(row)
            return Network(hosts=tuple(dict.fromkeys(hosts)), package_managers=networking["allow_package_managers"])
    return NO_NETWORK


def _mcp_hosts(row: Row) -> list[str]:
    """The hosts of the MCP servers of all agents of the session."""
    servers = [*row.agent.mcp_servers, *(server for agent in roster(row.agent) for server in agent.mcp_servers)]
    hosts = (urlsplit(server.url).hostname for server in servers if server.url.startswith(("http://", "https://")))
    return [host for host in hosts if host]
