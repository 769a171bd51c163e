"""MCP servers, permission policies and rosters of agents through the strict official SDK, saved and in sessions."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from contract.world import BUILTINS, WEATHER, World, message

CRM: dict[str, Any] = {"type": "url", "name": "crm", "url": "https://user:pass@mcp.example.com/mcp"}
CRM_TOOLS: dict[str, Any] = {"type": "mcp_toolset", "mcp_server_name": "crm"}
ASK = {"type": "always_ask"}
ON = {"type": "enabled"}
OFF = {"type": "disabled"}
ADVISOR = {"type": "advisor", "model": "claude-opus-5-5"}


def test_mcp_servers_and_toolsets_come_back_resolved(either: World) -> None:
    auto = {"name": "find", "permission_policy": {"type": "auto"}}
    agent = either.agent({**CRM_TOOLS, "configs": [auto]}, mcp_servers=[CRM])
    assert [server.to_dict() for server in agent.mcp_servers] == [CRM]
    assert agent.tools[0].to_dict() == {
        **CRM_TOOLS,
        "default_config": {"enabled": True, "permission_policy": ASK},
        "configs": [{**auto, "enabled": True}],
    }
    assert either.beta.agents.retrieve(agent.id) == agent
    assert either.beta.agents.update(agent.id, mcp_servers=[], tools=[]).mcp_servers == []


@pytest.mark.parametrize(
    ("tools", "servers", "said"),
    [
        ([CRM_TOOLS], [], "no server named crm"),
        ([BUILTINS], [CRM], "no mcp_toolset"),
        ([CRM_TOOLS, CRM_TOOLS], [CRM], "already has"),
        ([CRM_TOOLS], [CRM, CRM], "duplicate"),
        ([CRM_TOOLS], [{**CRM, "url": "mcp.example.com"}], "url"),
    ],
)
def test_servers_and_toolsets_need_each_other(world: World, tools: Any, servers: Any, said: str) -> None:
    with pytest.raises(anthropic.BadRequestError, match=said) as refused:
        world.agent(*tools, mcp_servers=servers)
    assert refused.value.type == "invalid_request_error"


def test_a_session_overrides_and_changes_its_servers(either: World) -> None:
    agent = either.agent(CRM_TOOLS, mcp_servers=[CRM])
    other = {**CRM, "name": "wiki"}
    wiki_tools = {**CRM_TOOLS, "mcp_server_name": "wiki"}
    over = {"type": "agent_with_overrides", "id": agent.id, "mcp_servers": [other], "tools": [wiki_tools]}
    session = either.beta.sessions.create(agent=over, environment_id=either.environment)
    assert [server.name for server in session.agent.mcp_servers] == ["wiki"]
    changed = either.beta.sessions.update(session.id, agent={"mcp_servers": [], "tools": [WEATHER]})
    assert (changed.agent.mcp_servers, changed.agent.tools[0].to_dict()) == ([], WEATHER)
    (event,) = either.beta.sessions.events.list(session.id)
    assert (event.type, event.agent) == ("session.updated", changed.agent)
    with pytest.raises(anthropic.BadRequestError, match="no server named crm"):
        either.beta.sessions.update(session.id, agent={"tools": [CRM_TOOLS]})
    assert either.beta.agents.retrieve(agent.id) == agent


def test_a_coordinator(either: World) -> None:
    worker = either.agent(name="worker")
    entries = [ADVISOR, worker.id, {"type": "self"}]
    lead = either.agent(multiagent={"type": "coordinator", "agents": entries})
    assert lead.multiagent.to_dict() == {
        "type": "coordinator",
        "agents": [
            {"type": "agent", "id": worker.id, "version": 1},
            {"type": "agent", "id": lead.id, "version": 1},
            ADVISOR,
        ],
    }
    session = either.beta.sessions.create(agent=lead.id, environment_id=either.environment)
    assert [entry.type for entry in session.agent.multiagent.agents] == ["agent", "agent", "advisor"]
    assert session.agent.multiagent.agents[0].name == "worker"
    (thread,) = either.beta.sessions.threads.list(session.id)
    assert (thread.agent.type, thread.agent.id, thread.parent_thread_id) == ("agent", lead.id, None)
    assert either.beta.agents.update(lead.id, multiagent=None).multiagent is None
    again = either.agent(multiagent={"type": "coordinator", "agents": [worker.id]})
    with pytest.raises(anthropic.BadRequestError, match="only one level"):
        either.agent(multiagent={"type": "coordinator", "agents": [again.id]})


def test_three_parts(either: World) -> None:
    worker = either.agent(name="worker")
    team = {**ON, "inline_agents": OFF, "predefined_agents": [worker.id]}
    lead = either.agent(multiagent={"type": "multiagent_20261001", "subagents": team, "workflows": OFF})
    pinned = {"type": "agent", "id": worker.id, "version": 1}
    assert lead.multiagent.to_dict() == {
        "type": "multiagent_20261001",
        "subagents": {**team, "predefined_agents": [pinned]},
        "workflows": OFF,
        "advisor": OFF,
    }
    advised = {"type": "multiagent_20261001", "advisor": {**ON, "model": "claude-opus-5-5"}}
    merged = either.beta.agents.update(lead.id, multiagent=advised).multiagent
    assert merged.subagents == lead.multiagent.subagents
    assert merged.advisor.model == "claude-opus-5-5"
    session = either.beta.sessions.create(agent=lead.id, environment_id=either.environment)
    assert [entry.name for entry in session.agent.multiagent.subagents.predefined_agents] == ["worker"]
    with pytest.raises(anthropic.BadRequestError, match="workflows"):
        either.agent(multiagent={"type": "multiagent_20261001", "workflows": ON})


def test_the_seed_s_older_name_of_a_roster(world: World) -> None:
    worker = world.agent(name="worker")
    body: Any = {"callable_agents": [{"type": "agent", "id": worker.id}]}
    lead = world.beta.agents.create(name="Lead", model="claude-opus-5-5", extra_body=body)
    assert [entry.id for entry in lead.multiagent.agents] == [worker.id]


def test_a_session_with_a_roster_runs(world: World) -> None:
    worker = world.agent(name="worker")
    lead = world.agent(multiagent={"type": "coordinator", "agents": [worker.id, {"type": "self"}]})
    session = world.beta.sessions.create(agent=lead.id, environment_id=world.environment)
    assert world.turn(session.id, message("hello"))[-1].stop_reason.type == "end_turn"
